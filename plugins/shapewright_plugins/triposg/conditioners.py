"""``conditioner/dinov2`` and ``conditioner/clip-text``: tokens of an image, and of a prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from shapewright.errors import ConfigError, StateError
from shapewright.interfaces import Conditioner
from shapewright.states import Condition
from torch import Tensor

from .image_networks import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    ProcessorOptions,
    clip_text_network,
    dinov2_network,
    fill_network,
    pixel_values,
    published_tensors,
)
from .image_pixels import image_bytes


@dataclass(frozen=True, kw_only=True)
class DINOv2Config:
    """Sizes of DINOv2-Large, and the published preparation of its input."""

    hidden_size: int = 1024
    num_hidden_layers: int = 24
    num_attention_heads: int = 16
    mlp_ratio: int = 4
    image_size: int = 518
    patch_size: int = 14
    shortest_edge: int = 256
    crop: int = 224

    def __post_init__(self) -> None:
        _check_positive(self)
        if self.hidden_size % self.num_attention_heads:
            raise ConfigError(
                f"hidden_size ({self.hidden_size}) must be divisible by num_attention_heads "
                f"({self.num_attention_heads})"
            )
        if self.crop > self.shortest_edge or self.crop < self.patch_size:
            raise ConfigError(
                f"crop must lie between patch_size ({self.patch_size}) and shortest_edge ({self.shortest_edge}), not "
                f"be {self.crop}"
            )

    @property
    def network(self) -> dict[str, Any]:
        """Options of the network by their published names."""
        names = ("hidden_size", "num_hidden_layers", "num_attention_heads", "mlp_ratio", "image_size", "patch_size")
        return {name: getattr(self, name) for name in names}


class DINOv2(Conditioner[DINOv2Config]):
    """All tokens of the last layer, class token first, after the final norm; the null condition is zeros.

    Source: Oquab et al. 2023; the use of it, TripoSG (specification 8).
    """

    Config = DINOv2Config

    def __init__(self, config: DINOv2Config) -> None:
        super().__init__(config)
        self.network = dinov2_network(config.network)

    def encode(self, image: Tensor, *, size: int | None = None) -> Condition:
        """``(H, W, 3 or 4)`` (uint8, or float in [0, 1]) to a condition ``(1, 1 + patches, hidden_size)``.

        Args:
            size: side of the square that the network sees, ``crop`` by default; ``shortest_edge`` grows with it.
        Raises:
            StateError: not an image.
        """
        pixels = pixel_values(image_bytes(image).cpu(), self._processor(size))[None]
        parameter = next(self.network.parameters())
        with torch.no_grad():
            tokens = self.network(pixel_values=pixels.to(parameter)).last_hidden_state
        return Condition(tokens, torch.zeros_like(tokens))

    def load_published(self, state: Mapping[str, Tensor]) -> None:
        """Fill from ``image_encoder_dinov2/model.safetensors`` of a published folder, in the dtype of the file."""
        fill_network(self.network, state, "the image network")
        self.network.requires_grad_(False)

    def published_state(self) -> dict[str, Tensor]:
        """The state dict as published checkpoints have it."""
        return published_tensors(self.network)

    def _processor(self, size: int | None) -> ProcessorOptions:
        config = self.config
        if size is None:
            return ProcessorOptions(config.shortest_edge, config.crop)
        if size < config.patch_size:
            raise StateError(f"size must be at least one patch of {config.patch_size} pixels, not {size}")
        edge = max(size, round(config.shortest_edge * size / config.crop))
        return ProcessorOptions(edge, size, IMAGENET_MEAN, IMAGENET_STD)


@dataclass(frozen=True, kw_only=True)
class CLIPTextConfig:
    """Sizes of the text half of CLIP-L. ``tokenizer``: sub-folder of the weights' repository with the vocabulary."""

    vocab_size: int = 49408
    hidden_size: int = 768
    intermediate_size: int = 3072
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    max_position_embeddings: int = 77
    projection_dim: int = 768
    hidden_act: str = "quick_gelu"
    bos_token_id: int = 49406
    eos_token_id: int = 49407
    pad_token_id: int = 1
    tokenizer: str = "tokenizer"

    def __post_init__(self) -> None:
        _check_positive(self)

    @property
    def network(self) -> dict[str, Any]:
        """Options of the network by their published names."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name != "tokenizer"}


class CLIPText(Conditioner[CLIPTextConfig]):
    """All tokens of a prompt, padded to 77, after the final norm; the null condition is zeros.

    Source: Radford et al. 2021; the use of it, TripoSG-scribble (specification 8).
    """

    Config = CLIPTextConfig

    def __init__(self, config: CLIPTextConfig) -> None:
        super().__init__(config)
        self.network = clip_text_network(config.network)
        self._vocabulary: Path | None = None
        self._tokenizer: Any = None

    def encode(self, text: str | Sequence[str] | Tensor, *, size: int | None = None) -> Condition:
        """A prompt, several, or token ids ``(B, 77)``, to a condition ``(B, 77, hidden_size)``.

        Raises:
            StateError: ids of another shape or out of the vocabulary, or a prompt and no tokenizer.
        """
        ids = self._ids(text)
        with torch.no_grad():
            found = self.network(input_ids=ids.to(next(self.network.parameters()).device))
        tokens = found.last_hidden_state
        return Condition(tokens, torch.zeros_like(tokens))

    def load_published(self, state: Mapping[str, Tensor]) -> None:
        """Fill from ``text_encoder/model.safetensors`` of a published folder, in the dtype of the file."""
        kept = {key: value for key, value in state.items() if not key.endswith("position_ids")}
        fill_network(self.network, kept, "the text network")
        self.network.requires_grad_(False)

    def published_state(self) -> dict[str, Tensor]:
        """The state dict as published checkpoints have it."""
        return published_tensors(self.network)

    def use_files(self, folder: Path) -> None:
        """Take the vocabulary of a published repository, read with the first prompt."""
        self._vocabulary, self._tokenizer = folder / self.config.tokenizer, None

    def _load_tokenizer(self) -> None:
        folder = self._vocabulary
        if folder is None:
            raise StateError("a prompt needs a tokenizer, and there are no weights that bring one; give token ids")
        if not folder.is_dir():
            raise StateError(f"a prompt needs a tokenizer, and {folder} is no folder; it belongs to the weights")
        import transformers

        try:
            self._tokenizer = transformers.CLIPTokenizer.from_pretrained(str(folder), local_files_only=True)
        except (OSError, ValueError, TypeError) as error:
            reason = " ".join(str(error).split())[:200]
            raise StateError(f"{folder} holds no vocabulary of CLIP that can be read: {reason}") from None

    def _ids(self, text: str | Sequence[str] | Tensor) -> Tensor:
        length, words = self.config.max_position_embeddings, self.config.vocab_size
        if isinstance(text, Tensor):
            if text.ndim != 2 or text.shape[1] > length or text.is_floating_point():
                raise StateError(f"token ids must be integers (B, up to {length}), not {tuple(text.shape)}")
            if text.numel() and not bool(((text >= 0) & (text < words)).all()):
                raise StateError(f"token ids must lie in 0..{words - 1}")
            return text.long()
        prompts = [text] if isinstance(text, str) else list(text)
        if not prompts or not all(isinstance(prompt, str) for prompt in prompts):
            raise StateError("a prompt must be text, or a list of texts")
        if self._tokenizer is None:
            self._load_tokenizer()
        found = self._tokenizer(prompts, padding="max_length", max_length=length, truncation=True, return_tensors="pt")
        ids: Tensor = found.input_ids
        return ids


def _check_positive(config: Any) -> None:
    for field in fields(config):
        value = getattr(config, field.name)
        if isinstance(value, int) and not isinstance(value, bool) and not field.name.endswith("_id") and value < 1:
            raise ConfigError(f"{field.name} must be at least 1, not {value}")
