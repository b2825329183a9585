"""Dual contouring on dense grids and sparse lattice points: sharp edges and corners survive."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from .dual_contouring_cells import DualQuads, dual_cells, dual_quads
from .dual_contouring_qef import crossing, mark_corners, place_vertices, write_slopes
from .lattice_index import Integer
from .lattice_words import ROWS_PER_CHUNK, Floats, LatticeWords
from .marching_cubes_cases import case_tables
from .marching_cubes_crossings import bits_before, dense_points, each_chunk, find_crossings, sparse_points
from .threads import run_chunks, spans

QUADS_PER_CHUNK = 1 << 15
FLAT = 1e-3
"""Height of a quad (in cells) below which its split is chosen by shape and not by fit."""


class Placement(NamedTuple):
    """How dual vertices are placed; see :mod:`.dual_contouring_qef`."""

    regularisation: float = 0.1
    """Eigenvalues well below this share of their sum do not move a vertex off the mass point.

    A smaller value follows weaker creases; on scanned surfaces it then also follows the facets, and more triangles fold
    (bunny at 128 cells: 0.15 % of the area at 0.02, 0.01 % at 0.1).
    """
    clamp: bool = True
    """Keep vertices near their cells; without it a vertex may lie anywhere."""
    margin: float = 0.5
    """How far (in cells) a clamped vertex may leave its cell where exact gradients agree on one point.

    A crease may cut the corner of a cell without a change of sign there; only the vertex of a neighbour can mark it
    then. Measured on a spiked icosahedron at 32 cells: its edges are 0.12 cells from the surface on average at margin
    0, 0.04 at 0.5, 0.02 at 1 (marching cubes: 0.49); folded triangles have 0.8 %, 0.9 % and 1.0 % of the area.
    """
    reach: float = 0.25
    """Distance from the cell (in cells) at which the weight of a touching plane has fallen to a quarter."""
    manifold: bool = True
    """One vertex for each patch of surface in a cell; otherwise one a cell."""


@njit(nogil=True, cache=True, error_model="numpy")
def split_quads(
    values: Floats,
    gradients: Floats,
    level: float,
    quads: DualQuads,
    vertices: Floats,
    faces: NDArray[np.int64],
    start: Integer,
    stop: Integer,
) -> None:
    """Cut every quad along the diagonal that passes nearer to where the surface crosses the lattice edge.

    Seen along its edge a quad surrounds the edge, so each of the two cuts crosses it in one point. On a crease the cut
    along the crease is right and the other one is off by a good part of a cell. A flat quad is cut along its shorter
    diagonal.
    """
    given = gradients.shape[0] > 0
    corners, edges, ends = quads.corners, quads.edge, quads.ends
    q = np.empty((4, 3))
    height = np.empty(2)
    for quad in range(start, stop):
        axis = np.int64(edges[quad, 3])
        low, high = ends[quad, 0], ends[quad, 1]
        low_slope = np.float64(gradients[low, axis]) if given else 0.0
        high_slope = np.float64(gradients[high, axis]) if given else 0.0
        wanted = crossing(
            np.float64(values[low]) - level, np.float64(values[high]) - level, low_slope, high_slope, given
        )
        for corner in range(4):
            for other in range(3):
                # Relative to the edge, with the edge along the last coordinate.
                source = (axis + 1 + other) % 3
                q[corner, other] = vertices[corners[quad, corner], source] - edges[quad, source]
        for cut in range(2):
            height[cut] = np.nan
            best = -np.inf
            for side in range(2):
                i, j, k = cut, (cut + 1 + 2 * side) % 4, cut + 2
                # Barycentric coordinates of the edge in the triangle; the side that holds it has the largest minimum.
                wi = q[j, 0] * q[k, 1] - q[k, 0] * q[j, 1]
                wj = q[k, 0] * q[i, 1] - q[i, 0] * q[k, 1]
                wk = q[i, 0] * q[j, 1] - q[j, 0] * q[i, 1]
                total = wi + wj + wk
                if total != 0:
                    inverse = 1 / total
                    smallest = min(wi * inverse, min(wj * inverse, wk * inverse))
                    if smallest > best:
                        best = smallest
                        height[cut] = (wi * q[i, 2] + wj * q[j, 2] + wk * q[k, 2]) * inverse
        first, second = abs(height[0] - wanted), abs(height[1] - wanted)
        if abs(height[0] - height[1]) > FLAT:
            along = 0 if first <= second else 1
        else:
            longer = 0.0
            for other in range(3):
                longer += (q[0, other] - q[2, other]) ** 2 - (q[1, other] - q[3, other]) ** 2
            along = 0 if longer <= 0 else 1
        for corner in range(3):
            faces[2 * quad, corner] = corners[quad, (along + corner) % 4]
            faces[2 * quad + 1, corner] = corners[quad, (along + 2 + corner) % 4]


@njit(nogil=True, cache=True, error_model="numpy")
def _scale(
    gradients: Floats, spacing: tuple[float, float, float], slopes: Floats, start: Integer, stop: Integer
) -> None:
    for row in range(start, stop):
        slopes[row, 0] = gradients[row, 0] * spacing[0]
        slopes[row, 1] = gradients[row, 1] * spacing[1]
        slopes[row, 2] = gradients[row, 2] * spacing[2]


def _slopes(
    gradients: Floats,
    values: Floats,
    order: NDArray[np.int64],
    spacing: tuple[float, float, float],
    threads: int | None,
) -> Floats:
    """Exact gradients a cell, by row of the words, in the dtype of the values."""
    rows = gradients.reshape(-1, 3)
    if len(rows) != len(values):
        raise ValueError(f"gradients must be one row of 3 a lattice point, not {gradients.shape}")
    if len(order):
        rows = rows[order]
    slopes = np.empty(rows.shape, values.dtype)
    sizes = (float(spacing[0]), float(spacing[1]), float(spacing[2]))
    run_chunks(lambda span: _scale(rows, sizes, slopes, *span), spans(len(rows), ROWS_PER_CHUNK), threads)
    return slopes


def _contour(
    words: LatticeWords,
    values: Floats,
    level: float,
    exact: Floats | None,
    placement: Placement,
    threads: int | None,
) -> tuple[Floats, NDArray[np.int64]]:
    """``exact``: gradients a cell by row, or none."""
    crossings, _ = find_crossings(words, None, threads)
    mixed = crossings.mixed
    level = float(values.dtype.type(level))
    corner_points, first_slope = np.empty(0, np.uint64), np.empty(0, np.int64)
    slopes = np.empty((0, 3), values.dtype) if exact is None else exact
    fitted = slopes
    if exact is None:
        corner_points = np.zeros(words.size + 1, np.uint64)
        each_chunk(mark_corners, (words.links, mixed, corner_points), words, threads)
        first_slope = bits_before(corner_points, words, threads)
        fitted = np.empty((int(first_slope[-1]), 3), values.dtype)
        given = (words.links, words.ranked, words.first, words.exists, values, corner_points, first_slope, fitted)
        each_chunk(write_slopes, given, words, threads)
    dual = dual_cells(crossings, placement.manifold, threads)
    vertices = np.empty((int(dual.first_vertex[-1]), 3))

    margin = (placement.margin if exact is not None else 0.0) if placement.clamp else np.inf
    lattice = (words.shape, words.place, words.links, words.ranked, words.first, mixed)
    planes = (case_tables().loop_of_edge, values, fitted, corner_points, first_slope)
    settings = (level, placement.regularisation, margin, placement.reach)
    each_chunk(place_vertices, (*lattice, *dual, *planes, *settings, vertices), words, threads)
    quads, used = dual_quads(crossings, dual, threads)
    faces = np.empty((2 * len(quads.corners), 3), np.int64)
    run_chunks(
        lambda span: split_quads(values, slopes, level, quads, vertices, faces, *span),
        spans(len(quads.corners), QUADS_PER_CHUNK),
        threads,
    )
    if not used.all():  # cells at a border, none of whose edges has four active cells
        vertices, faces = vertices[used], (np.cumsum(used) - 1)[faces]
    return vertices.astype(values.dtype), faces


def dual_contouring(
    values: Floats,
    level: float = 0.0,
    *,
    gradients: Floats | None = None,
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0),
    placement: Placement | None = None,
    threads: int | None = None,
) -> tuple[Floats, NDArray[np.int64]]:
    """Triangles where a dense grid takes the value ``level``, with vertices on creases and corners.

    Args:
        values: ``(X, Y, Z)`` float32 or float64 (others are converted to float32); smaller inside. Points that are not
            finite do not exist: the surface has a hole there.
        gradients: ``(X, Y, Z, 3)`` exact gradients at the lattice points. Without them differences of the values are
            used, which blur creases over a cell or two.
        spacing: size of a cell, in the unit of length of ``gradients``.
        threads: Python threads; ``None`` for all processors. The result does not depend on it.
    Returns:
        ``(V, 3)`` vertices in lattice units, dtype of ``values``, and ``(F, 3)`` int64 faces, counter-clockwise seen
        from larger values. Quads lie around crossing edges with four active cells; elsewhere the surface ends.
    Source: Ju, Losasso, Schaefer and Warren 2002; several vertices a cell as in Schaefer, Ju and Warren 2007.

    >>> values = np.ones((4, 4, 4), np.float32)
    >>> values[1:3, 1:3, 1:3] = -1
    >>> vertices, faces = dual_contouring(values)
    >>> len(vertices), len(faces)
    (26, 48)
    """
    words, flat = dense_points(
        values, level, threads, around=gradients is None
    )  # differences of values need neighbours
    exact = None if gradients is None else _slopes(gradients, flat, np.empty(0, np.int64), spacing, threads)
    return _contour(words, flat, level, exact, placement or Placement(), threads)


def dual_contouring_sparse(
    coords: NDArray[np.integer[Any]],
    values: Floats,
    level: float = 0.0,
    *,
    gradients: Floats | None = None,
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0),
    placement: Placement | None = None,
    threads: int | None = None,
) -> tuple[Floats, NDArray[np.int64]]:
    """As :func:`dual_contouring`, on the active cells of lattice points ``coords`` ``(N, 3)`` in any row order.

    ``values`` are ``(N,)`` and ``gradients`` ``(N, 3)``.
    """
    words, values, order = sparse_points(coords, values, level, threads)
    exact = None if gradients is None else _slopes(gradients, values, order, spacing, threads)
    return _contour(words, values, level, exact, placement or Placement(), threads)
