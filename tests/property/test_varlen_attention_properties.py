"""Attention over packed segments: every backend computes the definition, and segments do not see one another."""

from __future__ import annotations

import math
import os
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from shapewright_kernels.varlen_attention import varlen_attention
from shapewright_kernels.varlen_attention_segments import permuted, row_order, segment_pairs
from torch import Tensor

lengths = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=6)


def definition(q: Tensor, k: Tensor, v: Tensor, sizes: list[tuple[int, int]]) -> tuple[Tensor, Tensor]:
    """Softmax of every segment on its own; heads of keys repeated for the heads of queries that share them."""
    group = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
    rows_q, rows_k = ([pair[side] for pair in sizes] for side in (0, 1))
    outputs, sums = [], []
    for query, key, value in zip(q.split(rows_q), k.split(rows_k), v.split(rows_k), strict=True):
        scores = torch.einsum("qhd,khd->hqk", query, key) / math.sqrt(q.shape[2])
        empty = not len(key)
        outputs.append(torch.einsum("hqk,khd->qhd", scores.softmax(-1), value))
        sums.append(scores.new_full(scores.shape[:2], -torch.inf) if empty else scores.logsumexp(-1))
    return torch.cat(outputs), torch.cat(sums, dim=1)


def offsets(counts: list[int]) -> Tensor:
    return torch.tensor([0, *counts]).cumsum(0)


def tokens(
    sizes: list[tuple[int, int]], heads: int = 4, kv_heads: int = 2, width: int = 5, width_v: int = 3,
    dtype: torch.dtype = torch.float64, seed: int = 0,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    rng = torch.Generator().manual_seed(seed)
    total_q, total_k = (sum(pair[side] for pair in sizes) for side in (0, 1))
    q = torch.randn(total_q, heads, width, generator=rng, dtype=torch.float64).to(dtype)
    k = torch.randn(total_k, kv_heads, width, generator=rng, dtype=torch.float64).to(dtype)
    v = torch.randn(total_k, kv_heads, width_v, generator=rng, dtype=torch.float64).to(dtype)
    return q, k, v, offsets([pair[0] for pair in sizes]), offsets([pair[1] for pair in sizes])


@settings(deadline=None, max_examples=40)
@given(sizes=lengths, backend=st.sampled_from(["torch", "math"]), heads=st.sampled_from([(4, 2), (3, 3), (2, 1)]))
def test_backends_compute_the_definition(sizes: list[tuple[int, int]], backend: str, heads: tuple[int, int]) -> None:
    q, k, v, starts_q, starts_k = tokens(sizes, *heads)
    wanted, wanted_lse = definition(q, k, v, sizes)
    out, lse = varlen_attention(q, k, v, starts_q.int(), starts_k, return_lse=True, backend=backend)
    torch.testing.assert_close(out, wanted)
    torch.testing.assert_close(lse, wanted_lse)
    torch.testing.assert_close(varlen_attention(q, k, v, starts_q, starts_k, backend=backend), wanted)


@settings(deadline=None, max_examples=20)
@given(sizes=lengths, backend=st.sampled_from(["torch", "math"]), with_lse=st.booleans())
def test_gradients_are_those_of_the_definition(sizes: list[tuple[int, int]], backend: str, with_lse: bool) -> None:
    q, k, v, starts_q, starts_k = (x.requires_grad_() if x.is_floating_point() else x for x in tokens(sizes))

    def loss(out: Tensor, lse: Tensor | None) -> Tensor:
        weights = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).reshape(out.shape)
        total = (out * weights).sum()
        return total if lse is None else total + torch.sin(lse[lse.isfinite()]).sum()

    wanted, wanted_lse = definition(q, k, v, sizes)
    found = varlen_attention(q, k, v, starts_q, starts_k, return_lse=True, backend=backend) if with_lse else None
    out, lse = found or (varlen_attention(q, k, v, starts_q, starts_k, backend=backend), None)
    expected = torch.autograd.grad(loss(wanted, wanted_lse if with_lse else None), (q, k, v), materialize_grads=True)
    got = torch.autograd.grad(loss(out, lse), (q, k, v), materialize_grads=True)
    for one, other in zip(got, expected, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("backend", ["torch", "math"])
@pytest.mark.parametrize("return_lse", [False, True])
def test_gradcheck_in_float64(backend: str, return_lse: bool) -> None:
    sizes = [(1, 2), (2, 1), (1, 2)]
    q, k, v, starts_q, starts_k = (
        x.requires_grad_() if x.is_floating_point() else x for x in tokens(sizes, 2, 1, width=2, width_v=2)
    )
    pairs = segment_pairs(starts_q, starts_k)
    assert torch.autograd.gradcheck(
        lambda *x: varlen_attention(*x, pairs, return_lse=return_lse, backend=backend), (q, k, v)
    )


def test_explicit_probabilities_can_be_differentiated_twice() -> None:
    sizes = [(2, 3), (0, 1), (1, 2)]
    q, k, v, starts_q, starts_k = (x.requires_grad_() if x.is_floating_point() else x for x in tokens(sizes))
    assert torch.autograd.gradgradcheck(lambda *x: varlen_attention(*x, starts_q, starts_k, backend="math"), (q, k, v))


@settings(deadline=None, max_examples=20)
@given(sizes=lengths, seed=st.integers(0, 5))
def test_segments_beside_one_another_change_no_bit(sizes: list[tuple[int, int]], seed: int) -> None:
    """Samples stacked into a batch, in any order, give what each of them gives alone."""
    q, k, v, starts_q, starts_k = tokens(sizes, dtype=torch.float32, seed=seed)
    together = varlen_attention(q, k, v, starts_q, starts_k)
    for index, (queries, keys) in enumerate(sizes):
        mine, theirs = slice(starts_q[index], starts_q[index + 1]), slice(starts_k[index], starts_k[index + 1])
        alone = varlen_attention(q[mine], k[theirs], v[theirs], torch.tensor([0, queries]), torch.tensor([0, keys]))
        torch.testing.assert_close(together[mine], alone, rtol=0, atol=1e-6)


def test_order_of_keys_and_queries_does_not_matter() -> None:
    q, k, v, starts_q, starts_k = tokens([(7, 9)])
    base = varlen_attention(q, k, v, starts_q, starts_k)
    rows, columns = torch.randperm(7), torch.randperm(9)
    shuffled = varlen_attention(q[rows], k[columns], v[columns], starts_q, starts_k)
    torch.testing.assert_close(shuffled, base[rows])


def test_one_key_returns_its_value_and_no_key_returns_zero() -> None:
    q, k, v, starts_q, starts_k = tokens([(3, 1), (2, 0)], heads=2)
    out, lse = varlen_attention(q, k, v, starts_q, starts_k, return_lse=True)
    torch.testing.assert_close(out[:3], v.expand(3, -1, -1))
    assert out[3:].abs().max() == 0
    assert (lse[:, 3:] == -torch.inf).all()


@pytest.mark.parametrize("sizes", [[(0, 0)], [(0, 3)], [(0, 0), (0, 0)]])
def test_nothing_to_attend_is_no_error(sizes: list[tuple[int, int]]) -> None:
    q, k, v, starts_q, starts_k = tokens(sizes)
    out, lse = varlen_attention(q, k, v, starts_q, starts_k, return_lse=True)
    assert out.shape == (0, 4, 3)
    assert lse.shape == (4, 0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_types_run_on_the_processor(dtype: torch.dtype) -> None:
    sizes = [(5, 5), (3, 4), (1, 1)]
    q, k, v, starts_q, starts_k = tokens(sizes, width=8, width_v=8, dtype=dtype)
    q.requires_grad_()
    wanted, wanted_lse = definition(q.double(), k.double(), v.double(), sizes)
    out = varlen_attention(q, k, v, starts_q, starts_k)
    assert out.dtype == dtype
    torch.testing.assert_close(out.double(), wanted, rtol=0.03, atol=0.03)
    out, lse = varlen_attention(q, k, v, starts_q, starts_k, return_lse=True)
    assert lse.dtype == torch.float32
    torch.testing.assert_close(lse.double(), wanted_lse, rtol=1e-4, atol=1e-4)
    out.float().sum().backward()
    assert q.grad is not None
    assert q.grad.isfinite().all()


def test_chunks_of_scores_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    from shapewright_kernels import varlen_attention_torch

    sizes = [(9, 7), (4, 7), (9, 7)]
    q, k, v, starts_q, starts_k = (x.requires_grad_() if x.is_floating_point() else x for x in tokens(sizes))
    results = []
    for scores in (1 << 22, 30):
        monkeypatch.setattr(varlen_attention_torch, "SCORES", scores)
        out, lse = varlen_attention(q, k, v, starts_q, starts_k, return_lse=True)
        results.append([out, lse, *torch.autograd.grad(out.square().sum() + lse.sum(), (q, k, v))])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other)


def test_permuted_rows_come_back_with_their_gradients() -> None:
    order = row_order(torch.randperm(7))
    rows = torch.randn(7, 2, dtype=torch.float64, requires_grad=True)
    assert torch.equal(permuted(rows, order)[order.inverse], rows)
    assert torch.autograd.gradcheck(lambda x: permuted(x, order), (rows,))
    assert torch.autograd.gradgradcheck(lambda x: permuted(x, order).square(), (rows,))


BAD = [
    ({"q": torch.zeros(4, 8)}, ValueError, "q must be"),
    ({"k": torch.zeros(4, 2, 5)}, ValueError, "k has 5 channels"),
    ({"q": torch.zeros(4, 3, 4)}, ValueError, "q has 3 heads"),
    ({"v": torch.zeros(3, 2, 4)}, ValueError, "v has"),
    ({"v": torch.zeros(4, 2, 4, dtype=torch.float64)}, TypeError, "v is torch.float64"),
    ({"q": torch.zeros(4, 2, 4, dtype=torch.int64)}, TypeError, "q must be"),
    ({"offsets": torch.tensor([0, 3])}, ValueError, "offsets_q ends at 3"),
    ({"offsets": torch.tensor([0, 3, 2, 4])}, ValueError, "offsets_q must ascend"),
    ({"offsets": torch.tensor([1, 4])}, ValueError, "offsets_q must start at 0"),
    ({"offsets": torch.tensor([0.0, 4.0])}, TypeError, "offsets_q must be int32"),
    ({"offsets_k": torch.tensor([0, 2, 4])}, ValueError, "offsets_q holds 1 segments"),
    ({"backend": "cudnn"}, ValueError, "backend must be one of"),
    ({"backend": "flash"}, ValueError, "flash"),
]


@pytest.mark.parametrize(("change", "error", "message"), BAD, ids=lambda value: str(value)[:40])
def test_bad_input_is_named_in_one_line(change: dict[str, object], error: type[Exception], message: str) -> None:
    given: dict[str, object] = {"q": torch.zeros(4, 2, 4), "k": torch.zeros(4, 2, 4), "v": torch.zeros(4, 2, 4)}
    given |= {"offsets": torch.tensor([0, 4]), "offsets_k": None, "backend": "auto"} | change
    with pytest.raises(error, match=message) as caught:
        varlen_attention(
            given["q"], given["k"], given["v"], given["offsets"], given["offsets_k"], backend=given["backend"]
        )  # type: ignore[call-overload]
    assert "\n" not in str(caught.value)


INTERPRETED = """
import torch
from test_varlen_attention_properties import definition, tokens
from shapewright_kernels.varlen_attention import varlen_attention

for dtype, tolerance in ((torch.float32, 2e-5), (torch.float16, 2e-2)):
    for sizes, heads, kv_heads, width, width_v in (
        ([(20, 17), (0, 3), (3, 0), (1, 1), (5, 40)], 4, 2, 5, 7),
        ([(18, 18), (33, 33)], 2, 2, 32, 32),
        ([(0, 0)], 1, 1, 16, 16),
    ):
        q, k, v, starts_q, starts_k = (
            x.requires_grad_() if x.is_floating_point() else x
            for x in tokens(sizes, heads, kv_heads, width, width_v, dtype)
        )
        out, lse = varlen_attention(q, k, v, starts_q, starts_k, return_lse=True, backend="triton")
        wanted, wanted_lse = definition(q.double(), k.double(), v.double(), sizes)
        torch.testing.assert_close(out.double(), wanted, rtol=tolerance, atol=tolerance)
        torch.testing.assert_close(lse.double(), wanted_lse, rtol=tolerance, atol=tolerance)
        def loss(out, lse):
            return out.double().square().sum() + torch.sin(lse[lse.isfinite()].double()).sum()
        got = torch.autograd.grad(loss(out, lse), (q, k, v), materialize_grads=True)
        expected = torch.autograd.grad(loss(wanted, wanted_lse), (q, k, v), materialize_grads=True)
        for one, other in zip(got, expected):
            torch.testing.assert_close(one.double(), other.double(), rtol=10 * tolerance, atol=10 * tolerance)
print("agreed")
"""


def test_triton_in_its_interpreter_computes_the_definition() -> None:
    """In a process of its own: kernels are interpreted or compiled as they were when the module was imported."""
    pytest.importorskip("triton")
    paths = os.pathsep.join([os.path.dirname(__file__), *sys.path])
    done = subprocess.run(
        [sys.executable, "-c", INTERPRETED],
        capture_output=True,
        text=True,
        env=os.environ | {"TRITON_INTERPRET": "1", "PYTHONPATH": paths},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "agreed"


@pytest.mark.parametrize(
    ("queries", "keys", "wanted"),
    [([0, 2, 5], [0, 1, 4], False), ([0, 2, 2], [0, 1, 4], True), ([0, 2, 5], [0, 4, 4], True), ([0], [0], True)],
)
def test_segments_that_flash_attention_cannot_take_are_known(queries: list[int], keys: list[int], wanted: bool) -> None:
    pairs = segment_pairs(torch.tensor(queries), torch.tensor(keys), torch.device("cpu"))
    assert pairs.has_empty is wanted
