"""The transformer block of both TripoSG networks."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from shapewright.errors import StateError
from shapewright.nn.norms import LayerNorm32
from torch import Tensor, nn

from .attention import HeadAttention, KeyValue
from .key_selection import KeySelection
from .moe import FeedForward, MixtureOfExperts, MoEConfig


@dataclass(frozen=True, slots=True)
class Context:
    """What a block attends to beside its own tokens: one or two contexts, each ``(B, M, C)`` or projected already, and
    by how much their answers count."""

    first: Tensor | KeyValue
    second: Tensor | KeyValue | None = None
    scale: float = 1.0
    second_scale: float = 1.0


class TransformerBlock(nn.Module):
    """Long skip, self-attention, one or two parallel cross-attentions, feed-forward; each part where asked for.

    ``h = LN(W [skip; h])``; ``h += attn1(LN1 h)``; ``h += s1 attn2(LN2 h) + s2 attn2_2(LN2_2 h)``; ``h += ff(LN3 h)``.
    Keys ``skip_linear, skip_norm, norm1, attn1, norm2, attn2, norm2_2, attn2_2, norm3, ff``.
    """

    def __init__(
        self,
        channels: int,
        heads: int,
        *,
        self_attention: bool = True,
        context_channels: int | None = None,
        second_context_channels: int | None = None,
        norm_context: bool = False,
        qk_norm: bool = False,
        bias: bool = False,
        skip: bool = False,
        moe: MoEConfig | None = None,
        attn1: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.skip_linear = nn.Linear(2 * channels, channels) if skip else None
        self.skip_norm = LayerNorm32(channels) if skip else None
        self.norm1, self.attn1, self.norm2, self.attn2, self.norm2_2, self.attn2_2 = (None,) * 6
        if self_attention:
            self.norm1 = LayerNorm32(channels)
            self.attn1 = attn1 or HeadAttention(channels, heads, qk_norm=qk_norm, bias=bias)
        if context_channels is not None:
            self.norm2 = LayerNorm32(channels)
            self.attn2 = HeadAttention(
                channels,
                heads,
                context_channels=context_channels,
                qk_norm=qk_norm,
                norm_context=norm_context,
                bias=bias,
            )
        if second_context_channels is not None:
            self.norm2_2 = LayerNorm32(channels)
            self.attn2_2 = HeadAttention(
                channels, heads, context_channels=second_context_channels, qk_norm=qk_norm, bias=bias
            )
        self.norm3 = LayerNorm32(channels)
        self.ff = FeedForward(channels) if moe is None else MixtureOfExperts(channels, moe)

    def project(self, context: Context) -> Context:
        """The context with keys and values of this block, for many calls with one condition."""
        first, second = context.first, context.second
        if self.attn2 is not None and isinstance(first, Tensor):
            first = self.attn2.project(first)
        if self.attn2_2 is not None and isinstance(second, Tensor):
            second = self.attn2_2.project(second)
        return Context(first, second, context.scale, context.second_scale)

    def forward(
        self,
        hidden: Tensor,
        context: Context | None = None,
        skip: Tensor | None = None,
        *,
        explicit: bool = False,
        selection: KeySelection | None = None,
    ) -> Tensor:
        """``(B, N, C)`` to the same. ``explicit`` and ``selection`` as in :class:`.HeadAttention`, for the context."""
        if (self.skip_linear is None) != (skip is None):
            raise StateError("a skip block needs a skip state, and only a skip block takes one")
        if self.skip_linear is not None and self.skip_norm is not None and skip is not None:
            hidden = self.skip_norm(self.skip_linear(torch.cat([skip, hidden], dim=-1)))
        if self.norm1 is not None and self.attn1 is not None:
            hidden = hidden + self.attn1(self.norm1(hidden))
        if self.norm2 is not None and self.attn2 is not None:
            if context is None:
                raise StateError("a block with cross-attention needs a context")
            options = {"explicit": explicit, "selection": selection}
            mixed = _scaled(self.attn2(self.norm2(hidden), context.first, **options), context.scale)
            if self.norm2_2 is not None and self.attn2_2 is not None:
                if context.second is None:
                    raise StateError("a block with two cross-attentions needs a second context")
                second = self.attn2_2(self.norm2_2(hidden), context.second, explicit=explicit)
                mixed = mixed + _scaled(second, context.second_scale)
            hidden = hidden + mixed
        result: Tensor = hidden + self.ff(self.norm3(hidden))
        return result


def _scaled(values: Tensor, scale: float) -> Tensor:
    return values if scale == 1.0 else values * scale
