"""Transformer that predicts a velocity for packed tokens: what the flow models of the voxel systems have in common.

A system adds how its latent becomes tokens and where positions come from; see :class:`FlowTransformer`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from shapewright.errors import ConfigError, StateError
from shapewright.interfaces import Attention
from shapewright.states import Layout

from .attention import AttentionConfig, FullAttention, make_attention
from .blocks import ModulatedCrossBlock
from .layouts import dense_layout, pack
from .modulation import ModulationLayer
from .norms import layer_norm32
from .precision import cast_products
from .timesteps import TimestepEmbedding


@dataclass(frozen=True)
class FlowTransformerConfig:
    """Options by their published names."""

    resolution: int = 16
    in_channels: int = 8
    model_channels: int = 1024
    cond_channels: int = 1024
    out_channels: int = 8
    num_blocks: int = 24
    num_heads: int | None = None
    """``model_channels / num_head_channels`` by default."""
    num_head_channels: int = 64
    mlp_ratio: float = 4.0
    pe_mode: str = "ape"
    """``ape``: a position code added to the tokens; ``rope``: queries and keys of self-attention turned by it."""
    rope_freq: tuple[float, float] = (1.0, 10000.0)
    """Highest frequency of ``rope``, and the base of its powers."""
    share_mod: bool = False
    """One modulation layer for the model, and an offset for each block, instead of a layer for each."""
    qk_rms_norm: bool = False
    qk_rms_norm_cross: bool = False
    use_checkpoint: bool = False
    initialization: str = "vanilla"
    """``vanilla`` (Xavier) or ``scaled`` (normal, narrower where a branch ends the deeper the model)."""
    attention: Any = None
    """Self-attention by name (``{use: attention/window, with: ...}``) or class; the published one by default."""

    def __post_init__(self) -> None:
        for name in (
            "resolution",
            "in_channels",
            "model_channels",
            "cond_channels",
            "out_channels",
            "num_head_channels",
        ):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.pe_mode not in ("ape", "rope"):
            raise ConfigError(f"pe_mode must be ape or rope, not {self.pe_mode!r}")
        if len(self.rope_freq) != 2 or min(self.rope_freq) <= 0:
            raise ConfigError(f"rope_freq must be two positive numbers, not {tuple(self.rope_freq)}")
        if self.initialization not in ("vanilla", "scaled"):
            raise ConfigError(f"initialization must be vanilla or scaled, not {self.initialization!r}")
        if self.model_channels % self.heads:
            raise ConfigError(f"model_channels {self.model_channels} must be divisible by num_heads {self.heads}")

    @property
    def heads(self) -> int:
        """Attention heads."""
        return self.num_heads or max(1, self.model_channels // self.num_head_channels)


class FlowTransformer(nn.Module):
    """Tokens, embedded time and a context to a value for every token.

    Keys ``t_embedder``, ``input_layer``, ``blocks.i``, ``out_layer`` and, with ``share_mod``, ``adaLN_modulation.1``.
    Blocks may be cast to a half type by :meth:`cast_blocks`; everything else stays in float32.
    """

    recomputed: tuple[str, ...] = ()
    """Buffers of published checkpoints that follow from the config; they are passed over when weights are loaded."""

    def __init__(self, config: FlowTransformerConfig) -> None:
        super().__init__()
        self.config = config
        channels = config.model_channels
        self.t_embedder = TimestepEmbedding(channels)
        if config.share_mod:
            self.adaLN_modulation = ModulationLayer(channels)
        self.input_layer = nn.Linear(config.in_channels, channels)
        self.blocks = nn.ModuleList(
            ModulatedCrossBlock(
                channels,
                self.self_attention(block),
                self.cross_attention(),
                mlp_ratio=config.mlp_ratio,
                share_mod=config.share_mod,
                use_checkpoint=config.use_checkpoint,
            )
            for block in range(config.num_blocks)
        )
        self.out_layer = nn.Linear(channels, config.out_channels)
        self.register_load_state_dict_pre_hook(_pass_over)  # type: ignore[no-untyped-call]
        initialise(self)

    def self_attention(self, block: int) -> Attention[Any]:
        """Of one block."""
        config = self.config
        turning = {}
        if config.pe_mode == "rope" and tuple(config.rope_freq) != (1.0, 10000.0):
            turning = {"rope_first": config.rope_freq[0], "rope_base": config.rope_freq[1]}
        return make_attention(
            FullAttention if config.attention is None else config.attention,
            channels=config.model_channels,
            heads=config.heads,
            rope=config.pe_mode == "rope",
            **turning,
            qk_norm="per-head" if config.qk_rms_norm else "none",
            block=block,
        )

    def cross_attention(self) -> Attention[Any]:
        """To the condition."""
        config = self.config
        return FullAttention(
            AttentionConfig(
                config.model_channels,
                config.heads,
                context_channels=config.cond_channels,
                qk_norm="per-head" if config.qk_rms_norm_cross else "none",
            )
        )

    def cast_blocks(self, dtype: torch.dtype) -> FlowTransformer:
        """Linear layers of the blocks in ``dtype``; what enters and leaves them is cast on the way."""
        cast_products(self.blocks, dtype)
        return self

    def run(
        self, tokens: Tensor, positions: Tensor | None, t: Tensor, layout: Layout, context: Tensor,
        context_layout: Layout,
    ) -> Tensor:  # fmt: skip
        """Velocity of every token.

        Args:
            tokens: ``(T, in_channels)``.
            positions: code added to the embedded tokens, broadcast to ``(T, model_channels)``.
            t: ``(B,)`` flow time times 1000, one for each sample of the layout.
            context: ``(S, cond_channels)``.
        Returns:
            ``(T, out_channels)``, dtype of ``tokens``.
        Raises:
            StateError: ``t`` is not one number a sample, or tokens or context do not fit.
        """
        samples = len(layout.offsets) - 1
        if t.shape != (samples,):
            raise StateError(f"t must be ({samples},), one time for each sample, not {tuple(t.shape)}")
        if tokens.ndim != 2 or tokens.shape[1] != self.config.in_channels:
            raise StateError(f"tokens must be (T, {self.config.in_channels}), not {tuple(tokens.shape)}")
        hidden = self.input_layer(tokens.to(self.input_layer.weight.dtype))
        if positions is not None:
            hidden = hidden + positions.to(hidden.dtype)
        mod = self.t_embedder(t)
        if self.config.share_mod:
            mod = self.adaLN_modulation(mod)
        if not torch.is_autocast_enabled(tokens.device.type):
            dtype = next(
                (p.dtype for m in self.blocks.modules() if isinstance(m, nn.Linear) for p in m.parameters()), None
            )
            hidden, mod, context = (x.to(dtype or x.dtype) for x in (hidden, mod, context))
        for block in self.blocks:
            hidden = block(hidden, mod, layout, context, context_layout)
        hidden = layer_norm32(hidden.to(tokens.dtype))
        result: Tensor = self.out_layer(hidden.to(self.out_layer.weight.dtype))
        return result.to(tokens.dtype)


def as_context(condition: Tensor | Sequence[Tensor]) -> tuple[Tensor, Layout]:
    """A condition ``(B, L, C)``, or ``(L_i, C)`` for each sample, as packed tokens."""
    if isinstance(condition, Tensor):
        if condition.ndim != 3:
            raise StateError(f"a dense condition must be (B, L, C), not {tuple(condition.shape)}")
        return condition.flatten(0, 1), dense_layout(condition.shape[0], condition.shape[1], condition.device)
    return pack(condition)


def grid_coords(resolution: int, device: torch.device | str = "cpu") -> Tensor:
    """``(R^3, 3)`` int32: the cells of a cube, x slowest.

    >>> grid_coords(2)[:3].tolist()
    [[0, 0, 0], [0, 0, 1], [0, 1, 0]]
    """
    axis = torch.arange(resolution, dtype=torch.int32, device=device)
    return torch.cartesian_prod(axis, axis, axis).reshape(-1, 3)


@torch.no_grad()
def initialise(model: FlowTransformer) -> None:
    """Weights before training: modulation and last layer zero, so that blocks begin as identities; biases zero.

    Source: TRELLIS.2 (``scaled``: normal with variance ``2 / 5C``, and ``1 / (5 n C)`` where a branch ends).
    """
    config = model.config
    scaled, width = config.initialization == "scaled", config.model_channels
    ends = ("to_out", "proj_o", "mlp.2")
    for name, module in model.named_modules():
        if not isinstance(module, nn.Linear):
            continue
        if module.bias is not None:
            nn.init.zeros_(module.bias)
        if name.startswith("t_embedder"):
            nn.init.normal_(module.weight, std=0.02)
        elif "adaLN_modulation" in name or name == "out_layer":
            nn.init.zeros_(module.weight)
        elif not scaled:
            nn.init.xavier_uniform_(module.weight)
        elif name == "input_layer":
            nn.init.normal_(module.weight, std=1 / math.sqrt(config.in_channels))
        elif name.endswith(ends):
            nn.init.normal_(module.weight, std=1 / math.sqrt(5 * max(config.num_blocks, 1) * width))
        else:
            nn.init.normal_(module.weight, std=math.sqrt(2 / (5 * width)))


def _pass_over(model: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    assert isinstance(model, FlowTransformer)
    for name in model.recomputed:
        state.pop(prefix + name, None)
