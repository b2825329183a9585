"""Sets of lattice points as words, against sets of tuples."""

from __future__ import annotations

import numpy as np
import pytest
from shapewright_kernels.word_sets import (
    Strides,
    WordSet,
    all_cells,
    children,
    coords_of,
    corners,
    difference,
    dilated,
    finer_points,
    join,
    select,
    strides_of,
    union,
)

Points = set[tuple[int, int, int]]
SIZES = [1, 3, 62, 63, 64, 65, 130]


def as_words(points: Points, strides: Strides) -> WordSet:
    masks: dict[int, int] = {}
    for x, y, z in points:
        place = x * strides.x + y * strides.y + z // 64
        masks[place] = masks.get(place, 0) | 1 << z % 64
    places = sorted(masks)
    return WordSet(np.array(places, np.int64), np.array([masks[place] for place in places], np.uint64))


def as_points(members: WordSet, strides: Strides) -> Points:
    assert (members.mask != 0).all()
    assert (np.diff(members.place) > 0).all()
    return {tuple(row) for row in coords_of(members, strides).tolist()}


def some(size: int, seed: int, upto: int | None = None) -> Points:
    rows = np.random.default_rng(seed).integers(0, upto or size, (60, 3))
    return {tuple(row) for row in rows.tolist()}


def around(points: Points, steps: range) -> Points:
    return {(x + i, y + j, z + k) for x, y, z in points for i in steps for j in steps for k in steps}


@pytest.mark.parametrize("size", SIZES)
def test_union_and_difference(size: int) -> None:
    strides = strides_of(size)
    first, second = some(size, 0), some(size, 1)
    a, b = as_words(first, strides), as_words(second, strides)
    assert as_points(union(a, b), strides) == first | second
    assert as_points(difference(a, b), strides) == first - second
    assert as_points(difference(a, a), strides) == set()


@pytest.mark.parametrize("size", SIZES)
def test_corners_and_neighbours_of_cells(size: int) -> None:
    strides = strides_of(size)
    cells = some(size, 2)
    members = as_words(cells, strides)
    assert as_points(corners(members, strides), strides) == around(cells, range(2))
    wanted = {cell for cell in around(cells, range(-1, 2)) if min(cell) >= 0 and max(cell) < size}
    assert as_points(dilated(members, strides), strides) == wanted


@pytest.mark.parametrize("size", [1, 5, 64, 65])
def test_all_cells_are_all(size: int) -> None:
    strides = strides_of(size)
    rows = coords_of(all_cells(strides), strides)
    assert np.array_equal(rows, np.indices((size,) * 3).reshape(3, -1).T)
    assert len(coords_of(corners(all_cells(strides), strides), strides)) == (size + 1) ** 3


@pytest.mark.parametrize("size", SIZES)
def test_finer_lattices_double_the_indices(size: int) -> None:
    coarse, fine = strides_of(size), strides_of(2 * size)
    points = some(size, 3, size + 1)
    members = as_words(points, coarse)
    found = finer_points(members, coarse, fine)
    assert np.array_equal(coords_of(found, fine), 2 * coords_of(members, coarse))
    cells = as_words(some(size, 4), coarse)
    chosen = np.zeros((len(cells.place), 4, 2), np.uint64)
    wanted = set()
    rng = np.random.default_rng(5)
    for word, (place, mask) in enumerate(zip(cells.place, cells.mask, strict=True)):
        for x, y, z in coords_of(WordSet(place[None], mask[None]), coarse).tolist():
            for child in np.flatnonzero(rng.random(8) < 0.5).tolist():
                dx, dy, dz = child >> 2, child >> 1 & 1, child & 1
                wanted.add((2 * x + dx, 2 * y + dy, 2 * z + dz))
                inner = 2 * (z % 64) + dz
                chosen[word, 2 * dx + dy, inner // 64] |= np.uint64(1 << inner % 64)
    assert as_points(children(chosen, cells.place, coarse, fine), fine) == wanted


def test_values_stay_with_their_points() -> None:
    strides = strides_of(130)
    first = some(130, 6)
    second = some(130, 7) - first
    sets = [as_words(points, strides) for points in (first, second)]
    values = [coords_of(members, strides) @ np.array([1e6, 1e3, 1.0]) for members in sets]
    both, joined = join(sets[0], values[0], sets[1], values[1])
    assert np.array_equal(coords_of(both, strides) @ np.array([1e6, 1e3, 1.0]), joined)
    assert np.array_equal(select(both, joined, sets[1]), values[1])
