"""DINOv2 and the text half of CLIP through the transformers package, with the names of published checkpoints.

The package renames parameters between its versions; its own loader knows all names, so weights go through it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from shapewright.errors import MissingExtraError
from torch import Tensor, nn

from .image_pixels import centre_crop, on_white, resized_bicubic
from .weights import WeightsError

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


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
    if state is None:
        made: nn.Module = kind(config)
        return made.eval()
    wrong = [key for key, value in state.items() if not value.is_floating_point() and "position_ids" not in key]
    if wrong:
        raise WeightsError(f"weights of {what}: {wrong[0]} is {state[wrong[0]].dtype}, not a float type")
    loaded, report = _loaded(kind, config, state)
    problems = [f"{key} is missing" for key in sorted(report["missing_keys"])]
    problems += [
        f"{key} is {tuple(found)}, not {tuple(wanted)}" for key, found, wanted in sorted(report["mismatched_keys"])
    ]
    problems += [f"{key} is not part of the network" for key in sorted(report["unexpected_keys"])]
    if problems:
        count = f"{len(problems)} difference" + ("s" if len(problems) > 1 else "")
        raise WeightsError(f"weights do not fit {what} ({count}): " + "; ".join(problems))
    result: nn.Module = loaded.eval()
    return result


def _loaded(kind: Any, config: Any, state: Mapping[str, Tensor]) -> tuple[Any, Mapping[str, Any]]:
    """The network, and what its loader says of missing, unknown and misshapen keys."""
    logging = _transformers("loading weights").utils.logging
    bars, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()  # what it would warn of is raised by the caller, all at once
    try:
        loaded, report = kind.from_pretrained(
            None,
            config=config,
            state_dict=dict(state),
            dtype=next((value.dtype for value in state.values() if value.is_floating_point()), torch.float32),
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # so that all differences are known
        )
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
    return loaded, report
