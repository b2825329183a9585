"""Image files of textures into bytes, each opened once; what is wrong with one is a note and not an end."""

from __future__ import annotations

import io
import warnings
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from ..errors import MeshError
from .polygons import Array

LARGEST_SIDE = 32768
"""Pixels along a side of an image beyond which it is refused."""
LARGEST_IMAGE = 1 << 29
"""Pixels of an image beyond which it is refused: 16k textures have half of that."""
BAND_PIXELS = 1 << 22
"""Pixels that are taken over at a time, so that a large image is there twice at most: Pillow's copy and the result."""
_MODES = {"L": "L", "LA": "LA", "RGB": "RGB", "RGBA": "RGBA", "1": "L", "La": "LA", "PA": "RGBA", "RGBa": "RGBA"}


class Images:
    """Images by key, each opened once; one that cannot be opened is counted in ``notes``."""

    def __init__(self, notes: Counter[str]) -> None:
        self.notes = notes
        self._opened: dict[object, torch.Tensor | None] = {}

    def pixels(self, key: object, name: str, read: Callable[[], bytes | memoryview]) -> torch.Tensor | None:
        """``(H, W, C)`` uint8 with 1 to 4 channels, or ``None``."""
        if key not in self._opened:
            try:
                self._opened[key] = decode_image(read())
            except (MeshError, OSError) as error:
                reason = getattr(error, "strerror", None) or " ".join(str(error).split())
                self.notes[f"texture {name} ({reason[:80]})"] += 1
                self._opened[key] = None
        return self._opened[key]


def decode_image(data: bytes | memoryview) -> torch.Tensor:
    """Bytes of an image file as ``(H, W, C)`` uint8: grey, grey with alpha, RGB or RGBA.

    16 bits a channel become 8 by rounding; palettes and CMYK become RGB; floats lie in [0, 1].

    Raises:
        MeshError: not an image that is read here, damaged, or too large; one short line.
    """
    try:
        from PIL import Image, JpegImagePlugin, PngImagePlugin
    except ImportError:
        raise MeshError("textures need the package 'pillow': pip install pillow") from None
    data = bytes(data)
    try:
        # By the class of the format: the general way in refuses images of 16k.
        if data.startswith(b"\x89PNG"):
            image: Any = PngImagePlugin.PngImageFile(io.BytesIO(data))
        elif data.startswith(b"\xff\xd8"):
            image = JpegImagePlugin.JpegImageFile(io.BytesIO(data))
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the limits below are ours
                image = Image.open(io.BytesIO(data))
        width, height = image.size
        if max(width, height) > LARGEST_SIDE or width * height > LARGEST_IMAGE:
            raise MeshError(f"{width} x {height} pixels are too many")
        if min(width, height) < 1:
            raise MeshError("the image has no pixels")
        image.load()
        return torch.from_numpy(_bytes(image))
    except MeshError:
        raise
    except MemoryError:
        raise MeshError("the image does not fit into memory") from None
    except Exception as error:  # Pillow's readers raise whatever damaged bytes lead them to
        raise MeshError(f"not a readable image: {' '.join(str(error).split())[:60]}") from None


def _bytes(image: Any) -> Array:
    """``(H, W, C)`` uint8 of a loaded image, taken over band by band."""
    width, height = image.size
    deep = image.mode.startswith(("I", "F"))
    plain = "L" if deep else _MODES.get(image.mode, "RGB")
    if "transparency" in image.info and not deep:  # a palette with clear entries, or one colour that is clear
        plain = "RGBA"
    channels = len(plain) if plain != "1" else 1
    result = np.empty((height, width, channels), np.uint8)
    rows = max(1, BAND_PIXELS // width)
    for top in range(0, height, rows):
        band = image if rows >= height else image.crop((0, top, width, min(top + rows, height)))
        if deep:
            values = _eight_bits(np.asarray(band), image.mode)
        else:
            values = np.asarray(band if band.mode == plain else band.convert(plain))
        result[top : top + rows] = values.reshape(values.shape[0], width, channels)
    return result


def _eight_bits(values: Array, mode: str) -> Array:
    """Grey of more than 8 bits: whole numbers to 65535, floats to 1."""
    if not np.isfinite(values).all():
        raise MeshError("pixels are not finite")
    share = np.clip(values.astype(np.float64) / (1.0 if mode.startswith("F") else 65535.0), 0.0, 1.0)
    return np.rint(share * 255.0).astype(np.uint8)


def colour_channels(pixels: torch.Tensor) -> tuple[int, int, int]:
    """Red, green and blue of an image; grey three times."""
    return (0, 1, 2) if pixels.shape[2] >= 3 else (0, 0, 0)


def alpha_channel(pixels: torch.Tensor) -> int | None:
    """The channel of alpha, if there is one."""
    return pixels.shape[2] - 1 if pixels.shape[2] in (2, 4) else None
