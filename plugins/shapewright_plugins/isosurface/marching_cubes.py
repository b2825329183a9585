"""``extractor/marching-cubes``."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from shapewright.interfaces import Extractor
from shapewright.states import FunctionField, GridField, Mesh, SparseField
from shapewright_kernels.marching_cubes import (
    grid_edge_mesh,
    marching_cubes,
    marching_cubes_sparse,
    sparse_edge_mesh,
)

from .lattice_field import attached, carries_gradients, lattice_field
from .refinement import FunctionOptions


@dataclass(frozen=True)
class Config(FunctionOptions):
    """``level``: where the surface is; ``None`` takes the field's own level. The rest is for functions."""

    level: float | None = None


class MarchingCubes(Extractor[Config, GridField | SparseField | FunctionField]):
    """Triangles through the crossing edges of a lattice, by linear interpolation along each edge.

    The surface is a 2-manifold, closed wherever all cells around it are active; a missing cell (or a value that is not
    finite) is a hole. A value exactly at the level counts as outside. Vertices are differentiable in the values; which
    edges they lie on is not. A function is sampled near its surface (:func:`.refinement.refine`); where its values
    carry gradients, it is called once more at the ends of the crossing edges, so that vertices are differentiable in
    whatever it was made of.

    Source: Lorensen and Cline 1987, with a case table that treats shared faces alike from both sides.
    """

    Config = Config

    def extract(self, state: GridField | SparseField | FunctionField) -> Mesh:
        """The level set in the units of ``state.frame``; no faces where the field does not change sign."""
        field = lattice_field(state, self.config.level, self.config, "extractor/marching-cubes")
        if not carries_gradients(state, field):
            found = (
                marching_cubes(field.array, field.level)
                if field.coords is None
                else marching_cubes_sparse(field.coords, field.array, field.level)
            )
            corners, faces = (torch.from_numpy(part).to(field.values.device) for part in found)
            return Mesh(field.in_frame(corners), faces, field.frame)
        if field.coords is None:
            edges = grid_edge_mesh(field.array, field.level)
        else:
            edges = sparse_edge_mesh(field.coords, field.array, field.level)
        device = field.values.device
        ends = torch.from_numpy(edges.ends).to(device)
        axis = torch.from_numpy(edges.axis).to(device).long()
        values = attached(state, field, ends) if isinstance(state, FunctionField) else field.values.reshape(-1)[ends]
        low, high = values.unbind(dim=1)
        along = (field.level - low) / (high - low)  # in [0, 1] without clamping: rounding is monotone
        lower = torch.from_numpy(edges.lower).to(device, low.dtype)
        vertices = lower.scatter_add(1, axis[:, None], along[:, None])
        return Mesh(field.in_frame(vertices), torch.from_numpy(edges.faces).to(device), field.frame)
