"""``transform/prepare-image``: cut the object out, put it on white, centre it in a square."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from shapewright.errors import ConfigError, StateError
from shapewright.interfaces import Transform
from shapewright_kernels.image_regions import connected_regions
from torch import Tensor

from .image_pixels import image_bytes, resized, shrunk_by_area

LONGEST = 2000
MATTING_SIZE = 1024
HISTOGRAM_BINS = 20
ALPHA_SHARE = 0.01
SMALLEST_REGION = 200

Matting = Callable[[Tensor], Tensor]
"""``(1, 3, 1024, 1024)`` colours from -0.5 to 0.5 to foreground scores ``(1, 1, 1024, 1024)`` of any scale."""


@dataclass(frozen=True)
class PrepareImageConfig:
    """``padding_ratio``: white on each side, in parts of the object's longer side. ``background``: the colour around
    the object. ``matting``: ``{use: transform/...}`` whose ``apply`` is a :data:`Matting` network, for images without
    an alpha channel; none is part of this package: the published one (RMBG-1.4) may not be used commercially."""

    padding_ratio: float = 0.1
    background: tuple[float, float, float] = (1.0, 1.0, 1.0)
    matting: Any = None

    def __post_init__(self) -> None:
        if not 0 <= self.padding_ratio <= 10:
            raise ConfigError(f"padding_ratio must lie in 0..10, not be {self.padding_ratio}")
        if not all(0 <= channel <= 1 for channel in self.background):
            raise ConfigError(f"background must be three numbers in 0..1, not {tuple(self.background)}")


class Cutout(NamedTuple):
    """``alpha`` ``(H, W)`` in [0, 1], and the box ``top, left, height, width`` of the object."""

    alpha: Tensor
    box: tuple[int, int, int, int]


class PrepareImage(Transform[PrepareImageConfig]):
    """The image that the conditioner is trained on: one object on white, square, with a margin.

    An alpha channel is used where it separates an object: at least 1 % of the pixels are transparent and 1 % opaque.
    Otherwise a matting network decides.

    Source: TripoSG (published code; specification 8.1).
    """

    Config = PrepareImageConfig

    def __init__(self, config: PrepareImageConfig) -> None:
        super().__init__(config)
        matting = config.matting
        self.matting: Matting | None = None
        if matting is not None:
            # A component named in a registry comes as a factory, a network as itself.
            made = matting() if hasattr(matting, "component") else matting
            self.matting = getattr(made, "apply", made)

    def apply(self, *, image: Tensor) -> Tensor:
        """``(H, W, 3 or 4)`` to bytes ``(S, S, 3)``, square within a pixel.

        Raises:
            StateError: not an image, nothing in it, or no alpha channel and no matting network.
        """
        pixels = shrunk_by_area(image_bytes(image), LONGEST)
        cutout = self._cutout(pixels)
        background = torch.tensor(self.config.background, dtype=torch.float32)
        alpha = cutout.alpha[..., None]
        colours = pixels[..., :3].float() / 255 * alpha + (1 - alpha) * background
        top, left, height, width = cutout.box
        inner = colours[top : top + height, left : left + width]
        long, short = max(height, width), min(height, width)
        along = int(self.config.padding_ratio * long)
        across = int(along + (long - short) / 2)
        down, right = (across, along) if width > height else (along, across)
        square = background.expand(height + 2 * down, width + 2 * right, 3).clone()
        square[down : down + height, right : right + width] = inner
        return (square * 255).to(torch.uint8)

    def _cutout(self, pixels: Tensor) -> Cutout:
        if pixels.shape[-1] == 4:
            alpha = pixels[..., 3]
            if int(alpha.max()) == 0:
                raise StateError("the image is fully transparent; there is nothing to make a shape of")
            if separates(alpha):
                return Cutout(alpha.float() / 255, bounding_box(alpha.numpy() > 0))
        if self.matting is None:
            raise StateError(
                "the image has no alpha channel that cuts an object out; give an RGBA image with a transparent "
                "background, or a matting network (matting: {use: transform/...})"
            )
        return matted(pixels[..., :3], self.matting)


def separates(alpha: Tensor) -> bool:
    """Whether the first and the last of 20 bins of an alpha channel in bytes each hold 1 % of the pixels."""
    counts = torch.histc(alpha.float(), HISTOGRAM_BINS, 0, 256)
    return bool(min(float(counts[0]), float(counts[-1])) >= ALPHA_SHARE * alpha.numel())


def matted(colours: Tensor, matting: Matting) -> Cutout:
    """Cut an object out of bytes ``(H, W, 3)`` by a network.

    Raises:
        StateError: the image is black, or the network finds nothing.
    """
    if int(colours.max()) == 0:
        raise StateError("the image is black; there is nothing to make a shape of")
    height, width = colours.shape[:2]
    planes = (colours.float() / 255).permute(2, 0, 1)[None]
    with torch.no_grad():
        scores = matting(resized(planes, MATTING_SIZE, MATTING_SIZE) - 0.5)
    if scores.ndim != 4 or scores.shape[:2] != (1, 1):
        raise StateError(f"a matting network must answer (1, 1, H, W), not {tuple(scores.shape)}")
    mask = resized(scores.float(), height, width)[0, 0]
    low, high = mask.aminmax()
    if not bool(high > low):
        raise StateError("the matting network finds no object in the image")
    levels = ((mask - low) / (high - low) * 255).to(torch.uint8).numpy()
    found = levels > otsu_threshold(levels)
    regions = connected_regions(found)
    keep = regions.sizes >= SMALLEST_REGION
    keep[0] = False
    found = keep[regions.labels]
    if not found.any():
        raise StateError("the matting network finds no object in the image")
    return Cutout(torch.from_numpy(found.astype(np.float32)), bounding_box(largest_outline(found)))


def otsu_threshold(levels: NDArray[np.uint8]) -> int:
    """The level that separates bytes into two classes of largest variance between them; above it is foreground.

    Source: Otsu 1979.
    """
    counts = np.bincount(levels.reshape(-1), minlength=256).astype(np.float64)
    share = counts / counts.sum()
    below, total = np.cumsum(share), np.cumsum(share * np.arange(256))
    spread = below * (1 - below)
    with np.errstate(divide="ignore", invalid="ignore"):
        between = (total[-1] * below - total) ** 2 / spread
    return int(np.argmax(np.where(spread > 0, between, -1.0)))


def largest_outline(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The region that, with its holes filled, is largest: what the longest outer contour surrounds."""
    padded = np.pad(~mask, 1, constant_values=True)
    outside = connected_regions(padded, diagonal=False).labels
    filled = (outside != outside[0, 0])[1:-1, 1:-1]  # the border of the image is one region, and none of its holes
    regions = connected_regions(filled)
    found: NDArray[np.bool_] = regions.labels == int(np.argmax(regions.sizes))
    return found


def bounding_box(mask: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """``top, left, height, width`` of the true pixels, of which there is at least one."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    top, left = int(rows[0]), int(columns[0])
    return top, left, int(rows[-1]) - top + 1, int(columns[-1]) - left + 1
