"""Mesh to flexible dual grid (O-Voxel geometry): which grid edges the surface crosses, and one dual vertex a voxel.

The voxel set, the flags and the energy follow the published converter (TRELLIS.2, arXiv 2512.14692; rules in the
modules ``flexible_dual_grid_scan``, ``_overlap`` and ``_solve``). The work is cut into slabs of x planes that depend on
the grid alone: each finds its active voxels in a bit mask, adds up quadrics relative to the voxels' corners, and solves
them. Every slab goes through its triangles in their order, so the result does not depend on the number of threads.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from .arrays import Bools, Ints
from .flexible_dual_grid_overlap import Boundary, add_boundary, add_overlaps, group_edges, single_edges, walk_edges
from .flexible_dual_grid_placement import MAXIMUM_GRID as MAXIMUM_GRID
from .flexible_dual_grid_placement import PerAxis
from .flexible_dual_grid_placement import place_grid as place_grid
from .flexible_dual_grid_scan import Slab, Triangles, scan_edges
from .flexible_dual_grid_slabs import FACES_PER_CHUNK, Slabs, checked_mesh, chunk_places, sort_into_slabs
from .flexible_dual_grid_solve import solve
from .flexible_dual_grid_voxels import find_voxels
from .lattice_index import lowest_bit
from .threads import run_chunks, spans


@dataclass(frozen=True)
class DualGrid:
    """``N`` active voxels in lexicographic order, and the grid they lie in."""

    coords: NDArray[np.int32]
    """``(N, 3)`` cell indices x, y, z."""
    dual_vertices: NDArray[np.float32]
    """``(N, 3)`` position in the voxel, in [0, 1] along each axis."""
    intersected: Bools
    """``(N, 3)``: the surface crosses the grid edge along this axis at the voxel's upper corner in the other two."""
    origin: NDArray[np.float32]
    """Lower corner of the grid."""
    voxel_size: NDArray[np.float32]
    """Edge lengths of a voxel."""
    grid_size: tuple[int, int, int]

    def absolute(self) -> NDArray[np.float32]:
        """Dual vertices in length units, relative to ``origin`` (the published converter's output)."""
        return ((self.coords + self.dual_vertices.astype(np.float64)) * self.voxel_size).astype(np.float32)


@njit(nogil=True, cache=True, error_model="numpy")
def _convert_slab(
    number: int,
    planes: int,
    members: NDArray[np.int32],
    triangles: Triangles,
    boundary: Boundary,
    vertices: NDArray[np.float32],
    steps: NDArray[np.float32],
    counts: tuple[int, int, int],
    weights: tuple[float, float, float],
) -> tuple[NDArray[np.int16], NDArray[np.float32], NDArray[np.uint8]]:
    """Coordinates, relative dual vertices and flag bits of the active voxels of one slab."""
    found, total, _ = find_voxels(number, planes, members, triangles, steps, counts)
    slab = Slab(
        found.low, found.high, found.words, found.mask, found.first, np.zeros((total, 9)), np.zeros(total, np.uint8)
    )
    low, high, words, mask = slab.low, slab.high, slab.words, slab.mask
    relative, coords = np.empty((total, 3), np.float32), np.empty((total, 3), np.int16)
    if total == 0:
        return coords, relative, slab.flags
    for t in members:
        scan_edges(slab, triangles, t, steps, counts, weights[2])
    if weights[0] > 0.0:
        tests = np.empty((3, 3, 3), np.float32)
        for t in members:
            add_overlaps(slab, triangles, t, steps, counts, tests)
    if weights[1] > 0.0:
        add_boundary(slab, boundary, number, vertices, steps, weights[1])
    solve(slab.sums, steps, relative)
    row = 0
    for word in range(len(mask)):
        bits = mask[word]
        if bits == np.uint64(0):
            continue
        column = word // words
        x, y = low[0] + column // (high[1] - low[1]), low[1] + column % (high[1] - low[1])
        z = low[2] + ((word - column * words) << 6)
        while bits != np.uint64(0):
            coords[row, 0], coords[row, 1], coords[row, 2] = x, y, z + lowest_bit(bits)
            bits &= bits - np.uint64(1)
            row += 1
    return coords, relative, slab.flags


@njit(nogil=True, cache=True, error_model="numpy")
def _unpack(
    coords: NDArray[np.int16],
    relative: NDArray[np.float32],
    bits: NDArray[np.uint8],
    start: int,
    all_coords: NDArray[np.int32],
    all_relative: NDArray[np.float32],
    all_flags: Bools,
) -> None:
    for row in range(len(bits)):
        for axis in range(3):
            all_coords[start + row, axis] = coords[row, axis]
            all_relative[start + row, axis] = relative[row, axis]
            all_flags[start + row, axis] = (bits[row] >> axis) & 1


def _no_boundary(slabs: int, edges: NDArray[np.int32]) -> Boundary:
    return Boundary(np.zeros(slabs + 1, np.int64), edges, np.empty(0, np.int32), np.empty((0, 3), np.int16))


def _boundary(
    vertices: NDArray[np.float32],
    faces: Any,
    steps: NDArray[np.float32],
    counts: tuple[int, int, int],
    slabs: Slabs,
    threads: int | None,
) -> Boundary:
    starts, others = np.zeros(len(vertices) + 1, np.int64), np.empty(3 * len(faces), np.int32)
    group_edges(faces, starts, others)
    chunks = spans(len(vertices), FACES_PER_CHUNK)
    none = np.empty((0, 2), np.int32)
    found = run_chunks(lambda c: single_edges(starts, others, *c, none, 0), chunks, threads)
    places = np.concatenate([[0], np.cumsum(found, dtype=np.int64)])
    edges = np.empty((int(places[-1]), 2), np.int32)
    jobs = list(zip(chunks, places[:-1].tolist(), strict=True))
    run_chunks(lambda job: single_edges(starts, others, *job[0], edges, job[1]), jobs, threads)

    boundary = _no_boundary(slabs.total, edges)
    chunks = spans(len(edges), FACES_PER_CHUNK)
    if not chunks:
        return boundary

    def walk(chunk: tuple[int, int], at: Ints, into: Boundary, fill: bool) -> Ints:
        walk_edges(vertices, edges, *chunk, steps, counts, slabs.planes, at, into, fill)
        return at

    per_chunk = run_chunks(lambda c: walk(c, np.zeros(slabs.total, np.int64), boundary, False), chunks, threads)
    slab_starts, begins = chunk_places(per_chunk)
    total = int(slab_starts[-1])
    boundary = Boundary(slab_starts, edges, np.empty(total, np.int32), np.empty((total, 3), np.int16))
    walks = list(zip(chunks, begins, strict=True))
    run_chunks(lambda job: walk(*job, boundary, True), walks, threads)
    return boundary


def mesh_to_flexible_dual_grid(
    vertices: NDArray[np.floating[Any]],
    faces: NDArray[np.integer[Any]],
    *,
    grid_size: PerAxis | None = None,
    voxel_size: PerAxis | None = None,
    aabb: ArrayLike | None = None,
    face_weight: float = 1.0,
    boundary_weight: float = 0.2,
    regularization_weight: float = 0.01,
    threads: int | None = None,
) -> DualGrid:
    """Convert a triangle soup, whatever its topology, to a flexible dual grid.

    Args:
        vertices: ``(V, 3)`` float; rounded to float32, as the published converter does.
        faces: ``(F, 3)`` integers. Faces without area cross edges but add no plane. Parts outside the grid are cut off.
        grid_size, voxel_size: cells an axis and their size, one number or three; one of them is enough.
        aabb: ``[[min], [max]]`` of the grid; ``None`` fits it to the mesh (:func:`place_grid`).
        face_weight: any positive value adds each overlapping triangle's plane once (the value itself has no effect).
        boundary_weight: pull towards edges that only one face uses, by vertex index.
        regularization_weight: pull of every edge crossing towards itself. 0 leaves flat regions undetermined.
        threads: ``None`` for all processors; the result is the same for every number.
    Returns:
        :class:`DualGrid`. The order of the faces has no influence but on the last bits of the dual vertices.
    Raises:
        ValueError: shapes, indices, weights, grid or box are out of range, or a vertex is not finite in float32.
    Source: TRELLIS.2 (arXiv 2512.14692), o-voxel converter.

    >>> corners = np.array([[0.1, 0.1, 0.5], [1.0, 0.1, 0.5], [0.1, 1.0, 0.5]])
    >>> grid = mesh_to_flexible_dual_grid(corners, np.array([[0, 1, 2]]), grid_size=2, aabb=[[0, 0, 0], [1, 1, 1]])
    >>> grid.coords.tolist(), grid.intersected.any(axis=0).tolist()
    ([[0, 0, 1], [0, 1, 1], [1, 0, 1], [1, 1, 1]], [False, False, True])
    """
    weights = (float(face_weight), float(boundary_weight), float(regularization_weight))
    single, faces = checked_mesh(vertices, faces)
    for name, weight in zip(("face", "boundary", "regularization"), weights, strict=True):
        if not (np.isfinite(weight) and weight >= 0.0):
            raise ValueError(f"{name}_weight must be finite and not negative, not {weight}")
    origin, steps, counts = place_grid(single, voxel_size, grid_size, aabb)
    single, triangles, slabs = sort_into_slabs(single, faces, origin, steps, counts, threads)
    boundary = _no_boundary(slabs.total, np.empty((0, 2), np.int32))
    if weights[1] > 0.0:
        boundary = _boundary(single, faces, steps, counts, slabs, threads)

    def convert(number: int) -> tuple[NDArray[np.int16], NDArray[np.float32], NDArray[np.uint8]]:
        inside = slabs.of(number)
        return _convert_slab(number, slabs.planes, inside, triangles, boundary, single, steps, counts, weights)

    parts = run_chunks(convert, slabs.occupied, threads)
    ends = np.cumsum([len(part[0]) for part in parts], dtype=np.int64)
    total = int(ends[-1]) if parts else 0
    coords, relative = np.empty((total, 3), np.int32), np.empty((total, 3), np.float32)
    intersected = np.empty((total, 3), np.bool_)
    jobs = list(zip(parts, (ends - [len(part[0]) for part in parts]).tolist(), strict=True)) if parts else []
    run_chunks(lambda job: _unpack(*job[0], job[1], coords, relative, intersected), jobs, threads)
    return DualGrid(coords, relative, intersected, origin, steps, counts)
