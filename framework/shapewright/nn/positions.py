"""Codes of where a token is: absolute (sines added to the hidden state), rotary (queries and keys turned), and the
frequency embedding of points."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from shapewright.errors import ConfigError, StateError

Pairs = Literal["adjacent", "halves"]


class AbsolutePositionEmbedding(nn.Module):
    """Sines and cosines of coordinates, ``(..., D)`` to ``(..., channels)`` float32; no parameters.

    With ``n = channels // D // 2`` frequencies ``base^(-i / n)``: for each axis the sines, then the cosines; zeros fill
    the rest.

    Source: Vaswani et al. 2017, one block for each axis as in TRELLIS, TripoSF and Direct3D-S2.
    """

    def __init__(self, channels: int, axes: int = 3, base: float = 10000.0) -> None:
        super().__init__()
        if channels < 2 * axes:
            raise ConfigError(f"channels must be at least {2 * axes} for {axes} axes, not {channels}")
        self.channels, self.axes, self.base = channels, axes, base

    def forward(self, coords: Tensor, factor: float = 1.0) -> Tensor:
        """``factor`` multiplies the coordinates, to keep one frame across resolutions."""
        if coords.shape[-1] != self.axes:
            raise StateError(f"coords must end in {self.axes} axes, not {tuple(coords.shape)}")
        count = self.channels // self.axes // 2
        steps = torch.arange(count, dtype=torch.float32, device=coords.device) / count
        angles = (coords.float() * factor).unsqueeze(-1) * (1.0 / self.base**steps)
        code = torch.cat([torch.sin(angles), torch.cos(angles)], dim=-1).flatten(-2)
        return nn.functional.pad(code, (0, self.channels - code.shape[-1]))


class FrequencyEmbedding(nn.Module):
    """Points with their sines and cosines: ``[x, sin(x_0 f), sin(x_1 f), ..., cos(x_0 f), ...]``; no parameters.

    Frequencies are ``2^i``, or evenly spaced from 1 to ``2^(count - 1)`` with ``log_spaced=False``; ``with_pi``
    multiplies them.
    """

    def __init__(
        self, count: int, *, with_input: bool = True, log_spaced: bool = True, with_pi: bool = False, axes: int = 3
    ) -> None:
        super().__init__()
        if count < 0:
            raise ConfigError(f"count must be 0 or more, not {count}")
        exponents = torch.arange(count, dtype=torch.float32)
        spaced = 2.0**exponents if log_spaced else torch.linspace(1.0, 2.0 ** (count - 1), count)
        self.frequencies: Tensor
        self.register_buffer("frequencies", spaced * math.pi if with_pi else spaced, persistent=False)
        self.with_input = with_input
        self.channels = axes * (2 * count + (1 if with_input or count == 0 else 0))

    def forward(self, points: Tensor) -> Tensor:
        """``(..., D)`` to ``(..., channels)``."""
        if not len(self.frequencies):
            return points
        angles = (points.unsqueeze(-1) * self.frequencies.to(points.dtype)).flatten(-2)
        parts = [points] if self.with_input else []
        return torch.cat([*parts, torch.sin(angles), torch.cos(angles)], dim=-1)


def rotary_phases(
    coords: Tensor, head_channels: int, *, first: float = 1.0, base: float = 10000.0, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor]:
    """Cosine and sine ``(..., head_channels / 2)`` of the angles that turn the channel pairs of a head.

    Each of the ``D`` axes of ``coords (..., D)`` gets ``F = head_channels // 2 // D`` frequencies ``first * base^(-i /
    F)``; pairs that are left over are not turned.

    Raises:
        ConfigError: ``head_channels`` is odd, or too small for a frequency an axis.
    """
    axes = coords.shape[-1]
    count = head_channels // 2 // axes
    if head_channels % 2 or count < 1:
        raise ConfigError(f"head_channels must be even and at least {2 * axes} for rotary codes, not {head_channels}")
    steps = torch.arange(count, dtype=dtype, device=coords.device) / count
    angles = (coords.to(dtype).unsqueeze(-1) * (first / base**steps)).flatten(-2)
    angles = nn.functional.pad(angles, (0, head_channels // 2 - angles.shape[-1]))
    return torch.cos(angles), torch.sin(angles)


def rotate(values: Tensor, cosine: Tensor, sine: Tensor, pairs: Pairs = "adjacent") -> Tensor:
    """Turn the channel pairs of ``values (..., heads, d)`` by angles ``(..., d / 2)``, in the precision of the angles.

    Pairs are channels ``(2 i, 2 i + 1)`` (``"adjacent"``, as complex numbers), or ``(i, i + d / 2)`` (``"halves"``).
    """
    cosine, sine = cosine.unsqueeze(-2), sine.unsqueeze(-2)
    wide = values.to(torch.promote_types(values.dtype, cosine.dtype))
    if pairs == "adjacent":
        real, imaginary = wide.reshape(*wide.shape[:-1], wide.shape[-1] // 2, 2).unbind(-1)
        turned = torch.stack([real * cosine - imaginary * sine, real * sine + imaginary * cosine], dim=-1).flatten(-2)
    else:
        real, imaginary = wide.chunk(2, dim=-1)
        turned = torch.cat([real * cosine - imaginary * sine, real * sine + imaginary * cosine], dim=-1)
    return turned.to(values.dtype)
