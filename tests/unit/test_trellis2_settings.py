"""The shipped TRELLIS.2 pipelines have the published settings, one by one, as the specification lists them.

Components are built at their official sizes without memory, so that defaults count as much as what the registry says.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from shapewright import discover
from shapewright.plan import Plan, check
from shapewright.registry import load_registry
from shapewright.run import build, build_parts
from shapewright.weights.empty import without_memory
from shapewright_plugins.trellis2 import cascade, dual_grid_values, flow_matching, losses, prepare_image
from shapewright_plugins.trellis2.statistics import PUBLISHED

CATALOG = discover()
GENERATING = ("trellis2-512", "trellis2-1024", "trellis2-1024-direct", "trellis2-1536")
WITH_TEXTURE = (*GENERATING, "trellis2-texturing")
ALL = (*WITH_TEXTURE, "trellis2-reconstruct")
OURS, V1 = "microsoft/TRELLIS.2-4B", "microsoft/TRELLIS-image-large"


@cache
def shipped(name: str) -> tuple[Plan, dict[str, Any]]:
    plan = check(name, load_registry((), CATALOG).pipeline(name), CATALOG)
    with without_memory():
        return plan, build_parts(plan, CATALOG)


def stage(plan: Plan, run: str) -> Any:
    component, _, verb = run.partition(".")
    return next(each for each in plan.stages if (each.component, each.verb) == (component, verb))


# --- samplers (specification section 9) -------------------------------------------------------------------------------
#                  guidance, rescale, interval, rescale_t; 12 steps each
STRUCTURE = (7.5, 0.7, (0.6, 1.0), 5.0)
SHAPE = (7.5, 0.5, (0.6, 1.0), 3.0)
TEXTURE = (1.0, 0.0, (0.6, 0.9), 3.0)
FLOWS = {
    "trellis2-512": {"structure": STRUCTURE, "shape": SHAPE, "texture": TEXTURE},
    "trellis2-1024": {"structure": STRUCTURE, "shape_512": SHAPE, "shape_1024": SHAPE, "texture": TEXTURE},
    "trellis2-1024-direct": {"structure": STRUCTURE, "shape": SHAPE, "texture": TEXTURE},
    "trellis2-1536": {"structure": STRUCTURE, "shape_512": SHAPE, "shape_1024": SHAPE, "texture": TEXTURE},
    "trellis2-texturing": {"texture": TEXTURE},
    "trellis2-reconstruct": {},
}


@pytest.mark.parametrize("name", ALL)
def test_every_flow_is_sampled_as_published(name: str) -> None:
    plan, parts = shipped(name)
    generators = {alias for alias, part in plan.parts.items() if part.spec.kind == "generator"}
    assert generators == set(FLOWS[name])
    for alias, (guidance, rescale, interval, rescale_t) in FLOWS[name].items():
        assert stage(plan, f"{alias}.sample").options == {"steps": 12, "guidance": guidance}, alias
        sampler = parts[alias].sampler.config
        found = (sampler.guidance_rescale, tuple(sampler.guidance_interval), sampler.rescale_t, sampler.sigma_min)
        assert found == (rescale, interval, rescale_t, 1e-5), alias


@pytest.mark.parametrize(
    ("key", "options", "wanted"),
    [
        ("generator/trellis2-structure-flow", {}, STRUCTURE),
        ("generator/trellis2-slat-flow", {}, SHAPE),
        (
            "generator/trellis2-slat-flow",
            {"latent": "trellis2-texture", "in_channels": 64, "concat_channels": 32},
            TEXTURE,
        ),
    ],
)
def test_flows_without_a_named_sampler_take_the_published_one(
    key: str, options: dict[str, Any], wanted: tuple[Any, ...]
) -> None:
    with without_memory():
        config = build(CATALOG, key, options).sampler.config
    assert (config.guidance_rescale, config.guidance_interval, config.rescale_t) == wanted[1:]


def test_the_samplers_own_defaults_are_those_of_the_library() -> None:
    config = build(CATALOG, "sampler/trellis2-euler", {}).config
    found = (config.guidance_rescale, config.guidance_interval, config.rescale_t, config.sigma_min)
    assert found == (0.0, (0.0, 1.0), 1.0, 1e-5)


@pytest.mark.parametrize("steps", [1, 3, 6, 10, 11, 12, 25, 50])
@pytest.mark.parametrize("rescale", [1.0, 3.0, 5.0])
def test_times_are_the_published_numbers_bit_for_bit(steps: int, rescale: float) -> None:
    """12 steps with rescale_t 3 pass 0.6, the border of the interval, up to rounding: equality must be exact."""
    even = np.linspace(1, 0, steps + 1)
    wanted = rescale * even / (1 + (rescale - 1) * even)
    found = build(CATALOG, "sampler/trellis2-euler", {"rescale_t": rescale}).times(steps)
    assert found.dtype == torch.float64
    assert found.tolist() == wanted.tolist()


#                 which steps of 12 are guided, counted from the noise
GUIDED = {"structure": 10, "shape": 9}


@pytest.mark.parametrize("alias", GUIDED)
def test_guidance_is_on_in_the_published_steps(alias: str) -> None:
    """Both ends of the interval count: the last guided step of a shape lies at 0.6 exactly."""
    _, parts = shipped("trellis2-512")
    null = []

    def model(x: torch.Tensor, t: float, *, conditional: bool) -> torch.Tensor:
        if not conditional:
            null.append(t)
        return x

    parts[alias].sampler.integrate(model, torch.randn(1, 6, generator=torch.Generator().manual_seed(0)), steps=12,
                                   guidance=7.5)  # fmt: skip
    assert len(null) == GUIDED[alias]
    assert null[-1] == pytest.approx(0.6 if alias == "shape" else 0.625, abs=1e-12)


# --- stages (section 11) ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", GENERATING)
def test_structures_are_sampled_at_512_pixels_and_pooled_as_published(name: str) -> None:
    plan, parts = shipped(name)
    assert stage(plan, "dino.encode").options == {"size": 512}
    assert stage(plan, "structure.sample").inputs["condition"] == "cond_512"
    assert parts["occupied"].config.resolution == (64 if name == "trellis2-1024-direct" else 32)
    assert parts["occupied"].config.level == 0.0
    config = parts["structure"].config
    assert (config.resolution, config.in_channels, config.out_channels) == (16, 8, 8)


def conditions(plan: Plan) -> dict[str, tuple[str, int]]:
    """By stage that samples: the value it is conditioned on, and the pixels that were seen."""
    sizes = {each.outputs["condition"]: each.options["size"] for each in plan.stages if each.component == "dino"}
    return {
        each.component: (each.inputs["condition"], sizes[each.inputs["condition"]])
        for each in plan.stages
        if each.verb == "sample"
    }


@pytest.mark.parametrize(
    ("name", "pixels"),
    [
        ("trellis2-512", {"structure": 512, "shape": 512, "texture": 512}),
        ("trellis2-1024", {"structure": 512, "shape_512": 512, "shape_1024": 1024, "texture": 1024}),
        ("trellis2-1024-direct", {"structure": 512, "shape": 1024, "texture": 1024}),
        ("trellis2-1536", {"structure": 512, "shape_512": 512, "shape_1024": 1024, "texture": 1024}),
        ("trellis2-texturing", {"texture": 1024}),
    ],
)
def test_every_flow_sees_the_image_at_its_size(name: str, pixels: dict[str, int]) -> None:
    plan, _ = shipped(name)
    assert {component: size for component, (_, size) in conditions(plan).items()} == pixels


@pytest.mark.parametrize(("name", "resolution"), [("trellis2-1024", 1024), ("trellis2-1536", 1536)])
def test_cascades_refine_within_the_published_budget(name: str, resolution: int) -> None:
    plan, parts = shipped(name)
    config = parts["budget"].config
    assert (config.resolution, config.max_tokens, config.least, config.stride) == (resolution, 49152, 1024, 16)
    assert cascade.STEP == 128
    up = stage(plan, "shape_vae.upsample")
    assert up.options == {"times": 4}
    assert up.inputs["latent"] == stage(plan, "shape_512.sample").outputs["latent"]
    assert stage(plan, "budget.apply").inputs["support"] == up.outputs["support"]
    fine = stage(plan, "budget.apply").outputs["support"]
    assert stage(plan, "shape_1024.sample").inputs["support"] == fine
    assert stage(plan, "texture.sample").inputs["support"] == fine
    assert stage(plan, "texture.sample").inputs["concat"] == stage(plan, "shape_1024.sample").outputs["latent"]


@pytest.mark.parametrize("name", GENERATING)
def test_textures_follow_the_shape(name: str) -> None:
    plan, parts = shipped(name)
    decode = stage(plan, "shape_vae.decode")
    assert stage(plan, "texture_vae.decode").inputs["guides"] == decode.outputs["guides"]
    assert decode.inputs["latent"] == stage(plan, "texture.sample").inputs["concat"]
    assert parts["fill"].config.max_perimeter == 0.03
    assert parts["simplify"].config.faces == 500_000
    assert parts["bake"].config.texture_size == 2048
    assert parts["y_up"].config.up == "y"
    assert plan.stages[-1].component == "y_up"


def test_texturing_reads_the_mesh_as_published() -> None:
    plan, parts = shipped("trellis2-texturing")
    rep = parts["rep"].config
    assert (rep.resolution, rep.face_weight, rep.boundary_weight, rep.regularization_weight) == (1024, 1.0, 0.2, 1e-2)
    assert (rep.scale, rep.nudge) == (0.99999, 0.0)
    assert parts["z_up"].config.up == "z"
    assert parts["shape_encoder"].config.posterior == "mode"
    own = stage(plan, "shape_encoder.subdivide").outputs
    assert stage(plan, "texture_vae.decode").inputs["guides"] == own["guides"], "the mesh's own voxels, no prediction"
    assert stage(plan, "texture.sample").inputs["support"] == own["support"]
    baked = stage(plan, "bake.apply").inputs
    assert baked["mesh"] == stage(plan, "z_up.apply").outputs["mesh"], "baked on the given mesh"
    assert parts["bake"].config.texture_size == 2048


def test_reconstruction_reads_the_mesh_as_published() -> None:
    _, parts = shipped("trellis2-reconstruct")
    rep = parts["rep"].config
    assert (rep.resolution, rep.face_weight, rep.boundary_weight, rep.regularization_weight) == (512, 1.0, 0.2, 1e-2)
    assert (rep.scale, rep.nudge) == (0.99999, 0.0)
    assert parts["shape_encoder"].config.posterior == "mode"


# --- weights (section 11.3) -------------------------------------------------------------------------------------------
STRUCTURE_FILES = {
    "structure": (OURS, "ckpts/ss_flow_img_dit_1_3B_64_bf16.safetensors"),
    "cells": (V1, "ckpts/ss_dec_conv3d_16l8_fp16.safetensors"),
}
DECODERS = {
    "shape_vae": (OURS, "ckpts/shape_dec_next_dc_f16c32_fp16.safetensors"),
    "texture_vae": (OURS, "ckpts/tex_dec_next_dc_f16c32_fp16.safetensors"),
}
ENCODER = {"shape_encoder": (OURS, "ckpts/shape_enc_next_dc_f16c32_fp16.safetensors")}
IMAGE = {"dino": ("facebook/dinov3-vitl16-pretrain-lvd1689m", "model.safetensors")}


def shape_file(size: int) -> tuple[str, str]:
    return OURS, f"ckpts/slat_flow_img2shape_dit_1_3B_{size}_bf16.safetensors"


def texture_file(size: int) -> tuple[str, str]:
    return OURS, f"ckpts/slat_flow_imgshape2tex_dit_1_3B_{size}_bf16.safetensors"


FILES = {
    "trellis2-512": STRUCTURE_FILES | DECODERS | IMAGE | {"shape": shape_file(512), "texture": texture_file(512)},
    "trellis2-1024": STRUCTURE_FILES | DECODERS | IMAGE | {
        "shape_512": shape_file(512), "shape_1024": shape_file(1024), "texture": texture_file(1024)
    },
    "trellis2-1024-direct": STRUCTURE_FILES | DECODERS | IMAGE | {
        "shape": shape_file(1024), "texture": texture_file(1024)
    },
    "trellis2-1536": STRUCTURE_FILES | DECODERS | IMAGE | {
        "shape_512": shape_file(512), "shape_1024": shape_file(1024), "texture": texture_file(1024)
    },
    "trellis2-texturing": IMAGE | ENCODER | {
        "texture": texture_file(1024), "texture_vae": DECODERS["texture_vae"]
    },
    "trellis2-reconstruct": ENCODER | {"shape_vae": DECODERS["shape_vae"]},
}  # fmt: skip


@pytest.mark.parametrize("name", ALL)
def test_weights_are_the_published_files(name: str) -> None:
    plan, parts = shipped(name)
    found = {alias: part.weights for alias, part in plan.parts.items() if part.weights}
    assert {alias: (entry["repo"], entry["file"]) for alias, entry in found.items()} == FILES[name]
    ignored = {alias: tuple(entry["ignore"]) for alias, entry in found.items() if "ignore" in entry}
    assert ignored == ({"structure": ("rope_phases",)} if "structure" in found else {}), "nothing else may be left over"
    assert all("gated" in entry["license"] for alias, entry in found.items() if alias == "dino")
    for alias, file in FILES[name].items():
        part = parts[alias].config
        if "dec_" in file[1] or "enc_" in file[1]:
            assert part.parts == ("decoder" if "dec_" in file[1] else "encoder"), alias


# --- constants --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("name", "field", "total", "weighted"),
    [
        ("trellis2-shape", "mean", -1.419879, -38.933594),
        ("trellis2-shape", "std", 170.747668, 2847.15642),
        ("trellis2-texture", "mean", 11.237062, 113.76431),
        ("trellis2-texture", "std", 86.627503, 1431.294323),
    ],
)
def test_latent_statistics_are_the_published_numbers(name: str, field: str, total: float, weighted: float) -> None:
    """By two sums of the published tables, one of them weighted by place."""
    values = getattr(PUBLISHED[name], field)
    assert len(values) == 32
    assert sum(values) == pytest.approx(total, abs=1e-9)
    assert sum((place + 1) * value for place, value in enumerate(values)) == pytest.approx(weighted, abs=1e-9)


@pytest.mark.parametrize("name", WITH_TEXTURE)
def test_every_latent_is_normalised_by_its_own_statistics(name: str) -> None:
    _, parts = shipped(name)
    for alias in FLOWS[name]:
        if alias == "structure":
            assert not hasattr(parts[alias].config, "statistics"), "the structure latent is not normalised"
            continue
        own = "trellis2-texture" if alias == "texture" else "trellis2-shape"
        assert parts[alias].config.statistics() is PUBLISHED[own]
        beside = PUBLISHED["trellis2-shape"] if alias == "texture" else None
        assert parts[alias].config.concat_statistics() is beside


def test_numbers_of_the_specification() -> None:
    assert flow_matching.SIGMA_MIN == 1e-5
    assert flow_matching.TIMESTEP_SCALE == 1000
    assert dual_grid_values.MARGIN == 0.5
    assert cascade.STRIDE == 16
    assert (prepare_image.LONGEST, prepare_image.MATTING_SIZE, prepare_image.FOREGROUND) == (1024, 1024, 204)
    assert prepare_image.IMAGENET_MEAN == (0.485, 0.456, 0.406)
    assert prepare_image.IMAGENET_STD == (0.229, 0.224, 0.225)
    assert losses.SHAPE_WEIGHTS == {"intersected": 0.1, "vertices": 0.01, "subdivision": 0.1, "kl": 1e-6}


@pytest.mark.parametrize(("size", "tokens"), [(512, 1029), (1024, 4101)])
def test_conditions_have_the_published_length(size: int, tokens: int) -> None:
    config = shipped("trellis2-512")[1]["dino"].config
    assert 1 + config.num_register_tokens + (size // config.patch_size) ** 2 == tokens
    assert config.hidden_size == 1024
