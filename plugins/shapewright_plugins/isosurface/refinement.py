"""Sample a field that is only known as a function, near its surface only: octree refinement.

A coarse lattice is evaluated as a whole. From then on, cells that cannot hold the surface are dropped and the others
cut into eight, until the lattice is fine. No lattice point is evaluated twice, and memory follows the surface.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from shapewright.errors import ConfigError, StateError
from shapewright.states import Frame
from shapewright_kernels.octree_refinement import Evaluated, finer, finer_cells, leaking_cells
from shapewright_kernels.word_sets import (
    WordSet,
    all_cells,
    coords_of,
    corners,
    difference,
    join,
    select,
    strides_of,
    union,
)
from torch import Tensor

BATCH = 1 << 17
"""Points a call of the function."""
SLACK = 1e-3
"""Relative slack of the bound, for the rounding of values in single precision."""


@dataclass(frozen=True, slots=True)
class Refined:
    """Values at the corners of all cells of a fine lattice that may hold the surface."""

    coords: NDArray[np.int32]
    """``(N, 3)`` lattice indices ``0..resolution`` in lexicographic order."""
    values: Tensor
    """``(N,)`` as the function gave them, on the CPU."""
    resolution: int
    evaluations: int
    """Points at which the function was called, over all levels."""


@dataclass(frozen=True, kw_only=True)
class FunctionOptions:
    """Options of extractors that apply to fields which are only known as functions.

    ``resolution``: cells an axis; ``coarse`` times a power of two. ``coarse``: cells an axis of the lattice that is
    evaluated as a whole. ``lipschitz``: the function changes by at most this times the distance: 1 for a signed
    distance, truncated or not; ``null`` where nothing is known (logits), then changes of sign are followed.
    """

    resolution: int = 256
    coarse: int = 32
    lipschitz: float | None = 1.0

    def __post_init__(self) -> None:
        check_options(self.coarse, self.resolution, self.lipschitz)


def check_options(coarse: int, fine: int, lipschitz: float | None) -> None:
    """Raises:
    ConfigError: ``fine`` is not ``coarse`` times a power of two, or the bound is not positive.
    """
    if lipschitz is not None and not 0 < lipschitz < float("inf"):
        raise ConfigError(f"lipschitz must be positive, or null for a field that is no distance, not {lipschitz}")
    if coarse < 1 or fine < coarse or fine > 1 << 20:
        raise ConfigError(f"resolution must lie between coarse ({coarse}, at least 1) and {1 << 20}, not be {fine}")
    ratio = fine // coarse
    if ratio * coarse != fine or ratio & (ratio - 1):
        odd = fine
        while odd % 2 == 0 and odd > 32:
            odd //= 2
        raise ConfigError(f"resolution {fine} must be coarse ({coarse}) times a power of two; coarse={odd} would do")


def refine(
    function: Callable[[Tensor], Tensor],
    frame: Frame,
    coarse_resolution: int,
    fine_resolution: int,
    *,
    level: float = 0.0,
    lipschitz: float | None = 1.0,
    batch: int = BATCH,
    threads: int | None = None,
) -> Refined:
    """The lattice points near the surface ``function == level``, and their values.

    Args:
        function: ``(B, 3)`` float32 points in units of ``frame``, on the CPU, to ``(B,)`` values (any device); called
            without autograd, with at most ``batch`` points, in lexicographic order within each level.
        coarse_resolution: cells an axis that are all looked at. Without ``lipschitz``, parts that no pair of
            neighbouring points of this lattice tells apart from their surroundings are lost.
        fine_resolution: cells an axis of the result: ``coarse_resolution`` times a power of two.
        lipschitz: the function changes by at most this times the distance: 1 for a distance, also a truncated one. A
            cell is dropped when its corners prove that it does not meet the level, so the surface is that of the
            whole lattice. ``None`` where nothing is known (logits, occupancy): cells with a change of sign are kept,
            and their neighbours.
    Returns:
        Values at all corners of the kept cells. The surface leaves them through the border of the frame only: where it
        would leave elsewhere (nothing was known of the function, or the bound was wrong) cells are added.
    Raises:
        ConfigError: ``fine_resolution`` is not a power of two times ``coarse_resolution``, or another option is out of
            range.
        StateError: the function answers in another shape.
    """
    check_options(coarse_resolution, fine_resolution, lipschitz)
    if batch < 1:
        raise ConfigError(f"batch must be at least 1 point, not {batch}")
    extent = np.array(frame.extent)
    origin = np.array(frame.lower, dtype=np.float64)

    def evaluate(points: WordSet, resolution: int) -> NDArray[np.floating]:
        coords = coords_of(points, strides_of(resolution))
        answers = []
        for start in range(0, len(coords), batch):
            steps = coords[start : start + batch].astype(np.float64) / resolution
            places = torch.from_numpy((origin + steps * extent).astype(np.float32))
            with torch.no_grad():
                found = function(places)
            if found.shape != (len(places),):
                raise StateError(f"a field function must answer ({len(places)},) values, not {tuple(found.shape)}")
            answers.append(found.numpy(force=True))
        joined = np.concatenate(answers) if answers else np.empty(0, np.float32)
        return joined if joined.dtype in (np.float32, np.float64) else joined.astype(np.float32)

    strides = strides_of(coarse_resolution)
    cells = all_cells(strides)
    points = corners(cells, strides)
    known = Evaluated(strides, points, evaluate(points, coarse_resolution))
    while True:
        # All corners of the cells are known here. The surface may leave them only where the bound was wrong.
        while len((more := leaking_cells(known, cells, level, threads=threads)).place):
            cells = union(cells, more)
            known = _completed(known, cells, evaluate)
        resolution = known.strides.resolution
        if resolution == fine_resolution:
            break
        reach = None
        if lipschitz is not None:
            x, y, z = (float(size) * lipschitz * (1 + SLACK) / resolution for size in extent)
            reach = (x, y, z)
        # Details that neighbours hide are looked for on the way down; the last layer only closes the cells of a sheet.
        cells = finer_cells(known, cells, level, reach, thin=2 * resolution == fine_resolution, threads=threads)
        known = _completed(finer(known), cells, evaluate)
    points = corners(cells, known.strides)
    coords = coords_of(points, known.strides)
    values = torch.from_numpy(select(known.points, known.values, points))
    return Refined(coords, values, fine_resolution, len(known.values))


def _completed(known: Evaluated, cells: WordSet, evaluate: Callable[[WordSet, int], NDArray[np.floating]]) -> Evaluated:
    """With the corners of ``cells`` that were not known yet."""
    missing = difference(corners(cells, known.strides), known.points)
    if not len(missing.place):
        return known
    values = evaluate(missing, known.strides.resolution).astype(known.values.dtype, copy=False)
    return Evaluated(known.strides, *join(known.points, known.values, missing, values))
