"""Sample a function on the points of nested lattices, near its surface only; integers say where points are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from shapewright.errors import ConfigError, StateError
from shapewright.states import Frame
from shapewright_kernels.octree_refinement import Evaluated, finer, finer_cells, leaking_cells
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
from torch import Tensor

BATCH = 1 << 17
"""Points a call of the function."""
SLACK = 1e-3
"""Relative slack of a bound on the slope, for the rounding of values in single precision."""


@dataclass(frozen=True, slots=True)
class Samples:
    """``coords`` ``(N, 3)`` int32 lattice indices ``0..resolution`` in lexicographic order, their ``values`` ``(N,)``,
    and at how many points of all levels the function was called."""

    coords: NDArray[np.int32]
    values: NDArray[np.floating]
    resolution: int
    evaluations: int


@dataclass
class PointCalls:
    """Calls a function at lattice points of a box, and counts them. ``closed``: what is inside at the border of the box
    becomes as far outside, which closes surfaces there."""

    function: Callable[[Tensor], Tensor]
    frame: Frame
    batch: int = BATCH
    closed: bool = False
    level: float = 0.0
    count: int = 0
    _low: NDArray[np.float64] = field(init=False, repr=False)
    _extent: NDArray[np.float64] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if self.batch < 1:
            raise ConfigError(f"batch must be at least 1 point, not {self.batch}")
        self._low, self._extent = np.array(self.frame.lower), np.array(self.frame.extent)

    def __call__(self, points: WordSet, strides: Strides) -> NDArray[np.floating]:
        """Values ``(N,)`` in float32 or float64.

        Raises:
            StateError: the function answers in another shape.
        """
        coords = coords_of(points, strides)
        answers: list[NDArray[np.floating]] = []
        for start in range(0, len(coords), self.batch):
            steps = coords[start : start + self.batch].astype(np.float64) / strides.resolution
            places = torch.from_numpy((self._low + steps * self._extent).astype(np.float32))
            with torch.no_grad():
                values = self.function(places)
            if values.shape != (len(places),):
                raise StateError(f"a field function must answer ({len(places)},) values, not {tuple(values.shape)}")
            wide = values if values.dtype in (torch.float32, torch.float64) else values.float()
            answers.append(wide.numpy(force=True))
        found = np.concatenate(answers) if answers else np.empty(0, np.float32)
        self.count += len(coords)
        if self.closed:
            border = ((coords == 0) | (coords == strides.resolution)).any(axis=1)
            # Half a lattice step beyond the border at most; a value exactly at the level is outside.
            found[border] = self.level + np.abs(found[border] - self.level)
        return found


def power_of_two(ratio: float) -> bool:
    """Whether ``ratio`` is 1, 2, 4, ..."""
    return ratio >= 1 and int(ratio) == ratio and int(ratio) & (int(ratio) - 1) == 0


def band_samples(
    calls: PointCalls,
    coarse: int,
    fine: int,
    *,
    level: float = 0.0,
    band: float | None = None,
    margin: float | None = None,
    lipschitz: float | None = None,
    threads: int | None = None,
) -> Samples:
    """Values at the corners of all cells of a fine lattice that may hold the surface.

    Lattices are nested: no point is evaluated twice, and all levels see one field.

    Args:
        coarse, fine: cells an axis, ``fine`` being ``coarse`` times a power of two. All of the coarse lattice is
            evaluated.
        band: a value within this of the level is near the surface: besides cells with a change of sign and those that
            touch them, cells that touch such a point are refined.
        margin: takes from ``band`` what no surface can be in, judged by the slopes seen so far: it becomes ``margin``
            times the steepest change from a point to the next (:func:`steepest_step`) where that is less. A cell that
            the surface enters has a corner within 0.87 of these, the half of its diagonal.
        lipschitz: the function changes by at most this times the distance. Cells that are thereby known not to meet the
            level are dropped, and no others: the surface is that of the dense lattice.
    Raises:
        ConfigError: ``fine`` does not fit ``coarse``.
    """
    if coarse < 1 or not power_of_two(fine / coarse):
        raise ConfigError(f"the fine lattice ({fine} cells) must be the coarse one ({coarse}) times a power of two")
    strides = strides_of(coarse)
    cells = all_cells(strides)
    points = corners(cells, strides)
    known = Evaluated(strides, points, calls(points, strides))
    steepest = 0.0
    while True:
        # Where nothing certain is known the surface may leave the cells: they follow it.
        while len((more := leaking_cells(known, cells, level, threads=threads)).place):
            cells = union(cells, more)
            known = _completed(known, cells, calls)
        resolution = known.strides.resolution
        if resolution == fine:
            break
        last = 2 * resolution == fine
        if lipschitz is not None:
            reach = [size * lipschitz * (1 + SLACK) / resolution for size in calls.frame.extent]
            cells = finer_cells(known, cells, level, (reach[0], reach[1], reach[2]), threads=threads)
        else:
            found = finer_cells(known, cells, level, None, thin=last, threads=threads)
            if band is None:
                cells = found
            else:
                # A steep place that a coarser lattice saw stays steep, whether this one has points there or not.
                steepest = max(steepest / 2, 0.0 if margin is None else steepest_step(known, level, band))
                within_reach = band if margin is None else min(band, margin * steepest)
                cells = union(found, _children(_near(known, level, within_reach), known.strides))
        known = _completed(finer(known), cells, calls)
    points = corners(cells, known.strides)
    return Samples(coords_of(points, known.strides), select(known.points, known.values, points), fine, calls.count)


def _near(known: Evaluated, level: float, band: float) -> WordSet:
    """Cells with a corner whose value is within ``band`` of the level."""
    cells = subset(known.points, np.abs(known.values - known.values.dtype.type(level)) < band)
    for axis in range(3):
        cells = union(cells, moved(cells, known.strides, axis, -1))
    return within(cells, known.strides, known.strides.resolution)


def steepest_step(known: Evaluated, level: float, band: float) -> float:
    """The most that the function changes over one step of the lattice in the direction of its slope: the largest norm
    of the three differences to the next points, at points with values within ``band`` of the level; 0 without any."""
    points = subset(known.points, np.abs(known.values - known.values.dtype.type(level)) < band)
    for axis in range(3):
        points = common(points, moved(known.points, known.strides, axis, -1))
    here = select(known.points, known.values, points)
    total = np.zeros(len(here), np.float64)
    for axis in range(3):
        there = select(known.points, known.values, moved(points, known.strides, axis, 1))
        total += np.square(there.astype(np.float64) - here)
    return float(np.sqrt(total.max(initial=0.0)))


def common(a: WordSet, b: WordSet) -> WordSet:
    """Members of both."""
    return difference(a, difference(a, b))


def _children(cells: WordSet, coarse: Strides) -> WordSet:
    fine = strides_of(2 * coarse.resolution)
    return corners(finer_points(cells, coarse, fine), fine)  # a cell goes by its lowest corner


def _completed(known: Evaluated, cells: WordSet, calls: PointCalls) -> Evaluated:
    """With the corners of ``cells`` that were not known yet."""
    missing = difference(corners(cells, known.strides), known.points)
    if not len(missing.place):
        return known
    values = calls(missing, known.strides).astype(known.values.dtype, copy=False)
    return Evaluated(known.strides, *join(known.points, known.values, missing, values))


def subset(points: WordSet, chosen: NDArray[np.bool_]) -> WordSet:
    """The members whose row in ``chosen`` ``(N,)`` is true."""
    bits = np.unpackbits(points.mask[:, None].astype("<u8").view(np.uint8), axis=1, bitorder="little")
    bits[bits.astype(bool)] = chosen
    mask = np.packbits(bits, axis=1, bitorder="little").view("<u8")[:, 0].astype(np.uint64)
    return WordSet(points.place[mask != 0], mask[mask != 0])
