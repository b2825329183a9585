"""Attention inside groups of voxels: cubic windows, and equal pieces of a space-filling curve."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
from shapewright_kernels.serialised_order import AXES, CURVES, serialised_partition
from shapewright_kernels.varlen_attention_segments import RowOrder, SegmentPairs, permuted, row_order, segment_pairs
from shapewright_kernels.window_partition import Partition, triple, window_partition
from torch import Tensor

from shapewright.errors import ConfigError, StateError
from shapewright.states import Layout

from .attention import AttentionConfig, MultiHeadAttention
from .layouts import batched_coords


class Grouped:
    """Tokens in the order of their groups, and which of them attend to one another."""

    def __init__(self, partition: Partition) -> None:
        self.rows: RowOrder = row_order(partition.order)
        self.pairs: SegmentPairs = segment_pairs(partition.offsets)

    @property
    def back(self) -> RowOrder:
        """From the order of the groups to that of the tokens."""
        return RowOrder(self.rows.inverse, self.rows.forward)


def windows_of(layout: Layout, window: Sequence[int], shift: Sequence[int]) -> Grouped:
    """The windows of a layout, made once: ``floor((xyz + shift) / window)`` inside each sample."""

    def compute() -> Grouped:
        try:
            return Grouped(window_partition(batched_coords(layout), window, shift, by_length=True))
        except ValueError as error:
            raise StateError(str(error)) from None

    return layout.shared(("windows", tuple(window), tuple(shift)), compute)


def pieces_of(layout: Layout, size: int, shift: int, curve: str, axes: Sequence[int]) -> Grouped:
    """The pieces of a curve through the voxels of a layout, made once."""

    def compute() -> Grouped:
        try:
            return Grouped(serialised_partition(batched_coords(layout), size, shift, curve=curve, axes=axes))
        except ValueError as error:
            raise StateError(str(error)) from None

    return layout.shared(("pieces", size, shift, curve, tuple(axes)), compute)


@dataclass(frozen=True)
class WindowConfig(AttentionConfig):
    window: Any = 8
    """Edge in voxels, one number or one for each axis."""
    shift: Any = None
    """Added to the coordinates before they are divided; ``None`` for half a window in odd blocks and 0 in even ones."""
    split_heads: bool = False
    """The first half of the heads of the result are the second half of the input's, in windows without shift; the other
    half are the first half of the input's, in windows shifted by half their edge (TRELLIS.2 ``double_windowed``)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        try:
            edges, _ = triple(_plain(self.window), "window"), triple(_plain(self.shift or 0), "shift")
        except (ValueError, TypeError) as error:
            raise ConfigError(str(error)) from None
        if min(edges) < 1:
            raise ConfigError(f"window must be at least 1 voxel along each axis, not {self.window}")
        _refuse_context(self)
        if self.split_heads and (self.shift is not None or (self.kv_heads or self.heads) % 2 or self.heads % 2):
            raise ConfigError("split_heads needs an even number of heads and fixes the shifts; leave shift out")

    @property
    def edges(self) -> tuple[int, int, int]:
        """Of a window along x, y, z."""
        return triple(_plain(self.window), "window")

    @property
    def shifts(self) -> tuple[int, int, int]:
        """Along x, y, z."""
        if self.shift is not None:
            return triple(_plain(self.shift), "shift")
        x, y, z = self.edges
        odd = self.block % 2
        return x // 2 * odd, y // 2 * odd, z // 2 * odd


@dataclass(frozen=True)
class SerialisedConfig(AttentionConfig):
    size: int = 1024
    """Tokens of a piece."""
    shift: int | None = None
    """Tokens by which the cuts are moved; ``None`` for half a piece in odd blocks and 0 in even ones."""
    curve: str = "hilbert"
    """``hilbert`` or ``morton``."""
    axes: Any = AXES
    """The axes that play the parts of x, y, z."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.size < 1:
            raise ConfigError(f"size must be at least 1, not {self.size}")
        if self.shift is not None and not 0 <= self.shift < self.size:
            raise ConfigError(f"shift must be at least 0 and below size {self.size}, not {self.shift}")
        if self.curve not in CURVES:
            raise ConfigError(f"curve must be one of {', '.join(CURVES)}, not {self.curve!r}")
        if sorted(_plain(self.axes)) != list(AXES):
            raise ConfigError(f"axes must hold 0, 1 and 2 once each, not {self.axes}")
        _refuse_context(self)


GroupedConfig = TypeVar("GroupedConfig", bound=AttentionConfig)


class GroupedAttention(MultiHeadAttention[GroupedConfig], Generic[GroupedConfig]):
    """Full attention inside every group; the hidden states are brought into the order of the groups once, before the
    projections, and back at the end."""

    def grouped(self, layout: Layout) -> Grouped:
        """The groups of a layout."""
        raise NotImplementedError

    def order(self, layout: Layout) -> RowOrder | None:
        return self.grouped(layout).rows

    def mix(self, q: Tensor, k: Tensor, v: Tensor, layout: Layout, context_layout: Layout | None) -> Tensor:
        return self.attend(q, k, v, self.grouped(layout).pairs)


class WindowAttention(GroupedAttention[WindowConfig]):
    """Voxels attend inside cubic windows, which odd blocks shift by half their edge; windows may hold any number of
    voxels, and none is padded.

    >>> attention = WindowAttention(WindowConfig(channels=8, heads=2, window=4))
    >>> coords = torch.tensor([[0, 0, 0], [1, 2, 3], [4, 0, 0]], dtype=torch.int32)
    >>> attention(torch.randn(3, 8), Layout(torch.tensor([0, 3]), coords)).shape
    torch.Size([3, 8])
    """

    Config = WindowConfig

    def grouped(self, layout: Layout) -> Grouped:
        return windows_of(layout, self.config.edges, self.config.shifts)

    def order(self, layout: Layout) -> RowOrder | None:
        return None if self.config.split_heads else super().order(layout)

    def order_key(self) -> Hashable:
        return None if self.config.split_heads else ("windows", self.config.edges, self.config.shifts)

    def mix(self, q: Tensor, k: Tensor, v: Tensor, layout: Layout, context_layout: Layout | None) -> Tensor:
        if not self.config.split_heads:
            return super().mix(q, k, v, layout, context_layout)
        edges = self.config.edges
        halves = zip(*(torch.chunk(x, 2, dim=1) for x in (q, k, v)), strict=True)
        mixed = []
        for parts, shift in zip(halves, (tuple(edge // 2 for edge in edges), (0, 0, 0)), strict=True):
            groups = windows_of(layout, edges, shift)
            queries, keys, values = (permuted(part, groups.rows) for part in parts)
            found = self.attend(queries, keys, values, groups.pairs)
            mixed.append(permuted(found, groups.back))
        return torch.cat(mixed[::-1], dim=1)


class SerialisedAttention(GroupedAttention[SerialisedConfig]):
    """Voxels attend inside equal pieces of a curve through their sample, which odd blocks shift by half a piece."""

    Config = SerialisedConfig

    def _piece(self) -> tuple[int, int, str, tuple[int, ...]]:
        config = self.config
        shift = config.size // 2 * (config.block % 2) if config.shift is None else config.shift
        return config.size, shift, config.curve, tuple(_plain(config.axes))

    def grouped(self, layout: Layout) -> Grouped:
        return pieces_of(layout, *self._piece())

    def order_key(self) -> Hashable:
        return ("pieces", *self._piece())


def _plain(value: Any) -> Any:
    """What a config file holds, with lists as tuples."""
    return value if isinstance(value, int) else tuple(value)


def _refuse_context(config: AttentionConfig) -> None:
    if config.context_channels is not None:
        raise ConfigError("context_channels must be left out: only attention/full attends to a context")
