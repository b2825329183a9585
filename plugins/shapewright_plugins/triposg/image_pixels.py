"""Images as tensors: what counts as one, and resizing as the libraries of the published code do it."""

from __future__ import annotations

import torch
from shapewright.errors import StateError
from torch import Tensor, nn


def image_bytes(image: Tensor) -> Tensor:
    """``(H, W)`` or ``(H, W, 1, 2, 3 or 4)`` in bytes, 16 bits, or floats in [0, 1], to bytes ``(H, W, 3 or 4)``.

    Gray becomes three equal channels; a second or fourth channel is alpha.

    Raises:
        StateError: another shape or type, no pixels, or floats outside [0, 1].
    """
    if not isinstance(image, Tensor):
        raise StateError(f"an image must be a tensor (H, W, 3 or 4), not {type(image).__name__}")
    if image.ndim == 2:
        image = image[..., None]
    if image.ndim != 3 or image.shape[-1] not in (1, 2, 3, 4) or 0 in image.shape:
        raise StateError(f"an image must be (H, W, 3 or 4) with pixels, not {tuple(image.shape)}")
    if image.dtype == torch.bool:
        raise StateError("an image must hold bytes, 16-bit numbers or floats, not booleans")
    if image.is_floating_point():
        wide = image.float()
        if not bool(((wide >= 0) & (wide <= 1)).all()):
            raise StateError("an image of floats must lie in [0, 1]; divide it by its largest value")
        image = (wide * 255).round().to(torch.uint8)
    elif image.dtype != torch.uint8:
        wide = image.to(torch.int64)
        if int(wide.min()) < 0 or int(wide.max()) > 65535:
            raise StateError("an image of integers must lie in 0..255 (uint8) or 0..65535")
        image = (wide >> 8).to(torch.uint8)
    if image.shape[-1] < 3:
        gray, alpha = image[..., :1].expand(-1, -1, 3), image[..., 1:]
        image = torch.cat([gray, alpha], dim=-1)
    return image


def on_white(image: Tensor) -> Tensor:
    """Bytes ``(H, W, 3)``; an alpha channel is composited on white."""
    if image.shape[-1] == 3:
        return image
    alpha = image[..., 3:].float() / 255
    return (image[..., :3].float() * alpha + 255 * (1 - alpha)).round().to(torch.uint8)


def shrunk_by_area(image: Tensor, longest: int) -> Tensor:
    """Bytes with the longer side at most ``longest``; each pixel is the mean of the area that it covers."""
    height, width = image.shape[:2]
    if max(height, width) <= longest:
        return image
    scale = longest / max(height, width)
    rows, columns = (max(1, round(size * scale)) for size in (height, width))
    wide = torch.einsum("ij,jkc->ikc", _area_weights(height, rows), image.float())
    return torch.einsum("ij,kjc->kic", _area_weights(width, columns), wide).round().clamp(0, 255).to(torch.uint8)


def _area_weights(size: int, count: int) -> Tensor:
    """``(count, size)`` share of each old pixel in each new one."""
    edges = torch.arange(count + 1, dtype=torch.float64) * (size / count)
    pixels = torch.arange(size, dtype=torch.float64)
    overlap = torch.minimum(edges[1:, None], pixels + 1) - torch.maximum(edges[:-1, None], pixels)
    return (overlap.clamp(min=0) * (count / size)).float()


def resized(image: Tensor, height: int, width: int) -> Tensor:
    """Floats ``(B, C, H, W)`` to another size, bilinear; antialiased where it shrinks."""
    return nn.functional.interpolate(image, (height, width), mode="bilinear", antialias=True, align_corners=False)


def resized_bicubic(image: Tensor, shortest: int) -> Tensor:
    """Bytes ``(H, W, 3)`` with the shorter side ``shortest``: bicubic on bytes with antialiasing, as Pillow does."""
    height, width = image.shape[:2]
    if height <= width:
        size = shortest, int(shortest * width / height)
    else:
        size = int(shortest * height / width), shortest
    planes = image.permute(2, 0, 1)[None].contiguous()
    found = nn.functional.interpolate(planes.cpu(), size, mode="bicubic", antialias=True, align_corners=False)
    return found[0].permute(1, 2, 0)


def centre_crop(image: Tensor, size: int) -> Tensor:
    """The middle ``size`` by ``size`` pixels."""
    top, left = (image.shape[0] - size) // 2, (image.shape[1] - size) // 2
    return image[top : top + size, left : left + size]
