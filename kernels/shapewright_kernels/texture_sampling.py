"""Lookup in byte images as the published O-Voxel converter does it: nearest, or bilinear with mipmaps.

A coordinate pair ``(u, v)`` meets column ``u * W`` and row ``(1 - v) * H``, rows from top to bottom. Level ``l + 1`` of
the smaller copies is the 2 x 2 box mean of level ``l``, rounded down; a level between two is their linear blend. The
functions marked *compiled* are for use inside other Numba kernels.

Source: TRELLIS.2 (arXiv 2512.14692), o-voxel converter, spec section 2.2.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from .arrays import Floats, Ints
from .threads import run_chunks, spans

Bytes = NDArray[np.uint8]

REPEAT, CLAMP, MIRROR = 0, 1, 2
ROWS_PER_CHUNK = 256


@dataclass(frozen=True, eq=False)
class ImageTexture:
    """Some channels of an image and how they are looked up.

    ``pixels`` ``(H, W, C)`` uint8, C-contiguous; never copied. ``wrap`` is ``REPEAT``, ``CLAMP`` or ``MIRROR`` along u
    and v. With ``linear`` the image has to be square with a power of two as its side, so that smaller copies exist.

    Raises:
        ValueError: another type, layout or size, or a channel that is not there.
    """

    pixels: Bytes
    channels: tuple[int, ...]
    linear: bool = True
    wrap: tuple[int, int] = (REPEAT, REPEAT)
    uv_set: int = 0

    def __post_init__(self) -> None:
        pixels = self.pixels
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.size == 0 or not pixels.flags.c_contiguous:
            raise ValueError(f"pixels must be contiguous uint8 (H, W, C), not {pixels.dtype} {pixels.shape}")
        if not all(0 <= channel < pixels.shape[2] for channel in self.channels):
            raise ValueError(f"the image has {pixels.shape[2]} channels, so {self.channels} are not all there")
        if not set(self.wrap) <= {REPEAT, CLAMP, MIRROR}:
            raise ValueError(f"wrap must be 0, 1 or 2 along u and v, not {self.wrap}")
        if self.linear and not has_mipmaps(pixels.shape[0], pixels.shape[1]):
            raise ValueError(
                f"an image of {pixels.shape[1]} x {pixels.shape[0]} has no mipmaps: make it square, with a power of "
                "two as its side, or look it up with linear=False"
            )


class Slot(NamedTuple):
    """One texture with its factor, as compiled code takes it; ``base`` has no rows where there is no texture."""

    base: Bytes
    mips: Bytes
    starts: Ints
    """Where level 1, 2, ... begins in ``mips``."""
    channels: Ints
    factor: Floats
    linear: bool
    wrap_u: int
    wrap_v: int
    uv_set: int


NO_IMAGE = np.zeros((0, 0, 1), np.uint8)
NO_MIPS = np.zeros(0, np.uint8)


def has_mipmaps(height: int, width: int) -> bool:
    """Whether an image of this size can be halved down to one texel.

    >>> has_mipmaps(64, 64), has_mipmaps(64, 32), has_mipmaps(48, 48)
    (True, False, False)
    """
    return height == width and height > 0 and height & (height - 1) == 0


def mipmaps(pixels: Bytes, threads: int | None = None) -> tuple[Bytes, Ints]:
    """All smaller copies of a square image ``(H, H, C)``, one after another, and where each begins.

    A third of the image's bytes; each texel is the sum of four, integer-divided by 4.
    """
    side, channels = pixels.shape[0], pixels.shape[2]
    sides = [side >> level for level in range(1, side.bit_length())]
    starts = np.cumsum([0, *(size * size * channels for size in sides)], dtype=np.int64)
    mips = np.empty(int(starts[-1]), np.uint8)
    above = pixels.reshape(-1)
    for level, size in enumerate(sides):
        below = mips[starts[level] : starts[level + 1]]
        halve = partial(_halve, above, below, size, channels)
        run_chunks(lambda rows, halve=halve: halve(*rows), spans(size, ROWS_PER_CHUNK), threads)  # type: ignore[misc]
        above = below
    return mips, starts


@njit(nogil=True, cache=True, error_model="numpy")
def _halve(above: Bytes, below: Bytes, size: int, channels: int, start: int, stop: int) -> None:
    stride = 2 * size * channels
    for row in range(start, stop):
        for column in range(size):
            for channel in range(channels):
                at = 2 * row * stride + 2 * column * channels + channel
                total = np.int64(above[at]) + above[at + channels] + above[at + stride] + above[at + stride + channels]
                below[(row * size + column) * channels + channel] = total // 4


@njit(nogil=True, cache=True, error_model="numpy")
def wrapped(texel: float, size: int, wrap: int) -> int:
    """*Compiled.* Index in ``0 .. size - 1`` of a whole-numbered texel position, however far outside it is."""
    if 0.0 <= texel < size:
        return int(texel)
    if not np.isfinite(texel):
        return 0
    if wrap == CLAMP:
        return 0 if texel < 0.0 else size - 1
    period = size if wrap == REPEAT else 2 * size
    inside = int(texel - np.floor(texel / period) * period)
    inside = min(max(inside, 0), period - 1)  # the product above may be rounded by one
    return inside if inside < size else period - 1 - inside


@njit(nogil=True, cache=True, error_model="numpy")
def _add_level(
    pixels: Bytes, start: int, width: int, height: int, depth: int, channels: Ints, wrap_u: int, wrap_v: int,
    factor: Floats, share: float, uvs: Floats, count: int, values: Floats,
) -> None:  # fmt: skip
    """Add ``share`` of the bilinear values of one level, times ``factor``."""
    wide = len(channels) == 3
    c0 = channels[0]
    c1, c2 = (channels[1], channels[2]) if wide else (c0, c0)
    f0 = factor[0] * share / 255.0
    f1, f2 = (factor[1] * share / 255.0, factor[2] * share / 255.0) if wide else (f0, f0)
    for row in range(count):
        x, y = uvs[row, 0] * width - 0.5, (1.0 - uvs[row, 1]) * height - 0.5
        left, top = np.floor(x), np.floor(y)
        along, down = x - left, y - top
        if not (np.isfinite(along) and np.isfinite(down)):
            along, down = 0.0, 0.0
        x0, x1 = wrapped(left, width, wrap_u), wrapped(left + 1.0, width, wrap_u)
        y0, y1 = wrapped(top, height, wrap_v), wrapped(top + 1.0, height, wrap_v)
        w00, w01 = (1.0 - down) * (1.0 - along), (1.0 - down) * along
        w10, w11 = down * (1.0 - along), down * along
        p00, p01 = start + (y0 * width + x0) * depth, start + (y0 * width + x1) * depth
        p10, p11 = start + (y1 * width + x0) * depth, start + (y1 * width + x1) * depth
        values[row, 0] += f0 * (
            w00 * pixels[p00 + c0] + w01 * pixels[p01 + c0] + w10 * pixels[p10 + c0] + w11 * pixels[p11 + c0]
        )
        if wide:
            values[row, 1] += f1 * (
                w00 * pixels[p00 + c1] + w01 * pixels[p01 + c1] + w10 * pixels[p10 + c1] + w11 * pixels[p11 + c1]
            )
            values[row, 2] += f2 * (
                w00 * pixels[p00 + c2] + w01 * pixels[p01 + c2] + w10 * pixels[p10 + c2] + w11 * pixels[p11 + c2]
            )


@njit(nogil=True, cache=True, error_model="numpy")
def sample(slot: Slot, uvs: Floats, count: int, level: float, values: Floats) -> None:
    """*Compiled.* ``values[:count]`` = texture at ``uvs[:count]`` over 255, times the factor; the factor without a
    texture. One call for many lookups: taking a slot apart costs more than a lookup."""
    factor, channels, base = slot.factor, slot.channels, slot.base
    height, width, depth = base.shape
    wrap_u, wrap_v = slot.wrap_u, slot.wrap_v
    wide = len(factor)
    if height == 0:
        for row in range(count):
            for k in range(wide):
                values[row, k] = factor[k]
        return
    if not slot.linear:
        for row in range(count):
            column = wrapped(np.floor(uvs[row, 0] * width), width, wrap_u)
            line = wrapped(np.floor((1.0 - uvs[row, 1]) * height), height, wrap_v)
            for k in range(wide):
                values[row, k] = base[line, column, channels[k]] * (factor[k] / 255.0)
        return
    values[:count, :wide] = 0.0
    flat, mips, starts = base.reshape(-1), slot.mips, slot.starts
    last = len(starts) - 1  # levels below the base
    if not (np.isfinite(level) and level > 0.0) or last == 0:
        _add_level(flat, 0, width, height, depth, channels, wrap_u, wrap_v, factor, 1.0, uvs, count, values)
        return
    if level >= last:
        _add_level(mips, starts[last - 1], 1, 1, depth, channels, wrap_u, wrap_v, factor, 1.0, uvs, count, values)
        return
    below = int(level)
    share = level - below
    size = width >> below
    if below == 0:
        _add_level(flat, 0, size, size, depth, channels, wrap_u, wrap_v, factor, 1.0 - share, uvs, count, values)
    else:
        start = starts[below - 1]
        _add_level(mips, start, size, size, depth, channels, wrap_u, wrap_v, factor, 1.0 - share, uvs, count, values)
    size >>= 1
    _add_level(mips, starts[below], size, size, depth, channels, wrap_u, wrap_v, factor, share, uvs, count, values)


@njit(nogil=True, cache=True, error_model="numpy")
def _sample_rows(slot: Slot, uvs: Floats, levels: Floats, start: int, stop: int, values: Floats) -> None:
    for row in range(start, stop):
        sample(slot, uvs[row : row + 1], 1, levels[row], values[row : row + 1])


def texture_slot(
    texture: ImageTexture | None, factor: tuple[float, ...], levels: tuple[Bytes, Ints] | None = None
) -> Slot:
    """What :func:`sample` takes; ``levels`` are the :func:`mipmaps` of the image, if they are there already."""
    single = np.asarray(factor, np.float64)
    if texture is None:
        return Slot(NO_IMAGE, NO_MIPS, np.zeros(1, np.int64), np.zeros(0, np.int64), single, False, 0, 0, 0)
    if len(texture.channels) not in (1, 3):
        raise ValueError(f"a texture has one channel or three, not {len(texture.channels)}")
    if len(texture.channels) != len(factor):
        raise ValueError(f"a factor of {len(factor)} numbers does not fit {len(texture.channels)} channels")
    mips, starts = (NO_MIPS, np.zeros(1, np.int64)) if not texture.linear else levels or mipmaps(texture.pixels)
    channels = np.asarray(texture.channels, np.int64)
    return Slot(texture.pixels, mips, starts, channels, single, texture.linear, *texture.wrap, texture.uv_set)


def sample_texture(
    texture: ImageTexture, uvs: NDArray[np.floating[Any]], levels: float | Floats = 0.0, threads: int | None = None
) -> Floats:
    """Values ``(N, k)`` in [0, 1] of the texture's channels at ``uvs`` ``(N, 2)``.

    Args:
        levels: mip level of each lookup, one number or ``(N,)``; 0 is the image itself.

    >>> image = np.array([[[0], [255]], [[255], [0]]], np.uint8)
    >>> sample_texture(ImageTexture(image, (0,)), np.array([[0.25, 0.75], [0.5, 0.5]])).tolist()
    [[0.0], [0.5]]
    """
    slot = texture_slot(texture, (1.0,) * len(texture.channels))
    places = np.ascontiguousarray(uvs, np.float64)
    level = np.ascontiguousarray(np.broadcast_to(np.asarray(levels, np.float64), len(places)))
    values = np.empty((len(places), len(texture.channels)))
    run_chunks(lambda c: _sample_rows(slot, places, level, *c, values), spans(len(places), 1 << 15), threads)
    return values
