"""The TRELLIS.2 autoencoders as components: what goes in and comes out is what their networks' equations say."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import trellis2_reference as reference
from shapewright import Frame, SparseLatent, SparseTensor, StateError, VoxelAttributes, discover
from shapewright.run import build
from shapewright.states import PBR_LAYOUT, FlexibleDualGrid
from shapewright.weights.fill import fill_at_random
from torch import Tensor
from trellis2_reference import Row

CATALOG = discover()
WIDTHS, BLOCKS, LATENT = [8, 16, 16], [0, 1, 1], 3
OPTIONS: dict[str, Any] = {
    "latent_channels": LATENT, "encoder_channels": WIDTHS, "encoder_blocks": BLOCKS, "decoder_channels": WIDTHS[::-1],
    "decoder_blocks": BLOCKS[::-1],
}  # fmt: skip
FRAME = Frame((-1, -1, -1), (1, 1, 1), "z")
CLOSE = {"rtol": 3e-4, "atol": 1e-4}


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def part(key: str) -> tuple[Any, dict[str, dict[str, Tensor]]]:
    made = build(CATALOG, key, OPTIONS)
    fill_at_random(made, 4, key)
    halves = {half: getattr(made, half).state_dict() for half in ("encoder", "decoder")}
    return made, {half: {k: v.double() for k, v in state.items()} for half, state in halves.items()}


def rows_of(coords: Tensor) -> list[Row]:
    return [(b, x, y, z) for b, x, y, z in coords.tolist()]


def some_rows(seed: int, counts: tuple[int, ...], resolution: int = 8) -> list[Row]:
    rows = []
    for sample, count in enumerate(counts):
        codes = torch.randperm(resolution**3, generator=torch.Generator().manual_seed(seed + sample))[:count]
        rows += [(sample, c // resolution**2, c // resolution % resolution, c % resolution) for c in codes.tolist()]
    return rows  # in no order within a sample


ROWS = some_rows(1, (3, 25))
COORDS = torch.tensor(ROWS, dtype=torch.int32)


def test_dual_grids_are_encoded_centred() -> None:
    vae, exact = part("encoder/trellis2-shape-vae")
    vertices, flags = drawn(1, len(ROWS), 3).sigmoid(), drawn(2, len(ROWS), 3) > 0
    grid = FlexibleDualGrid(COORDS, vertices, flags, None, 8, 2, FRAME)
    with torch.no_grad():
        found = vae.encode(grid)
    feats = torch.cat([vertices - 0.5, flags.float() - 0.5], dim=1).double()
    rows, mean, _ = reference.encode(exact["encoder"], WIDTHS, BLOCKS, ROWS, feats)
    assert rows_of(found.values.coords) == rows
    assert (found.values.resolution, found.frame) == (2, FRAME)
    torch.testing.assert_close(found.values.feats.double(), mean, **CLOSE)


def test_latents_are_sampled_from_the_posterior_on_request() -> None:
    made = build(CATALOG, "encoder/trellis2-shape-vae", OPTIONS | {"posterior": "sample"})
    fill_at_random(made, 4, "encoder/trellis2-shape-vae")
    exact = {key: value.double() for key, value in made.encoder.state_dict().items()}
    vertices, flags = drawn(1, len(ROWS), 3).sigmoid(), drawn(2, len(ROWS), 3) > 0
    grid = FlexibleDualGrid(COORDS, vertices, flags, None, 8, 2, FRAME)
    with torch.no_grad():
        found = made.encode(grid, rng=[torch.Generator().manual_seed(seed) for seed in (5, 6)])
        with pytest.raises(StateError, match="needs rng"):
            made.encode(grid)
    feats = torch.cat([vertices - 0.5, flags.float() - 0.5], dim=1).double()
    rows, mean, logvar = reference.encode(exact, WIDTHS, BLOCKS, ROWS, feats)
    counts = [sum(row[0] == sample for row in rows) for sample in (0, 1)]
    noise = torch.cat([drawn(5, counts[0], LATENT), drawn(6, counts[1], LATENT)]).double()
    torch.testing.assert_close(found.values.feats.double(), mean + noise * (logvar / 2).exp(), **CLOSE)


TOP = some_rows(9, (1, 6), 2)


def decoded_by_equations(exact: dict[str, Tensor], latent: Tensor) -> tuple[list[Row], Tensor, Any]:
    order = sorted(range(len(TOP)), key=lambda i: TOP[i])
    rows, raw, levels = reference.decode(
        exact, WIDTHS[::-1], BLOCKS[::-1], [TOP[i] for i in order], latent[order].double()
    )
    return rows, raw, levels


def test_dual_grids_are_decoded_sorted_with_flags_above_zero() -> None:
    vae, exact = part("encoder/trellis2-shape-vae")
    latent = drawn(3, len(TOP), LATENT)
    coords = torch.tensor(TOP, dtype=torch.int32)
    with torch.no_grad():
        grid, guides = vae.decode(SparseLatent(SparseTensor(coords, latent, 2, 2), FRAME))
    rows, raw, levels = decoded_by_equations(exact["decoder"], latent)
    order = sorted(range(len(rows)), key=lambda i: rows[i])
    assert rows_of(grid.coords) == sorted(rows)
    assert (grid.resolution, grid.batch_size, grid.frame) == (8, 2, FRAME)
    vertices, flags, weights = reference.dual_grid_channels(raw[order])
    torch.testing.assert_close(grid.dual_vertices.double(), vertices, **CLOSE)
    assert grid.split_weights is not None
    torch.testing.assert_close(grid.split_weights.double(), weights, **CLOSE)
    logits = raw[order][:, 3:6]
    near = (logits.abs() < 0.1) & (logits.abs() > 1e-3)
    assert bool((near & (logits > 0)).any()), "the draw must hold flags that are barely set"
    sure = logits.abs() > 1e-3
    assert torch.equal(grid.intersected[sure], flags[sure])
    for guide, (coarse, wanted) in zip(guides, levels, strict=True):
        by_place = sorted(range(len(coarse)), key=lambda i: coarse[i])
        assert rows_of(guide.coords) == sorted(coarse), "guides are sorted as every other state"
        torch.testing.assert_close(guide.feats.double(), wanted[by_place], **CLOSE)


def attributes(values: Tensor) -> VoxelAttributes:
    return VoxelAttributes(SparseTensor(COORDS, values, 8, 2), dict(PBR_LAYOUT), FRAME)


def test_materials_are_encoded_from_minus_one_to_one() -> None:
    vae, exact = part("encoder/trellis2-texture-vae")
    values = drawn(4, len(ROWS), 6).sigmoid()
    with torch.no_grad():
        found = vae.encode(attributes(values))
    rows, mean, _ = reference.encode(exact["encoder"], WIDTHS, BLOCKS, ROWS, values.double() * 2 - 1)
    assert rows_of(found.values.coords) == rows
    torch.testing.assert_close(found.values.feats.double(), mean, **CLOSE)


def test_materials_are_decoded_to_zero_to_one_on_the_voxels_of_a_shape() -> None:
    shape, _ = part("encoder/trellis2-shape-vae")
    vae, exact = part("encoder/trellis2-texture-vae")
    grid = FlexibleDualGrid(COORDS, torch.full((len(ROWS), 3), 0.5), torch.ones(len(ROWS), 3).bool(), None, 8, 2, FRAME)
    guides, support = shape.subdivide(grid)
    latent = drawn(5, len(support.coords), LATENT)
    with torch.no_grad():
        found = vae.decode(SparseLatent(SparseTensor(support.coords, latent, 2, 2), FRAME), guides=guides).state
    children = reference.children_of(ROWS, 2)
    rows, raw, _ = reference.decode(
        exact["decoder"], WIDTHS[::-1], BLOCKS[::-1], rows_of(support.coords), latent.double(), children
    )
    order = sorted(range(len(rows)), key=lambda i: rows[i])
    assert rows_of(found.values.coords) == sorted(ROWS)
    torch.testing.assert_close(found.values.feats.double(), (raw * 0.5 + 0.5)[order], **CLOSE)
    assert found.layout == PBR_LAYOUT


def test_subdivisions_name_the_children_that_exist_coarsest_first() -> None:
    vae, _ = part("encoder/trellis2-shape-vae")
    grid = FlexibleDualGrid(COORDS, torch.full((len(ROWS), 3), 0.5), torch.ones(len(ROWS), 3).bool(), None, 8, 2, FRAME)
    guides, support = vae.subdivide(grid)
    wanted = reference.children_of(ROWS, 2)
    assert [guide.resolution for guide in guides] == [2, 4]
    assert rows_of(support.coords) == sorted(wanted[0])
    for guide, children in zip(guides, wanted, strict=True):
        assert rows_of(guide.coords) == sorted(children)
        stacked = torch.stack([children[row] for row in sorted(children)])
        assert torch.equal(guide.feats > 0, stacked > 0)


def test_a_shape_without_a_voxel_says_so() -> None:
    vae, _ = part("encoder/trellis2-shape-vae")
    for name, parameter in vae.decoder.named_parameters():
        if name.endswith("to_subdiv.bias"):
            parameter.data -= 100
    latent = SparseLatent(SparseTensor(torch.tensor([[0, 0, 0, 0]], dtype=torch.int32), drawn(1, 1, LATENT), 2), FRAME)
    for verb in (vae.decode, vae.upsample):
        with torch.no_grad(), pytest.raises(StateError, match="no voxel of the shape survives"):
            verb(latent)


@pytest.mark.parametrize("key", ["encoder/trellis2-shape-vae", "encoder/trellis2-texture-vae"])
def test_a_grid_that_the_strides_do_not_divide_is_refused(key: str) -> None:
    vae, _ = part(key)
    coords = torch.tensor([[0, 8, 0, 0]], dtype=torch.int32)
    source: Any = (
        FlexibleDualGrid(coords, torch.ones(1, 3), torch.ones(1, 3).bool(), None, 9, 1, FRAME)
        if "shape" in key
        else VoxelAttributes(SparseTensor(coords, torch.ones(1, 6), 9), dict(PBR_LAYOUT), FRAME)
    )
    with pytest.raises(StateError, match="divisible by 4"):
        vae.encode(source)


@pytest.mark.parametrize(
    ("key", "options", "single"),
    [
        ("encoder/trellis2-shape-vae", OPTIONS, {"input_layer", "to_latent", "from_latent", "output_layer"}),
        (
            "generator/trellis2-slat-flow",
            {"model_channels": 24, "num_blocks": 1, "num_heads": 2, "cond_channels": 8},
            {"input_layer", "out_layer", "t_embedder", "adaLN_modulation"},
        ),
        (
            "encoder/trellis2-structure-vae",
            {"channels": [8, 16], "num_res_blocks": 1, "num_res_blocks_middle": 1},
            {"input_layer", "out_layer"},
        ),
    ],
)
def test_half_types_keep_in_float32_what_the_published_files_do(
    key: str, options: dict[str, Any], single: set[str]
) -> None:
    """Linear layers and convolutions of the blocks are halved; norms, first and last layers are not."""
    made = build(CATALOG, key, options)
    fill_at_random(made, 1, "half", dtype=torch.bfloat16)
    for name, value in made.named_parameters():
        words = set(name.split("."))
        kept = bool(words & single) or "norm" in name or words & {"modulation"}
        assert value.dtype == (torch.float32 if kept else torch.bfloat16), name
