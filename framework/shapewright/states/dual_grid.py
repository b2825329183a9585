"""Flexible dual grids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from torch import Tensor

from ..errors import StateError
from .batches import renumbered, split_rows
from .frame import Frame
from .sparse import SparseTensor
from .volumes import VoxelAttributes


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
    attributes: Mapping[str, Tensor] = field(default_factory=dict)
    """What the surface is made of, ``(N, C)`` float a voxel by name: ``base_color`` (3), ``metallic``, ``roughness``,
    ``alpha`` (1 each) in [0, 1]. Empty where the mesh had no material."""

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
        for name, values in self.attributes.items():
            if values.ndim != 2 or len(values) != count or not values.is_floating_point():
                raise StateError(
                    f"attribute {name!r} must be float ({count}, C), not {values.dtype} {tuple(values.shape)}"
                )
        if self.resolution < 1:
            raise StateError(f"a dual grid needs its resolution (cells an axis), not {self.resolution}")

    @property
    def voxel_size(self) -> tuple[float, float, float]:
        """Edge lengths of a voxel, in units of the frame."""
        x, y, z = (size / self.resolution for size in self.frame.extent)
        return x, y, z

    @property
    def voxel_attributes(self) -> VoxelAttributes:
        """The attributes as one value of their own, columns in the order of ``attributes``.

        Raises:
            StateError: there is none.
        """
        if not self.attributes:
            raise StateError("this dual grid has no attributes: the mesh it was made of had no material")
        ends, layout = 0, {}
        for name, values in self.attributes.items():
            layout[name] = slice(ends, ends + values.shape[1])
            ends += values.shape[1]
        feats = torch.cat(list(self.attributes.values()), dim=1)
        return VoxelAttributes(SparseTensor(self.coords, feats, self.resolution, self.batch_size), layout, self.frame)

    @classmethod
    def stack(cls, items: Sequence[FlexibleDualGrid]) -> FlexibleDualGrid:
        """One batch of several; batch indices are renumbered in order."""
        first = items[0]
        if any((item.resolution, item.frame) != (first.resolution, first.frame) for item in items):
            raise StateError("only dual grids of one resolution and frame can be stacked")
        weights = [item.split_weights for item in items if item.split_weights is not None]
        if weights and len(weights) != len(items):
            raise StateError("dual grids with and without split weights cannot be stacked")
        widths = [{name: values.shape[1] for name, values in item.attributes.items()} for item in items]
        if any(found != widths[0] for found in widths):
            raise StateError("dual grids with different attributes cannot be stacked")
        sizes = [item.batch_size for item in items]
        return replace(
            first,
            coords=renumbered([item.coords for item in items], sizes),
            dual_vertices=torch.cat([item.dual_vertices for item in items]),
            intersected=torch.cat([item.intersected for item in items]),
            split_weights=torch.cat(weights) if weights else None,
            batch_size=sum(sizes),
            attributes={name: torch.cat([item.attributes[name] for item in items]) for name in widths[0]},
        )

    def unbind(self) -> list[FlexibleDualGrid]:
        """The samples of the batch, each with batch index 0."""
        samples, counts = split_rows(self.coords, self.batch_size)
        weights = [None] * len(counts) if self.split_weights is None else list(torch.split(self.split_weights, counts))
        attributes = {name: torch.split(values, counts) for name, values in self.attributes.items()}
        parts = zip(
            samples,
            torch.split(self.dual_vertices, counts),
            torch.split(self.intersected, counts),
            weights,
            strict=True,
        )
        return [
            replace(
                self,
                coords=coords,
                dual_vertices=dual_vertices,
                intersected=intersected,
                split_weights=split_weights,
                batch_size=1,
                attributes={name: values[index] for name, values in attributes.items()},
            )
            for index, (coords, dual_vertices, intersected, split_weights) in enumerate(parts)
        ]
