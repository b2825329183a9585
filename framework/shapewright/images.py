"""Image files into one documented form: ``(H, W, 3)`` or ``(H, W, 4)`` bytes, upright."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from .errors import ImageError

SMALLEST_SIDE = 8
"""A picture with a side shorter than this shows no shape."""
LARGEST_PIXELS = 200_000_000


def load_image(path: str | os.PathLike[str]) -> Tensor:
    """Read an image file (PNG, JPEG, WebP, TIFF, BMP, GIF and what else Pillow reads; of several frames the first).

    Turned as its EXIF orientation says. 16 bits a channel become 8 by rounding; gray, palettes and CMYK become RGB;
    floats must lie in [0, 1]. Colour profiles are not applied. An alpha channel, or a colour declared transparent,
    gives a fourth channel (not premultiplied); it is kept even where it is opaque everywhere.

    Returns:
        ``(H, W, 3)`` or ``(H, W, 4)`` uint8, rows from the top.
    Raises:
        ImageError: no file, not an image, damaged, too small or too large, or nothing but transparency. One line.
    """
    source = Path(path)
    try:
        return _read(source)
    except ImageError as error:
        raise ImageError(f"{source}: {error}") from None
    except FileNotFoundError:
        raise ImageError(f"{source}: no such file") from None
    except IsADirectoryError:
        raise ImageError(f"{source}: is a folder, not an image file") from None
    except UnidentifiedImageError:
        raise ImageError(f"{source}: is not an image") from None
    except (OSError, SyntaxError, ValueError, EOFError) as error:  # what Pillow's readers raise on damaged files
        reason = getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__
        raise ImageError(f"{source}: the image cannot be read: {reason}") from None
    except Image.DecompressionBombError as error:
        raise ImageError(f"{source}: too large to be a photograph: {error}") from None


def _read(source: Path) -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own limit is below
        image: Image.Image = Image.open(source)
    with image:
        width, height = image.size
        if width * height > LARGEST_PIXELS:
            raise ImageError(f"{width}x{height} pixels are more than {LARGEST_PIXELS:,}; scale it down")
        if min(width, height) < SMALLEST_SIDE:
            raise ImageError(f"{width}x{height} pixels are too few; both sides must have at least {SMALLEST_SIDE}")
        image.load()
        image = ImageOps.exif_transpose(image)
        pixels = _bytes(image)
    if pixels.shape[2] == 4 and not pixels[..., 3].any():
        raise ImageError("the image is fully transparent; there is nothing to make a shape of")
    return torch.from_numpy(np.array(pixels))


def _bytes(image: Image.Image) -> np.ndarray[Any, np.dtype[np.uint8]]:
    if image.mode.startswith("I") or image.mode == "F":
        gray = np.asarray(image)
        if image.mode == "F":
            if not np.isfinite(gray).all() or gray.min() < 0 or gray.max() > 1:
                raise ImageError("float pixels must lie in [0, 1]; tone-map the image first")
            scaled = np.rint(gray * 255)
        else:
            if gray.min() < 0 or gray.max() > 65535:
                raise ImageError("integer pixels of more than 16 bits are not read")
            scaled = np.rint(gray.astype(np.float64) / 257)
        rgb = np.repeat(scaled.astype(np.uint8)[..., None], 3, axis=2)
        clear = image.info.get("transparency")
        if isinstance(clear, int):
            alpha = np.where(gray == clear, 0, 255).astype(np.uint8)
            rgb = np.concatenate([rgb, alpha[..., None]], axis=2)
        return rgb
    transparent = image.has_transparency_data
    return np.asarray(image.convert("RGBA" if transparent else "RGB"))
