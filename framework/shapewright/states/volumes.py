"""What fills cells: occupancy, and attributes of the surface in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from ..errors import StateError
from .batches import require_same
from .frame import Frame
from .sparse import SparseTensor
from .supports import Voxels


@dataclass(frozen=True, slots=True)
class OccupancyGrid:
    """Logits or probabilities ``(R, R, R)`` of cells, index order x, y, z; ``(B, R, R, R)`` for a batch."""

    tag: ClassVar[str] = "occupancy.grid"
    values: Tensor
    frame: Frame = Frame()

    @classmethod
    def stack(cls, items: Sequence[OccupancyGrid]) -> OccupancyGrid:
        """One batch of several."""
        require_same([item.frame for item in items], "frame")
        parts = [item.values if item.values.ndim == 4 else item.values[None] for item in items]
        require_same([tuple(part.shape[1:]) for part in parts], "resolution")
        return cls(torch.cat(parts), items[0].frame)

    def unbind(self) -> list[OccupancyGrid]:
        """The samples of the batch."""
        values = self.values if self.values.ndim == 4 else self.values[None]
        return [OccupancyGrid(sample, self.frame) for sample in values]


@dataclass(frozen=True, slots=True)
class OccupancyVoxels:
    """The occupied cells of a cube."""

    tag: ClassVar[str] = "occupancy.sparse"
    voxels: Voxels

    @property
    def frame(self) -> Frame:
        return self.voxels.frame


@dataclass(frozen=True, slots=True)
class VoxelAttributes:
    """Surface attributes on voxels; ``layout`` names the feature columns, e.g. ``{"base_color": slice(0, 3)}``.

    The published layout is :data:`PBR_LAYOUT`: six float columns in [0, 1], in the values of the textures.
    """

    tag: ClassVar[str] = "attributes.voxels"
    values: SparseTensor
    layout: dict[str, slice]
    frame: Frame = Frame()

    def __post_init__(self) -> None:
        width = self.values.feats.shape[1] if self.values.feats.ndim == 2 else 0
        for name, columns in self.layout.items():
            start, stop, step = columns.indices(width)
            if (columns.start or 0, columns.stop, step) != (start, stop, 1) or stop <= start:
                raise StateError(f"layout {name!r} {columns} does not name columns of {width}")

    def __getitem__(self, name: str) -> Tensor:
        """``(N, c)`` columns of one attribute."""
        if name not in self.layout:
            raise StateError(f"no attribute is named {name!r}; there is {', '.join(self.layout) or 'none'}")
        return self.values.feats[:, self.layout[name]]

    @classmethod
    def stack(cls, items: Sequence[VoxelAttributes]) -> VoxelAttributes:
        """One batch of several."""
        require_same([(item.frame, str(item.layout)) for item in items], "frame and layout")
        return replace(items[0], values=SparseTensor.stack([item.values for item in items]))

    def unbind(self) -> list[VoxelAttributes]:
        """The samples of the batch."""
        return [replace(self, values=values) for values in self.values.unbind()]


PBR_LAYOUT = {
    "base_color": slice(0, 3),
    "metallic": slice(3, 4),
    "roughness": slice(4, 5),
    "alpha": slice(5, 6),
}
"""Columns of the material attributes of O-Voxel, in the order of the published files and networks."""
