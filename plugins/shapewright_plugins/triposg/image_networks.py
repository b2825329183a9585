"""DINOv2 and the text half of CLIP through the transformers package, with the names of published checkpoints.

Newer versions of the package have other names for some parameters; :func:`published_name` is the way back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from shapewright.errors import MissingExtraError
from torch import Tensor, nn

from .image_pixels import centre_crop, on_white, resized_bicubic
from .weights import check_state

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

_RENAMED = (
    (".attention.q_proj.", ".attention.attention.query."),
    (".attention.k_proj.", ".attention.attention.key."),
    (".attention.v_proj.", ".attention.attention.value."),
    (".attention.o_proj.", ".attention.output.dense."),
)
"""DINOv2, since version 5."""


@dataclass(frozen=True)
class ProcessorOptions:
    """``shortest_edge``: size to which the image is resized; ``crop``: the square that is cut out of its middle."""

    shortest_edge: int = 256
    crop: int = 224
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD


def pixel_values(image: Tensor, options: ProcessorOptions) -> Tensor:
    """Bytes ``(H, W, 3 or 4)`` to the network's input ``(3, crop, crop)``, alpha composited on white."""
    pixels = centre_crop(resized_bicubic(on_white(image), options.shortest_edge), options.crop)
    planes = pixels.permute(2, 0, 1).float() / 255
    mean, std = (planes.new_tensor(values)[:, None, None] for values in (options.mean, options.std))
    return (planes - mean) / std


def _transformers(purpose: str) -> Any:
    try:
        import transformers
    except ImportError:
        raise MissingExtraError("transformers", "conditioners", purpose) from None
    return transformers


def dinov2_network(options: Mapping[str, Any], state: Mapping[str, Tensor] | None = None) -> nn.Module:
    """A DINOv2 of the sizes ``options`` (names of its published configuration), in evaluation mode.

    Args:
        state: published names to tensors; ``None`` for random weights.
    Raises:
        MissingExtraError: the transformers package is not installed.
        WeightsError: ``state`` does not fit; all differences are listed.
    """
    package = _transformers("conditioner/dinov2")
    return _network(package.Dinov2Model, package.Dinov2Config(**options), state, "the image network")


def clip_text_network(options: Mapping[str, Any], state: Mapping[str, Tensor] | None = None) -> nn.Module:
    """As :func:`dinov2_network`, the text encoder of CLIP with its projection."""
    package = _transformers("conditioner/clip-text")
    kind = package.CLIPTextModelWithProjection
    return _network(kind, package.CLIPTextConfig(**options), state, "the text network")


def _network(kind: Any, config: Any, state: Mapping[str, Tensor] | None, what: str) -> nn.Module:
    made: nn.Module = kind(config)
    if state is not None:
        fill_network(made, state, what)
    return made.eval()


def published_name(key: str) -> str:
    """The name that published checkpoints give to a parameter of the installed version of the package."""
    for ours, published in _RENAMED:
        key = key.replace(ours, published)
    return key


def fill_network(network: nn.Module, state: Mapping[str, Tensor], what: str) -> None:
    """Tensors of a published checkpoint become the parameters of ``network``, with their dtype and device.

    Raises:
        WeightsError: they do not fit; all differences are listed.
    """
    names = {key: published_name(key) for key in network.state_dict()}
    check_state(published_tensors(network), state, f"weights do not fit {what}")
    network.load_state_dict({key: state[name] for key, name in names.items()}, assign=True)


def published_tensors(network: nn.Module) -> dict[str, Tensor]:
    """The state dict of ``network`` as published checkpoints have it."""
    return {published_name(key): value for key, value in network.state_dict().items()}
