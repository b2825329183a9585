"""Spatial Sparse Attention: order and batching change nothing; all blocks are full attention; backends agree."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from shapewright.nn.spatial_sparse_attention import SpatialSparseAttention, SpatialSparseConfig
from shapewright.states import Layout
from shapewright_kernels import spatial_sparse_attention as kernels
from shapewright_kernels import spatial_sparse_attention_torch as torch_backend
from torch import Tensor
from torch.nn import functional

SCRIPT = Path(__file__).parents[1] / "spatial_sparse_backends.py"


@st.composite
def batches(draw: st.DrawFn) -> tuple[Tensor, int, int, int]:
    """Coordinates of a batch, its size, and the edges of compression and selection blocks."""
    compression = draw(st.sampled_from([1, 2, 3]))
    selection = compression * draw(st.sampled_from([1, 2]))
    counts = draw(st.lists(st.integers(0, 40), min_size=1, max_size=3))
    resolution = selection * draw(st.integers(2, 3))
    seed = draw(st.integers(0, 2**16))
    generator = torch.Generator().manual_seed(seed)
    rows = []
    for sample, count in enumerate(counts):
        cells = torch.randperm(resolution**3, generator=generator)[:count].sort().values
        xyz = torch.stack([cells // resolution**2, cells // resolution % resolution, cells % resolution], 1)
        rows.append(torch.cat([torch.full((len(cells), 1), sample), xyz], 1))
    return torch.cat(rows).int(), len(counts), compression, selection


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def module_of(compression: int, selection: int, version: str = "v1") -> SpatialSparseAttention:
    torch.manual_seed(0)
    config = SpatialSparseConfig(
        channels=12, heads=4, kv_heads=2, head_channels=4, compression_block=compression, selection_block=selection,
        top_k=2, window=3, shift=1, compression=version, groups=4,
    )  # fmt: skip
    module = SpatialSparseAttention(config).double()
    torch.nn.init.normal_(module.intra_block_pe)
    return module


def layout_of(coords: Tensor, batch_size: int) -> Layout:
    counts = torch.bincount(coords[:, 0].long(), minlength=batch_size)
    return Layout(torch.cat([counts.new_zeros(1), counts.cumsum(0)]).int(), coords[:, 1:])


@settings(max_examples=15, deadline=None)
@given(batches(), st.sampled_from(["v1", "v2"]))
def test_order_of_tokens_and_batching_change_nothing(case: tuple[Tensor, int, int, int], version: str) -> None:
    coords, batch_size, compression, selection = case
    module = module_of(compression, selection, version)
    hidden = normal(len(coords), 12)
    with torch.no_grad():
        wanted = module(hidden, layout_of(coords, batch_size))
        noise = torch.rand(len(coords), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        order = (coords[:, 0] + noise).argsort()  # mixed inside each sample
        mixed = module(hidden[order], layout_of(coords[order], batch_size))
        torch.testing.assert_close(mixed, wanted[order], rtol=1e-9, atol=1e-9)
        for sample in range(batch_size):
            rows = coords[:, 0] == sample
            alone = coords[rows] * torch.tensor([0, 1, 1, 1], dtype=torch.int32)
            found = module(hidden[rows], layout_of(alone, 1))
            torch.testing.assert_close(found, wanted[rows], rtol=1e-9, atol=1e-9)


@settings(max_examples=15, deadline=None)
@given(batches())
def test_selecting_all_blocks_is_full_attention(case: tuple[Tensor, int, int, int]) -> None:
    coords, batch_size, compression, selection = case
    coords = coords[kernels.sort_block(coords, selection)]
    made = kernels.spatial_structure(
        coords, compression=compression, selection=selection, window=2, batch_size=batch_size
    )
    q, k, v = (normal(len(coords), heads, 5, seed=heads) for heads in (6, 2, 2))
    compressed = normal(len(made.compression), 2, 5)
    _, lse = kernels.attend_compressed(q, compressed, compressed, made)
    selected = kernels.select_blocks(q, compressed, lse, made, max(1, made.selection.most_blocks))
    found, _ = kernels.attend_selected(q, k, v, selected, made)
    for sample in range(batch_size):
        rows = coords[:, 0] == sample
        a, b, c = (t[rows].transpose(0, 1)[None] for t in (q, k, v))
        wanted = functional.scaled_dot_product_attention(a, b, c, enable_gqa=True)[0].transpose(0, 1)
        torch.testing.assert_close(found[rows], wanted, rtol=1e-9, atol=1e-9)


def test_the_size_of_chunks_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    module = module_of(2, 4)
    generator = torch.Generator().manual_seed(0)
    cells = torch.randperm(12**3, generator=generator)[:300].sort().values
    coords = torch.stack([cells * 0, cells // 144, cells // 12 % 12, cells % 12], 1).int()
    results = []
    for budget in (torch_backend.BUDGET, 3000):
        monkeypatch.setattr(torch_backend, "BUDGET", budget)
        monkeypatch.setattr(kernels, "BUDGET", budget)
        hidden = normal(300, 12).requires_grad_()
        module.zero_grad()
        made = module(hidden, layout_of(coords, 1))
        made.square().sum().backward()
        grads = [p.grad for p in module.parameters() if p.grad is not None]
        assert hidden.grad is not None
        results.append([made.detach(), hidden.grad, *(g.clone() for g in grads)])
    assert len(results[0]) == 2 + len(list(module.parameters()))
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


@pytest.mark.skipif(find_spec("triton") is None, reason="triton is not installed")
@pytest.mark.parametrize("group", ["small", "aggregated", "odd"])
def test_triton_in_its_interpreter_agrees_with_torch(group: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(SCRIPT), group],
        env={**os.environ, "TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("agrees") == 14


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("group", ["small", "aggregated", "odd"])
def test_triton_on_cuda_agrees_with_torch(group: str) -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), group, "cuda"], capture_output=True, text=True, timeout=600, env=dict(os.environ)
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("agrees") == 14
