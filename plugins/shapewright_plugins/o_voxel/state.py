"""The flexible dual grid as a value that flows between stages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from shapewright.errors import StateError
from shapewright.states import Frame
from torch import Tensor


@dataclass(frozen=True, slots=True)
class FlexibleDualGrid:
    """Geometry of an O-Voxel: where the surface crosses the grid, without a sign and without an orientation.

    Cell ``i`` of ``resolution`` spans ``lower + i * voxel_size`` to ``lower + (i + 1) * voxel_size``. With
    ``a0 = (a + 1) % 3`` and ``a1 = (a + 2) % 3``, flag ``a`` of voxel ``c`` belongs to the grid edge along ``a`` at the
    voxel's upper corner in ``a0`` and ``a1``; ``c``, ``c + e_a0``, ``c + e_a1`` and ``c + e_a0 + e_a1`` share it.
    """

    tag: ClassVar[str] = "dualgrid.flexible"
    coords: Tensor
    """``(N, 4)`` int32 ``[batch, x, y, z]``, sorted by batch, x, y, z, none twice."""
    dual_vertices: Tensor
    """``(N, 3)`` float position within the voxel, 0 to 1 along each axis; decoders may leave that range a little."""
    intersected: Tensor
    """``(N, 3)`` bool: the surface crosses the voxel's edge along x, y, z."""
    split_weights: Tensor | None = None
    """``(N, 1)`` positive float: a quad is cut along the diagonal with the larger product. Decoders make them."""
    resolution: int = 0
    batch_size: int = 1
    frame: Frame = field(default_factory=Frame)

    def __post_init__(self) -> None:
        count = self.coords.shape[0]
        if self.coords.ndim != 2 or self.coords.shape[1] != 4 or self.coords.dtype != torch.int32:
            raise StateError(f"coords must be int32 (N, 4), not {self.coords.dtype} {tuple(self.coords.shape)}")
        if tuple(self.dual_vertices.shape) != (count, 3) or not self.dual_vertices.is_floating_point():
            found = f"{self.dual_vertices.dtype} {tuple(self.dual_vertices.shape)}"
            raise StateError(f"dual_vertices must be float ({count}, 3), not {found}")
        if tuple(self.intersected.shape) != (count, 3) or self.intersected.dtype != torch.bool:
            found = f"{self.intersected.dtype} {tuple(self.intersected.shape)}"
            raise StateError(f"intersected must be bool ({count}, 3), not {found}")
        if self.split_weights is not None and tuple(self.split_weights.shape) != (count, 1):
            raise StateError(f"split_weights must be ({count}, 1), not {tuple(self.split_weights.shape)}")
        if self.resolution < 1:
            raise StateError(f"a dual grid needs its resolution (cells an axis), not {self.resolution}")

    @property
    def voxel_size(self) -> tuple[float, float, float]:
        """Edge lengths of a voxel, in units of the frame."""
        x, y, z = (size / self.resolution for size in self.frame.extent)
        return x, y, z

    @classmethod
    def stack(cls, items: Sequence[FlexibleDualGrid]) -> FlexibleDualGrid:
        """One batch of several; batch indices are renumbered in order."""
        first = items[0]
        if any((item.resolution, item.frame) != (first.resolution, first.frame) for item in items):
            raise StateError("only dual grids of one resolution and frame can be stacked")
        weights = [item.split_weights for item in items if item.split_weights is not None]
        if weights and len(weights) != len(items):
            raise StateError("dual grids with and without split weights cannot be stacked")
        coords, start = [], 0
        for item in items:
            coords.append(item.coords + item.coords.new_tensor([start, 0, 0, 0]))
            start += item.batch_size
        return replace(
            first,
            coords=torch.cat(coords),
            dual_vertices=torch.cat([item.dual_vertices for item in items]),
            intersected=torch.cat([item.intersected for item in items]),
            split_weights=torch.cat(weights) if weights else None,
            batch_size=start,
        )

    def unbind(self) -> list[FlexibleDualGrid]:
        """The samples of the batch, each with batch index 0."""
        counts = torch.bincount(self.coords[:, 0].long(), minlength=self.batch_size).tolist()
        weights = [None] * len(counts) if self.split_weights is None else list(torch.split(self.split_weights, counts))
        parts = zip(
            torch.split(self.coords, counts),
            torch.split(self.dual_vertices, counts),
            torch.split(self.intersected, counts),
            weights,
            strict=True,
        )
        return [
            replace(
                self,
                coords=coords - coords.new_tensor([index, 0, 0, 0]),
                dual_vertices=dual_vertices,
                intersected=intersected,
                split_weights=split_weights,
                batch_size=1,
            )
            for index, (coords, dual_vertices, intersected, split_weights) in enumerate(parts)
        ]
