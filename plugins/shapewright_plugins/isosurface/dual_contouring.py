"""``extractor/dual-contouring``."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from shapewright.errors import ConfigError
from shapewright.interfaces import Extractor
from shapewright.states import FunctionField, GridField, Mesh, SparseField
from shapewright_kernels.dual_contouring import Placement, dual_contouring, dual_contouring_sparse

from .lattice_field import lattice_field
from .refinement import FunctionOptions


@dataclass(frozen=True)
class Config(FunctionOptions):
    """Options of :class:`DualContouring`; lengths are in cells.

    ``level``: where the surface is; ``None`` takes the field's own level. ``regularisation``: tangent planes that
    agree to about this share leave a vertex at the mean crossing of its cell. ``clamp``: keep vertices in their cells;
    ``margin``: how far they may leave them where exact gradients agree on one point. ``manifold``: one vertex for each
    patch of surface in a cell; otherwise one a cell, which pinches sheets that come close. The rest is for functions.
    """

    level: float | None = None
    regularisation: float = 0.1
    clamp: bool = True
    margin: float = 0.5
    manifold: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.regularisation < math.inf:
            raise ConfigError(f"regularisation must be positive, not {self.regularisation}; 0.1 suits exact distances")
        if not 0 <= self.margin < math.inf:
            raise ConfigError(f"margin must be 0 or more cells, not {self.margin}; use clamp=false for no limit")


class DualContouring(Extractor[Config, GridField | SparseField | FunctionField]):
    """One vertex for each patch of surface in a cell, placed where the tangent planes meet; quads around crossing
    edges.

    Where the field carries exact ``gradients``, its tangent planes at the lattice points are used, which meet exactly
    in the creases and corners of a polyhedron; otherwise differences of the values, which blur creases over a cell or
    two. A crossing edge needs four active cells; elsewhere the surface ends. Not differentiable.

    Source: Ju, Losasso, Schaefer and Warren 2002; several vertices a cell as in Schaefer, Ju and Warren 2007.
    """

    Config = Config

    def extract(self, state: GridField | SparseField | FunctionField) -> Mesh:
        """The level set in the units of ``state.frame``; no faces where the field does not change sign."""
        field = lattice_field(state, self.config.level, self.config, "extractor/dual-contouring")
        gradients = None if field.gradients is None else field.gradients.numpy(force=True)
        config = self.config
        placement = Placement(config.regularisation, config.clamp, config.margin, manifold=config.manifold)
        if field.coords is None:
            found = dual_contouring(
                field.array, field.level, gradients=gradients, spacing=field.spacing, placement=placement
            )
        else:
            found = dual_contouring_sparse(
                field.coords, field.array, field.level, gradients=gradients, spacing=field.spacing, placement=placement
            )
        vertices, faces = (torch.from_numpy(part).to(field.values.device) for part in found)
        return Mesh(field.in_frame(vertices), faces, field.frame)
