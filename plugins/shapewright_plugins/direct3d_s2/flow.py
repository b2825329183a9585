"""Diffusion transformers of Direct3D-S2: one over patches of a dense grid, one over voxels with sparse attention."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from shapewright.errors import ConfigError, StateError
from shapewright.interfaces import Attention
from shapewright.nn.flow_transformer import FlowTransformer, FlowTransformerConfig, as_context, grid_coords
from shapewright.nn.layouts import dense_layout, layout_of
from shapewright.nn.positions import AbsolutePositionEmbedding
from shapewright.nn.spatial_sparse_attention import SpatialSparseAttention, SpatialSparseConfig
from shapewright.states import Layout, SparseTensor
from torch import Tensor, nn


@dataclass(frozen=True)
class DenseConfig(FlowTransformerConfig):
    patch_size: int = 1
    """Edge of the patches that become tokens; it divides ``resolution``."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.patch_size < 1 or self.resolution % self.patch_size:
            raise ConfigError(f"patch_size {self.patch_size} must divide resolution {self.resolution}")


class DenseFlow(FlowTransformer):
    """``DenseDiT``: velocity of a dense latent. A patch's channels are ordered channel, then x, y, z inside it.

    The position code is a saved buffer ``pos_emb``, as in the checkpoints.
    """

    pos_emb: Tensor

    def __init__(self, config: DenseConfig) -> None:
        cells = config.patch_size**3
        super().__init__(
            replace(config, in_channels=config.in_channels * cells, out_channels=config.out_channels * cells)
        )
        self.patch, self.channels, self.size = config.patch_size, config.in_channels, config.resolution
        coords = grid_coords(config.resolution // config.patch_size)
        self.register_buffer("pos_emb", AbsolutePositionEmbedding(config.model_channels)(coords))

    def forward(self, x: Tensor, t: Tensor, cond: Tensor | Sequence[Tensor], *, layout: Layout | None = None) -> Tensor:
        """``x (B, Cin, R, R, R)``, ``t (B,)`` in 0..1000, ``cond (B, L, Cc)``, to ``(B, Cout, R, R, R)``."""
        edge, patch = self.size // self.patch, self.patch
        if x.ndim != 5 or tuple(x.shape[1:]) != (self.channels, self.size, self.size, self.size):
            raise StateError(f"x must be (B, {self.channels}, R, R, R) with R {self.size}, not {tuple(x.shape)}")
        layout = layout or dense_layout(len(x), edge**3, x.device, grid_coords(edge, x.device))
        cut = x.reshape(len(x), self.channels, edge, patch, edge, patch, edge, patch)
        tokens = cut.permute(0, 2, 4, 6, 1, 3, 5, 7).reshape(len(x) * edge**3, -1)
        found = self.run(tokens, self.pos_emb.repeat(len(x), 1), t, layout, *as_context(cond))
        cells = found.reshape(len(x), edge, edge, edge, -1, patch, patch, patch)
        return cells.permute(0, 4, 1, 5, 2, 6, 3, 7).reshape(len(x), -1, self.size, self.size, self.size)


@dataclass(frozen=True)
class SparseConfig(FlowTransformerConfig):
    resolution: int = 64
    num_heads: int | None = 32
    num_kv_heads: int = 2
    compression_block_size: int = 8
    selection_block_size: int = 8
    topk: int = 8
    compression_version: str = "v1"
    window_size: int = 8
    use_shift: bool = True
    """Windows of odd blocks are shifted by half their edge; without it those of all blocks are."""
    factor: float = 1.0
    """Multiplies coordinates in the position code: 0.5 at twice the resolution keeps one frame."""
    sparse_conditions: bool = False
    """The condition is the patches of the foreground, with a position code of their own."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.sparse_conditions and self.cond_channels != self.model_channels:
            raise ConfigError(
                f"cond_channels {self.cond_channels} must equal model_channels {self.model_channels} with "
                "sparse_conditions"
            )


class SparseFlow(FlowTransformer):
    """``SparseDiT``: velocity of a sparse latent; rows keep their order.

    ``qk_rms_norm`` of the published configs has no effect there, and none here. Another self-attention may be named by
    ``attention``.
    """

    config: SparseConfig

    def __init__(self, config: SparseConfig) -> None:
        super().__init__(config)
        self.embed = AbsolutePositionEmbedding(config.model_channels)
        if config.sparse_conditions:
            self.cond_proj = nn.Linear(config.cond_channels, config.model_channels)

    def self_attention(self, block: int) -> Attention[Any]:
        config = self.config
        if config.attention is not None:
            return super().self_attention(block)
        return SpatialSparseAttention(
            SpatialSparseConfig(
                config.model_channels,
                config.heads,
                kv_heads=config.num_kv_heads,
                compression_block=config.compression_block_size,
                selection_block=config.selection_block_size,
                top_k=config.topk,
                window=config.window_size,
                shift=config.window_size // 2 * (block % 2 if config.use_shift else 1),
                compression=config.compression_version,
                block=block,
            )
        )

    def forward(
        self, x: SparseTensor, t: Tensor, cond: Tensor | Sequence[Tensor] | SparseTensor, *,
        layout: Layout | None = None,
    ) -> SparseTensor:  # fmt: skip
        """``x`` with ``t (B,)`` in 0..1000 and ``cond (B, L, Cc)``; with ``sparse_conditions`` ``cond`` holds tokens at
        places ``[batch, column, row, special]`` (:func:`~shapewright.nn.foreground_tokens`)."""
        if isinstance(cond, SparseTensor) != self.config.sparse_conditions:
            wanted = "a SparseTensor of tokens" if self.config.sparse_conditions else "(B, L, C) tokens"
            raise StateError(f"cond must be {wanted}, as sparse_conditions says, not {type(cond).__name__}")
        layout = layout or layout_of(x)
        assert layout.coords is not None
        if isinstance(cond, SparseTensor):
            context_layout = layout_of(cond)
            places = self.embed(cond.coords[:, 1:])
            context = self.cond_proj(cond.feats.to(self.cond_proj.weight.dtype)) + places
        else:
            context, context_layout = as_context(cond)
        positions = self.embed(layout.coords, self.config.factor)
        return x.replace(self.run(x.feats, positions, t, layout, context, context_layout))


def published(config: type[Any], options: dict[str, Any]) -> Any:
    """A config from published constructor arguments; what concerns storage (``use_fp16``) is left out."""
    known = set(config.__dataclass_fields__) - {"attention"}
    return config(**{name: value for name, value in options.items() if name in known})
