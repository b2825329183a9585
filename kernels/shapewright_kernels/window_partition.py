"""Voxels grouped into cubic windows: the row order and the offsets that attention over packed segments takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

KEY_LIMIT = 1 << 62


class Partition(NamedTuple):
    """Rows brought into groups: ``rows[order]`` holds group ``g`` at ``offsets[g]`` up to ``offsets[g + 1]``."""

    order: Tensor
    """``(N,)`` int64; inside a group rows keep their order."""
    offsets: Tensor
    """``(G + 1,)`` int64."""


def window_partition(
    coords: Tensor, window: int | Sequence[int], shift: int | Sequence[int] = 0, *, by_length: bool = False
) -> Partition:
    """Group voxels by ``floor((xyz + shift) / window)`` inside their sample.

    Args:
        coords: ``(N, 4)`` integer rows ``[batch, x, y, z]``, any order, any sign.
        window: edge of a window in voxels, one number or one for each axis.
        shift: added to the coordinates first, likewise.
        by_length: order the windows by their number of voxels, which spares attention another reordering; otherwise
            they ascend by batch, x, y, z.
    Returns:
        groups on the device of ``coords``; no window is empty.
    Raises:
        ValueError, TypeError: naming the argument.

    >>> window_partition(torch.tensor([[0, 9, 0, 0], [0, 1, 0, 0], [0, 8, 0, 0]]), 8)
    Partition(order=tensor([1, 0, 2]), offsets=tensor([0, 1, 3]))
    """
    keys = window_keys(coords, window, shift)
    ordered, order = torch.sort(keys, stable=True)
    _, lengths = torch.unique_consecutive(ordered, return_counts=True)
    if by_length and len(lengths):
        ranks = torch.argsort(lengths, stable=True)
        starts = torch.cumsum(lengths, 0) - lengths
        lengths = lengths[ranks]
        begins = starts[ranks] - (torch.cumsum(lengths, 0) - lengths)
        rows = torch.arange(len(order), device=order.device)
        order = order[rows + torch.repeat_interleave(begins, lengths, output_size=len(order))]
    return Partition(order, offsets_of(lengths))


def window_keys(coords: Tensor, window: int | Sequence[int], shift: int | Sequence[int] = 0) -> Tensor:
    """``(N,)`` int64, equal for two voxels of one window and ascending by batch, x, y, z of the windows."""
    check_coords(coords)
    edges, shifts = triple(window, "window"), triple(shift, "shift")
    if min(edges) < 1:
        raise ValueError(f"window must be at least 1 voxel along each axis, not {edges}")
    if not len(coords):
        return coords.new_zeros(0, dtype=torch.int64)
    moved = coords.long()
    cells = torch.div(moved[:, 1:] + moved.new_tensor(shifts), moved.new_tensor(edges), rounding_mode="floor")
    cells = torch.cat([moved[:, :1], cells], dim=1)
    lowest, highest = (bound.tolist() for bound in torch.aminmax(cells, dim=0))
    spans = [high - low + 1 for low, high in zip(lowest, highest, strict=True)]
    if spans[0] * spans[1] * spans[2] * spans[3] >= KEY_LIMIT:
        raise ValueError(f"coords span {spans} samples and windows, more than one number can count")
    keys = cells[:, 0] - lowest[0]
    for axis in (1, 2, 3):
        keys = keys * spans[axis] + (cells[:, axis] - lowest[axis])
    return keys


def offsets_of(lengths: Tensor) -> Tensor:
    """``(G + 1,)`` int64 running sum from 0."""
    return torch.cat([lengths.new_zeros(1), torch.cumsum(lengths, 0)]).long()


def check_coords(coords: Tensor) -> None:
    """``(N, 4)`` integers, or an error that says so."""
    if coords.dtype not in (torch.int16, torch.int32, torch.int64):
        raise TypeError(f"coords must be int16, int32 or int64, not {coords.dtype}")
    if coords.ndim != 2 or coords.shape[1] != 4:
        raise ValueError(f"coords must be (N, 4) [batch, x, y, z], not {tuple(coords.shape)}")


def triple(value: int | Sequence[int], name: str) -> tuple[int, int, int]:
    """One whole number for each axis."""
    values = (value, value, value) if isinstance(value, (int, float)) else tuple(value)
    if len(values) != 3 or any(isinstance(v, bool) or not isinstance(v, int) for v in values):
        raise ValueError(f"{name} must be a whole number, or three of them, not {value!r}")
    return values[0], values[1], values[2]
