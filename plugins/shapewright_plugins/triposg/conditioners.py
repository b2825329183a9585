"""``conditioner/dinov2`` and ``conditioner/clip-text``: tokens of an image, and of a prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
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
    pixel_values,
)
from .image_pixels import image_bytes
from .pretrained import read_weights, weights_folder

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


@dataclass(frozen=True, kw_only=True)
class WeightsOptions:
    """``weights``: a folder, or a repository ``owner/name`` of the hub with a pinned ``revision``; empty to load
    nothing. ``subfolder``: where in it. ``offline``: only what was fetched before. ``dtype``: ``auto`` for that of the
    file."""

    weights: str = ""
    subfolder: str = ""
    revision: str = ""
    offline: bool = False
    dtype: str = "auto"

    def __post_init__(self) -> None:
        if self.dtype != "auto" and self.dtype not in DTYPES:
            raise ConfigError(f"dtype must be one of auto, {', '.join(DTYPES)}, not {self.dtype!r}")

    def read(self) -> dict[str, Tensor] | None:
        """The tensors that the options name, if any."""
        if not self.weights:
            return None
        folder = weights_folder(self.weights, self.subfolder, revision=self.revision, offline=self.offline)
        found = read_weights(folder)
        if self.dtype != "auto":
            found = {
                key: value.to(DTYPES[self.dtype]) if value.is_floating_point() else value
                for key, value in found.items()
            }
        return found


@dataclass(frozen=True, kw_only=True)
class DINOv2Config(WeightsOptions):
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
        super().__post_init__()
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

    Weights are read when they are first used, or filled by :meth:`load_published`; until then they are random.

    Source: Oquab et al. 2023; the use of it, TripoSG (specification 8).
    """

    Config = DINOv2Config

    def __init__(self, config: DINOv2Config) -> None:
        super().__init__(config)
        self.network = dinov2_network(config.network)
        self._read = not config.weights

    def encode(self, image: Tensor, *, size: int | None = None) -> Condition:
        """``(H, W, 3 or 4)`` (uint8, or float in [0, 1]) to a condition ``(1, 1 + patches, hidden_size)``.

        Args:
            size: side of the square that the network sees, ``crop`` by default; ``shortest_edge`` grows with it.
        Raises:
            StateError: not an image.
            WeightsError: the weights that the options name are missing or do not fit.
        """
        self._fill()
        pixels = pixel_values(image_bytes(image).cpu(), self._processor(size))[None]
        parameter = next(self.network.parameters())
        with torch.no_grad():
            tokens = self.network(pixel_values=pixels.to(parameter)).last_hidden_state
        return Condition(tokens, torch.zeros_like(tokens))

    def load_published(self, state: Mapping[str, Tensor]) -> None:
        """Fill from ``image_encoder_dinov2/model.safetensors`` of a published folder, in the dtype of the file."""
        self.network = dinov2_network(self.config.network, state).requires_grad_(False)
        self._read = True

    def _fill(self) -> None:
        if not self._read and (state := self.config.read()) is not None:
            device = next(self.network.parameters()).device
            self.load_published(state)
            self.network.to(device)

    def _processor(self, size: int | None) -> ProcessorOptions:
        config = self.config
        if size is None:
            return ProcessorOptions(config.shortest_edge, config.crop)
        if size < config.patch_size:
            raise StateError(f"size must be at least one patch of {config.patch_size} pixels, not {size}")
        edge = max(size, round(config.shortest_edge * size / config.crop))
        return ProcessorOptions(edge, size, IMAGENET_MEAN, IMAGENET_STD)


@dataclass(frozen=True, kw_only=True)
class CLIPTextConfig(WeightsOptions):
    """Sizes of the text half of CLIP-L. ``tokenizer``: folder or subfolder of the vocabulary."""

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
        super().__post_init__()
        _check_positive(self)

    @property
    def network(self) -> dict[str, Any]:
        """Options of the network by their published names."""
        left_out = {"tokenizer", *(f.name for f in fields(WeightsOptions))}
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name not in left_out}


class CLIPText(Conditioner[CLIPTextConfig]):
    """All tokens of a prompt, padded to 77, after the final norm; the null condition is zeros.

    Source: Radford et al. 2021; the use of it, TripoSG-scribble (specification 8).
    """

    Config = CLIPTextConfig

    def __init__(self, config: CLIPTextConfig) -> None:
        super().__init__(config)
        self.network = clip_text_network(config.network)
        self._read = not config.weights
        self._tokenizer: Any = None

    def encode(self, text: str | Sequence[str] | Tensor, *, size: int | None = None) -> Condition:
        """A prompt, several, or token ids ``(B, 77)``, to a condition ``(B, 77, hidden_size)``.

        Raises:
            StateError: ids of another shape or out of the vocabulary, or a prompt and no tokenizer.
        """
        self._fill()
        ids = self._ids(text)
        with torch.no_grad():
            found = self.network(input_ids=ids.to(next(self.network.parameters()).device))
        tokens = found.last_hidden_state
        return Condition(tokens, torch.zeros_like(tokens))

    def load_published(self, state: Mapping[str, Tensor]) -> None:
        """Fill from ``text_encoder/model.safetensors`` of a published folder, in the dtype of the file."""
        kept = {key: value for key, value in state.items() if not key.endswith("position_ids")}
        self.network = clip_text_network(self.config.network, kept).requires_grad_(False)
        self._read = True

    def load_tokenizer(self, folder: str) -> None:
        """The vocabulary from a folder of a published repository."""
        import transformers

        self._tokenizer = transformers.CLIPTokenizer.from_pretrained(folder, local_files_only=True)

    def _fill(self) -> None:
        if not self._read and (state := self.config.read()) is not None:
            device = next(self.network.parameters()).device
            self.load_published(state)
            self.network.to(device)

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
            if not self.config.weights:
                raise StateError("a prompt needs a tokenizer; set weights to a published folder, or give token ids")
            config = self.config
            folder = weights_folder(config.weights, config.tokenizer, revision=config.revision, offline=config.offline)
            self.load_tokenizer(str(folder))
        found = self._tokenizer(prompts, padding="max_length", max_length=length, truncation=True, return_tensors="pt")
        ids: Tensor = found.input_ids
        return ids


def _check_positive(config: Any) -> None:
    for field in fields(config):
        value = getattr(config, field.name)
        if isinstance(value, int) and not isinstance(value, bool) and not field.name.endswith("_id") and value < 1:
            raise ConfigError(f"{field.name} must be at least 1, not {value}")
