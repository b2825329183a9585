"""TRELLIS.2's components together: a small random model from an image to a coloured shape, and what they refuse."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from shapewright import (
    ConfigError,
    Frame,
    Grid,
    GridLatent,
    Mesh,
    OccupancyGrid,
    SparseLatent,
    SparseTensor,
    StateError,
    Tokens,
    VoxelAttributes,
    Voxels,
    discover,
)
from shapewright.materials import Appearance
from shapewright.run import build
from shapewright.states import Condition, FlexibleDualGrid
from shapewright.testing import toys
from shapewright.weights.fill import fill_at_random
from torch import Tensor

CATALOG = discover()
CHANNELS = 4
STATISTICS = {"mean": [0.5] * CHANNELS, "std": [2.0] * CHANNELS}
FLOW: dict[str, Any] = {
    "model_channels": 24, "cond_channels": 24, "num_blocks": 2, "num_heads": 2, "in_channels": CHANNELS,
    "out_channels": CHANNELS, "resolution": 4, "mlp_ratio": 2.0, "stride": 4,
}  # fmt: skip
VAE = {
    "latent_channels": CHANNELS, "encoder_channels": [8, 8, 16], "encoder_blocks": [0, 1, 1],
    "decoder_channels": [16, 8, 8], "decoder_blocks": [1, 1, 0],
}  # fmt: skip
OPTIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "dino": (
        "conditioner/dinov3",
        {
            "hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32,
            "image_size": 32,
        },
    ),
    "structure": ("generator/trellis2-structure-flow", FLOW | {"stride": 2}),
    "cells": (
        "encoder/trellis2-structure-vae",
        {"latent_channels": CHANNELS, "channels": [4, 8], "num_res_blocks": 1, "num_res_blocks_middle": 1},
    ),
    "shape": ("generator/trellis2-slat-flow", FLOW | STATISTICS),
    "texture": (
        "generator/trellis2-slat-flow",
        FLOW
        | STATISTICS
        | {
            "latent": "trellis2-texture", "in_channels": 2 * CHANNELS, "concat_channels": CHANNELS,
            "concat_mean": [0.1] * CHANNELS, "concat_std": [1.5] * CHANNELS,
        },
    ),
    "shape_vae": ("encoder/trellis2-shape-vae", VAE),
    "texture_vae": ("encoder/trellis2-texture-vae", VAE),
    "occupied": ("transform/occupied-voxels", {}),
    "budget": ("transform/requantise-voxels", {"resolution": 48, "max_tokens": 100, "least": 32, "stride": 4}),
    "mesher": ("extractor/flexible-dual-grid", {}),
}  # fmt: skip


@pytest.fixture(scope="module")
def parts() -> dict[str, Any]:
    made = {name: build(CATALOG, key, options) for name, (key, options) in OPTIONS.items()}
    for name, part in made.items():
        if isinstance(part, torch.nn.Module):
            fill_at_random(part.eval(), 3, name)
    return made


def picture(seed: int) -> Tensor:
    return torch.rand(40, 30, 3, generator=torch.Generator().manual_seed(seed))


def stream(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def streams(*seeds: int) -> list[torch.Generator]:
    return [stream(seed) for seed in seeds]


def generated(parts: dict[str, Any], condition: Condition, seeds: list[int]) -> dict[str, Any]:
    """Every stage from a condition to the coloured dual grid."""
    made: dict[str, Any] = {}
    made["cells"] = parts["structure"].sample(condition, steps=2, rng=streams(*seeds))
    logits = parts["cells"].decode(made["cells"]).state
    # Random weights may empty a grid; a level that follows it cannot.
    centred = OccupancyGrid(logits.values - logits.values.median(), logits.frame)
    made["support"] = parts["occupied"].apply(occupancy=centred)
    made["shape"] = parts["shape"].sample(condition, support=made["support"], steps=2, rng=streams(*seeds))
    made["texture"] = parts["texture"].sample(
        condition, support=made["support"], concat=made["shape"], steps=2, guidance=1.0, rng=streams(*seeds)
    )
    with torch.no_grad():
        made["grid"], made["guides"] = parts["shape_vae"].decode(made["shape"])
        made["materials"] = parts["texture_vae"].decode(made["texture"], guides=made["guides"]).state
    return made


@pytest.fixture(scope="module")
def one(parts: dict[str, Any]) -> dict[str, Any]:
    return generated(parts, parts["dino"].encode(picture(1)), [5])


def test_an_image_becomes_a_coloured_shape(parts: dict[str, Any], one: dict[str, Any]) -> None:
    grid, materials = one["grid"], one["materials"]
    assert isinstance(grid, FlexibleDualGrid)
    assert isinstance(materials, VoxelAttributes)
    assert grid.resolution == 4 * one["support"].resolution == materials.values.resolution
    assert torch.equal(grid.coords, materials.values.coords), "materials lie on the voxels of the shape, in its order"
    assert torch.equal(grid.coords, torch.unique(grid.coords, dim=0)), "rows are sorted, and none stands twice"
    assert bool((grid.dual_vertices >= -0.5).all())
    assert bool((grid.dual_vertices <= 1.5).all())
    assert grid.frame.up == "z"
    mesh = parts["mesher"].extract(grid)
    assert len(mesh.faces) > 0
    assert bool(mesh.vertices.isfinite().all())


def test_one_seed_gives_one_shape_bit_for_bit(parts: dict[str, Any], one: dict[str, Any]) -> None:
    again = generated(parts, parts["dino"].encode(picture(1)), [5])
    other = generated(parts, parts["dino"].encode(picture(1)), [6])
    assert torch.equal(again["grid"].dual_vertices, one["grid"].dual_vertices)
    assert torch.equal(again["materials"].values.feats, one["materials"].values.feats)
    assert not torch.equal(other["cells"].values, one["cells"].values)


def test_batches_change_no_sample(parts: dict[str, Any]) -> None:
    conditions = [parts["dino"].encode(picture(seed)) for seed in (1, 2)]
    both = Condition.stack(conditions)
    together = parts["structure"].sample(both, steps=2, rng=streams(5, 6))
    for condition, seed, found in zip(conditions, (5, 6), together.unbind(), strict=True):
        alone = parts["structure"].sample(condition, steps=2, rng=streams(seed))
        torch.testing.assert_close(found.values, alone.values, rtol=1e-4, atol=1e-5)
    supports = [voxels(seed) for seed in (1, 2)]
    latents = parts["shape"].sample(both, support=Voxels.stack(supports), steps=2, rng=streams(5, 6))
    textures = parts["texture"].sample(both, support=Voxels.stack(supports), concat=latents, steps=2, rng=streams(7, 8))
    with torch.no_grad():
        grid, guides = parts["shape_vae"].decode(latents)
        materials = parts["texture_vae"].decode(textures, guides=guides).state
    for index, (condition, support) in enumerate(zip(conditions, supports, strict=True)):
        shape = parts["shape"].sample(condition, support=support, steps=2, rng=stream(5 + index))
        texture = parts["texture"].sample(condition, support=support, concat=shape, steps=2, rng=stream(7 + index))
        found = latents.unbind()[index].values
        assert torch.equal(found.coords, support.coords)
        torch.testing.assert_close(found.feats, shape.values.feats, rtol=1e-3, atol=1e-4)
        with torch.no_grad():
            alone, own = parts["shape_vae"].decode(latents.unbind()[index])
            coloured = parts["texture_vae"].decode(textures.unbind()[index], guides=own).state
        torch.testing.assert_close(textures.unbind()[index].values.feats, texture.values.feats, rtol=1e-3, atol=1e-4)
        assert torch.equal(grid.unbind()[index].coords, alone.coords)
        torch.testing.assert_close(grid.unbind()[index].dual_vertices, alone.dual_vertices, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(materials.unbind()[index].values.feats, coloured.values.feats, rtol=1e-3, atol=1e-4)


def voxels(seed: int, resolution: int = 4, count: int = 12) -> Voxels:
    codes = torch.randperm(resolution**3, generator=stream(seed))[:count].sort().values
    xyz = torch.stack([codes // resolution**2, codes // resolution % resolution, codes % resolution], dim=1)
    return Voxels(torch.cat([torch.zeros(count, 1), xyz], dim=1).int(), resolution)


def test_a_coarse_shape_leads_to_a_finer_support(parts: dict[str, Any], one: dict[str, Any]) -> None:
    fine = parts["shape_vae"].upsample(one["shape"])
    assert torch.equal(fine.coords, one["grid"].coords), "all subdivisions lead to the voxels that decoding makes"
    assert parts["shape_vae"].upsample(one["shape"], times=1).resolution == 2 * one["support"].resolution
    support = parts["budget"].apply(support=fine)
    centres = (fine.coords[:, 1:] + 0.5) / fine.resolution * support.resolution
    wanted = torch.unique(centres.int(), dim=0)
    assert torch.equal(support.coords[:, 1:], wanted)
    finer = parts["shape"].sample(parts["dino"].encode(picture(1)), support=support, steps=2, rng=stream(1))
    assert finer.values.resolution == support.resolution
    assert len(finer.values.coords) == len(wanted)


def test_the_budget_lowers_the_resolution_until_the_tokens_fit(parts: dict[str, Any]) -> None:
    fine = voxels(2, 64, 3000)
    options = {"resolution": 1536, "stride": 16}
    counts = {}
    for budget in (10**6, 2000, 10):
        found = build(CATALOG, "transform/requantise-voxels", options | {"max_tokens": budget}).apply(support=fine)
        counts[budget] = (found.resolution, len(found.coords))
    assert counts[10**6] == (96, 3000)
    assert counts[10][0] == 64, "never below 1024 voxels"
    assert counts[2000][0] == 64


def test_a_dual_grid_is_encoded_and_its_texture_decoded_on_its_own_voxels(parts: dict[str, Any]) -> None:
    """Texturing a given mesh: the structure is that of the mesh, not a prediction."""
    mesh = toys.sphere()
    representation = build(CATALOG, "representation/o-voxel", {"resolution": 16})
    grid = representation.from_mesh(mesh, rng=stream(0))
    with torch.no_grad():
        shape = parts["shape_vae"].encode(grid)
        guides, support = parts["shape_vae"].subdivide(grid)
        condition = parts["dino"].encode(picture(1))
        texture = parts["texture"].sample(condition, concat=shape, steps=2, guidance=1.0, rng=stream(1))
        materials = parts["texture_vae"].decode(texture, guides=guides).state
        back, _ = parts["shape_vae"].decode(shape)
    assert shape.values.resolution == support.resolution == 4
    assert torch.equal(support.coords, shape.values.coords)
    assert torch.equal(materials.values.coords, grid.coords)
    assert materials.frame == grid.frame == back.frame
    with torch.no_grad():
        encoded = parts["texture_vae"].encode(materials)
    assert torch.equal(encoded.values.coords, shape.values.coords)


def test_rows_may_come_in_any_order(parts: dict[str, Any], one: dict[str, Any]) -> None:
    latent, guides = one["texture"].values, one["guides"]

    def shuffled(x: SparseTensor) -> SparseTensor:
        order = torch.randperm(len(x.coords), generator=stream(3))
        return SparseTensor(x.coords[order], x.feats[order], x.resolution, x.batch_size)

    with torch.no_grad():
        found = (
            parts["texture_vae"]
            .decode(SparseLatent(shuffled(latent)), guides=tuple(shuffled(guide) for guide in guides))
            .state
        )
    assert torch.equal(found.values.coords, one["materials"].values.coords)
    torch.testing.assert_close(found.values.feats, one["materials"].values.feats, rtol=1e-4, atol=1e-5)


def test_guidance_of_one_asks_the_conditional_branch_only(parts: dict[str, Any]) -> None:
    sampler = build(CATALOG, "sampler/trellis2-euler", {"guidance_interval": [0.5, 1.0], "rescale_t": 3.0})
    asked: list[tuple[float, bool]] = []

    def model(x: Tensor, t: float, *, conditional: bool) -> Tensor:
        asked.append((t, conditional))
        return x

    sampler.integrate(model, torch.ones(1, 2), steps=4, guidance=1.0)
    assert [conditional for _, conditional in asked] == [True] * 4
    asked.clear()
    sampler.integrate(model, torch.ones(1, 2), steps=4, guidance=3.0)
    assert all(t >= 0.5 for t, conditional in asked if not conditional)
    assert {t for t, conditional in asked if conditional} == set(sampler.times(4)[:-1].tolist())
    assert 0 < sum(not conditional for _, conditional in asked) <= 4


def test_straight_paths_are_followed_exactly() -> None:
    """With the true velocity the sampler arrives at the data, whatever the steps."""
    sampler = build(CATALOG, "sampler/trellis2-euler", {"rescale_t": 5.0, "sigma_min": 0.0})
    data, noise = torch.randn(2, 3, generator=stream(1)), torch.randn(2, 3, generator=stream(2))
    for steps in (1, 7):
        found = sampler.integrate(lambda x, t, conditional: noise - data, noise, steps=steps, guidance=1.0)
        torch.testing.assert_close(found, data, rtol=1e-5, atol=1e-6)


def test_masked_tokens_of_a_condition_do_not_count(parts: dict[str, Any]) -> None:
    condition = parts["dino"].encode(picture(1))
    extra = torch.cat([condition.tokens, torch.full((1, 3, 24), 9.0)], dim=1)
    mask = torch.arange(extra.shape[1])[None] < condition.tokens.shape[1]
    masked = Condition(extra, torch.zeros_like(extra), mask)
    wanted = parts["structure"].sample(condition, steps=1, rng=stream(1)).values
    found = parts["structure"].sample(masked, steps=1, rng=stream(1)).values
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)


def test_gradients_reach_every_weight_in_training() -> None:
    vae = build(CATALOG, "encoder/trellis2-shape-vae", VAE)
    fill_at_random(vae.train(), 1, "train")
    grid = build(CATALOG, "representation/o-voxel", {"resolution": 16}).from_mesh(toys.sphere(), rng=stream(0))
    encoded = vae.encoder(SparseTensor(grid.coords, torch.randn(len(grid.coords), 6), 16))
    fine, logits = vae.decoder(encoded.voxels, levels=encoded.levels)
    assert torch.equal(fine.coords, grid.coords)
    loss = fine.feats.square().mean() + sum(each.feats.square().mean() for each in logits) + encoded.posterior.kl()
    loss.backward()
    assert all(parameter.grad is not None for parameter in vae.parameters())


def test_meshes_are_turned_and_turned_back() -> None:
    mesh = Mesh(torch.tensor([[0.0, 1.0, 2.0]]), torch.zeros(0, 3).long(), Frame((-1, -2, -3), (1, 2, 4), "z"))
    y_up = build(CATALOG, "transform/up-axis", {}).apply(mesh=mesh)
    assert y_up.vertices.tolist() == [[0.0, 2.0, -1.0]]
    assert y_up.frame == Frame((-1, -3, -2), (1, 4, 2), "y")
    back = build(CATALOG, "transform/up-axis", {"up": "z"}).apply(mesh=y_up)
    assert (back.vertices.tolist(), back.frame) == (mesh.vertices.tolist(), mesh.frame)


def test_normals_of_corners_turn_with_the_mesh() -> None:
    ball = toys.sphere()
    corners = ball.vertices[ball.faces.long()]
    mesh = replace(
        ball, frame=Frame(up="z"), appearance=Appearance(corner_normals=corners / corners.norm(dim=-1, keepdim=True))
    )
    turned = build(CATALOG, "transform/up-axis", {}).apply(mesh=mesh)
    assert turned.appearance is not None
    assert turned.appearance.corner_normals is not None
    places = turned.vertices[turned.faces.long()]
    torch.testing.assert_close(turned.appearance.corner_normals, places / places.norm(dim=-1, keepdim=True))
    assert not torch.allclose(turned.vertices, mesh.vertices)


def test_an_object_is_cut_out_square() -> None:
    image = torch.zeros(50, 60, 4, dtype=torch.uint8)
    image[10:31, 40:60] = torch.tensor([200, 100, 50, 255], dtype=torch.uint8)
    prepare = build(CATALOG, "transform/trellis2-prepare-image", {})
    found = prepare.apply(image=image)
    assert found.shape == (20, 20, 3)
    assert found[5, 5].tolist() == [200, 100, 50]
    opaque = image[..., :3]
    with pytest.raises(StateError, match="matting"):
        prepare.apply(image=opaque)
    matting = build(CATALOG, "transform/trellis2-prepare-image", {})
    matting.matting = lambda planes: 100 * (planes.mean(1, keepdim=True) - planes.mean())
    assert abs(matting.apply(image=opaque).shape[0] - 20) <= 2


REFUSED: dict[str, tuple[Callable[[dict[str, Any], dict[str, Any]], object], str]] = {
    "no support": (lambda p, o: p["shape"].sample(o["condition"], rng=stream(1)), "needs support"),
    "tokens": (lambda p, o: p["shape"].sample(o["condition"], support=Tokens(3), rng=stream(1)), "works on voxels"),
    "no noise": (lambda p, o: p["shape"].sample(o["condition"], support=o["support"]), "rng or noise"),
    "concat too many": (
        lambda p, o: p["shape"].sample(o["condition"], support=o["support"], concat=o["shape"]), "no concat"
    ),
    "concat missing": (lambda p, o: p["texture"].sample(o["condition"], support=o["support"]), "concat"),
    "concat of other voxels": (
        lambda p, o: p["texture"].sample(o["condition"], support=voxels(9), concat=o["shape"], rng=stream(1)),
        "other voxels",
    ),
    "samples": (
        lambda p, o: p["shape"].sample(
            o["condition"], support=Voxels.stack([o["support"], o["support"]]), rng=stream(1)
        ),
        "2 samples",
    ),
    "streams": (
        lambda p, o: p["shape"].sample(o["condition"], support=o["support"], rng=streams(1, 2)), "random streams"
    ),
    "steps": (lambda p, o: p["structure"].sample(o["condition"], steps=0, rng=stream(1)), "steps"),
    "guidance": (lambda p, o: p["structure"].sample(o["condition"], guidance=float("nan"), rng=stream(1)), "finite"),
    "grid": (lambda p, o: p["structure"].sample(o["condition"], support=Grid(5), rng=stream(1)), "grid of 4"),
    "noise of another shape": (
        lambda p, o: p["structure"].sample(o["condition"], noise=GridLatent(torch.zeros(1, 4, 5, 5, 5))), "noise"
    ),
    "condition of another width": (
        lambda p, o: p["structure"].sample(Condition(torch.zeros(1, 3, 7), torch.zeros(1, 3, 7)), rng=stream(1)),
        "24",
    ),
    "no guides": (lambda p, o: p["texture_vae"].decode(o["texture"]), "needs guides"),
    "guides of another shape": (
        lambda p, o: p["texture_vae"].decode(o["texture"], guides=(o["guides"][1], o["guides"][1])), "other voxels"
    ),
    "channels": (lambda p, o: p["shape_vae"].decode(wide(o["shape"])), "4"),
    "times": (lambda p, o: p["shape_vae"].upsample(o["shape"], times=9), "between 1 and 2"),
    "empty structure": (
        lambda p, o: p["occupied"].apply(occupancy=OccupancyGrid(-torch.ones(4, 4, 4))), "no occupied cell"
    ),
    "empty latent": (
        lambda p, o: p["shape_vae"].decode(SparseLatent(SparseTensor(torch.zeros(0, 4).int(), torch.zeros(0, 4), 4))),
        "no voxel",
    ),
    "size": (lambda p, o: p["dino"].encode(picture(1), size=33), "multiple of patch_size"),
    "image": (lambda p, o: p["dino"].encode(torch.zeros(3, 3)), "image"),
}  # fmt: skip


def wide(latent: SparseLatent) -> SparseLatent:
    return SparseLatent(latent.values.replace(latent.values.feats.repeat(1, 2)))


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_is_refused_in_one_line(parts: dict[str, Any], one: dict[str, Any], name: str) -> None:
    call, wanted = REFUSED[name]
    with pytest.raises((StateError, ConfigError), match=wanted) as caught:
        call(parts, one | {"condition": parts["dino"].encode(picture(1))})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("key", "options", "wanted"),
    [
        ("encoder/trellis2-shape-vae", {"parts": "all"}, "parts"),
        ("encoder/trellis2-shape-vae", VAE | {"encoder_blocks": [1]}, "num_blocks"),
        ("encoder/trellis2-shape-vae", VAE | {"margin": -1}, "margin"),
        ("encoder/trellis2-structure-vae", {"norm_type": "batch"}, "norm_type"),
        ("generator/trellis2-slat-flow", FLOW, "statistics"),
        ("generator/trellis2-slat-flow", FLOW | STATISTICS | {"concat_channels": 3}, "in_channels"),
        ("generator/trellis2-slat-flow", FLOW | STATISTICS | {"latent": "sdf"}, "trellis2-texture"),
        ("sampler/trellis2-euler", {"guidance_interval": [0.9, 0.1]}, "guidance_interval"),
        ("sampler/trellis2-euler", {"rescale_t": 0.0}, "rescale_t"),
        ("conditioner/dinov3", {"image_size": 500}, "image_size"),
        ("transform/requantise-voxels", {"max_tokens": 0}, "max_tokens"),
        ("transform/up-axis", {"up": "x"}, "up"),
    ],
)
def test_options_out_of_range_are_refused(key: str, options: dict[str, Any], wanted: str) -> None:
    with pytest.raises(ConfigError, match=wanted):
        build(CATALOG, key, options)


def test_one_network_alone_has_the_keys_of_its_file() -> None:
    whole = build(CATALOG, "encoder/trellis2-shape-vae", VAE)
    half = build(CATALOG, "encoder/trellis2-shape-vae", VAE | {"parts": "decoder"})
    state = half.published_state()
    assert {f"decoder.{key}" for key in state} < set(whole.published_state())
    half.load_published({key: torch.full_like(value, 0.5) for key, value in state.items()})
    assert half.decoder.output_layer.bias.mean().item() == 0.5
    grid = build(CATALOG, "representation/o-voxel", {"resolution": 16}).from_mesh(toys.sphere(), rng=stream(0))
    with pytest.raises(StateError, match="parts"):
        half.encode(replace(grid))
