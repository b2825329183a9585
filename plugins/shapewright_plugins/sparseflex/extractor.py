"""FlexiCubes as an extractor of SparseFlex states and of signed-distance lattices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from shapewright import Extractor, GridField, Mesh, SparseField
from shapewright.errors import ConfigError, StateError
from shapewright_kernels.flexicubes import DualMesh, flexicubes
from shapewright_kernels.flexicubes_voxels import complete_voxels, mixed_voxels, voxel_corners
from torch import Tensor

from .corners import corner_field
from .state import SparseFlexState


@dataclass(frozen=True)
class Config:
    training: bool = False
    """Four triangles a quad around a weighted centre instead of two: more faces, but gradients reach gamma."""
    weight_scale: float = 0.99
    """Range of alpha and beta about 1, and of gamma about 1/2; published value 0.99."""
    deviation: bool = False
    """Make :meth:`FlexiCubes.surface` return the deviation regulariser as well."""

    def __post_init__(self) -> None:
        if not 0 < self.weight_scale < 1:
            raise ConfigError(f"weight_scale must lie between 0 and 1, not {self.weight_scale:g}; published: 0.99")


class FlexiCubes(Extractor[Config, SparseFlexState | GridField | SparseField]):
    """Dual surface: one vertex a voxel and surface piece, one quad a crossed grid edge whose four voxels are all
    present.

    Faces point to positive values. Gradients reach the features of a SparseFlex state and the values of a field. A
    field has no weights; the surface is where it takes its ``level``, and of an ``sdf.sparse`` only cells with eight
    corners exist.
    Source: Shen et al. 2023.
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
        return flexicubes(
            field.positions, field.sdf, field.cubes, field.voxels, values.resolution, field.alpha, field.beta,
            field.gamma, training=self.config.training, weight_scale=self.config.weight_scale,
            deviation=self.config.deviation,
        )  # fmt: skip

    def _from_grid(self, state: GridField) -> DualMesh:
        x, y, z = (count - 1 for count in state.values.shape)
        inside = (state.values.detach() < state.level).numpy(force=True)
        voxels = mixed_voxels(inside)
        corners, cubes = voxel_corners(voxels, (x, y, z))
        at = torch.from_numpy(corners).to(state.values.device).long()
        return self._from_field(state, at, state.values[at[:, 0], at[:, 1], at[:, 2]], voxels, cubes, (x, y, z))

    def _from_sparse(self, state: SparseField) -> DualMesh:
        values = state.values
        _one_sample(values.batch_size)
        points = values.coords[:, 1:].numpy(force=True)
        inside = (values.feats[:, 0].detach() < state.level).numpy(force=True)
        voxels, cubes = complete_voxels(np.ascontiguousarray(points), inside, (values.resolution,) * 3)
        used = np.zeros(len(points), bool)
        used[cubes.reshape(-1)] = True
        rows = torch.from_numpy(np.flatnonzero(used)).to(values.coords.device)
        cubes = (np.cumsum(used) - 1)[cubes]
        shape = (values.resolution,) * 3
        return self._from_field(state, values.coords[rows, 1:].long(), values.feats[rows, 0], voxels, cubes, shape)

    def _from_field(
        self,
        state: GridField | SparseField,
        corners: Tensor,
        values: Tensor,
        voxels: NDArray[np.int32],
        cubes: NDArray[np.int64],
        shape: tuple[int, int, int],
    ) -> DualMesh:
        if not bool(torch.isfinite(values).all()):
            raise StateError("the field is not finite next to its surface; clean it before extraction")
        sdf = values - state.level
        # The published winding rule takes an exact zero for negative when it comes first on an edge; lift it off zero.
        sdf = sdf + (sdf == 0) * torch.finfo(sdf.dtype).tiny
        positions = sdf.new_tensor(state.frame.lower) + corners.to(sdf.dtype) * sdf.new_tensor(state.spacing)
        ids, coords = (torch.from_numpy(array).to(sdf.device) for array in (cubes, voxels))
        return flexicubes(
            positions, sdf, ids, coords, shape, training=self.config.training, deviation=self.config.deviation
        )


def _one_sample(batch_size: int) -> None:
    if batch_size != 1:
        raise StateError(f"extraction takes one sample, not a batch of {batch_size}; unbind the state first")
