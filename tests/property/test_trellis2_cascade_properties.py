"""Steps between TRELLIS.2's networks equal their definition, written with sets, for any cells and budgets."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from shapewright import OccupancyGrid, StateError, Voxels, discover
from shapewright.run import build
from shapewright_plugins.trellis2.cascade import occupied_coords, requantised

CATALOG = discover()
Row = tuple[int, int, int, int]


def rows_on(resolution: int, samples: int = 1) -> st.SearchStrategy[list[Row]]:
    axis = st.integers(0, resolution - 1)
    return st.lists(st.tuples(st.integers(0, samples - 1), axis, axis, axis), min_size=1, max_size=60, unique=True)


def tensor(rows: list[Row]) -> torch.Tensor:
    return torch.tensor(sorted(rows), dtype=torch.int32)


def moved(rows: list[Row], resolution: int, cells: int) -> list[Row]:
    """The cell of a grid of ``cells`` in which each voxel's centre lies, by the published float32 formula."""

    def one(value: int) -> int:
        return int((np.float32(value) + np.float32(0.5)) / np.float32(resolution) * np.float32(cells))

    return sorted({(b, one(x), one(y), one(z)) for b, x, y, z in rows})


@settings(max_examples=60, deadline=None)
@given(rows=rows_on(512, 2), wanted=st.sampled_from([1024, 1152, 1280, 1408, 1536]), budget=st.integers(1, 70))
def test_a_budget_is_kept_by_steps_of_128_and_never_below_1024(rows: list[Row], wanted: int, budget: int) -> None:
    coords, reached = requantised(tensor(rows), 512, wanted, budget)
    target = wanted
    while len(moved(rows, 512, target // 16)) >= budget and target > 1024:
        target -= 128
    assert reached == target
    assert [tuple(row) for row in coords.tolist()] == moved(rows, 512, target // 16)
    assert coords.dtype == torch.int32
    assert bool((coords[:, 1:] < target // 16).all())


def test_a_count_equal_to_the_budget_is_too_much() -> None:
    """Published: fewer tokens than the budget, not as many."""
    rows: list[Row] = [(0, 16 * i, 0, 0) for i in range(10)]
    assert requantised(tensor(rows), 512, 1536, 11)[1] == 1536
    assert requantised(tensor(rows), 512, 1536, 10)[1] == 1024


@settings(max_examples=30, deadline=None)
@given(rows=rows_on(64), order=st.randoms())
def test_requantising_ignores_order(rows: list[Row], order: object) -> None:
    shuffled = list(rows)
    order.shuffle(shuffled)  # type: ignore[attr-defined]
    step = build(CATALOG, "transform/requantise-voxels", {"resolution": 256, "max_tokens": 20, "least": 64})
    unsorted = torch.tensor(shuffled, dtype=torch.int32)
    found = requantised(unsorted, 64, 256, 20, least=64)
    again = step.apply(support=Voxels(tensor(rows), 64))
    assert torch.equal(found[0], again.coords)
    assert again.resolution == found[1] // 16


def test_a_component_stops_at_its_least_and_at_what_was_asked_for() -> None:
    rows = [(0, i, j, 0) for i in range(0, 512, 16) for j in range(0, 512, 16)]
    options = {"resolution": 512, "max_tokens": 5}
    found = build(CATALOG, "transform/requantise-voxels", options).apply(support=Voxels(tensor(rows), 512))
    assert found.resolution == 32, "1024 is above what was asked for, which is then the least"
    assert len(found.coords) == 1024
    with pytest.raises(StateError, match="batch"):
        build(CATALOG, "transform/requantise-voxels", options).apply(
            support=Voxels(torch.tensor([[0, 0, 0, 0], [1, 0, 0, 0]], dtype=torch.int32), 512, 2)
        )


@settings(max_examples=40, deadline=None)
@given(
    resolution=st.sampled_from([1, 2, 3, 4]),
    factor=st.sampled_from([1, 2, 3]),
    samples=st.integers(1, 2),
    seed=st.integers(0, 1000),
)
def test_a_coarse_cell_is_occupied_if_one_of_its_cells_is(
    resolution: int, factor: int, samples: int, seed: int
) -> None:
    side = resolution * factor
    rng = torch.Generator().manual_seed(seed)
    logits = torch.randint(-3, 2, (samples, side, side, side), generator=rng).float()
    wanted = sorted({(b, x // factor, y // factor, z // factor) for b, x, y, z in (logits > 0).nonzero().tolist()})
    assert [tuple(row) for row in occupied_coords(logits, resolution).tolist()] == wanted


def test_a_logit_of_zero_is_not_occupied() -> None:
    values = torch.zeros(2, 2, 2)
    values[1, 0, 1] = 1e-6
    found = build(CATALOG, "transform/occupied-voxels", {}).apply(occupancy=OccupancyGrid(values))
    assert found.coords.tolist() == [[0, 1, 0, 1]]
