"""Images of TRELLIS.2: how an object is cut out, and what the image network makes of it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from shapewright import ConfigError, StateError, discover
from shapewright.run import build
from shapewright.weights.fill import fill_at_random
from shapewright_plugins.trellis2.conditioner import pixel_values
from shapewright_plugins.trellis2.dinov3_network import DINOv3Network, NetworkConfig
from torch import Tensor

CATALOG = discover()


def painted(height: int, width: int, box: tuple[int, int, int, int], seed: int = 0) -> np.ndarray[Any, Any]:
    """Random colours, opaque in ``(left, top, right, bottom)`` with soft and hard rims around it."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (height, width, 4), dtype=np.uint8)
    pixels[..., 3] = 0
    left, top, right, bottom = box
    pixels[max(top - 1, 0) : bottom + 2, max(left - 1, 0) : right + 2, 3] = 204
    pixels[top : bottom + 1, left : right + 1, 3] = 205
    pixels[top : bottom + 1 : 2, left : right + 1, 3] = 255
    return pixels


def published(pixels: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The specification's steps with Pillow, for images with transparency."""
    image = Image.fromarray(pixels)
    scale = min(1, 1024 / max(image.size))
    if scale < 1:
        image = image.resize((int(image.width * scale), int(image.height * scale)), Image.Resampling.LANCZOS)
    alpha = np.array(image)[:, :, 3]
    rows, columns = np.nonzero(alpha > 0.8 * 255)
    box = columns.min(), rows.min(), columns.max(), rows.max()
    centre = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    size = int(max(box[2] - box[0], box[3] - box[1]))
    cut = image.crop((centre[0] - size // 2, centre[1] - size // 2, centre[0] + size // 2, centre[1] + size // 2))
    values = np.array(cut).astype(np.float32) / 255
    found: np.ndarray[Any, Any] = (values[:, :, :3] * values[:, :, 3:4] * 255).astype(np.uint8)
    return found


BOXES = {
    "inside": (40, 50, (10, 8, 30, 20)),
    "at the left border": (40, 50, (0, 10, 6, 35)),
    "at the right border": (40, 50, (45, 3, 49, 33)),
    "at the top, wide": (40, 90, (5, 0, 80, 7)),
    "at the bottom, wide": (33, 90, (10, 28, 89, 32)),
    "whole": (31, 31, (0, 0, 30, 30)),
    "odd": (57, 41, (3, 4, 17, 21)),
    "larger than 1024": (700, 1501, (300, 100, 1200, 600)),
}


@pytest.mark.parametrize("name", BOXES)
def test_objects_are_cut_out_as_published(name: str) -> None:
    height, width, box = BOXES[name]
    pixels = painted(height, width, box)
    found = build(CATALOG, "transform/trellis2-prepare-image", {}).apply(image=torch.from_numpy(pixels))
    wanted = published(pixels)
    assert found.shape == wanted.shape
    assert found.dtype == torch.uint8
    assert np.array_equal(found.numpy(), wanted)


def test_a_matting_network_sees_normalised_colours_and_its_answer_is_the_alpha() -> None:
    colours = torch.zeros(64, 96, 3, dtype=torch.uint8)
    colours[..., 0], colours[..., 1], colours[..., 2] = 255, 128, 0
    seen: list[Tensor] = []

    def network(planes: Tensor) -> Tensor:
        seen.append(planes)
        logits = torch.full((1, 1, 1024, 1024), -20.0)
        logits[..., 256:768, 256:768] = 20.0  # rows 16..47, columns 24..71 of the image
        return logits

    step = build(CATALOG, "transform/trellis2-prepare-image", {})
    step.matting = network
    found = step.apply(image=colours)
    (planes,) = seen
    assert planes.shape == (1, 3, 1024, 1024)
    for channel, (value, mean, std) in enumerate([(1.0, 0.485, 0.229), (128 / 255, 0.456, 0.224), (0, 0.406, 0.225)]):
        torch.testing.assert_close(planes[0, channel].mean().item(), (value - mean) / std, rtol=1e-4, atol=1e-4)
    assert abs(found.shape[0] - 48) <= 2
    middle = found[found.shape[0] // 2, found.shape[1] // 2]
    assert middle.tolist() == [255, 128, 0]
    assert found[0, found.shape[1] // 2].tolist() == [0, 0, 0], "above the object is black"


@pytest.mark.parametrize(
    ("image", "wanted"),
    [
        (torch.full((20, 20, 3), 100, dtype=torch.uint8), "no transparency"),
        (torch.cat([torch.ones(20, 20, 3), torch.ones(20, 20, 1)], dim=-1), "no transparency"),
        (torch.zeros(20, 20, 4, dtype=torch.uint8), "transparent everywhere"),
        (torch.full((20, 20, 4), 204, dtype=torch.uint8), "transparent everywhere"),
        (torch.full((20, 20, 2), 204, dtype=torch.uint8), "H, W, 3 or 4"),
        (torch.full((20, 20, 3), 1.5), "floats in \\[0, 1\\]"),
    ],
)
def test_images_without_an_object_are_refused(image: Tensor, wanted: str) -> None:
    with pytest.raises(StateError, match=wanted):
        build(CATALOG, "transform/trellis2-prepare-image", {}).apply(image=image)


def test_pixels_are_resized_then_normalised_on_black() -> None:
    pixels = painted(30, 50, (4, 4, 40, 20), seed=3)
    on_black = (pixels[..., :3].astype(np.float32) * (pixels[..., 3:].astype(np.float32) / 255)).astype(np.uint8)
    resized = np.array(Image.fromarray(on_black).resize((48, 48), Image.Resampling.LANCZOS))
    wanted = (resized / 255 - np.array([0.485, 0.456, 0.406])) / np.array([0.229, 0.224, 0.225])
    found = pixel_values(torch.from_numpy(pixels), 48)
    torch.testing.assert_close(found, torch.from_numpy(wanted).permute(2, 0, 1).float(), rtol=1e-5, atol=1e-5)


# --- DINOv3 -----------------------------------------------------------------------------------------------------------
SMALL: dict[str, Any] = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48, "patch_size": 4,
}  # fmt: skip
VARIANTS: dict[str, dict[str, Any]] = {
    "published options": {},
    "gated": {"use_gated_mlp": True, "hidden_act": "silu"},
    "no registers": {"num_register_tokens": 0},
    "other biases": {"query_bias": False, "key_bias": True, "value_bias": False, "proj_bias": False, "mlp_bias": False},
    "eight heads": {"num_attention_heads": 8, "rope_theta": 30.0, "layer_norm_eps": 1e-3},
}


@pytest.mark.parametrize("sides", [(8, 8), (12, 20)])
@pytest.mark.parametrize("name", VARIANTS)
def test_the_network_equals_that_of_the_package(name: str, sides: tuple[int, int]) -> None:
    """Tokens before the last norm, by the published implementation; square and oblong images."""
    package = pytest.importorskip("transformers")
    options = SMALL | VARIANTS[name]
    ours = DINOv3Network(NetworkConfig(**options)).eval()
    fill_at_random(ours, 3, name)
    theirs = package.DINOv3ViTModel(package.DINOv3ViTConfig(**asdict(ours.config), image_size=8)).eval()
    renamed = {key.replace("model.layer.", "layer."): key for key in theirs.state_dict()}
    theirs.load_state_dict({renamed[key]: value for key, value in ours.state_dict().items()}, strict=True)
    kept: list[Tensor] = []
    theirs.norm.register_forward_pre_hook(lambda module, arguments: kept.append(arguments[0]))
    pixels = torch.randn(2, 3, *sides, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        theirs(pixel_values=pixels)
        found = ours(pixels)
    assert found.shape[1] == 1 + options.get("num_register_tokens", 4) + sides[0] * sides[1] // 16
    torch.testing.assert_close(found, kept[0], rtol=1e-4, atol=1e-5)


def test_options_are_those_of_the_published_network() -> None:
    """ViT-L/16; the published file has no bias for keys, and no option of it is a default of the package by chance."""
    assert asdict(NetworkConfig()) == {
        "hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096,
        "num_register_tokens": 4, "patch_size": 16, "rope_theta": 100.0, "layer_norm_eps": 1e-5, "query_bias": True,
        "key_bias": False, "value_bias": True, "proj_bias": True, "mlp_bias": True, "use_gated_mlp": False,
        "hidden_act": "gelu",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({"hidden_size": 30}, "divisible by 4 num_attention_heads"),
        ({"hidden_act": "relu"}, "hidden_act"),
        ({"num_register_tokens": -1}, "num_register_tokens"),
        ({"num_hidden_layers": 0}, "num_hidden_layers"),
    ],
)
def test_impossible_networks_are_refused(options: dict[str, Any], wanted: str) -> None:
    with pytest.raises(ConfigError, match=wanted):
        NetworkConfig(**SMALL | options)


def test_the_null_condition_is_zeros_and_tokens_are_normalised() -> None:
    part = build(CATALOG, "conditioner/dinov3", SMALL | {"image_size": 16})
    fill_at_random(part, 1, "dino")
    found = part.encode(torch.from_numpy(painted(20, 20, (2, 2, 15, 15))))
    assert found.tokens.shape == (1, 1 + 4 + 16, 32)
    assert found.null is not None
    assert bool((found.null == 0).all())
    torch.testing.assert_close(found.tokens.mean(-1), torch.zeros(1, 21), rtol=0, atol=1e-5)
    torch.testing.assert_close(found.tokens.std(-1, correction=0), torch.ones(1, 21), rtol=1e-3, atol=1e-3)
