"""``conditioner/dinov3``: tokens of an image, for generators that attend to one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch
from shapewright.errors import ConfigError, StateError
from shapewright.interfaces import Conditioner
from shapewright.states import Condition
from torch import Tensor, nn

from .dinov3_network import DINOv3Network, NetworkConfig
from .prepare_image import IMAGENET_MEAN, IMAGENET_STD, image_bytes, lanczos


@dataclass(frozen=True)
class DINOv3Config(NetworkConfig):
    """Sizes of the published network; ``image_size`` is the side of the square it sees where a call names none."""

    image_size: int = 512

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.image_size < self.patch_size or self.image_size % self.patch_size:
            raise ConfigError(f"image_size must be a multiple of patch_size ({self.patch_size}), not {self.image_size}")

    @property
    def network(self) -> NetworkConfig:
        """Options of the network alone."""
        known = {field.name for field in fields(NetworkConfig)}
        return NetworkConfig(**{name: value for name, value in asdict(self).items() if name in known})


class DINOv3(Conditioner[DINOv3Config]):
    """All tokens of the last layer, normalised without parameters: 1029 at 512 pixels, 4101 at 1024.

    The null condition is zeros. State dicts are those of the published network, whose weights are gated: their licence
    must be accepted on the page of the repository before the hub's client may fetch them.

    Source: TRELLIS.2 (specification section 10); Simeoni et al. 2025, DINOv3.
    """

    Config = DINOv3Config

    def __init__(self, config: DINOv3Config) -> None:
        super().__init__(config)
        self.network = DINOv3Network(config.network).eval().requires_grad_(False)

    def encode(self, image: Tensor, *, size: int | None = None) -> Condition:
        """``(H, W, 3 or 4)`` to a condition ``(1, tokens, hidden_size)``; transparency is composited on black.

        Args:
            size: side of the square that the image is resized to, ``image_size`` by default.
        Raises:
            StateError: not an image, or a size that patches do not fill.
        """
        size = self.config.image_size if size is None else size
        if size < self.config.patch_size or size % self.config.patch_size:
            raise StateError(f"size must be a multiple of patch_size ({self.config.patch_size}), not {size}")
        pixels = pixel_values(image, size)[None]
        with torch.no_grad():
            tokens = self.tokens(pixels.to(self.network.norm.weight.device))
        return Condition(tokens, torch.zeros_like(tokens))

    def tokens(self, pixels: Tensor) -> Tensor:
        """``(B, 3, S, S)`` normalised colours to ``(B, tokens, C)`` float32."""
        hidden = self.network(pixels).float()
        return nn.functional.layer_norm(hidden, hidden.shape[-1:])

    def load_published(self, state: Mapping[str, Tensor]) -> None:
        """Fill from ``model.safetensors`` of the published folder."""
        self.network.load_state_dict(dict(state), assign=True)
        self.network.requires_grad_(False)

    def published_state(self) -> dict[str, Tensor]:
        """The state dict as published checkpoints have it."""
        state: dict[str, Any] = self.network.state_dict()
        return state


def pixel_values(image: Tensor, size: int) -> Tensor:
    """An image as the network's input ``(3, size, size)``."""
    pixels = image_bytes(image).cpu()
    if pixels.shape[-1] == 4:
        alpha = pixels[..., 3:].float() / 255
        pixels = (pixels[..., :3].float() * alpha).to(torch.uint8)
    planes = lanczos(pixels.contiguous(), (size, size)).permute(2, 0, 1).float() / 255
    mean, std = (planes.new_tensor(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
    return (planes - mean) / std
