"""Windows and pieces of curves: which voxels fall together, and in which order."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from shapewright_kernels.serialised_order import (
    CURVES,
    curve_codes,
    curve_voxels,
    serialised_order,
    serialised_partition,
)
from shapewright_kernels.window_partition import Partition, window_partition
from torch import Tensor

COORDS = torch.tensor([[1, 0, 0, 0], [0, 7, 7, 7], [0, 8, 0, 0], [0, 0, 0, 0], [0, 15, 0, 7], [1, -1, 0, 0]])


def groups(partition: Partition) -> list[list[int]]:
    return [part.tolist() for part in partition.order.split(partition.offsets.diff().tolist())]


def test_windows_ascend_and_keep_the_order_of_rows() -> None:
    assert groups(window_partition(COORDS, 8)) == [[1, 3], [2, 4], [5], [0]]


def test_a_shift_is_added_before_the_division() -> None:
    assert groups(window_partition(COORDS, 8, 1)) == [[3], [2], [1], [4], [0, 5]]
    assert groups(window_partition(COORDS, [8, 8, 8], [1, 0, 0])) == [[3], [1, 2], [4], [0, 5]]


def test_windows_by_length_are_the_same_windows() -> None:
    assert groups(window_partition(COORDS, 8, by_length=True)) == [[5], [0], [1, 3], [2, 4]]


@settings(deadline=None, max_examples=30)
@given(
    rows=st.lists(st.tuples(st.integers(0, 2), *[st.integers(-20, 20)] * 3), max_size=30),
    window=st.tuples(*[st.integers(1, 9)] * 3),
    shift=st.tuples(*[st.integers(-9, 9)] * 3),
    by_length=st.booleans(),
)
def test_windows_hold_every_row_once_and_only_their_own(
    rows: list[tuple[int, ...]], window: tuple[int, ...], shift: tuple[int, ...], by_length: bool
) -> None:
    coords = torch.tensor(rows, dtype=torch.int32).reshape(-1, 4)
    names: dict[tuple[int, ...], list[int]] = {}
    for index, (batch, *xyz) in enumerate(rows):
        cell = tuple((c + s) // w for c, s, w in zip(xyz, shift, window, strict=True))
        names.setdefault((batch, *cell), []).append(index)
    found = groups(window_partition(coords, window, shift, by_length=by_length))
    wanted = [names[key] for key in sorted(names)]
    assert found == (sorted(wanted, key=len) if by_length else wanted)


def test_far_apart_voxels_are_counted_in_64_bits() -> None:
    coords = torch.tensor([[0, 0, 0, 0], [0, 2**19, 2**19, 2**19], [3, 0, 0, 0]])
    assert groups(window_partition(coords, 1)) == [[0], [1], [2]]
    with pytest.raises(ValueError, match="coords span"):
        window_partition(torch.tensor([[0, 0, 0, 0], [1, 2**30, 2**30, 2**30]]), 1)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((torch.zeros(3, 3, dtype=torch.int32), 8), ValueError, "coords must be"),
        ((torch.zeros(3, 4), 8), TypeError, "coords must be int16"),
        ((COORDS, 0), ValueError, "window must be at least 1"),
        ((COORDS, [8, 8]), ValueError, "window must be a whole number"),
        ((COORDS, 8, 0.5), ValueError, "shift must be a whole number"),
        ((COORDS, 8, [0.5, 0, 0]), ValueError, "shift must be a whole number"),
    ],
)
def test_bad_windows_are_named(arguments: tuple[Any, ...], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        window_partition(*arguments)


def neighbours(voxels: Tensor) -> Tensor:
    return (voxels[1:] - voxels[:-1]).abs().sum(1)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_a_hilbert_curve_walks_from_voxel_to_neighbour(bits: int) -> None:
    voxels = curve_voxels(torch.arange(8**bits), "hilbert", bits=bits)
    assert (neighbours(voxels) == 1).all()
    assert len(torch.unique(voxels, dim=0)) == 8**bits


def test_morton_codes_interleave_bits_x_first() -> None:
    assert curve_codes(torch.tensor([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1023, 1023, 1023]])).tolist() == [
        4, 2, 1, 2**30 - 1,
    ]  # fmt: skip
    assert curve_codes(torch.tensor([[1, 0, 0]]), axes=(1, 2, 0)).tolist() == [1]


@settings(deadline=None, max_examples=30)
@given(bits=st.integers(1, 20), curve=st.sampled_from(CURVES), axes=st.permutations([0, 1, 2]), seed=st.integers(0, 9))
def test_codes_can_be_read_back(bits: int, curve: str, axes: list[int], seed: int) -> None:
    voxels = torch.randint(0, 1 << bits, (50, 3), generator=torch.Generator().manual_seed(seed))
    codes = curve_codes(voxels, curve, axes=axes, bits=bits)
    assert torch.equal(curve_voxels(codes, curve, axes=axes, bits=bits), voxels)


def test_pieces_stay_inside_samples_and_have_the_asked_size() -> None:
    line = torch.stack([torch.zeros(7), torch.zeros(7), torch.zeros(7), torch.arange(7)], dim=1).int()
    coords = torch.cat([line, line + torch.tensor([2, 0, 0, 0], dtype=torch.int32)])
    lengths = serialised_partition(coords, 3, 1, curve="morton").offsets.diff().tolist()
    assert lengths == [2, 3, 2, 2, 3, 2]
    assert serialised_order(coords.flip(0), "morton").tolist() == list(range(13, -1, -1))
    assert serialised_partition(coords[:0], 3).offsets.tolist() == [0]


def test_order_along_a_curve_does_not_mind_negative_coordinates() -> None:
    coords = torch.tensor([[0, 3, 1, 2], [0, 0, 0, 0], [0, 2, 2, 2], [0, 5, 1, 7]])
    moved = coords - torch.tensor([0, 6, 6, 6])
    assert torch.equal(
        serialised_order(moved, "morton"), serialised_order(moved + torch.tensor([0, 6, 5, 4]), "morton")
    )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: curve_codes(torch.tensor([[1024, 0, 0]])), "xyz must lie in 0..1023"),
        (lambda: curve_codes(torch.tensor([[-1, 0, 0]])), "xyz must lie in"),
        (lambda: curve_codes(torch.zeros(2, 4, dtype=torch.int32)), "xyz must be"),
        (lambda: curve_codes(torch.zeros(2, 3)), "xyz must be int16"),
        (lambda: curve_codes(torch.zeros(2, 3, dtype=torch.int32), "peano"), "curve must be one of"),
        (lambda: curve_codes(torch.zeros(2, 3, dtype=torch.int32), axes=(0, 1, 1)), "axes must hold"),
        (lambda: curve_codes(torch.zeros(2, 3, dtype=torch.int32), bits=21), "bits must be"),
        (lambda: curve_voxels(torch.tensor([-1])), "codes must lie"),
        (lambda: serialised_partition(COORDS, 0), "size must be"),
        (lambda: serialised_partition(COORDS, 4, 4), "shift must be"),
        (lambda: serialised_order(torch.tensor([[0, 0, 0, 1 << 20]])), "coords span"),
    ],
)
def test_bad_codes_are_named(call: Any, message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message) as caught:
        call()
    assert "\n" not in str(caught.value)
