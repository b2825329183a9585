"""Where a value lives, and what every value says of itself."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Protocol, runtime_checkable

from ..errors import StateError


@dataclass(frozen=True, slots=True)
class Frame:
    """Axis-aligned box that a value lives in, in the units of the normalised mesh. ``up`` is ``"y"`` or ``"z"``."""

    lower: tuple[float, float, float] = (-0.5, -0.5, -0.5)
    upper: tuple[float, float, float] = (0.5, 0.5, 0.5)
    up: str = "y"

    @property
    def extent(self) -> tuple[float, float, float]:
        """Edge lengths of the box."""
        x, y, z = (high - low for low, high in zip(self.lower, self.upper, strict=True))
        return x, y, z

    def grown(self, factor: float) -> Frame:
        """The box scaled about its centre.

        >>> Frame().grown(2.0).upper
        (1.0, 1.0, 1.0)
        """
        centre = [(low + high) / 2 for low, high in zip(self.lower, self.upper, strict=True)]
        half = [size / 2 * factor for size in self.extent]
        lower = (centre[0] - half[0], centre[1] - half[1], centre[2] - half[2])
        upper = (centre[0] + half[0], centre[1] + half[1], centre[2] + half[2])
        return replace(self, lower=lower, upper=upper)

    def with_margin(self, resolution: int, cells: float = 1.0) -> Frame:
        """The box enlarged so that, cut into ``resolution`` cells an axis, ``cells`` of them lie outside on each side.

        >>> Frame().with_margin(4, 1.0).upper
        (1.0, 1.0, 1.0)
        """
        if resolution <= 2 * cells:
            raise StateError(f"resolution {resolution} leaves no cell inside a margin of {cells:g}; use a larger one")
        return self.grown(resolution / (resolution - 2 * cells))


@runtime_checkable
class State(Protocol):
    """Anything that flows between stages. ``tag`` is what the planner sees; ``frame`` travels with the value."""

    tag: ClassVar[str]

    @property
    def frame(self) -> Frame: ...
