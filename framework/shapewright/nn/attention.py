"""Multi-head attention over packed token sets; patterns differ in which tokens meet, not in weights or names.

Weights carry the names of the published checkpoints: ``to_qkv`` (packed ``[3, heads, d]``), or ``to_q`` and ``to_kv``
(``[2, heads, d]``) where the keys come from a context; ``to_out``; ``q_rms_norm.gamma``, ``k_rms_norm.gamma``.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
from shapewright_kernels.varlen_attention import BACKENDS, varlen_attention
from shapewright_kernels.varlen_attention_segments import RowOrder, SegmentPairs, permuted, segment_pairs
from torch import Tensor, nn

from shapewright.errors import ConfigError, StateError
from shapewright.interfaces import Attention
from shapewright.states import Layout

from .norms import MultiHeadRMSNorm
from .positions import rotary_phases, rotate

QK_NORMS = ("none", "per-head", "shared")


@dataclass(frozen=True)
class AttentionConfig:
    """Widths, which a model gives to every pattern alike, and what is done to queries and keys."""

    channels: int = 64
    heads: int = 4
    head_channels: int | None = None
    """``channels / heads`` by default."""
    kv_heads: int | None = None
    """Fewer heads for keys and values, each shared by ``heads / kv_heads`` query heads; ``heads`` by default."""
    context_channels: int | None = None
    """Width of the context of cross-attention; ``None`` for self-attention."""
    bias: bool = True
    """Of the projections of queries, keys and values; ``to_out`` always has one."""
    qk_norm: str = "none"
    """``per-head``: unit length times a learned gain for every head and channel; ``shared``: RMS norm with one gain for
    all heads, eps 1e-6."""
    rope: bool = False
    """Turn queries and keys by the coordinates of their voxels, after ``qk_norm``."""
    rope_first: float = 1.0
    rope_base: float = 10000.0
    rope_pairs: str = "adjacent"
    """Channels that are turned together: ``adjacent`` (2i, 2i+1) or ``halves`` (i, i + d/2)."""
    block: int = 0
    """Number of the block in its network; patterns that alternate look at its parity."""
    backend: str = "auto"

    def __post_init__(self) -> None:
        for name in ("channels", "heads", "head_channels", "kv_heads", "context_channels"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name} must be at least 1, not {value}")
        if self.head_channels is None and self.channels % self.heads:
            raise ConfigError(f"channels {self.channels} must be divisible by heads {self.heads}, or set head_channels")
        if self.heads % (self.kv_heads or self.heads):
            raise ConfigError(f"heads {self.heads} must be divisible by kv_heads {self.kv_heads}")
        if self.qk_norm not in QK_NORMS:
            raise ConfigError(f"qk_norm must be one of {', '.join(QK_NORMS)}, not {self.qk_norm!r}")
        if self.rope_pairs not in ("adjacent", "halves"):
            raise ConfigError(f"rope_pairs must be adjacent or halves, not {self.rope_pairs!r}")
        if self.rope and (self.width % 2 or self.width < 6):
            raise ConfigError(f"rope needs an even head width of at least 6, not {self.width}")
        if self.rope and self.context_channels is not None:
            raise ConfigError("rope must be off in cross-attention: a context has no voxels")
        if self.block < 0:
            raise ConfigError(f"block must be 0 or more, not {self.block}")
        if self.backend not in BACKENDS:
            raise ConfigError(f"backend must be one of {', '.join(BACKENDS)}, not {self.backend!r}")

    @property
    def width(self) -> int:
        """Channels of a head."""
        return self.channels // self.heads if self.head_channels is None else self.head_channels


ConfigT = TypeVar("ConfigT", bound=AttentionConfig)


class SharedRMSNorm(nn.Module):
    """RMS norm over the channels of a head in float32, one gain for all heads; key ``weight`` ``(d,)``."""

    def __init__(self, width: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, values: Tensor) -> Tensor:
        """``(..., d)`` to the same."""
        wide = values.to(torch.promote_types(values.dtype, torch.float32))
        scaled = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.eps)
        return (scaled * self.weight.to(wide.dtype)).to(values.dtype)


class MultiHeadAttention(Attention[ConfigT], Generic[ConfigT]):
    """Projections, norms and rotary codes around a pattern that a subclass gives by ``mix`` and, where it works on
    reordered tokens, ``order``."""

    def __init__(self, config: ConfigT) -> None:
        super().__init__(config)
        heads, kv_heads = config.heads, config.kv_heads or config.heads
        inner, inner_kv = heads * config.width, kv_heads * config.width
        self.kv_heads = kv_heads
        if config.context_channels is None:
            self.to_qkv = nn.Linear(config.channels, inner + 2 * inner_kv, bias=config.bias)
        else:
            self.to_q = nn.Linear(config.channels, inner, bias=config.bias)
            self.to_kv = nn.Linear(config.context_channels, 2 * inner_kv, bias=config.bias)
        self.to_out = nn.Linear(inner, config.channels)
        self.q_rms_norm = _head_norm(config.qk_norm, config.width, heads)
        self.k_rms_norm = _head_norm(config.qk_norm, config.width, kv_heads)

    def forward(
        self, hidden: Tensor, layout: Layout, *, context: Tensor | None = None, context_layout: Layout | None = None
    ) -> Tensor:
        """``hidden (T, C)`` to ``(T, C)``.

        Raises:
            StateError: rows or channels do not fit the layout or the config, offsets do not ascend, or a context is
                missing or too many.
        """
        config = self.config
        _check_rows("hidden", hidden, config.channels, layout)
        cross = config.context_channels is not None
        if cross != (context is not None) or cross != (context_layout is not None):
            wanted = "context and context_layout" if cross else "no context: it was built without context_channels"
            raise StateError(f"{type(self).__name__} wants {wanted}")
        order = self.order(layout)
        hidden = permuted(hidden, order)
        if cross:
            assert context is not None
            assert context_layout is not None
            assert config.context_channels is not None
            _check_rows("context", context, config.context_channels, context_layout)
            q = self.to_q(hidden).unflatten(-1, (config.heads, config.width))
            k, v = self.to_kv(context).unflatten(-1, (2, self.kv_heads, config.width)).unbind(-3)
        else:
            packed = self.to_qkv(hidden).unflatten(-1, (config.heads + 2 * self.kv_heads, config.width))
            q, k, v = packed.split([config.heads, self.kv_heads, self.kv_heads], dim=-2)
        q, k = self.q_rms_norm(q), self.k_rms_norm(k)
        if config.rope:
            cosine, sine = self._phases(hidden, layout, order)
            q = rotate(q, cosine, sine, config.rope_pairs)  # type: ignore[arg-type]
            k = rotate(k, cosine, sine, config.rope_pairs)  # type: ignore[arg-type]
        mixed = self.mix(q, k, v, layout, context_layout)
        result: Tensor = self.to_out(mixed.flatten(-2))
        return permuted(result, order and RowOrder(order.inverse, order.forward))

    def order(self, layout: Layout) -> RowOrder | None:
        """The order in which ``mix`` wants its tokens; ``None`` for that of the layout."""
        return None

    def order_key(self) -> Hashable:
        """Names :meth:`order` among everything that a layout remembers."""
        return None

    def mix(self, q: Tensor, k: Tensor, v: Tensor, layout: Layout, context_layout: Layout | None) -> Tensor:
        """``q (T, heads, d)`` with ``k``, ``v`` ``(S, kv_heads, d)`` to ``(T, heads, d)``."""
        raise NotImplementedError

    def attend(self, q: Tensor, k: Tensor, v: Tensor, pairs: SegmentPairs) -> Tensor:
        """Softmax attention inside pairs of segments."""
        dtype = torch.promote_types(torch.promote_types(q.dtype, k.dtype), v.dtype)
        return varlen_attention(q.to(dtype), k.to(dtype), v.to(dtype), pairs, backend=self.config.backend)

    def _phases(self, hidden: Tensor, layout: Layout, order: RowOrder | None) -> tuple[Tensor, Tensor]:
        config = self.config
        dtype = torch.promote_types(hidden.dtype, torch.float32)
        if layout.coords is None:
            raise StateError("the layout has no coords; rope needs tokens that are voxels")
        coords = layout.coords

        def compute() -> tuple[Tensor, Tensor]:
            found = rotary_phases(coords, config.width, first=config.rope_first, base=config.rope_base, dtype=dtype)
            return found if order is None else (found[0][order.forward], found[1][order.forward])

        key = ("rope", config.width, config.rope_first, config.rope_base, dtype, self.order_key())
        return layout.shared(key, compute)


class FullAttention(MultiHeadAttention[AttentionConfig]):
    """Every token attends to all tokens of its sample, or to the context of its sample.

    >>> attention = FullAttention(AttentionConfig(channels=8, heads=2))
    >>> attention(torch.randn(5, 8), Layout(torch.tensor([0, 2, 5]))).shape
    torch.Size([5, 8])
    """

    Config = AttentionConfig

    def mix(self, q: Tensor, k: Tensor, v: Tensor, layout: Layout, context_layout: Layout | None) -> Tensor:
        if context_layout is None:
            return self.attend(q, k, v, self_pairs(layout))
        lengths = len(layout.offsets) - 1, len(context_layout.offsets) - 1
        if lengths[0] != lengths[1]:
            raise StateError(f"context_layout has {lengths[1]} samples but the layout has {lengths[0]}")
        return self.attend(q, k, v, _context_pairs(layout, context_layout.offsets))


def _context_pairs(layout: Layout, others: Tensor) -> SegmentPairs:
    """Samples with their contexts, kept for the latest context: all blocks of one pass have the same."""
    latest: dict[str, tuple[Tensor, SegmentPairs]] = layout.shared("context_pairs", dict)
    found = latest.get("latest")
    if found is None or found[0] is not others:
        found = latest["latest"] = others, checked_pairs(layout.offsets, others, layout.offsets.device)
    return found[1]


def self_pairs(layout: Layout) -> SegmentPairs:
    """The samples of a layout, each attending to itself; made once."""
    return layout.shared("self_pairs", lambda: checked_pairs(layout.offsets, None, layout.offsets.device))


def checked_pairs(offsets: Tensor, others: Tensor | None, device: torch.device) -> SegmentPairs:
    """:func:`segment_pairs` whose complaints are those of a layout."""
    try:
        return segment_pairs(offsets, others, device)
    except (ValueError, TypeError) as error:
        raise StateError(
            str(error).replace("offsets_q", "layout.offsets").replace("offsets_k", "context_layout.offsets")
        ) from None


def _check_rows(name: str, rows: Tensor, channels: int, layout: Layout) -> None:
    if rows.ndim != 2 or rows.shape[1] != channels:
        raise StateError(f"{name} must be (T, {channels}), not {tuple(rows.shape)}")
    total = self_pairs(layout).total_q
    if len(rows) != total:
        raise StateError(f"{name} has {len(rows)} rows but its layout ends at {total}")
    if layout.coords is not None and len(layout.coords) != total:
        raise StateError(f"the layout ends at {total} but has {len(layout.coords)} coords")
    if layout.offsets.device != rows.device:
        raise StateError(f"{name} is on {rows.device} but its layout is on {layout.offsets.device}")


def _head_norm(kind: str, width: int, heads: int) -> nn.Module:
    if kind == "per-head":
        return MultiHeadRMSNorm(width, heads)
    return SharedRMSNorm(width) if kind == "shared" else nn.Identity()


def make_attention(source: Any, *, channels: int, heads: int, **wanted: Any) -> Attention[Any]:
    """An attention of a model's width from whatever the model was given.

    Args:
        source: an :class:`Attention` class, a nested component of a registry (``{use: attention/window, with: ...}``),
            or an instance, which is returned as it is.
        channels, heads: widths, which every attention takes.
        wanted: further options of :class:`AttentionConfig` that the model asks for, such as ``qk_norm`` or ``block``.
    Raises:
        ConfigError: the model asks for an option that this attention does not have, or ``source`` is none of these.
    """
    if isinstance(source, Attention):
        return source
    component = source if isinstance(source, type) else getattr(source, "component", None)
    if not (isinstance(component, type) and issubclass(component, Attention)):
        raise ConfigError(f"attention must be an Attention, its class, or {{use: attention/...}}, not {source!r}")
    known = component.Config.__dataclass_fields__
    # The number of a block is advice; anything else that is asked for changes what the model computes.
    missing = [name for name, value in wanted.items() if name not in known and name != "block" and value not in _OFF]
    if missing:
        raise ConfigError(f"{component.__name__} has no option {missing[0]!r}, which this model asks for")
    options = {"channels": channels, "heads": heads, **{k: v for k, v in wanted.items() if k in known}}
    made: Attention[Any] = component(component.Config(**options)) if component is source else source(**options)
    return made


_OFF = (None, False, "none")
