"""Spatial Sparse Attention: block tables, the three branches and the module, against plain formulas; bad input."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from shapewright.errors import ConfigError, StateError
from shapewright.nn.spatial_sparse_attention import SpatialSparseAttention, SpatialSparseConfig
from shapewright.states import Layout
from shapewright_kernels.spatial_sparse_attention import (
    SpatialStructure,
    attend_compressed,
    attend_selected,
    attend_windows,
    block_scores,
    partition_blocks,
    pool_blocks,
    select_blocks,
    sort_block,
    spatial_structure,
)
from shapewright_kernels.spatial_sparse_attention_torch import top_columns
from torch import Tensor


def voxels(counts: list[int], resolution: int, seed: int = 0) -> Tensor:
    """Random voxels, ``counts[b]`` of sample ``b``, sorted by batch, x, y, z."""
    draw = torch.Generator().manual_seed(seed)
    rows = []
    for sample, count in enumerate(counts):
        cells = torch.randperm(resolution**3, generator=draw)[:count].sort().values
        xyz = torch.stack([cells // resolution**2, cells // resolution % resolution, cells % resolution], 1)
        rows.append(torch.cat([torch.full((count, 1), sample), xyz], 1))
    return torch.cat(rows).int()


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def structure_of(counts: list[int], resolution: int = 8, compression: int = 2, selection: int = 4) -> SpatialStructure:
    coords = voxels(counts, resolution)
    return spatial_structure(
        coords[sort_block(coords, selection)], compression=compression, selection=selection, window=4, shift=2,
        resolution=resolution, batch_size=len(counts),
    )  # fmt: skip


def plain(q: Tensor, k: Tensor, v: Tensor, allowed: Tensor) -> tuple[Tensor, Tensor]:
    """Attention by its formula; ``allowed`` is ``(Hkv or 1, N, S)``."""
    group = q.shape[1] // k.shape[1]
    keys, values = (t.repeat_interleave(group, 1) for t in (k, v))
    logits = torch.einsum("nhd,shd->hns", q, keys) / math.sqrt(q.shape[2])
    mask = allowed.expand(k.shape[1], -1, -1).repeat_interleave(group, 0)
    logits = logits.masked_fill(~mask, -math.inf)
    return torch.einsum("hns,shd->nhd", logits.softmax(-1), values), logits.logsumexp(-1)


def layout_of(coords: Tensor, batch_size: int, resolution: int | None = None) -> Layout:
    counts = torch.bincount(coords[:, 0].long(), minlength=batch_size)
    return Layout(torch.cat([counts.new_zeros(1), counts.cumsum(0)]).int(), coords[:, 1:], resolution)


CONFIG = SpatialSparseConfig(
    channels=16, heads=4, head_channels=8, kv_heads=2, compression_block=2, selection_block=4, top_k=2, window=4
)


# --- block tables -----------------------------------------------------------------------------------------------------
def test_sort_block_is_the_lexicographic_order_of_batch_block_and_place() -> None:
    coords = voxels([60, 40], 12)
    coords = coords[torch.randperm(100, generator=torch.Generator().manual_seed(1))]
    b, x, y, z = coords.numpy().T
    wanted = np.lexsort((z % 4, y % 4, x % 4, z // 4, y // 4, x // 4, b))
    assert sort_block(coords, 4).tolist() == wanted.tolist()


def test_partition_counts_the_tokens_of_shifted_windows_in_order() -> None:
    coords = torch.tensor([[1, 0, 0, 0], [0, 2, 0, 1], [0, 0, 0, 0], [0, 1, 3, 3]])
    made = partition_blocks(coords, 4, shift=2, batch_size=3)
    assert made.coords.tolist() == [[0, 0, 0, 0], [0, 0, 1, 1], [0, 1, 0, 0], [1, 0, 0, 0]]
    assert made.rows.tolist() == [3, 2, 0, 1]
    assert made.order is not None
    assert made.order.tolist() == [2, 3, 1, 0]
    assert made.offsets.tolist() == [0, 1, 2, 3, 4]
    assert made.sample_offsets.tolist() == [0, 3, 4, 4]
    assert (made.largest, made.most_blocks) == (1, 3)


def test_parents_of_compression_blocks_hold_the_same_tokens() -> None:
    made = structure_of([50, 0, 20])
    blocks = made.compression.coords[:, 1:] // 2
    assert torch.equal(blocks, made.selection.coords[made.parents, 1:])
    assert torch.equal(made.compression.coords[:, 0], made.selection.coords[made.parents, 0])


def test_pooling_divides_by_one_more_than_the_tokens() -> None:
    coords = torch.tensor([[0, 0, 0, 0], [0, 1, 1, 1], [0, 2, 0, 0]])
    feats = torch.tensor([[3.0, 6.0], [3.0, 0.0], [8.0, 2.0]])
    assert pool_blocks(feats, partition_blocks(coords, 2)).tolist() == [[2.0, 2.0], [4.0, 1.0]]


@pytest.mark.parametrize(
    ("coords", "wanted"),
    [
        (torch.tensor([[0, 0, 0, -1]]), "coords must not be negative"),
        (torch.tensor([[0, 1, 2, 3], [0, 4, 4, 4], [0, 1, 2, 3]]), "twice, in rows 0 and 2"),
        (torch.tensor([[0, 8, 0, 0]]), "coords must lie below resolution 8"),
        (torch.tensor([[0, 8, 0]]), r"coords must be \(N, 4\)"),
        (torch.tensor([[2, 0, 0, 0]]), "coords name sample 2, but batch_size is 1"),
    ],
)
def test_bad_coordinates_are_named(coords: Tensor, wanted: str) -> None:
    with pytest.raises(ValueError, match=wanted):
        spatial_structure(coords, compression=4, selection=4, window=4, resolution=8, batch_size=1)


def test_float_coordinates_are_a_type_error() -> None:
    with pytest.raises(TypeError, match="coords must be integers"):
        partition_blocks(torch.zeros(3, 4), 2)


@pytest.mark.parametrize(
    ("sizes", "wanted"),
    [
        ({"compression": 3}, "compression 3 must divide selection 4"),
        ({"resolution": 10}, "resolution 10 is not divisible by the selection block 4"),
        ({"window": 0}, "window must be at least 1"),
        ({"shift": -1}, "shift must not be negative"),
        ({"compression": 0}, "compression must be at least 1"),
    ],
)
def test_sizes_that_do_not_fit_are_named(sizes: dict[str, int], wanted: str) -> None:
    given = {"compression": 2, "selection": 4, "window": 4, "shift": 2, "resolution": 8} | sizes
    with pytest.raises(ValueError, match=wanted):
        spatial_structure(voxels([9], 8), **given)  # type: ignore[arg-type]


# --- branches ---------------------------------------------------------------------------------------------------------
def test_compressed_attention_is_attention_to_the_blocks_of_the_sample() -> None:
    made = structure_of([40, 0, 17, 1])
    q, k, v = normal(58, 6, 5), normal(len(made.compression), 2, 5, seed=1), normal(len(made.compression), 2, 5, seed=2)
    allowed = made.coords[:, None, 0] == made.compression.coords[None, :, 0]
    found, wanted = attend_compressed(q, k, v, made), plain(q, k, v, allowed[None])
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_window_attention_is_attention_inside_windows() -> None:
    made = structure_of([40, 0, 17, 1])
    q, k, v = normal(58, 4, 5), normal(58, 2, 5, seed=1), normal(58, 2, 5, seed=2)
    allowed = made.windows.rows[:, None] == made.windows.rows[None, :]
    found, wanted = attend_windows(q, k, v, made.windows), plain(q, k, v, allowed[None])
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_selected_attention_is_attention_to_the_tokens_of_the_blocks() -> None:
    made = structure_of([40, 0, 17, 1])
    q, k, v = normal(58, 4, 5), normal(58, 2, 5, seed=1), normal(58, 2, 5, seed=2)
    compressed = normal(len(made.compression), 2, 5, seed=3)
    _, lse = attend_compressed(q, compressed, compressed, made)
    selected = select_blocks(q, compressed, lse, made, 3)
    first = made.selection.sample_offsets[made.coords[:, 0].long()]
    blocks = torch.where(selected >= 0, selected + first[None, :, None], -1)
    allowed = (blocks[..., None] == made.selection.rows).any(2)
    found, wanted = attend_selected(q, k, v, selected, made), plain(q, k, v, allowed)
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
    assert (selected[:, -1] == torch.tensor([0, -1, -1])).all()  # a sample of one token has one block


def test_selected_blocks_have_the_largest_scores() -> None:
    made = structure_of([60])
    q, k = normal(60, 4, 5), normal(len(made.compression), 2, 5, seed=1)
    _, lse = attend_compressed(q, k, k, made)
    scores = block_scores(q, k, lse, made)
    torch.testing.assert_close(scores.sum(-1), torch.full_like(scores[..., 0], 2.0))  # two heads give one each
    wanted = scores.topk(3, dim=-1).indices.sort(-1).values
    assert torch.equal(select_blocks(q, k, lse, made, 3).long(), wanted)


def test_of_equal_scores_the_lower_number_is_selected() -> None:
    assert top_columns(torch.tensor([[1.0, 2.0, 2.0, 2.0, 0.0]]), 2).tolist() == [[1, 2]]
    assert top_columns(torch.zeros(1, 4), 3).tolist() == [[0, 1, 2]]
    assert top_columns(torch.zeros(1, 2), 4).tolist() == [[0, 1, -1, -1]]
    assert top_columns(torch.tensor([[math.nan, 1.0, 0.5]]), 2).tolist() == [[1, 2]]


def test_large_logits_do_not_overflow() -> None:
    made = structure_of([30])
    q, k = normal(30, 4, 8, dtype=torch.float32) * 60, normal(len(made.compression), 2, 8, dtype=torch.float32) * 60
    out, lse = attend_compressed(q, k, k, made)
    assert lse.max() > 1000
    assert torch.isfinite(out).all()
    scores = block_scores(q, k, lse, made)
    torch.testing.assert_close(scores.sum(-1), torch.full_like(scores[..., 0], 2.0), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("branch", ["compressed", "selected", "windows"])
def test_gradients_of_outputs_and_log_sum_exp_match_finite_differences(branch: str) -> None:
    made = structure_of([7, 0, 3], resolution=8)
    keys = len(made.compression) if branch == "compressed" else 10
    rows = ((10, 4), (keys, 2), (keys, 2))
    q, k, v = (normal(n, heads, 3, seed=i).requires_grad_() for i, (n, heads) in enumerate(rows))
    selected = torch.arange(2, dtype=torch.int32).expand(2, 10, 2).clone()
    selected[:, 7:, 1] = -1
    selected[1, :7, 0] = 1
    selected[1, :7, 1] = 3

    def run(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        if branch == "compressed":
            return attend_compressed(q, k, v, made)
        if branch == "windows":
            return attend_windows(q, k, v, made.windows)
        return attend_selected(q, k, v, selected, made)

    assert torch.autograd.gradcheck(run, (q, k, v))


def test_blocks_that_nobody_selects_get_no_gradient() -> None:
    made = structure_of([60])
    q, k, v = (normal(60, h, 4, seed=h).requires_grad_() for h in (4, 2, 2))
    selected = torch.zeros(2, 60, 1, dtype=torch.int32)
    attend_selected(q, k, v, selected, made)[0].sum().backward()
    outside = made.selection.rows > 0
    assert k.grad is not None
    assert v.grad is not None
    assert (k.grad[outside] == 0).all()
    assert (v.grad[outside] == 0).all()
    assert (v.grad[~outside] != 0).any()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_types_keep_their_type_and_stay_near_float32(dtype: torch.dtype) -> None:
    made = structure_of([50])
    q, k, v = (normal(50, h, 8, seed=h, dtype=dtype).requires_grad_() for h in (4, 2, 2))
    out, _ = attend_windows(q, k, v, made.windows)
    wide, _ = attend_windows(q.float(), k.float(), v.float(), made.windows)
    assert out.dtype == dtype
    torch.testing.assert_close(out.float(), wide, rtol=1e-2, atol=1e-2)
    out.sum().backward()
    assert k.grad is not None
    assert k.grad.dtype == dtype


@pytest.mark.parametrize(
    ("change", "error", "wanted"),
    [
        (lambda q, k, v: (q[:, :3], k, v), ValueError, "the 3 heads of q are not divisible by the 2 heads of k"),
        (lambda q, k, v: (q[1:], k, v), ValueError, "q has 49 rows, the structure 50"),
        (lambda q, k, v: (q, k[1:], v), ValueError, "k has 49 rows"),
        (lambda q, k, v: (q, k, v[..., :3]), ValueError, "v is"),
        (lambda q, k, v: (q, k[..., :3], v[..., :3]), ValueError, "q has width 4, but k has 3"),
        (lambda q, k, v: (q, k.float(), v), TypeError, "k is torch.float32, but q is torch.float64"),
        (lambda q, k, v: (q.long(), k, v), TypeError, "q must be floating point"),
        (lambda q, k, v: (q, k.to("meta"), v), ValueError, "k is on meta"),
        (lambda q, k, v: (q[0], k, v), ValueError, r"q must be \(rows, heads, d\)"),
    ],
)
def test_inputs_that_do_not_fit_are_named(change, error: type[Exception], wanted: str) -> None:  # type: ignore[no-untyped-def]
    made = structure_of([50])
    q, k, v = change(*(normal(50, h, 4, seed=h) for h in (4, 2, 2)))
    with pytest.raises(error, match=wanted):
        attend_windows(q, k, v, made.windows)


def test_bad_selections_and_backends_are_named() -> None:
    made = structure_of([50])
    q, k, v = (normal(50, h, 4, seed=h) for h in (4, 2, 2))
    with pytest.raises(ValueError, match="selected must be"):
        attend_selected(q, k, v, torch.zeros(1, 50, 2, dtype=torch.int32), made)
    with pytest.raises(TypeError, match="selected must be int32 or int64"):
        attend_selected(q, k, v, torch.zeros(2, 50, 2), made)
    with pytest.raises(ValueError, match="selected names block 99"):
        attend_selected(q, k, v, torch.full((2, 50, 2), 99), made)
    compressed = normal(len(made.compression), 2, 4)
    with pytest.raises(ValueError, match="count must be at least 1"):
        select_blocks(q, compressed, torch.zeros(4, 50), made, 0)
    with pytest.raises(ValueError, match="lse must be"):
        select_blocks(q, compressed, torch.zeros(50, 4), made, 1)
    with pytest.raises(ValueError, match="backend must be one of"):
        attend_windows(q, k, v, made.windows, backend="cuda")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="backend 'triton'"):
        attend_windows(q.float(), k.float(), v.float(), made.windows, backend="triton")


# --- the module -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("compression", ["v1", "v2"])
def test_module_takes_empty_samples_and_samples_of_one_token(compression: str) -> None:
    torch.manual_seed(0)
    module = SpatialSparseAttention(replace(CONFIG, compression=compression, groups=4)).double()
    coords = voxels([0, 1, 30, 0], 8)
    hidden = normal(31, 16).requires_grad_()
    made = module(hidden, layout_of(coords, 4, 8))
    assert made.shape == (31, 16)
    alone = module(hidden[:1], layout_of(coords[:1] - torch.tensor([1, 0, 0, 0]), 1, 8))
    torch.testing.assert_close(made[:1], alone, rtol=1e-12, atol=1e-12)
    made.square().sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in module.parameters())
    assert module(hidden[:0], layout_of(coords[:0], 2, 8)).shape == (0, 16)


def test_module_gives_the_same_gradients_as_finite_differences() -> None:
    torch.manual_seed(0)
    module = SpatialSparseAttention(replace(CONFIG, channels=6, heads=2, kv_heads=1, head_channels=3)).double()
    torch.nn.init.normal_(module.intra_block_pe)
    layout = layout_of(voxels([9, 4], 8), 2, 8)
    assert torch.autograd.gradcheck(lambda x: module(x, layout), (normal(13, 6).requires_grad_(),), fast_mode=True)


def test_odd_blocks_shift_their_windows_unless_a_shift_is_given() -> None:
    assert [replace(CONFIG, block=i).window_shift for i in (0, 1)] == [0, 2]
    assert [replace(CONFIG, block=i, shift=3).window_shift for i in (0, 1)] == [3, 3]


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        ({"top_k": 0}, "top_k must be at least 1"),
        ({"selection_block": 3}, "selection_block 3 must be a multiple of compression_block 2"),
        ({"kv_heads": 3}, "heads 4 must be divisible by kv_heads 3"),
        ({"compression": "v3"}, "compression must be 'v1' or 'v2'"),
        ({"compression": "v2"}, "groups 32 must divide"),
        ({"shift": -1}, "shift must not be negative"),
        ({"rope": True, "head_channels": 6}, "rope and qk_norm must be off"),
        ({"context_channels": 8}, "context_channels must be None"),
    ],
)
def test_options_out_of_range_are_named(change: dict[str, object], wanted: str) -> None:
    with pytest.raises(ConfigError, match=wanted):
        replace(CONFIG, **change)  # type: ignore[arg-type]


def test_module_names_what_does_not_fit() -> None:
    module = SpatialSparseAttention(CONFIG)
    coords = voxels([5], 8)
    hidden = torch.zeros(5, 16)
    with pytest.raises(StateError, match="context"):
        module(hidden, layout_of(coords, 1), context=hidden)
    with pytest.raises(StateError, match=r"hidden must be \(T, 16\)"):
        module(hidden[:, :3], layout_of(coords, 1))
    with pytest.raises(StateError, match="hidden has 4 rows"):
        module(hidden[:4], layout_of(coords, 1))
    with pytest.raises(StateError, match="no coords"):
        module(hidden, Layout(torch.tensor([0, 5])))
    with pytest.raises(StateError, match="resolution 10 is not divisible"):
        module(hidden, layout_of(coords, 1, 10))
    with pytest.raises(StateError, match="twice"):
        module(hidden, layout_of(torch.zeros(5, 4, dtype=torch.int32), 1))


@pytest.mark.parametrize(("version", "compression", "edge"), [("v1_0", "v2", 4), ("v1_1", "v1", 8)])
def test_names_and_shapes_are_those_of_the_published_checkpoints(
    shared: Path, version: str, compression: str, edge: int
) -> None:
    listing = json.loads((shared / "fixtures" / "direct3d_s2" / f"statedict_{version}.json").read_text())
    prefix = "blocks.{i}.self_attn."
    keys = listing["model_sparse_1024.ckpt"]["dit"]["keys"]
    published = {name.removeprefix(prefix): shape for name, shape in keys.items() if name.startswith(prefix)}
    config = SpatialSparseConfig(channels=1024, heads=32, kv_heads=2, compression=compression, compression_block=edge)
    with torch.device("meta"):
        module = SpatialSparseAttention(config)
    assert {name: list(value.shape) for name, value in module.state_dict().items()} == published
    assert len(published) in (10, 22)
