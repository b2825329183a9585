"""Pictures small enough for a page."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image, features

from .paint import Bytes

QUALITY = 82
LOSSLESS_BYTES = 12_000
"""A picture that takes at most this without loss is kept so: palettes and drawings, whose edges a lossy one blurs."""
SMALLEST_SIDE = 64
"""However small the page, no picture is made smaller than this."""
_BAND = 1 << 22
"""Texels of a large picture that are reduced at a time."""


def resized(pixels: Bytes, height: int, width: int) -> Bytes:
    """``(H, W, C)`` to ``(height, width, C)``, each new texel the mean of what it covers; colours count as much as they
    are opaque."""
    if pixels.shape[:2] == (height, width):
        return pixels
    image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    if pixels.shape[2] == 4:  # what is clear keeps its colour where nothing around it is solid
        plain = np.asarray(image.convert("RGB").resize((width, height), Image.Resampling.BOX))
        mixed = np.asarray(image.resize((width, height), Image.Resampling.BOX))
        return np.concatenate([np.where(mixed[:, :, 3:] > 0, mixed[:, :, :3], plain), mixed[:, :, 3:]], axis=2)
    found = np.asarray(image.resize((width, height), Image.Resampling.BOX))
    return found if found.ndim == 3 else found[:, :, None]


def resized_bands(band: Callable[[slice], Bytes], full: tuple[int, int], height: int, width: int) -> Bytes:
    """:func:`resized` of a picture that is read some rows at a time, so that one of 16k needs little memory.

    Args:
        band: rows of the picture.
        full: its height and width.
    """
    factor = max(1, min(full[0] // (2 * height), full[1] // (2 * width)))
    if factor == 1:
        return resized(band(slice(0, full[0])), height, width)
    rows = factor * max(1, _BAND // (factor * full[1]))
    parts = []
    for start in range(0, full[0], rows):
        part = band(slice(start, start + rows))
        parts.append(resized(part, -(-len(part) // factor), -(-full[1] // factor)))
    return resized(np.concatenate(parts), height, width)


def fitting_sizes(sizes: Sequence[tuple[int, int]], largest_side: int, most_texels: int) -> list[tuple[int, int]]:
    """Heights and widths that keep to both limits: the sides of each picture first, then all together.

    >>> fitting_sizes([(2048, 1024), (64, 64)], 512, 600_000)
    [(512, 256), (64, 64)]
    """
    scales = [min(1.0, largest_side / max(size)) for size in sizes]
    texels = sum(h * w * scale**2 for (h, w), scale in zip(sizes, scales, strict=True))
    common = min(1.0, (most_texels / texels) ** 0.5) if texels else 1.0
    return [(max(1, int(h * s * common)), max(1, int(w * s * common))) for (h, w), s in zip(sizes, scales, strict=True)]


def packed(pixels: Bytes) -> bytes:
    """``(H, W, 3 or 4)`` as a file that browsers read: WebP, or PNG where Pillow was built without it."""
    image = Image.fromarray(np.ascontiguousarray(pixels))
    if not features.check("webp"):
        return _saved(image, "PNG", optimize=True)
    exact = _saved(image, "WEBP", lossless=True, quality=60, method=3)
    if len(exact) <= LOSSLESS_BYTES:
        return exact
    lossy = _saved(image, "WEBP", quality=QUALITY, method=4)
    return min(exact, lossy, key=len)


def smaller(image: bytes, share: float) -> bytes:
    """A picture made by :func:`packed` at about ``share`` of its texels."""
    with Image.open(io.BytesIO(image)) as opened:
        width, height = opened.size
        side = share**0.5
        scale = max(side, min(1.0, SMALLEST_SIDE / max(width, height)))
        if scale >= 1:
            return image
        pixels = np.asarray(opened.convert("RGBA" if "A" in opened.mode else "RGB"))
    found = packed(resized(pixels, max(1, round(height * scale)), max(1, round(width * scale))))
    return min(found, image, key=len)


def _saved(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()
