"""Space-filling curves through voxels: Morton and Hilbert codes, and the order of rows along them.

Bit ``i`` of x, y and z is bit ``3 i + 2``, ``3 i + 1`` and ``3 i`` of a Morton code. The Hilbert curve is Skilling's
(2004): axes to its transposed index, which is read like a Morton code.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .window_partition import Partition, check_coords, offsets_of

CURVES = ("morton", "hilbert")
BITS = 10
MOST_BITS = 20
AXES = (0, 1, 2)


def curve_codes(xyz: Tensor, curve: str = "morton", *, axes: Sequence[int] = AXES, bits: int = BITS) -> Tensor:
    """Place of voxels along a curve.

    Args:
        xyz: ``(N, 3)`` integers in ``[0, 2^bits)``.
        curve: ``"morton"`` or ``"hilbert"``.
        axes: the axis that plays the part of x, then y, z.
        bits: levels of the curve, at most 20. Hilbert codes depend on it, Morton codes do not.
    Returns:
        ``(N,)`` int64, distinct for distinct voxels.
    Raises:
        ValueError, TypeError: naming the argument.

    >>> curve_codes(torch.tensor([[1, 0, 0], [0, 1, 0], [0, 0, 3]])).tolist()
    [4, 2, 9]
    """
    _check(curve, axes, bits)
    if xyz.dtype not in (torch.int16, torch.int32, torch.int64):
        raise TypeError(f"xyz must be int16, int32 or int64, not {xyz.dtype}")
    if xyz.ndim != 2 or xyz.shape[1] != 3:
        raise ValueError(f"xyz must be (N, 3), not {tuple(xyz.shape)}")
    if len(xyz) and not (int(xyz.min()) >= 0 and int(xyz.max()) < 1 << bits):
        raise ValueError(f"xyz must lie in 0..{(1 << bits) - 1} ({bits} bits), not {int(xyz.min())}..{int(xyz.max())}")
    parts = [xyz[:, axis].long() for axis in axes]
    if curve == "hilbert":
        parts = _to_transpose(parts, bits)
    return _spread(parts[0]) << 2 | _spread(parts[1]) << 1 | _spread(parts[2])


def curve_voxels(codes: Tensor, curve: str = "morton", *, axes: Sequence[int] = AXES, bits: int = BITS) -> Tensor:
    """``(N, 3)`` int64: the voxels of given codes, the inverse of :func:`curve_codes`."""
    _check(curve, axes, bits)
    codes = codes.long()
    if len(codes) and not (int(codes.min()) >= 0 and int(codes.max()) < 1 << (3 * bits)):
        raise ValueError(f"codes must lie in 0..2^{3 * bits} - 1 ({bits} bits an axis)")
    parts = [_gathered(codes >> 2), _gathered(codes >> 1), _gathered(codes)]
    if curve == "hilbert":
        parts = _from_transpose(parts, bits)
    return torch.stack([parts[list(axes).index(axis)] for axis in AXES], dim=1)


def serialised_partition(
    coords: Tensor, size: int, shift: int = 0, *, curve: str = "hilbert", axes: Sequence[int] = AXES
) -> Partition:
    """Cut the curve through each sample into pieces of ``size`` voxels.

    Args:
        coords: ``(N, 4)`` integer rows ``[batch, x, y, z]``, any order, any sign.
        size: voxels of a piece; the first and the last of a sample may hold fewer.
        shift: in ``[0, size)``: voxel ``r`` along the curve belongs to piece ``(r + shift) // size`` of its sample.
    Returns:
        ``order`` runs along the curve, sample by sample.
    """
    check_coords(coords)
    if size < 1:
        raise ValueError(f"size must be at least 1, not {size}")
    if not 0 <= shift < size:
        raise ValueError(f"shift must be at least 0 and below size {size}, not {shift}")
    order = serialised_order(coords, curve, axes=axes)
    batch = coords[order, 0].long()
    _, counts = torch.unique_consecutive(batch, return_counts=True)
    starts = torch.repeat_interleave(torch.cumsum(counts, 0) - counts, counts)
    rank = torch.arange(len(order), device=order.device) - starts
    piece = torch.div(rank + shift, size, rounding_mode="floor")
    first = torch.ones_like(batch, dtype=torch.bool)
    first[1:] = (batch[1:] != batch[:-1]) | (piece[1:] != piece[:-1])
    _, lengths = torch.unique_consecutive(torch.cumsum(first, 0), return_counts=True)
    return Partition(order, offsets_of(lengths))


def serialised_order(coords: Tensor, curve: str = "hilbert", *, axes: Sequence[int] = AXES) -> Tensor:
    """``(N,)`` int64 row order by sample, then along the curve, for coordinates of any sign."""
    check_coords(coords)
    if not len(coords):
        _check(curve, axes, BITS)
        return coords.new_zeros(0, dtype=torch.int64)
    xyz = coords[:, 1:].long()
    xyz = xyz - torch.clamp(xyz.amin(0), max=0)
    bits = max(BITS, int(xyz.max()).bit_length())
    if bits > MOST_BITS:
        raise ValueError(f"coords span more than 2^{MOST_BITS} voxels along an axis")
    by_code = torch.argsort(curve_codes(xyz, curve, axes=axes, bits=bits), stable=True)
    return by_code[torch.argsort(coords[by_code, 0], stable=True)]


def _check(curve: str, axes: Sequence[int], bits: int) -> None:
    if curve not in CURVES:
        raise ValueError(f"curve must be one of {', '.join(CURVES)}, not {curve!r}")
    if sorted(axes) != list(AXES):
        raise ValueError(f"axes must hold 0, 1 and 2 once each, not {tuple(axes)}")
    if not 1 <= bits <= MOST_BITS:
        raise ValueError(f"bits must be from 1 to {MOST_BITS}, not {bits}")


_STEPS = (
    (32, 0x1F00000000FFFF), (16, 0x1F0000FF0000FF), (8, 0x100F00F00F00F00F),
    (4, 0x10C30C30C30C30C3), (2, 0x1249249249249249),
)  # fmt: skip


def _spread(value: Tensor) -> Tensor:
    """Bit ``i`` moved to bit ``3 i``."""
    for shift, mask in _STEPS:
        value = (value | value << shift) & mask
    return value


def _gathered(value: Tensor) -> Tensor:
    """Bit ``3 i`` moved to bit ``i``."""
    value = value & _STEPS[-1][1]
    targets = [mask for _, mask in _STEPS[-2::-1]] + [(1 << MOST_BITS) - 1]
    for (shift, _), mask in zip(_STEPS[::-1], targets, strict=True):
        value = (value | value >> shift) & mask
    return value


def _turn(x: list[Tensor], level: int, axis: int) -> None:
    """One step of Skilling's walk: where the bit is set invert the lower bits of x, elsewhere swap them with the
    axis."""
    low = (1 << level) - 1
    is_set = -(x[axis] >> level & 1)  # all ones or none
    swap = (x[0] ^ x[axis]) & low & ~is_set
    x[0] = x[0] ^ (is_set & low) ^ swap
    x[axis] = x[axis] ^ swap


def _to_transpose(parts: list[Tensor], bits: int) -> list[Tensor]:
    x = list(parts)
    for level in range(bits - 1, 0, -1):
        for axis in AXES:
            _turn(x, level, axis)
    x[1] = x[1] ^ x[0]
    x[2] = x[2] ^ x[1]
    turned = torch.zeros_like(x[2])
    for level in range(bits - 1, 0, -1):
        turned = turned ^ (-(x[2] >> level & 1) & ((1 << level) - 1))
    return [part ^ turned for part in x]


def _from_transpose(parts: list[Tensor], bits: int) -> list[Tensor]:
    x = list(parts)
    half = x[2] >> 1
    x[2] = x[2] ^ x[1]
    x[1] = x[1] ^ x[0]
    x[0] = x[0] ^ half
    for level in range(1, bits):
        for axis in AXES[::-1]:
            _turn(x, level, axis)
    return x
