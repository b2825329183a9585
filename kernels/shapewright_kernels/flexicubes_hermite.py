"""FlexiCubes from Hermite data: the published topology with vertices where the tangent planes of the field meet.

Averages of crossings cut creases; the exact gradients of a distance field know where they are. Placement and split of
quads are those of dual contouring (:mod:`.dual_contouring_qef`), so that both extractors agree on a crease and differ
only in which voxels have which vertices. Not differentiable.
Source: Ju, Losasso, Schaefer and Warren 2002; the option to place FlexiCubes vertices by gradients is kaolin's.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from .arrays import Bools, Floats, Ints
from .dual_contouring import Placement, split_quads
from .dual_contouring_cells import DualQuads
from .dual_contouring_qef import crossing, place_vertex
from .flexicubes_tables import CORNERS, EDGES
from .flexicubes_topology import Topology
from .threads import run_chunks, spans

_CHUNK = 1 << 14
_PLACES = CORNERS @ np.array([4, 2, 1])
"""Dual contouring's number of each corner."""


@njit(nogil=True, cache=True, error_model="numpy")
def _place(
    dual_voxel: Ints, dual_start: Ints, edge: NDArray[np.uint8], rows: Ints, cubes: Ints, voxels: NDArray[np.int32],
    values: Floats, slopes: Floats, edges: Ints, places: Ints, regularisation: float, margin: float, reach: float,
    low: int, high: int, vertices: Floats,
) -> None:  # fmt: skip
    s, g = np.empty(8), np.empty((8, 3))
    a, b, x, base = np.empty(6), np.empty(3), np.empty(3), np.empty(3)
    used = np.empty(8, np.bool_)
    for dual in range(low, high):
        row = rows[dual_voxel[dual]]
        for c in range(8):
            s[places[c]] = values[cubes[row, c]]
            for axis in range(3):
                g[places[c], axis] = slopes[cubes[row, c], axis]
        used[:] = False
        x[:] = 0
        for i in range(dual_start[dual], dual_start[dual + 1]):
            first, second = places[edges[edge[i], 0]], places[edges[edge[i], 1]]
            near, far = min(first, second), max(first, second)
            used[near] = used[far] = True
            step = far - near  # 4, 2 or 1: the edge runs along x, y or z
            axis = 0 if step == 4 else (1 if step == 2 else 2)
            for other in range(3):
                base[other] = near >> (2 - other) & 1
            base[axis] = crossing(s[near], s[far], g[near, axis], g[far, axis], True)
            for other in range(3):
                x[other] += base[other]
        for axis in range(3):
            x[axis] /= dual_start[dual + 1] - dual_start[dual]
        place_vertex(s, g, used, a, b, x, regularisation, margin, reach)
        for axis in range(3):
            vertices[dual, axis] = voxels[row, axis] + x[axis]


def hermite_geometry(
    found: Topology,
    corners: NDArray[np.int32],
    cubes: Ints,
    voxels: NDArray[np.int32],
    values: Floats,
    gradients: Floats,
    *,
    placement: Placement | None = None,
    threads: int | None = None,
) -> tuple[Floats, Ints]:
    """Vertices and triangles of a topology.

    Args:
        found: ``D`` dual vertices and ``Q`` quads of ``cubes``.
        corners: ``(C, 3)`` int32 lattice points in lexicographic order.
        cubes: ``(N, 8)`` rows of ``corners``. voxels: ``(N, 3)`` int32.
        values: ``(C,)`` finite, the surface at 0. gradients: ``(C, 3)`` a cell, of ``values``.
        placement: as for :func:`~.dual_contouring.dual_contouring`; ``manifold`` has no meaning here.
        threads: never changes the result.
    Returns:
        ``(D, 3)`` float64 in lattice units; ``(2 Q, 3)`` int64, two triangles a quad in the order of ``found.quads``.
    Raises:
        ValueError: gradients do not fit the values.
    """
    if gradients.shape != (len(values), 3):
        raise ValueError(f"gradients must be ({len(values)}, 3), not {gradients.shape}")
    settings = placement or Placement()
    margin = settings.margin if settings.clamp else np.inf
    level_free, slopes = (np.ascontiguousarray(array, np.float64) for array in (values, gradients))
    vertices = np.empty((len(found.dual_voxel), 3))
    run_chunks(
        lambda span: _place(
            found.dual_voxel, found.dual_start, found.edge, found.voxels, cubes, voxels, level_free, slopes,
            EDGES, _PLACES, settings.regularisation, margin, settings.reach, *span, vertices,
        ),
        spans(len(vertices), _CHUNK),
        threads,
    )  # fmt: skip
    ends = np.sort(found.quad_ends, axis=1)
    axis = _axes(corners, ends)
    edge = np.concatenate([corners[ends[:, 0]], axis[:, None]], axis=1, dtype=np.int32)
    quads = DualQuads(found.quads, edge, ends)
    faces = np.empty((2 * len(ends), 3), np.int64)
    run_chunks(
        lambda span: split_quads(level_free, slopes, 0.0, quads, vertices, faces, *span),
        spans(len(ends), _CHUNK),
        threads,
    )
    return vertices, faces


def _axes(corners: NDArray[np.int32], ends: Ints) -> NDArray[np.int64]:
    along: Bools = corners[ends[:, 0]] != corners[ends[:, 1]]
    return along.argmax(axis=1)
