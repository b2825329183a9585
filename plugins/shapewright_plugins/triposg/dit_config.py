"""Options of ``generator/triposg-dit``; names and values of the published configuration where it has them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from shapewright.errors import ConfigError

from .moe import MoEConfig


@dataclass(frozen=True)
class Config:
    """Sizes of the published image model by default."""

    num_attention_heads: int = 16
    width: int = 2048
    in_channels: int = 64
    num_layers: int = 21
    cross_attention_dim: int = 1024
    use_cross_attention_2: bool = False
    cross_attention_2_dim: int | None = None
    tokens: int = 2048
    """Latent tokens of a sample where no support says otherwise; any number works with the same weights."""
    cross_attention_scale: float = 1.0
    cross_attention_2_scale: float = 1.0
    """How much the two contexts count; published for scribbles: 1.0 (prompt) and 0.4 (image)."""
    moe_blocks: tuple[int, ...] = ()
    """Blocks whose feed-forward layer is a mixture of experts; paper: the last six, 15 to 20."""
    experts: int = 8
    experts_per_token: int = 2
    shared_expert: bool = True
    norm_topk_prob: bool = False
    sampler: Any = None
    """``{use: sampler/..., with: ...}``; ``null`` for ``sampler/rectified-flow-euler`` as published."""
    attention: Any = None
    """Another self-attention for all blocks, ``{use: attention/..., with: ...}``; ``null`` for the network's own."""

    def __post_init__(self) -> None:
        for name in ("num_attention_heads", "width", "in_channels", "num_layers", "cross_attention_dim", "tokens"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.width % self.num_attention_heads or self.width % 2:
            raise ConfigError(
                f"width ({self.width}) must be even and divisible by num_attention_heads ({self.num_attention_heads})"
            )
        if self.use_cross_attention_2 and not (self.cross_attention_2_dim or 0) > 0:
            raise ConfigError("use_cross_attention_2 needs cross_attention_2_dim, the channels of the second condition")
        wrong = [block for block in self.moe_blocks if not 0 <= block < self.num_layers]
        if wrong:
            raise ConfigError(f"moe_blocks must lie in 0..{self.num_layers - 1}, not be {wrong[0]}")
        MoEConfig(self.experts, self.experts_per_token, self.shared_expert, self.norm_topk_prob)

    def moe(self, block: int) -> MoEConfig | None:
        """The mixture of a block, if it has one."""
        if block not in self.moe_blocks:
            return None
        return MoEConfig(self.experts, self.experts_per_token, self.shared_expert, self.norm_topk_prob)

    @property
    def second_dim(self) -> int | None:
        """Channels of the second condition, if there is one."""
        return self.cross_attention_2_dim if self.use_cross_attention_2 else None


@dataclass(frozen=True)
class ScribbleConfig(Config):
    """Sizes of the published scribble model by default: a prompt (CLIP-L) first, the image (DINOv2-L) second."""

    cross_attention_dim: int = 768
    use_cross_attention_2: bool = True
    cross_attention_2_dim: int | None = 1024
    tokens: int = 512
    cross_attention_2_scale: float = 0.4

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.use_cross_attention_2:
            raise ConfigError("generator/triposg-scribble-dit has two conditions; use generator/triposg-dit for one")
