"""Images, condition networks and folders of weights; and the whole pipeline from an image to a mesh."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from shapewright import ConfigError, StateError, discover
from shapewright.errors import MissingExtraError, WeightsError
from shapewright.plan import check
from shapewright.run import execute
from shapewright_plugins.triposg import image_networks
from shapewright_plugins.triposg.conditioners import CLIPText, CLIPTextConfig, DINOv2, DINOv2Config
from shapewright_plugins.triposg.image_pixels import image_bytes, on_white, shrunk_by_area
from shapewright_plugins.triposg.prepare_image import PrepareImage, PrepareImageConfig, otsu_threshold
from torch import Tensor

DINO = DINOv2Config(hidden_size=24, num_hidden_layers=2, num_attention_heads=3, image_size=70)


def cut_out(height: int = 60, width: int = 40) -> Tensor:
    """Red in the middle of a transparent image."""
    image = torch.zeros(100, 100, 4, dtype=torch.uint8)
    image[20 : 20 + height, 30 : 30 + width] = torch.tensor([200, 10, 10, 255], dtype=torch.uint8)
    return image


@pytest.mark.parametrize(("height", "width"), [(60, 40), (30, 60), (50, 50)])
def test_the_object_is_centred_in_a_square_with_a_tenth_of_white(height: int, width: int) -> None:
    found = PrepareImage(PrepareImageConfig()).apply(image=cut_out(height, width))
    long = max(height, width)
    assert abs(found.shape[0] - found.shape[1]) <= 1
    assert abs(found.shape[0] - 1.2 * long) <= 1
    inside = (found[..., 1] < 100).nonzero()
    assert (inside.amax(0) - inside.amin(0) + 1).tolist() == [height, width]
    assert torch.equal(found[0, 0], torch.full((3,), 255, dtype=torch.uint8))


def test_a_matting_network_cuts_out_what_has_no_alpha() -> None:
    image = cut_out()[..., :3].clone()
    image[image.sum(-1) == 0] = 255
    prepare = PrepareImage(PrepareImageConfig(matting=lambda planes: -planes.mean(dim=1, keepdim=True)))
    found = prepare.apply(image=image)
    wanted = PrepareImage(PrepareImageConfig()).apply(image=cut_out())
    assert found.shape == wanted.shape
    assert (found.int() - wanted.int()).abs().max() <= 1


BAD_IMAGES: list[tuple[Any, str]] = [
    (torch.zeros(8, 8, 4, dtype=torch.uint8), "fully transparent"),
    (torch.zeros(8, 8, 3, dtype=torch.uint8), "no alpha channel"),
    (torch.full((1, 1, 4), 255, dtype=torch.uint8), "no alpha channel"),
    (torch.zeros(8, 8, 5), "an image must be"),
    (torch.zeros(0, 8, 3), "an image must be"),
    (torch.full((8, 8, 3), 3.0), r"must lie in \[0, 1\]"),
    (torch.full((8, 8, 3), torch.nan), r"must lie in \[0, 1\]"),
    (torch.full((8, 8, 3), -1, dtype=torch.int32), "0..65535"),
    ("cat.png", "must be a tensor"),
]


@pytest.mark.parametrize(("image", "message"), BAD_IMAGES, ids=[str(index) for index in range(len(BAD_IMAGES))])
def test_what_is_no_image_of_an_object_is_refused(image: Any, message: str) -> None:
    with pytest.raises(StateError, match=message) as caught:
        PrepareImage(PrepareImageConfig()).apply(image=image)
    assert "\n" not in str(caught.value)


def test_a_black_image_and_an_empty_matte_are_refused() -> None:
    flat = PrepareImage(PrepareImageConfig(matting=lambda planes: planes[:, :1] * 0))
    with pytest.raises(StateError, match="image is black"):
        flat.apply(image=torch.zeros(8, 8, 3, dtype=torch.uint8))
    with pytest.raises(StateError, match="finds no object"):
        flat.apply(image=torch.full((8, 8, 3), 9, dtype=torch.uint8))


def test_gray_and_deep_images_are_brought_to_bytes() -> None:
    gray = torch.arange(256, dtype=torch.uint8).view(16, 16)
    assert torch.equal(image_bytes(gray)[..., 1], gray)
    assert torch.equal(image_bytes(gray.int() * 256)[..., 0], gray)
    assert torch.equal(image_bytes(gray.float() / 255)[..., 2], gray)
    assert image_bytes(torch.zeros(4, 4, 2, dtype=torch.uint8)).shape == (4, 4, 4)
    assert torch.equal(on_white(torch.zeros(1, 1, 4, dtype=torch.uint8)), torch.full((1, 1, 3), 255, dtype=torch.uint8))


def test_large_images_are_shrunk_by_the_mean_of_areas() -> None:
    image = torch.randint(0, 256, (40, 20, 3), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    found = shrunk_by_area(image, 20)
    wanted = image.float().view(20, 2, 10, 2, 3).mean((1, 3))
    assert found.shape == (20, 10, 3)
    assert (found.float() - wanted).abs().max() <= 0.5
    assert shrunk_by_area(image, 40) is image


def test_otsu_separates_two_heaps() -> None:
    levels = torch.cat([torch.randint(20, 40, (900,)), torch.randint(180, 220, (100,))]).to(torch.uint8).numpy()
    assert 39 <= otsu_threshold(levels) < 180


# --- condition networks -------------------------------------------------------------------------------------------
def test_without_the_package_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    with pytest.raises(MissingExtraError, match=r"conditioner/dinov2 needs the package 'transformers'") as caught:
        image_networks.dinov2_network({})
    assert "\n" not in str(caught.value)


def published_dinov2() -> dict[str, Tensor]:
    from shapewright.parity import load_case

    path = Path(__file__).parents[1] / "golden" / "triposg" / "dinov2.safetensors"
    return dict(load_case(path).params)


def test_an_image_becomes_tokens_with_published_weights_and_they_come_out_again() -> None:
    pytest.importorskip("transformers")
    state = published_dinov2()
    image = torch.rand(50, 40, 3, generator=torch.Generator().manual_seed(0))
    filled = DINOv2(DINO)
    filled.load_published(state)
    found = filled.encode(image)
    assert found.tokens.shape == (1, 257, 24)
    assert not found.null.any()
    assert filled.encode(image, size=56).tokens.shape == (1, 17, 24)
    with pytest.raises(StateError, match="at least one patch"):
        filled.encode(image, size=13)
    saved = filled.published_state()
    assert set(saved) == set(state)
    assert all(torch.equal(saved[key], state[key]) for key in state)


def test_all_differences_of_condition_weights_are_listed() -> None:
    pytest.importorskip("transformers")
    state = published_dinov2()
    del state["layernorm.bias"]
    state["extra.weight"] = torch.zeros(2)
    with pytest.raises(WeightsError) as caught:
        DINOv2(DINO).load_published(state)
    assert "missing layernorm.bias (24,)" in str(caught.value)
    assert "unexpected extra.weight (2,)" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_prompt_needs_a_tokenizer_and_ids_a_vocabulary() -> None:
    pytest.importorskip("transformers")
    config = CLIPTextConfig(
        vocab_size=60, hidden_size=24, intermediate_size=48, num_hidden_layers=1, num_attention_heads=3,
        max_position_embeddings=16, projection_dim=24, bos_token_id=57, eos_token_id=59,
    )  # fmt: skip
    text = CLIPText(config)
    assert text.encode(torch.arange(16)[None]).tokens.shape == (1, 16, 24)
    with pytest.raises(StateError, match="needs a tokenizer"):
        text.encode("a chair")
    with pytest.raises(StateError, match=r"must lie in 0..59"):
        text.encode(torch.full((1, 16), 60))
    with pytest.raises(ConfigError, match="crop must lie"):
        DINOv2Config(crop=300)


# --- the pipeline -------------------------------------------------------------------------------------------------
def pipeline(**changes: Any) -> dict[str, Any]:
    network = {"num_attention_heads": 2, "width": 16, "in_channels": 4, "num_layers": 3, "tokens": 12}
    vae = {"latent_channels": 4, "num_attention_heads": 2, "width_encoder": 16, "width_decoder": 16}
    vae |= {"num_layers_encoder": 1, "num_layers_decoder": 2}
    parts: dict[str, Any] = {
        "cut": {"use": "transform/prepare-image"},
        "dino": {"use": "conditioner/dinov2", "with": DINO.network},
        "flow": {"use": "generator/triposg-dit", "with": {**network, "cross_attention_dim": 24}},
        "vae": {"use": "encoder/triposg-vae", "with": vae},
        "mesher": {
            "use": "extractor/hierarchical-marching-cubes",
            "with": {"coarse_depth": 3, "fine_depth": 4, "closed": True},
        },
    }
    return {
        "inputs": {"image": "image"},
        "components": {**parts, **changes},
        "stages": [
            {"run": "cut.apply", "in": {"image": "image"}, "out": {"image": "prepared"}},
            {"run": "dino.encode", "in": {"image": "prepared"}, "out": {"condition": "cond"}},
            {
                "run": "flow.sample",
                "in": {"condition": "cond"},
                "out": {"latent": "z"},
                "with": {"steps": 2, "guidance": 3.0},
            },
            {"run": "vae.decode", "in": {"latent": "z"}, "out": {"state": "field"}},
            {"run": "mesher.extract", "in": {"state": "field"}, "out": {"mesh": "mesh"}},
        ],
        "output": "mesh",
    }


def test_an_image_becomes_a_mesh_and_repeats_bit_for_bit() -> None:
    pytest.importorskip("transformers")
    from shapewright.run import build_parts

    catalog = discover()
    plan = check("image-to-mesh", pipeline(), catalog)
    torch.manual_seed(0)  # random weights are those of torch's own start
    parts = build_parts(plan, catalog)
    runs = [execute(plan, catalog, {"image": cut_out()}, parts=parts, seed=seed).values for seed in (0, 0, 1)]
    assert runs[0]["mesh"].vertices.shape[1] == 3
    assert torch.equal(runs[0]["mesh"].vertices, runs[1]["mesh"].vertices)
    assert torch.equal(runs[0]["mesh"].faces, runs[1]["mesh"].faces)
    assert not torch.equal(runs[0]["z"].values, runs[2]["z"].values)


def test_extractor_and_sampler_are_swapped_by_name() -> None:
    pytest.importorskip("transformers")
    catalog = discover()
    flow = pipeline()["components"]["flow"]
    flow["with"]["sampler"] = {"use": "sampler/rectified-flow-euler", "with": {"shift": 3.0}}
    flash = {"use": "extractor/flash-dual", "with": {"depth": 4, "min_resolution": 7, "closed": True}}
    for changes in ({"mesher": flash}, {"flow": flow}):
        plan = check("swapped", pipeline(**changes), catalog)
        assert execute(plan, catalog, {"image": cut_out()}).output.tag == "mesh"
