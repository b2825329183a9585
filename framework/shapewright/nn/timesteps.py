"""Embedding of flow time."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from shapewright.errors import ConfigError


def timestep_frequencies(t: Tensor, channels: int, *, base: float = 10000.0, sine_first: bool = False) -> Tensor:
    """``(B,)`` times to ``(B, channels)`` float32: cosines, then sines (or sines first) of ``t base^(-i / half)``.

    Raises:
        ConfigError: ``channels`` is below 2.
    """
    half = channels // 2
    if half < 1:
        raise ConfigError(f"channels must be at least 2, not {channels}")
    # In float32 and by this formula, as published models were trained: at t = 1000 the last bit of a frequency shows.
    steps = torch.arange(half, dtype=torch.float32, device=t.device)
    angles = t.float()[:, None] * torch.exp(-math.log(base) * steps / half)
    parts = [torch.sin(angles), torch.cos(angles)] if sine_first else [torch.cos(angles), torch.sin(angles)]
    return nn.functional.pad(torch.cat(parts, dim=1), (0, channels % 2))


class TimestepEmbedding(nn.Module):
    """Frequencies of time through Linear, SiLU, Linear: ``(B,)`` to ``(B, channels)``. Keys ``mlp.0``, ``mlp.2``.

    Published models are called with flow time times 1000.
    """

    def __init__(self, channels: int, frequency_channels: int = 256) -> None:
        super().__init__()
        self.frequency_channels = frequency_channels
        self.mlp = nn.Sequential(nn.Linear(frequency_channels, channels), nn.SiLU(), nn.Linear(channels, channels))

    def forward(self, t: Tensor) -> Tensor:
        """Frequencies in float32, the layers in their own dtype."""
        frequencies = timestep_frequencies(t, self.frequency_channels)
        first = self.mlp[0]
        assert isinstance(first, nn.Linear)
        embedded: Tensor = self.mlp(frequencies.to(first.weight.dtype))
        return embedded
