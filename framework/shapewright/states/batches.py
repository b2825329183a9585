"""Several samples in one value and apart again: rows ``[batch, x, y, z]`` sorted by batch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..errors import StateError


def require_same(values: Sequence[object], what: str) -> None:
    """Raise :class:`StateError` where ``values`` differ, so that what they belong to cannot be one batch."""
    if any(value != values[0] for value in values):
        raise StateError(f"only states of one {what} can be stacked, not {', '.join(map(str, values))}")


def renumbered(coords: Sequence[Tensor], batch_sizes: Sequence[int]) -> Tensor:
    """All coordinates ``(N, 4)`` with batch indices that go on where those of the value before end."""
    rows, start = [], 0
    for part, size in zip(coords, batch_sizes, strict=True):
        rows.append(part + part.new_tensor([start, 0, 0, 0]))
        start += size
    return torch.cat(rows)


def split_rows(coords: Tensor, batch_size: int) -> tuple[list[Tensor], list[int]]:
    """Coordinates of each sample, with batch index 0, and how many rows each has."""
    counts = torch.bincount(coords[:, 0].long(), minlength=batch_size).tolist()
    parts = torch.split(coords, counts)
    return [part - part.new_tensor([index, 0, 0, 0]) for index, part in enumerate(parts)], counts
