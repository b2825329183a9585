"""Encoder and decoder of the TripoSG autoencoder: cross-attention from chosen points, and to query points."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from shapewright.nn.norms import LayerNorm32
from shapewright.nn.positions import FrequencyEmbedding
from torch import Tensor, nn

from .attention import KeyValue
from .blocks import Context, TransformerBlock
from .key_selection import KeySelection
from .vae_config import Config


def embed_points(points: Tensor, config: Config) -> Tensor:
    """Points ``(..., 3)`` with sines and cosines; at least float32, since the highest frequency is 128."""
    wide = points.to(torch.promote_types(points.dtype, torch.float32))
    with torch.device(points.device):
        # Made when it is used: a network that is built on the meta device has no frequencies to be filled.
        embedding = FrequencyEmbedding(config.embed_frequency, with_pi=config.embed_include_pi)
    result: Tensor = embedding(wide)
    return result


class SurfaceEncoder(nn.Module):
    """Surface points with normals to token features; keys ``proj_in``, ``blocks``, ``norm_out``."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        width, heads = config.width_encoder, config.num_attention_heads
        self.config = config
        self.proj_in = nn.Linear(config.point_channels + 3, width)
        self.blocks = nn.ModuleList(
            [
                TransformerBlock(width, heads, self_attention=False, context_channels=width, norm_context=True),
                *(TransformerBlock(width, heads) for _ in range(config.num_layers_encoder)),
            ]
        )
        self.norm_out = LayerNorm32(width)

    def forward(self, surface: Tensor, chosen: Tensor) -> Tensor:
        """``surface`` ``(B, N, 6)`` and the rows ``chosen`` ``(B, T)`` that become tokens, to ``(B, T, width)``."""
        features = torch.cat([embed_points(surface[..., :3], self.config), surface[..., 3:]], dim=-1)
        features = self.proj_in(features.to(self.proj_in.weight.dtype))
        rows = chosen[..., None].expand(-1, -1, features.shape[-1])
        hidden = self.blocks[0](torch.gather(features, 1, rows), Context(features))
        for block in self.blocks[1:]:
            hidden = block(hidden)
        result: Tensor = self.norm_out(hidden)
        return result


@dataclass(frozen=True, slots=True)
class DecodedTokens:
    """What all query points of one batch of shapes have in common; made once a shape."""

    hidden: Tensor
    """``(B, T, width)`` after the self-attention blocks."""
    context: Context
    """Keys and values of the last block."""

    def sample(self, index: int) -> DecodedTokens:
        """The tokens of one shape of the batch."""
        part = slice(index, index + 1)
        first = self.context.first
        assert isinstance(first, KeyValue)
        return DecodedTokens(self.hidden[part], Context(KeyValue(first.keys[part], first.values[part])))


class FieldDecoder(nn.Module):
    """Token features to a value at any point; keys ``blocks``, ``proj_query``, ``norm_out``, ``proj_out``."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        width, heads = config.width_decoder, config.num_attention_heads
        self.config = config
        self.blocks = nn.ModuleList(
            [
                *(TransformerBlock(width, heads) for _ in range(config.num_layers_decoder)),
                TransformerBlock(width, heads, self_attention=False, context_channels=width, norm_context=True),
            ]
        )
        self.proj_query = nn.Linear(config.point_channels, width)
        self.norm_out = LayerNorm32(width)
        self.proj_out = nn.Linear(width, 1)

    def prepare(self, hidden: Tensor) -> DecodedTokens:
        """Run the self-attention blocks on ``(B, T, width)``, and project keys and values for the queries."""
        for block in self.blocks[:-1]:
            hidden = block(hidden)
        last = self.blocks[-1]
        assert isinstance(last, TransformerBlock)
        return DecodedTokens(hidden, last.project(Context(hidden)))

    def forward(
        self, points: Tensor, tokens: DecodedTokens, *, explicit: bool = False, selection: KeySelection | None = None
    ) -> Tensor:
        """Points ``(B, Q, 3)`` to values ``(B, Q)``: minus what ``proj_out`` gives, as published."""
        embedded = embed_points(points, self.config).to(self.proj_query.weight.dtype)
        hidden = self.blocks[-1](self.proj_query(embedded), tokens.context, explicit=explicit, selection=selection)
        values: Tensor = -self.proj_out(self.norm_out(hidden)).squeeze(-1)
        return values
