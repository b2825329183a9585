"""Spatial Sparse Attention as a module (Direct3D-S2, arXiv 2505.17412): three branches, gated by the hidden state.

``y = proj_o(g0 * compressed + g1 * selected + g2 * window)`` with ``g = sigmoid(gate(x))``, one scalar for a token
and branch. State-dict names and layouts are those of the published checkpoints.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, cast

import torch
from shapewright_kernels.spatial_sparse_attention import (
    BACKENDS,
    Backend,
    BlockPartition,
    SpatialStructure,
    attend_compressed,
    attend_selected,
    attend_windows,
    pool_blocks,
    select_blocks,
    spatial_structure,
)
from torch import Tensor, nn
from torch.nn import functional

from shapewright.errors import ConfigError, StateError
from shapewright.interfaces import Attention
from shapewright.states import Layout

from .attention import AttentionConfig
from .convolution import TorchsparseConv3d
from .layouts import batched_coords
from .norms import SparseGroupNorm32, sparse_group_norm
from .structure import Structure


@dataclass(frozen=True)
class SpatialSparseConfig(AttentionConfig):
    """Widths as for every pattern, and edges in voxels; the defaults of the pattern are those of the published 1024
    model, whose heads are 32 over 2 key heads of width 32."""

    bias: bool = False
    compression_block: int = 8
    selection_block: int = 8
    top_k: int = 8
    window: int = 8
    shift: int | None = None
    """Added to the coordinates before they are divided into windows; ``None`` for half a window in odd blocks and 0 in
    even ones. The published models without ``use_shift`` use half a window in all."""
    compression: str = "v1"
    """``v1``: a linear layer and the mean; ``v2``: a residual block of norms and convolutions on the grid of blocks."""
    groups: int = 32
    """Of the norms of ``v2``."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("compression_block", "selection_block", "top_k", "window", "groups"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.selection_block % self.compression_block:
            raise ConfigError(
                f"selection_block {self.selection_block} must be a multiple of compression_block "
                f"{self.compression_block}"
            )
        if self.shift is not None and self.shift < 0:
            raise ConfigError(f"shift must not be negative, not {self.shift}")
        if self.compression not in ("v1", "v2"):
            raise ConfigError(f"compression must be 'v1' or 'v2', not {self.compression!r}")
        if self.compression == "v2" and (self.shared_heads * self.width) % self.groups:
            raise ConfigError(
                f"groups {self.groups} must divide kv_heads * head width = {self.shared_heads * self.width}"
            )
        if self.context_channels is not None:
            raise ConfigError("context_channels must be None: spatial sparse attention is self-attention")
        if self.rope or self.qk_norm != "none":
            raise ConfigError(
                "rope and qk_norm must be off: spatial sparse attention has its own positions and no norm"
            )
        if self.backend not in BACKENDS:
            raise ConfigError(f"backend must be one of {', '.join(BACKENDS)}, not {self.backend!r}")

    @property
    def shared_heads(self) -> int:
        """Heads of keys and values."""
        return self.kv_heads or self.heads

    @property
    def window_shift(self) -> int:
        """In voxels."""
        return self.window // 2 * (self.block % 2) if self.shift is None else self.shift


class Blocks:
    """What one set of voxels gives to all layers of one pair of block sizes; windows are kept by size and shift.

    Raises:
        StateError: coordinates that are negative, outside the resolution or doubled; a resolution that the blocks do
            not divide.
    """

    def __init__(
        self, coords: Tensor, *, compression: int, selection: int, batch_size: int, resolution: int | None = None
    ) -> None:
        try:
            self._tables = spatial_structure(
                coords, compression=compression, selection=selection, window=selection, resolution=resolution,
                batch_size=batch_size,
            )  # fmt: skip
        except (ValueError, TypeError) as error:
            raise StateError(str(error)) from None
        self._by_window: dict[tuple[int, int], SpatialStructure] = {(selection, 0): self._tables}
        self._grid: Structure | None = None
        self._inside: Tensor | None = None

    @classmethod
    def of(cls, layout: Layout, compression: int, selection: int) -> Blocks:
        """Those of a layout, made once and kept with it."""

        def compute() -> Blocks:
            return cls(
                batched_coords(layout), compression=compression, selection=selection,
                batch_size=len(layout.offsets) - 1, resolution=layout.resolution,
            )  # fmt: skip

        return layout.shared(("spatial-sparse-blocks", compression, selection), compute)

    def tables(self, window: int, shift: int) -> SpatialStructure:
        """The structure with these windows."""
        key = (window, shift)
        if key not in self._by_window:
            self._by_window[key] = self._tables.with_window(window, shift)
        return self._by_window[key]

    @property
    def compression(self) -> BlockPartition:
        """Partition of the tokens, in selection-block order, into compression blocks."""
        return self._tables.compression

    @property
    def samples(self) -> Tensor:
        """``(N,)`` int64 sample of every token in selection-block order."""
        return self._tables.coords[:, 0].long()

    @property
    def batch_size(self) -> int:
        return self._tables.batch_size

    @property
    def grid(self) -> Structure:
        """The compression blocks as voxels, for convolutions between them."""
        if self._grid is None:
            self._grid = Structure(self.compression.coords, self.batch_size)
        return self._grid

    @property
    def inside(self) -> Tensor:
        """``(N,)`` int64 place of every token in its compression block, x slowest."""
        if self._inside is None:
            size = self.compression.size
            x, y, z = (self._tables.coords[:, 1:].long() % size).unbind(1)
            self._inside = (x * size + y) * size + z
        return self._inside


class BlockCompressionV1(nn.Module):
    """SiLU of a linear layer, then the sum over a block divided by its tokens plus one. Keys
    ``act_layers.0.conv.kernel`` ``(C, C)``, ``.bias``."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.act_layers = nn.Sequential(TorchsparseConv3d(channels, channels, 1), nn.SiLU())

    def forward(self, feats: Tensor, blocks: Blocks) -> Tensor:
        """``(N, C)`` tokens in selection-block order to ``(M, C)`` compression blocks."""
        conv: Any = self.act_layers[0]
        linear = functional.linear(feats, conv.conv.kernel.t(), conv.conv.bias)
        return pool_blocks(self.act_layers[1](linear), blocks.compression)


class BlockCompressionV2(nn.Module):
    """A residual block that pools: norm and SiLU on tokens, two convolutions and a norm on the grid of blocks.

    Keys ``act_layers.0.*`` (group norm), ``out_layers.0.conv.*``, ``out_layers.1.*``, ``out_layers.3.conv.*``.
    """

    def __init__(self, channels: int, groups: int = 32) -> None:
        super().__init__()
        self.act_layers = nn.Sequential(SparseGroupNorm32(groups, channels), nn.SiLU())
        self.out_layers = nn.Sequential(
            TorchsparseConv3d(channels, channels, 3),
            SparseGroupNorm32(groups, channels),
            nn.SiLU(),
            TorchsparseConv3d(channels, channels, 3),
        )

    def forward(self, feats: Tensor, blocks: Blocks) -> Tensor:
        """``(N, C)`` tokens in selection-block order to ``(M, C)`` compression blocks."""
        first, norm, silu, second = tuple[Any, ...](self.out_layers)
        around = blocks.grid.neighbours(3)
        samples = blocks.compression.coords[:, 0].long()
        active = self.act_layers[1](_group_norm(self.act_layers[0], feats, blocks.samples, blocks.batch_size))
        hidden = first.conv.convolve(pool_blocks(active, blocks.compression), around)
        hidden = silu(_group_norm(norm, hidden, samples, blocks.batch_size))
        added: Tensor = second.conv.convolve(hidden, around)
        return added + pool_blocks(feats, blocks.compression)


def _group_norm(norm: Any, feats: Tensor, samples: Tensor, batch_size: int) -> Tensor:
    return sparse_group_norm(feats, samples, batch_size, norm.num_groups, norm.weight, norm.bias, norm.eps)


class Branches(NamedTuple):
    """Parts of one evaluation, tokens in selection-block order."""

    compressed_k: Tensor
    """``(M, Hkv, d)`` keys of the compression blocks."""
    compressed_v: Tensor
    selected: Tensor
    """``(Hkv, N, K)`` int32, see :func:`shapewright_kernels.spatial_sparse_attention.select_blocks`."""
    compressed: Tensor
    """``(N, Hq, d)`` outputs of the three branches before gating."""
    selection: Tensor
    window: Tensor
    gate: Tensor
    """``(N, 3)`` in the order of the branches."""


class SpatialSparseAttention(Attention[SpatialSparseConfig]):
    """Self-attention of voxel tokens to compressed blocks, to their top-k blocks and to their window.

    Tokens may stand in any order within a sample. Keys ``proj_q``, ``proj_k``, ``proj_v``, ``proj_o``, ``gate.0``
    (weights only), ``intra_block_pe`` ``(m, m, m, Hkv * d)``, ``compression_key.*``, ``compression_value.*``.
    """

    Config: ClassVar[type[Any]] = SpatialSparseConfig

    def __init__(self, config: SpatialSparseConfig) -> None:
        super().__init__(config)
        inner, shared = config.heads * config.width, config.shared_heads * config.width
        edge = config.compression_block
        self.proj_q = nn.Linear(config.channels, inner, bias=config.bias)
        self.proj_k = nn.Linear(config.channels, shared, bias=config.bias)
        self.proj_v = nn.Linear(config.channels, shared, bias=config.bias)
        self.proj_o = nn.Linear(inner, config.channels, bias=config.bias)
        self.gate = nn.Sequential(nn.Linear(config.channels, 3, bias=False), nn.Sigmoid())
        self.intra_block_pe = nn.Parameter(torch.zeros(edge, edge, edge, shared))
        self.compression_key, self.compression_value = (self._compression(shared) for _ in range(2))

    def _compression(self, channels: int) -> nn.Module:
        if self.config.compression == "v1":
            return BlockCompressionV1(channels)
        return BlockCompressionV2(channels, self.config.groups)

    def forward(
        self, hidden: Tensor, layout: Layout, *, context: Tensor | None = None, context_layout: Layout | None = None
    ) -> Tensor:
        """``hidden`` ``(T, C)`` to ``(T, C)``.

        Raises:
            StateError: a context is given; the layout has no coordinates, or bad ones; shapes do not fit.
        """
        if context is not None or context_layout is not None:
            raise StateError("context: spatial sparse attention is self-attention; use attention/full for a context")
        if hidden.ndim != 2 or hidden.shape[1] != self.config.channels:
            raise StateError(f"hidden must be (T, {self.config.channels}), not {tuple(hidden.shape)}")
        if layout.coords is None or len(layout.coords) != len(hidden):
            rows = "no coords" if layout.coords is None else f"coords of {len(layout.coords)}"
            raise StateError(f"hidden has {len(hidden)} rows, but the layout has {rows}")
        if len(hidden) == 0:
            nothing: Tensor = self.proj_o(self.proj_q(hidden))  # keeps the graph
            return nothing
        blocks = Blocks.of(layout, self.config.compression_block, self.config.selection_block)
        tables = blocks.tables(self.config.window, self.config.window_shift)
        parts = self.branches(hidden if tables.order is None else hidden[tables.order], blocks)
        gates = parts.gate[:, :, None, None].unbind(1)
        mixed = gates[0] * parts.compressed + gates[1] * parts.selection + gates[2] * parts.window
        result: Tensor = self.proj_o(mixed.flatten(1))
        return result if tables.inverse is None else result[tables.inverse]

    def branches(self, hidden: Tensor, blocks: Blocks) -> Branches:
        """All parts, for tokens that stand in selection-block order."""
        config = self.config
        tables = blocks.tables(config.window, config.window_shift)
        q, k, v = (
            made.unflatten(1, (-1, config.width))
            for made in (self.proj_q(hidden), self.proj_k(hidden), self.proj_v(hidden))
        )
        places = self.intra_block_pe.flatten(0, 2)[blocks.inside]
        keys = self.compression_key(k.flatten(1) + places.to(k.dtype), blocks).to(k.dtype).view(-1, *k.shape[1:])
        values = self.compression_value(v.flatten(1), blocks).to(v.dtype).view(-1, *v.shape[1:])
        backend = cast(Backend, config.backend)
        try:
            compressed, lse = attend_compressed(q, keys, values, tables, backend=backend)
            selected = select_blocks(q.detach(), keys.detach(), lse.detach(), tables, config.top_k, backend=backend)
            selection, _ = attend_selected(q, k, v, selected, tables, backend=backend)
            window, _ = attend_windows(q, k, v, tables.windows, backend=backend)
        except (ValueError, TypeError) as error:
            raise StateError(str(error)) from None
        return Branches(keys, values, selected, compressed, selection, window, self.gate(hidden).to(q.dtype))
