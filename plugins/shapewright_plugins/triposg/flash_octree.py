"""The published flash extraction: nested lattices of points, each refined where the one before sees the surface.

Source: the published code, whose rules stand in specification 10.2; values and rules are its, storage is sparse.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from shapewright.errors import ConfigError
from shapewright_kernels.octree_refinement import Evaluated, finer
from shapewright_kernels.word_sets import (
    Strides,
    WordSet,
    all_cells,
    coords_of,
    corners,
    difference,
    finer_points,
    join,
    moved,
    select,
    strides_of,
    union,
    within,
)

from .lattice_sampling import PointCalls, Samples, common, subset

NEAR = 0.95
"""A value below this counts as near the surface, whatever the signs around it."""


class FlashLevel(NamedTuple):
    """One level: cells an axis, and the points that it evaluates."""

    resolution: int
    points: WordSet


class Resolutions(NamedTuple):
    """Cells an axis of each level, and the constant by which the published code divides what it hands on."""

    cells: tuple[int, ...]
    divisor: int


def resolutions(depth: int, min_resolution: int = 63, mini_grid_num: int = 4) -> Resolutions:
    """Published levels: ``2^depth`` halved while it is at least ``min_resolution``, less one cell at the coarsest.

    Raises:
        ConfigError: no level is left.

    >>> resolutions(9)
    Resolutions(cells=(63, 126, 252, 504), divisor=32)
    """
    if min_resolution < 2 or mini_grid_num < 1 or not 1 <= depth <= 12:
        raise ConfigError(
            f"depth must lie in 1..12, min_resolution be at least 2 and mini_grid_num at least 1, not {depth}, "
            f"{min_resolution} and {mini_grid_num}"
        )
    size, levels = 2**depth, 0
    while size >= min_resolution:
        size //= 2
        levels += 1
    first = round(2 * size / mini_grid_num) * mini_grid_num - 1
    if not levels or first < 2:
        raise ConfigError(f"depth {depth} leaves no level of at least min_resolution {min_resolution}; raise depth")
    return Resolutions(tuple(first * 2**level for level in range(levels)), size)


def flash_samples(
    calls: PointCalls, cells: tuple[int, ...], *, near: Callable[[int], float] | float = NEAR, level: float = 0.0
) -> tuple[Samples, list[FlashLevel]]:
    """Values at the points of the last level, and the points of each level.

    A point is near the surface when one of its 6 neighbours has another sign, or when its value is within ``near`` of
    the level (a number, or what a function says for a number of cells an axis). Between levels the near points are
    dilated twice (not before the last), doubled, and dilated once more (twice at the last).
    """
    strides = strides_of(cells[0])
    points = corners(all_cells(strides), strides)
    known = Evaluated(strides, points, calls(points, strides))
    levels = [FlashLevel(cells[0], points)]
    for index in range(1, len(cells)):
        last = index == len(cells) - 1
        chosen = near_points(known, near(cells[index - 1]) if callable(near) else near, level)
        for _ in range(0 if last else 2):
            chosen = dilated_points(chosen, known.strides)
        fine = strides_of(cells[index])
        chosen = finer_points(chosen, known.strides, fine)
        for _ in range(2 if last else 1):
            chosen = dilated_points(chosen, fine)
        known = _evaluated(finer(known), chosen, calls)
        levels.append(FlashLevel(cells[index], chosen))
    coords = coords_of(known.points, known.strides)
    return Samples(coords, known.values, known.strides.resolution, calls.count), levels


def near_points(known: Evaluated, near: float, level: float = 0.0) -> WordSet:
    """Points with a neighbour of another sign, or within ``near`` of the level. Zero is a sign of its own."""
    values = known.values - known.values.dtype.type(level)
    found = subset(known.points, np.abs(values) < near)
    for sign in (-1, 0, 1):
        chosen: NDArray[np.bool_] = np.sign(values) == sign
        own, others = subset(known.points, chosen), subset(known.points, ~chosen)
        for axis in range(3):
            for step in (-1, 1):
                found = union(found, common(own, moved(others, known.strides, axis, step)))
    return found


def dilated_points(points: WordSet, strides: Strides) -> WordSet:
    """The points and their 26 neighbours within the lattice."""
    for axis in (2, 1, 0):
        around = union(moved(points, strides, axis, -1), moved(points, strides, axis, 1))
        points = within(union(points, around), strides, strides.resolution + 1)
    return points


def _evaluated(known: Evaluated, chosen: WordSet, calls: PointCalls) -> Evaluated:
    """Exactly the points ``chosen``; those that a coarser level shares are not evaluated again."""
    old = common(chosen, known.points)
    new = difference(chosen, known.points)
    values = select(known.points, known.values, old)
    found = calls(new, known.strides).astype(values.dtype, copy=False)
    return Evaluated(known.strides, *join(old, values, new, found))
