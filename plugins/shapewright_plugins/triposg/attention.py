"""Attention of the TripoSG networks: separate projections, an optional norm of heads or of the context.

Published checkpoints interleave queries, keys and values by head: the outputs of ``to_q``, ``to_k`` and ``to_v`` are
concatenated and then viewed as ``(heads, 3, head channels)``. Here each projection holds the heads of its own kind;
:mod:`.weights` reorders the rows once, when a checkpoint is loaded, and back when one is saved.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from shapewright.errors import ConfigError, StateError
from shapewright.nn.norms import LayerNorm32
from torch import Tensor, nn

from .key_selection import KeySelection, selected_attention


class HeadNorm(nn.Module):
    """RMS norm over the channels of a head in float32, one gain for all heads; key ``weight`` ``(d,)``."""

    def __init__(self, channels: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(channels))

    def forward(self, values: Tensor) -> Tensor:
        wide = values.to(torch.promote_types(values.dtype, torch.float32))
        scaled = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.eps)
        return (scaled * self.weight.to(wide.dtype)).to(values.dtype)


class KeyValue(NamedTuple):
    """Keys and values ``(B, heads, M, d)`` of a context, projected once and used by many queries."""

    keys: Tensor
    values: Tensor


class HeadAttention(nn.Module):
    """Multi-head attention ``(B, N, C)`` to ``(B, N, C)``, to itself or to a context ``(B, M, context_channels)``.

    Keys ``to_q``, ``to_k``, ``to_v``, ``to_out.0``, and where asked for ``norm_q``, ``norm_k``, ``norm_cross``.
    """

    def __init__(
        self,
        channels: int,
        heads: int,
        *,
        head_channels: int | None = None,
        context_channels: int | None = None,
        qk_norm: bool = False,
        norm_context: bool = False,
        bias: bool = False,
        eps: float = 1e-6,
    ) -> None:
        super().__init__()
        if heads < 1 or (head_channels is None and channels % heads):
            raise ConfigError(f"{channels} channels cannot be split into {heads} heads; the heads must divide them")
        width = head_channels or channels // heads
        self.heads, self.is_self = heads, context_channels is None
        source = channels if context_channels is None else context_channels
        self.to_q = nn.Linear(channels, heads * width, bias=bias)
        self.to_k = nn.Linear(source, heads * width, bias=bias)
        self.to_v = nn.Linear(source, heads * width, bias=bias)
        self.to_out = nn.ModuleList([nn.Linear(heads * width, channels)])
        self.norm_q = HeadNorm(width, eps) if qk_norm else nn.Identity()
        self.norm_k = HeadNorm(width, eps) if qk_norm else nn.Identity()
        self.norm_cross = LayerNorm32(source) if norm_context else nn.Identity()

    def project(self, context: Tensor) -> KeyValue:
        """Keys and values of a context; they do not depend on the queries."""
        wanted = self.to_k.in_features
        if context.ndim != 3 or context.shape[-1] != wanted:
            raise StateError(f"a context must be (B, M, {wanted}), not {tuple(context.shape)}")
        context = self.norm_cross(context)
        return KeyValue(self.norm_k(self._heads(self.to_k(context))), self._heads(self.to_v(context)))

    def forward(
        self,
        hidden: Tensor,
        context: Tensor | KeyValue | None = None,
        *,
        explicit: bool = False,
        selection: KeySelection | None = None,
    ) -> Tensor:
        """Attend to ``context``, or to ``hidden`` itself.

        Args:
            explicit: write the softmax out. Fused kernels have no second derivative; this has.
            selection: attend to the keys that a few queries of each group find most alike.
        """
        if self.is_self != (context is None):
            raise StateError("self-attention takes no context" if self.is_self else "cross-attention needs a context")
        queries = self.norm_q(self._heads(self.to_q(hidden)))
        if not isinstance(context, KeyValue):
            context = self.project(hidden if context is None else context)
        if selection is not None:
            mixed = selected_attention(queries, context.keys, context.values, selection)
        elif explicit:
            mixed = softmax_attention(queries, context.keys, context.values)
        else:
            mixed = nn.functional.scaled_dot_product_attention(queries, context.keys, context.values)
        result: Tensor = self.to_out[0](mixed.transpose(1, 2).flatten(2))
        return result

    def _heads(self, values: Tensor) -> Tensor:
        return values.view(*values.shape[:-1], self.heads, -1).transpose(1, 2)


def softmax_attention(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """``softmax(q k^T / sqrt(d)) v`` from plain operations, differentiable any number of times."""
    logits = queries @ keys.transpose(-1, -2) * queries.shape[-1] ** -0.5
    return torch.softmax(logits, dim=-1) @ values
