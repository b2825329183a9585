"""Where sequences of different lengths begin in packed rows."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from torch import Tensor

Derived = TypeVar("Derived")


@dataclass(frozen=True, slots=True)
class Layout:
    """Packed variable-length sequences: ``offsets`` ``(B + 1,)`` int32 or int64, where each sequence starts and the
    last one ends; ``coords`` ``(T, 3)`` int32 if tokens are voxels."""

    offsets: Tensor
    coords: Tensor | None = None
    resolution: int | None = None
    _memo: dict[Hashable, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    def shared(self, key: Hashable, compute: Callable[[], Derived]) -> Derived:
        """``compute()``, once per layout and key: windows, orders and rotary phases follow from the layout alone, and
        all layers and sampling steps that are given one layout need them once."""
        if key not in self._memo:
            self._memo[key] = compute()
        value: Derived = self._memo[key]
        return value
