"""Features on some voxels of a cube."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from ..errors import StateError
from .batches import renumbered, require_same, split_rows


@dataclass(frozen=True, slots=True)
class SparseTensor:
    """Coordinates ``(N, 4)`` int32 ``[batch, x, y, z]`` sorted by batch, features ``(N, C)``."""

    coords: Tensor
    feats: Tensor
    resolution: int
    batch_size: int = 1

    def __post_init__(self) -> None:
        if self.coords.ndim != 2 or self.coords.shape[1] != 4 or self.coords.dtype != torch.int32:
            raise StateError(f"coords must be int32 (N, 4), not {self.coords.dtype} {tuple(self.coords.shape)}")
        if self.feats.shape[:1] != self.coords.shape[:1]:
            raise StateError(f"feats has {self.feats.shape[0]} rows but coords has {self.coords.shape[0]}")

    def replace(self, feats: Tensor) -> Self:
        """Other features on the same coordinates."""
        return replace(self, feats=feats)

    @classmethod
    def stack(cls, items: Sequence[SparseTensor]) -> SparseTensor:
        """One batch of several; batch indices are renumbered in order."""
        require_same([item.resolution for item in items], "resolution")
        sizes = [item.batch_size for item in items]
        coords = renumbered([item.coords for item in items], sizes)
        return cls(coords, torch.cat([item.feats for item in items]), items[0].resolution, sum(sizes))

    def unbind(self) -> list[SparseTensor]:
        """The samples of the batch, each with batch index 0."""
        parts, counts = split_rows(self.coords, self.batch_size)
        return [
            SparseTensor(coords, feats, self.resolution)
            for coords, feats in zip(parts, torch.split(self.feats, counts), strict=True)
        ]
