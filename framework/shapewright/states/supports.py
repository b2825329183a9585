"""Supports: the domain a latent lives on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from .batches import require_same
from .frame import Frame
from .sparse import SparseTensor


@dataclass(frozen=True, slots=True)
class Tokens:
    """A set of ``count`` tokens without positions."""

    tag: ClassVar[str] = "support.tokens"
    count: int
    frame: Frame = Frame()


@dataclass(frozen=True, slots=True)
class Grid:
    """All cells of a cube of ``resolution`` cells an axis."""

    tag: ClassVar[str] = "support.grid"
    resolution: int
    frame: Frame = Frame()


@dataclass(frozen=True, slots=True)
class Voxels:
    """Some cells of a cube: ``coords`` ``(N, 4)`` int32."""

    tag: ClassVar[str] = "support.voxels"
    coords: Tensor
    resolution: int
    batch_size: int = 1
    frame: Frame = Frame()

    @classmethod
    def stack(cls, items: Sequence[Voxels]) -> Voxels:
        """One batch of several."""
        require_same([item.frame for item in items], "frame")
        sparse = SparseTensor.stack(
            [SparseTensor(v.coords, v.coords[:, :0], v.resolution, v.batch_size) for v in items]
        )
        return cls(sparse.coords, sparse.resolution, sparse.batch_size, items[0].frame)

    def unbind(self) -> list[Voxels]:
        """The samples of the batch."""
        sparse = SparseTensor(self.coords, self.coords[:, :0], self.resolution, self.batch_size)
        return [Voxels(item.coords, item.resolution, 1, self.frame) for item in sparse.unbind()]


Support = Tokens | Grid | Voxels
