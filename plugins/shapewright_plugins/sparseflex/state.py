"""The SparseFlex state and the meaning of its feature columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from shapewright.errors import StateError
from shapewright.states import Frame, SparseTensor

SDF = slice(0, 8)
"""Signed distance at the eight corners, scaled: ``sdf = feature * 4 / R - 1 / R`` in units of the frame's longest
side."""
DEFORM = slice(8, 32)
"""Raw offset of each corner (8 x 3); tanh of it is in half voxels."""
BETA = slice(32, 44)
ALPHA = slice(44, 52)
GAMMA = 52
"""Raw FlexiCubes weights: 12 by edge, 8 by corner, one by voxel."""
CHANNELS = 53


@dataclass(frozen=True, slots=True)
class SparseFlexState:
    """Features ``(N, 53)`` on the active voxels of a cube of ``values.resolution`` voxels an axis.

    Corner values of voxels that share a corner are averaged when meshing, and a voxel may be listed more than once
    (chunks of a decoder overlap): its weights are then those of the last row. A missing voxel is a hole. There is no
    flag for open surfaces, because a border is nothing but the absence of voxels.
    """

    tag: ClassVar[str] = "sparseflex"
    values: SparseTensor
    frame: Frame = Frame()  # noqa: RUF009 (frozen)

    def __post_init__(self) -> None:
        if self.values.feats.shape[1:] != (CHANNELS,):
            raise StateError(f"SparseFlex features must be (N, {CHANNELS}), not {tuple(self.values.feats.shape)}")

    @classmethod
    def stack(cls, items: Sequence[SparseFlexState]) -> SparseFlexState:
        """One batch of several with one frame."""
        if any(item.frame != items[0].frame for item in items):
            raise StateError("only SparseFlex states of one frame can be stacked")
        return cls(SparseTensor.stack([item.values for item in items]), items[0].frame)

    def unbind(self) -> list[SparseFlexState]:
        """The samples of the batch."""
        return [SparseFlexState(values, self.frame) for values in self.values.unbind()]
