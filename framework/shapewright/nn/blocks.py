"""Transformer blocks over packed token sets. Which tokens meet is the business of the attention that a block is given.

All are pre-norm and residual, with norms in float32 (eps 1e-6) and a GELU feed-forward. Parameters have the names of
the published checkpoints of TRELLIS.2, TripoSF and Direct3D-S2.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from shapewright.errors import StateError
from shapewright.interfaces import Attention
from shapewright.states import Layout

from .checkpointing import checkpoint
from .feed_forward import FeedForward
from .modulation import ModulationLayer, modulations
from .norms import LayerNorm32

EPS = 1e-6


class _Block(nn.Module):
    """Runs ``_run`` with or without keeping its activations."""

    def __init__(self, use_checkpoint: bool) -> None:
        super().__init__()
        self.use_checkpoint = use_checkpoint

    def _forward(self, run: Callable[..., Tensor], *arguments: Any) -> Tensor:
        return checkpoint(run, *arguments, enabled=self.use_checkpoint and self.training and torch.is_grad_enabled())


class TransformerBlock(_Block):
    """``x + attn(norm1(x))``, then ``x + mlp(norm2(x))``.

    Keys ``attn.*``, ``mlp.mlp.{0,2}.*``; ``norm1``, ``norm2`` have parameters only with ``affine``.

    >>> from shapewright.nn.attention import AttentionConfig, FullAttention
    >>> block = TransformerBlock(8, FullAttention(AttentionConfig(channels=8, heads=2)))
    >>> block(torch.randn(5, 8), Layout(torch.tensor([0, 2, 5]))).shape
    torch.Size([5, 8])
    """

    def __init__(
        self, channels: int, attention: Attention[Any], *, mlp_ratio: float = 4.0, affine: bool = False,
        use_checkpoint: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(use_checkpoint)
        self.norm1 = LayerNorm32(channels, elementwise_affine=affine, eps=EPS)
        self.norm2 = LayerNorm32(channels, elementwise_affine=affine, eps=EPS)
        self.attn = attention
        self.mlp = FeedForward(channels, mlp_ratio)

    def forward(self, hidden: Tensor, layout: Layout) -> Tensor:
        """``(T, C)`` to the same."""
        return self._forward(self._run, hidden, layout)

    def _run(self, hidden: Tensor, layout: Layout) -> Tensor:
        hidden = hidden + self.attn(self.norm1(hidden), layout)
        fed: Tensor = self.mlp(self.norm2(hidden))
        return hidden + fed


class CrossTransformerBlock(_Block):
    """:class:`TransformerBlock` with attention to a context in the middle: ``self_attn``, ``cross_attn``, ``mlp``."""

    def __init__(
        self, channels: int, attention: Attention[Any], cross: Attention[Any], *, mlp_ratio: float = 4.0,
        affine: bool = False, use_checkpoint: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(use_checkpoint)
        self.norm1 = LayerNorm32(channels, elementwise_affine=affine, eps=EPS)
        self.norm2 = LayerNorm32(channels, elementwise_affine=affine, eps=EPS)
        self.norm3 = LayerNorm32(channels, elementwise_affine=affine, eps=EPS)
        self.self_attn, self.cross_attn = attention, cross
        self.mlp = FeedForward(channels, mlp_ratio)

    def forward(self, hidden: Tensor, layout: Layout, context: Tensor, context_layout: Layout) -> Tensor:
        """``(T, C)`` with ``context (S, Cc)`` to ``(T, C)``."""
        return self._forward(self._run, hidden, layout, context, context_layout)

    def _run(self, hidden: Tensor, layout: Layout, context: Tensor, context_layout: Layout) -> Tensor:
        hidden = hidden + self.self_attn(self.norm1(hidden), layout)
        hidden = hidden + self.cross_attn(self.norm2(hidden), layout, context=context, context_layout=context_layout)
        fed: Tensor = self.mlp(self.norm3(hidden))
        return hidden + fed


class _Modulated(_Block):
    """Where a block takes its modulation from: its own layer, or one of the model plus an offset of its own."""

    def __init__(self, channels: int, share_mod: bool, use_checkpoint: bool) -> None:
        super().__init__(use_checkpoint)
        self.channels, self.share_mod = channels, share_mod
        if share_mod:
            self.modulation = nn.Parameter(torch.randn(6 * channels) / channels**0.5)
        else:
            self.adaLN_modulation = ModulationLayer(channels)

    def _values(self, mod: Tensor) -> Tensor:
        wanted = 6 * self.channels if self.share_mod else self.channels
        if mod.ndim != 2 or mod.shape[1] != wanted:
            what = "the model's shared modulation" if self.share_mod else "the embedding of time"
            raise StateError(f"mod is {what} and must be (B, {wanted}), not {tuple(mod.shape)}")
        if self.share_mod:
            return self.modulation.to(mod.dtype) + mod
        found: Tensor = self.adaLN_modulation(mod)
        return found


class ModulatedTransformerBlock(_Modulated):
    """:class:`TransformerBlock` whose halves are shifted, scaled and gated by time; its norms have no parameters."""

    def __init__(
        self, channels: int, attention: Attention[Any], *, mlp_ratio: float = 4.0, share_mod: bool = False,
        use_checkpoint: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(channels, share_mod, use_checkpoint)
        self.norm1 = LayerNorm32(channels, elementwise_affine=False, eps=EPS)
        self.norm2 = LayerNorm32(channels, elementwise_affine=False, eps=EPS)
        self.attn = attention
        self.mlp = FeedForward(channels, mlp_ratio)

    def forward(self, hidden: Tensor, mod: Tensor, layout: Layout) -> Tensor:
        """``hidden (T, C)``; ``mod`` is embedded time ``(B, C)``, or with ``share_mod`` the model's ``(B, 6 C)``."""
        return self._forward(self._run, hidden, mod, layout)

    def _run(self, hidden: Tensor, mod: Tensor, layout: Layout) -> Tensor:
        first, second = modulations(self._values(mod), layout)
        hidden = hidden + first.leave(self.attn(first.enter(self.norm1(hidden)), layout))
        return hidden + second.leave(self.mlp(second.enter(self.norm2(hidden))))


class ModulatedCrossBlock(_Modulated):
    """The block of the diffusion transformers: modulated attention, plain attention to the condition (``norm2`` is
    affine), modulated feed-forward.

    Keys ``self_attn.*``, ``cross_attn.*``, ``norm2.*``, ``mlp.mlp.{0,2}.*`` and ``adaLN_modulation.1.*``, or
    ``modulation`` with ``share_mod``.
    """

    def __init__(
        self, channels: int, attention: Attention[Any], cross: Attention[Any], *, mlp_ratio: float = 4.0,
        share_mod: bool = False, use_checkpoint: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(channels, share_mod, use_checkpoint)
        self.norm1 = LayerNorm32(channels, elementwise_affine=False, eps=EPS)
        self.norm2 = LayerNorm32(channels, elementwise_affine=True, eps=EPS)
        self.norm3 = LayerNorm32(channels, elementwise_affine=False, eps=EPS)
        self.self_attn, self.cross_attn = attention, cross
        self.mlp = FeedForward(channels, mlp_ratio)

    def forward(self, hidden: Tensor, mod: Tensor, layout: Layout, context: Tensor, context_layout: Layout) -> Tensor:
        """``hidden (T, C)``, ``context (S, Cc)``; ``mod`` is embedded time ``(B, C)``, or with ``share_mod`` the
        model's ``(B, 6 C)``."""
        return self._forward(self._run, hidden, mod, layout, context, context_layout)

    def _run(self, hidden: Tensor, mod: Tensor, layout: Layout, context: Tensor, context_layout: Layout) -> Tensor:
        first, second = modulations(self._values(mod), layout)
        hidden = hidden + first.leave(self.self_attn(first.enter(self.norm1(hidden)), layout))
        hidden = hidden + self.cross_attn(self.norm2(hidden), layout, context=context, context_layout=context_layout)
        return hidden + second.leave(self.mlp(second.enter(self.norm3(hidden))))
