"""DINOv3 vision transformer with the keys of its published checkpoints; inference only.

Written out rather than taken from a package: the package renamed its layers between versions, and only the tokens
before the last norm are wanted.

Source: Simeoni et al. 2025, DINOv3.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from shapewright.errors import ConfigError, StateError
from shapewright.nn.positions import rotate
from torch import Tensor, nn

ACTIVATIONS = {"gelu": nn.GELU, "silu": nn.SiLU}


@dataclass(frozen=True)
class NetworkConfig:
    """Sizes of ViT-L/16 by their published names."""

    hidden_size: int = 1024
    num_hidden_layers: int = 24
    num_attention_heads: int = 16
    intermediate_size: int = 4096
    num_register_tokens: int = 4
    patch_size: int = 16
    rope_theta: float = 100.0
    layer_norm_eps: float = 1e-5
    query_bias: bool = True
    key_bias: bool = False
    value_bias: bool = True
    proj_bias: bool = True
    mlp_bias: bool = True
    use_gated_mlp: bool = False
    hidden_act: str = "gelu"

    def __post_init__(self) -> None:
        for name in ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "patch_size"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.num_register_tokens < 0:
            raise ConfigError(f"num_register_tokens must not be negative, not {self.num_register_tokens}")
        if self.hidden_size % (4 * self.num_attention_heads):
            raise ConfigError(
                f"hidden_size ({self.hidden_size}) must be divisible by 4 num_attention_heads "
                f"({4 * self.num_attention_heads})"
            )
        if self.hidden_act not in ACTIVATIONS:
            raise ConfigError(f"hidden_act must be one of {', '.join(ACTIVATIONS)}, not {self.hidden_act!r}")


class Embeddings(nn.Module):
    """Class token, registers, then patches row by row."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.cls_token = nn.Parameter(torch.randn(1, 1, width) * 0.02)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, width))  # of pre-training; in checkpoints, without use here
        self.register_tokens = nn.Parameter(torch.randn(1, config.num_register_tokens, width) * 0.02)
        self.patch_embeddings = nn.Conv2d(3, width, config.patch_size, config.patch_size)

    def forward(self, pixels: Tensor) -> Tensor:
        patches = self.patch_embeddings(pixels).flatten(2).transpose(1, 2)
        first = [token.expand(len(pixels), -1, -1) for token in (self.cls_token, self.register_tokens)]
        return torch.cat([*first, patches], dim=1)


class SelfAttention(nn.Module):
    """Keys ``q_proj``, ``k_proj``, ``v_proj``, ``o_proj``; patches are turned by their places, other tokens not."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.heads = config.num_attention_heads
        self.q_proj = nn.Linear(width, width, bias=config.query_bias)
        self.k_proj = nn.Linear(width, width, bias=config.key_bias)
        self.v_proj = nn.Linear(width, width, bias=config.value_bias)
        self.o_proj = nn.Linear(width, width, bias=config.proj_bias)

    def forward(self, hidden: Tensor, phases: tuple[Tensor, Tensor]) -> Tensor:
        q, k, v = (part(hidden).unflatten(-1, (self.heads, -1)) for part in (self.q_proj, self.k_proj, self.v_proj))
        q, k = (self._turned(part, phases) for part in (q, k))
        q, k, v = (part.transpose(1, 2) for part in (q, k, v))
        mixed = nn.functional.scaled_dot_product_attention(q, k, v)
        result: Tensor = self.o_proj(mixed.transpose(1, 2).flatten(2))
        return result

    def _turned(self, values: Tensor, phases: tuple[Tensor, Tensor]) -> Tensor:
        others = values.shape[1] - len(phases[0])
        return torch.cat([values[:, :others], rotate(values[:, others:], *phases, pairs="halves")], dim=1)


class FeedForward(nn.Module):
    """Keys ``up_proj``, ``down_proj`` and, where gated, ``gate_proj``."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        width, hidden = config.hidden_size, config.intermediate_size
        self.gate_proj = nn.Linear(width, hidden, bias=config.mlp_bias) if config.use_gated_mlp else None
        self.up_proj = nn.Linear(width, hidden, bias=config.mlp_bias)
        self.down_proj = nn.Linear(hidden, width, bias=config.mlp_bias)
        self.activation = ACTIVATIONS[config.hidden_act]()

    def forward(self, hidden: Tensor) -> Tensor:
        if self.gate_proj is None:
            fed: Tensor = self.down_proj(self.activation(self.up_proj(hidden)))
        else:
            fed = self.down_proj(self.activation(self.gate_proj(hidden)) * self.up_proj(hidden))
        return fed


class LayerScale(nn.Module):
    """Key ``lambda1``."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.lambda1 = nn.Parameter(torch.ones(width))

    def forward(self, hidden: Tensor) -> Tensor:
        return hidden * self.lambda1


class Layer(nn.Module):
    """Pre-norm attention and feed-forward, each scaled by channel."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        width, eps = config.hidden_size, config.layer_norm_eps
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=eps), nn.LayerNorm(width, eps=eps)
        self.attention = SelfAttention(config)
        self.layer_scale1, self.layer_scale2 = LayerScale(width), LayerScale(width)
        self.mlp = FeedForward(config)

    def forward(self, hidden: Tensor, phases: tuple[Tensor, Tensor]) -> Tensor:
        hidden = hidden + self.layer_scale1(self.attention(self.norm1(hidden), phases))
        fed: Tensor = hidden + self.layer_scale2(self.mlp(self.norm2(hidden)))
        return fed


class DINOv3Network(nn.Module):
    """Pixels to tokens ``(B, 1 + registers + patches, C)`` before the model's own last norm.

    Keys ``embeddings``, ``layer.i``, ``norm`` (which is not applied: TRELLIS.2 normalises without parameters).
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.embeddings = Embeddings(config)
        self.layer = nn.ModuleList(Layer(config) for _ in range(config.num_hidden_layers))
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, pixels: Tensor) -> Tensor:
        """``(B, 3, H, W)``, sides divisible by ``patch_size``.

        Raises:
            StateError: another shape.
        """
        size = self.config.patch_size
        if pixels.ndim != 4 or pixels.shape[1] != 3 or any(side % size or not side for side in pixels.shape[2:]):
            raise StateError(f"pixels must be (B, 3, H, W) with sides divisible by {size}, not {tuple(pixels.shape)}")
        hidden = self.embeddings(pixels.to(self.embeddings.patch_embeddings.weight.dtype))
        phases = self.phases(pixels.shape[2] // size, pixels.shape[3] // size, pixels.device)
        for layer in self.layer:
            hidden = layer(hidden, phases)
        result: Tensor = hidden
        return result

    def phases(self, rows: int, columns: int, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
        """Cosine and sine ``(rows * columns, head / 2)`` of the angles of each patch, its centre in -1..1."""
        width = self.config.hidden_size // self.config.num_attention_heads
        steps = torch.arange(0, 1, 4 / width, dtype=torch.float32, device=device)
        frequencies = 1 / self.config.rope_theta**steps
        centres = [(torch.arange(count, device=device) + 0.5) / count * 2 - 1 for count in (rows, columns)]
        places = torch.stack(torch.meshgrid(*centres, indexing="ij"), dim=-1).reshape(-1, 2, 1)
        angles = (2 * math.pi * places * frequencies).flatten(1)
        return torch.cos(angles), torch.sin(angles)
