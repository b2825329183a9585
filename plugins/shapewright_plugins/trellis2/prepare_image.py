"""``transform/trellis2-prepare-image``: cut the object out, square, on black."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from shapewright.errors import ConfigError, StateError
from shapewright.interfaces import Transform
from torch import Tensor, nn

LONGEST = 1024
MATTING_SIZE = 1024
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
FOREGROUND = 204
"""Alpha bytes above this count for the box of the object (0.8)."""

Matting = Callable[[Tensor], Tensor]
"""``(1, 3, 1024, 1024)`` normalised colours to logits of the foreground ``(1, 1, 1024, 1024)``."""


@dataclass(frozen=True)
class PrepareConfig:
    """``matting``: ``{use: transform/...}`` whose ``apply`` is a :data:`Matting` network, for images without
    transparency; none is part of this package (the published one, RMBG-2.0, is licensed for non-commercial use).
    ``longest``: larger images are scaled down to it first."""

    matting: Any = None
    longest: int = LONGEST

    def __post_init__(self) -> None:
        if self.longest < 16:
            raise ConfigError(f"longest must be at least 16 pixels, not {self.longest}")


class PrepareImage(Transform[PrepareConfig]):
    """The image that the conditioner was trained on: one object that fills a square, on black.

    Transparency is used where the image has any; otherwise a matting network decides.

    Source: TRELLIS.2 (published pipeline; specification section 10).
    """

    Config = PrepareConfig

    def __init__(self, config: PrepareConfig) -> None:
        super().__init__(config)
        matting = config.matting
        made = matting() if hasattr(matting, "component") else matting
        self.matting: Matting | None = getattr(made, "apply", made)

    def apply(self, *, image: Tensor) -> Tensor:
        """``(H, W, 3 or 4)`` bytes, or floats in [0, 1], to bytes ``(S, S, 3)``.

        Raises:
            StateError: not an image, nothing in it, or neither transparency nor a matting network.
        """
        pixels = image_bytes(image).cpu()
        height, width = pixels.shape[:2]
        scale = min(1.0, self.config.longest / max(height, width))
        size = max(1, int(width * scale)), max(1, int(height * scale))
        if pixels.shape[-1] == 4 and bool((pixels[..., 3] != 255).any()):
            return cut_out(pixels if scale == 1 else lanczos(pixels, size))
        colours = pixels[..., :3] if scale == 1 else lanczos(pixels[..., :3], size)
        if self.matting is None:
            raise StateError(
                "the image has no transparency that cuts the object out; give an RGBA image with a transparent "
                "background, or a matting network (matting: {use: transform/...})"
            )
        return cut_out(torch.cat([colours, matted(colours, self.matting)[..., None]], dim=-1))


def image_bytes(image: Tensor) -> Tensor:
    """
    Raises:
        StateError: not ``(H, W, 3 or 4)`` bytes or floats in [0, 1].
    """
    if not isinstance(image, Tensor) or image.ndim != 3 or image.shape[-1] not in (3, 4) or 0 in image.shape:
        found = tuple(image.shape) if isinstance(image, Tensor) else type(image).__name__
        raise StateError(f"an image must be a tensor (H, W, 3 or 4) with pixels, not {found}")
    if image.dtype == torch.uint8:
        return image
    if not image.is_floating_point() or not bool(((image >= 0) & (image <= 1)).all()):
        raise StateError(f"an image must hold bytes, or floats in [0, 1], not {image.dtype} beyond that")
    return (image.float() * 255).round().to(torch.uint8)


def lanczos(pixels: Tensor, size: tuple[int, int]) -> Tensor:
    """Bytes ``(H, W, C)`` at another ``(width, height)``, as the published code resizes."""
    resized = Image.fromarray(pixels.numpy()).resize(size, Image.Resampling.LANCZOS)
    return torch.from_numpy(np.array(resized))


def cut_out(pixels: Tensor) -> Tensor:
    """The square around the object of RGBA bytes, colours times alpha: ``(S, S, 3)`` bytes.

    Raises:
        StateError: no pixel is opaque enough, or the object is smaller than two pixels.
    """
    rows, columns = (pixels[..., 3] > FOREGROUND).nonzero().unbind(1)
    if not len(rows):
        raise StateError("the image is (nearly) transparent everywhere; there is nothing to make a shape of")
    low, high = (int(columns.min()), int(rows.min())), (int(columns.max()), int(rows.max()))
    half = max(high[0] - low[0], high[1] - low[1]) // 2
    if not half:
        raise StateError("the object in the image is a single pixel; there is nothing to make a shape of")
    # Half pixels go to the even neighbour, as Pillow rounds its boxes.
    left, top = (round((a + b) / 2 - half) for a, b in zip(low, high, strict=True))
    right, bottom = (round((a + b) / 2 + half) for a, b in zip(low, high, strict=True))
    height, width = pixels.shape[:2]
    inner = pixels[max(top, 0) : min(bottom, height), max(left, 0) : min(right, width)].float() / 255
    colours = inner[..., :3] * inner[..., 3:]
    margins = (0, 0, max(-left, 0), max(right - width, 0), max(-top, 0), max(bottom - height, 0))
    return (nn.functional.pad(colours, margins) * 255).to(torch.uint8)


def matted(colours: Tensor, matting: Matting) -> Tensor:
    """Alpha bytes ``(H, W)`` by a network."""
    planes = colours.permute(2, 0, 1)[None].float() / 255
    planes = nn.functional.interpolate(planes, (MATTING_SIZE, MATTING_SIZE), mode="bilinear", antialias=True)
    mean, std = (planes.new_tensor(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
    with torch.no_grad():
        logits = matting((planes - mean) / std)
    if logits.ndim != 4 or logits.shape[:2] != (1, 1):
        raise StateError(f"a matting network must answer (1, 1, H, W), not {tuple(logits.shape)}")
    mask = (torch.sigmoid(logits.float())[0, 0] * 255).to(torch.uint8).cpu()
    resized = Image.fromarray(mask.numpy()).resize((colours.shape[1], colours.shape[0]))
    return torch.from_numpy(np.array(resized))
