"""Adaptive norm: shift, scale and gate of a block from the embedding of time."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from shapewright.errors import StateError
from shapewright.states import Layout

from .layouts import per_token


class Modulation(NamedTuple):
    """What one half of a block applies: ``norm(x) * (1 + scale) + shift`` before it, ``gate`` after it."""

    shift: Tensor
    scale: Tensor
    gate: Tensor

    def enter(self, normed: Tensor) -> Tensor:
        """Scale and shift, in the dtype of ``normed``."""
        return normed * (1 + self.scale.to(normed.dtype)) + self.shift.to(normed.dtype)

    def leave(self, hidden: Tensor) -> Tensor:
        """The gated result."""
        return hidden * self.gate.to(hidden.dtype)


def modulations(values: Tensor, layout: Layout) -> tuple[Modulation, Modulation]:
    """``(B, 6 C)`` in the order shift, scale, gate of attention, then of the feed-forward, for every token."""
    if values.shape[-1] % 6:
        raise StateError(f"a modulation must have 6 C channels, not {values.shape[-1]}")
    parts = per_token(values, layout).chunk(6, dim=-1)
    return Modulation(*parts[:3]), Modulation(*parts[3:])


class ModulationLayer(nn.Sequential):
    """SiLU and Linear: embedded time ``(B, C)`` to ``(B, 6 C)``. Keys ``1.weight``, ``1.bias``."""

    def __init__(self, channels: int) -> None:
        super().__init__(nn.SiLU(), nn.Linear(channels, 6 * channels))

    def forward(self, embedded: Tensor) -> Tensor:
        """In the dtype of the layer's weights."""
        linear = self[1]
        assert isinstance(linear, nn.Linear)
        values: Tensor = linear(nn.functional.silu(embedded.to(linear.weight.dtype)))
        return values
