"""FlexiCubes as an extractor of SparseFlex states and of signed-distance lattices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from shapewright import Extractor, GridField, Mesh, SparseField
from shapewright.errors import ConfigError, StateError
from shapewright_kernels.flexicubes import DualMesh, dual_geometry
from shapewright_kernels.flexicubes_hermite import hermite_geometry
from shapewright_kernels.flexicubes_topology import Topology, topology
from shapewright_kernels.flexicubes_voxels import complete_voxels, mixed_voxels, voxel_corners
from torch import Tensor

from .corners import corner_field
from .state import SparseFlexState

PLACEMENTS = ("auto", "average", "qef")


@dataclass(frozen=True)
class Config:
    training: bool = False
    """Four triangles a quad around a weighted centre instead of two: more faces, but gradients reach gamma."""
    weight_scale: float = 0.99
    """Range of alpha and beta about 1, and of gamma about 1/2; published value 0.99."""
    deviation: bool = False
    """Make :meth:`FlexiCubes.surface` return the deviation regulariser as well."""
    placement: str = "auto"
    """Where the vertices of a signed-distance lattice go. ``"average"``: the mean of the crossings of the voxel's
    edges, differentiable. ``"qef"``: where the tangent planes given by the field's exact ``gradients`` meet, so that
    creases and corners survive; not differentiable. ``"auto"``: ``"qef"`` where the field carries gradients and neither
    training, ``deviation`` nor autograd asks for differentiable vertices. A SparseFlex state has weights instead and
    does not look here."""

    def __post_init__(self) -> None:
        if not 0 < self.weight_scale < 1:
            raise ConfigError(f"weight_scale must lie between 0 and 1, not {self.weight_scale:g}; published: 0.99")
        if self.placement not in PLACEMENTS:
            raise ConfigError(f"placement must be one of {', '.join(PLACEMENTS)}, not {self.placement!r}")
        if self.placement == "qef" and (self.training or self.deviation):
            raise ConfigError("placement 'qef' has no derivatives; use 'average' or 'auto' with training or deviation")


class FlexiCubes(Extractor[Config, SparseFlexState | GridField | SparseField]):
    """Dual surface: one vertex a voxel and surface piece, one quad a crossed grid edge whose four voxels are all
    present.

    Faces point to positive values. Gradients reach the features of a SparseFlex state and, with averaged vertices, the
    values of a field. A field has no weights; the surface is where it takes its ``level``, and of an ``sdf.sparse``
    only cells with eight corners exist.
    Source: Shen et al. 2023; placement by gradients is an option of kaolin's FlexiCubes, done here as in dual
    contouring (Ju et al. 2002).
    """

    Config: ClassVar[type[Config]] = Config

    def extract(self, state: SparseFlexState | GridField | SparseField) -> Mesh:
        surface = self.surface(state)
        return Mesh(surface.vertices, surface.faces, state.frame, oriented=True)

    def surface(self, state: SparseFlexState | GridField | SparseField) -> DualMesh:
        """The surface with its topology and, on request, the deviation regulariser. One sample; unbind a batch first.

        Vertices are in the units of the state's frame.
        """
        if isinstance(state, SparseFlexState):
            return self._from_features(state)
        if isinstance(state, GridField):
            return self._from_grid(state)
        return self._from_sparse(state)

    def _from_features(self, state: SparseFlexState) -> DualMesh:
        values = state.values
        _one_sample(values.batch_size)
        field = corner_field(values.coords[:, 1:], values.feats, values.resolution, state.frame)
        found = _topology(field.cubes.numpy(force=True), field.voxels.numpy(force=True), field.sdf)
        return dual_geometry(
            found, field.positions, field.sdf, field.alpha, field.beta, field.gamma, training=self.config.training,
            weight_scale=self.config.weight_scale, deviation=self.config.deviation,
        )  # fmt: skip

    def _from_grid(self, state: GridField) -> DualMesh:
        x, y, z = (count - 1 for count in state.values.shape)
        voxels = mixed_voxels((state.values.detach() < state.level).numpy(force=True))
        corners, cubes = voxel_corners(voxels, (x, y, z))
        at = tuple(torch.from_numpy(corners).to(state.values.device).long().unbind(1))
        gradients = state.gradients if self._by_planes(state.values, state.gradients) else None
        cells = _Cells(voxels, cubes, corners, state.values[at], None if gradients is None else gradients[at])
        return self._from_cells(state, cells)

    def _from_sparse(self, state: SparseField) -> DualMesh:
        values = state.values
        _one_sample(values.batch_size)
        points = values.coords[:, 1:].numpy(force=True)
        inside = (values.feats[:, 0].detach() < state.level).numpy(force=True)
        voxels, cubes = complete_voxels(np.ascontiguousarray(points), inside, (values.resolution,) * 3)
        used = np.zeros(len(points), bool)
        used[cubes.reshape(-1)] = True
        cubes = (np.cumsum(used) - 1)[cubes]
        rows = torch.from_numpy(np.flatnonzero(used)).to(values.coords.device)
        gradients = state.gradients if self._by_planes(values.feats, state.gradients) else None
        cells = _Cells(
            voxels, cubes, points[used], values.feats[rows, 0], None if gradients is None else gradients[rows]
        )
        return self._from_cells(state, cells)

    def _by_planes(self, values: Tensor, gradients: Tensor | None) -> bool:
        """Whether vertices are placed by tangent planes."""
        if self.config.placement == "qef":
            if gradients is None:
                raise StateError("placement 'qef' needs a field with gradients; make it with gradients=true")
            return True
        wanted = self.config.training or self.config.deviation or (values.requires_grad and torch.is_grad_enabled())
        return self.config.placement == "auto" and gradients is not None and not wanted

    def _from_cells(self, state: GridField | SparseField, cells: _Cells) -> DualMesh:
        for part in (cells.values, cells.gradients):
            if part is not None and not bool(torch.isfinite(part).all()):
                raise StateError("the field is not finite next to its surface; clean it before extraction")
        sdf = cells.values - state.level
        # The published winding rule takes an exact zero for negative when it comes first on an edge; lift it off zero.
        sdf = sdf + (sdf == 0) * torch.finfo(sdf.dtype).tiny
        found = _topology(cells.cubes, cells.voxels, sdf)
        lower, spacing = sdf.new_tensor(state.frame.lower), sdf.new_tensor(state.spacing)
        if cells.gradients is None:
            positions = lower + torch.from_numpy(cells.corners).to(sdf) * spacing
            return dual_geometry(found, positions, sdf, training=self.config.training, deviation=self.config.deviation)
        places, faces = hermite_geometry(
            found, cells.corners, cells.cubes, cells.voxels, sdf.numpy(force=True),
            (cells.gradients * spacing).numpy(force=True),
        )  # fmt: skip
        vertices = lower + torch.from_numpy(places).to(sdf) * spacing
        return DualMesh(vertices, torch.from_numpy(faces).to(sdf.device), sdf.new_zeros(0), None, found)


@dataclass(frozen=True)
class _Cells:
    """``N`` cells of a field with surface in them, and their ``C`` corners; all rows lexicographic."""

    voxels: NDArray[np.int32]
    cubes: NDArray[np.int64]
    corners: NDArray[np.int32]
    values: Tensor
    gradients: Tensor | None
    """Only where vertices are placed by them."""


def _topology(cubes: NDArray[np.int64], voxels: NDArray[np.int32], sdf: Tensor) -> Topology:
    values = sdf.detach().cpu()
    return topology(cubes, voxels, (values < 0).numpy(), (values > 0).numpy())


def _one_sample(batch_size: int) -> None:
    if batch_size != 1:
        raise StateError(f"extraction takes one sample, not a batch of {batch_size}; unbind the state first")
