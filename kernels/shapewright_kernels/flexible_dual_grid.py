"""Mesh to flexible dual grid (O-Voxel geometry): which grid edges the surface crosses, and one dual vertex a voxel.

The voxel set, the flags and the energy follow the published converter (TRELLIS.2, arXiv 2512.14692; rules in the
modules ``flexible_dual_grid_scan``, ``_overlap`` and ``_solve``). The work is cut into slabs of x planes that depend on
the grid alone: each finds its active voxels in a bit mask, adds up quadrics relative to the voxels' corners, and solves
them. Every slab goes through its triangles in their order, so the result does not depend on the number of threads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from .arrays import Bools, Ints
from .flexible_dual_grid_overlap import Boundary, add_boundary, add_overlaps, group_edges, single_edges, walk_edges
from .flexible_dual_grid_scan import Slab, Triangles, scan_edges, set_up
from .flexible_dual_grid_solve import solve
from .flexible_dual_grid_voxels import find_voxels
from .lattice_index import lowest_bit
from .threads import run_chunks, spans

MAXIMUM_GRID = 32767
"""Largest number of cells along an axis."""
SLAB_CELLS = 1 << 23
"""Cells of a slab (1 MB of mask), unless one plane has more."""
SLABS = 16
"""Fewest slabs a grid is cut into, so that threads share the work."""
FACES_PER_CHUNK = 1 << 15

Number = float | int
PerAxis = Number | Sequence[Number] | NDArray[Any]


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


def _per_axis(value: PerAxis, name: str, dtype: Any) -> NDArray[Any]:
    array = np.asarray(value)
    if array.shape not in ((), (1,), (3,)) or not np.issubdtype(array.dtype, np.number):
        raise ValueError(f"{name} must be one number or three, not {value!r}")
    if not np.all(np.isfinite(array)) or np.any(array <= 0):
        raise ValueError(f"{name} must be positive and finite, not {value!r}")
    if dtype is np.int64 and np.any(array != np.round(array)):
        raise ValueError(f"{name} must be whole numbers of cells, not {value!r}")
    return np.broadcast_to(array.astype(dtype), (3,)).copy()


def place_grid(
    vertices: NDArray[np.float32],
    voxel_size: PerAxis | None = None,
    grid_size: PerAxis | None = None,
    aabb: ArrayLike | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.float32], tuple[int, int, int]]:
    """Origin, voxel size and cells an axis of the grid that the published converter uses, in its float32 arithmetic.

    Without ``aabb`` the box is that of ``vertices``, padded to whole voxels (``voxel_size`` given) and then by one
    voxel in ``grid_size`` (if given), half on each side.

    Raises:
        ValueError: neither size is given, a value is out of range, or the mesh is flat and has no ``aabb``.
    """
    if voxel_size is None and grid_size is None:
        raise ValueError("give voxel_size or grid_size")
    step = None if voxel_size is None else _per_axis(voxel_size, "voxel_size", np.float32)
    count = None if grid_size is None else _per_axis(grid_size, "grid_size", np.int64)
    if aabb is None:
        if len(vertices) == 0:
            raise ValueError("a mesh without vertices has no bounds; give aabb")
        low, high = vertices.min(axis=0), vertices.max(axis=0)
        if step is not None:
            extent = high - low
            padding = np.ceil(extent / step) * step - extent
            low, high = low - padding * np.float32(0.5), high + padding * np.float32(0.5)
        if count is not None:
            if np.any(count < 2):
                raise ValueError("one cell cannot be padded: give aabb or a grid_size of at least 2")
            padding = (high - low) / (count - 1).astype(np.float32)
            low, high = low - padding * np.float32(0.5), high + padding * np.float32(0.5)
    else:
        box = np.asarray(aabb, np.float32)
        if box.shape != (2, 3) or not np.all(np.isfinite(box)) or np.any(box[1] <= box[0]):
            raise ValueError(f"aabb must be [[min x, y, z], [max x, y, z]] with min < max, not {aabb!r}")
        low, high = box
    if step is None:
        assert count is not None
        step = ((high - low) / count.astype(np.float32)).astype(np.float32)
    if count is None:
        count = np.round((high - low) / step).astype(np.int64)
    if np.any(count < 1) or np.any(step <= 0):
        raise ValueError("the mesh is flat along an axis and spans no voxel there; give aabb")
    if np.any(count > MAXIMUM_GRID):
        raise ValueError(f"the grid would have {count.tolist()} cells; at most {MAXIMUM_GRID} an axis are possible")
    return low.astype(np.float32), step, (int(count[0]), int(count[1]), int(count[2]))


@njit(nogil=True, cache=True, error_model="numpy")
def _bin_triangles(
    cells: NDArray[np.int16], start: int, stop: int, planes: int, places: Ints, members: NDArray[np.int32], fill: bool
) -> None:
    """Count (or, with ``fill``, list from ``places[slab]`` on) the triangles that can reach each slab."""
    for t in range(start, stop):
        for slab in range(cells[t, 0] // planes, cells[t, 3] // planes + 1):
            if fill:
                members[places[slab]] = t
            places[slab] += 1


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


def _places(counts: list[Ints]) -> tuple[Ints, list[Ints]]:
    """From counts per (chunk, slab): where each slab begins, and where each chunk writes in each slab."""
    table = np.stack(counts, axis=1)  # (slabs, chunks): within a slab the chunks follow one another
    ends = np.cumsum(table.ravel(), dtype=np.int64)
    begins = (ends - table.ravel()).reshape(table.shape)
    starts = np.concatenate([begins[:, 0], ends[-1:]]).astype(np.int64)
    return starts, [np.ascontiguousarray(begins[:, chunk]) for chunk in range(table.shape[1])]


def _boundary(
    vertices: NDArray[np.float32],
    faces: Any,
    steps: NDArray[np.float32],
    counts: tuple[int, int, int],
    slabs: int,
    planes: int,
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

    boundary = Boundary(np.zeros(slabs + 1, np.int64), edges, np.empty(0, np.int32), np.empty((0, 3), np.int16))
    chunks = spans(len(edges), FACES_PER_CHUNK)
    if not chunks:
        return boundary

    def walk(chunk: tuple[int, int], at: Ints, into: Boundary, fill: bool) -> Ints:
        walk_edges(vertices, edges, *chunk, steps, counts, planes, at, into, fill)
        return at

    per_chunk = run_chunks(lambda c: walk(c, np.zeros(slabs, np.int64), boundary, False), chunks, threads)
    slab_starts, begins = _places(per_chunk)
    total = int(slab_starts[-1])
    boundary = Boundary(slab_starts, edges, np.empty(total, np.int32), np.empty((total, 3), np.int16))
    walks = list(zip(chunks, begins, strict=True))
    run_chunks(lambda job: walk(*job, boundary, True), walks, threads)
    return boundary


def _checked(
    vertices: NDArray[Any], faces: NDArray[Any], weights: tuple[float, float, float]
) -> tuple[NDArray[np.float32], NDArray[Any]]:
    if vertices.ndim != 2 or vertices.shape[1] != 3 or not np.issubdtype(vertices.dtype, np.floating):
        raise ValueError(f"vertices must be float (V, 3), not {vertices.dtype} {vertices.shape}")
    if faces.ndim != 2 or faces.shape[1] != 3 or not np.issubdtype(faces.dtype, np.integer):
        raise ValueError(f"faces must be integer (F, 3), not {faces.dtype} {faces.shape}")
    if len(vertices) > np.iinfo(np.int32).max or 3 * len(faces) > np.iinfo(np.int32).max:
        raise ValueError("meshes of more than 2^31 corners are not supported; convert them in parts")
    with np.errstate(over="ignore"):
        single = np.ascontiguousarray(vertices, np.float32)
    if not np.isfinite(single).all():
        raise ValueError("vertices must be finite float32 numbers; drop the faces with other ones first")
    if len(faces) and (faces.min() < 0 or faces.max() >= len(vertices)):
        raise ValueError(f"faces must index the {len(vertices)} vertices; found {faces.min()} .. {faces.max()}")
    for name, weight in zip(("face", "boundary", "regularization"), weights, strict=True):
        if not (np.isfinite(weight) and weight >= 0.0):
            raise ValueError(f"{name}_weight must be finite and not negative, not {weight}")
    return single, np.ascontiguousarray(faces)


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
    single, faces = _checked(vertices, faces, weights)
    origin, steps, counts = place_grid(single, voxel_size, grid_size, aabb)
    single = single - origin
    if not np.isfinite(single).all():
        raise ValueError("vertices are too far from the grid for float32; drop their faces or choose another aabb")
    triangles = Triangles(
        np.empty((len(faces), 9), np.float32), np.empty((len(faces), 3)), np.empty((len(faces), 6), np.int16)
    )
    chunks = spans(len(faces), FACES_PER_CHUNK)
    run_chunks(lambda c: set_up(single, faces, steps, counts, *c, triangles), chunks, threads)

    planes = max(1, min(SLAB_CELLS // (counts[1] * counts[2]), -(-counts[0] // SLABS)))
    slabs = -(-counts[0] // planes)
    nothing = np.empty(0, np.int32)

    def bin_chunk(chunk: tuple[int, int], at: Ints, members: NDArray[np.int32], fill: bool) -> Ints:
        _bin_triangles(triangles.cells, *chunk, planes, at, members, fill)
        return at

    per_chunk = run_chunks(lambda c: bin_chunk(c, np.zeros(slabs, np.int64), nothing, False), chunks, threads)
    starts, begins = _places(per_chunk) if chunks else (np.zeros(slabs + 1, np.int64), [])
    members = np.empty(int(starts[-1]), np.int32)
    run_chunks(lambda job: bin_chunk(*job, members, True), list(zip(chunks, begins, strict=True)), threads)

    boundary = Boundary(np.zeros(slabs + 1, np.int64), np.empty((0, 2), np.int32), nothing, np.empty((0, 3), np.int16))
    if weights[1] > 0.0:
        boundary = _boundary(single, faces, steps, counts, slabs, planes, threads)

    def convert(number: int) -> tuple[NDArray[np.int16], NDArray[np.float32], NDArray[np.uint8]]:
        inside = members[starts[number] : starts[number + 1]]
        return _convert_slab(number, planes, inside, triangles, boundary, single, steps, counts, weights)

    occupied = [number for number in range(slabs) if starts[number + 1] > starts[number]]
    parts = run_chunks(convert, occupied, threads)
    ends = np.cumsum([len(part[0]) for part in parts], dtype=np.int64)
    total = int(ends[-1]) if parts else 0
    coords, relative = np.empty((total, 3), np.int32), np.empty((total, 3), np.float32)
    intersected = np.empty((total, 3), np.bool_)
    jobs = list(zip(parts, (ends - [len(part[0]) for part in parts]).tolist(), strict=True)) if parts else []
    run_chunks(lambda job: _unpack(*job[0], job[1], coords, relative, intersected), jobs, threads)
    return DualGrid(coords, relative, intersected, origin, steps, counts)
