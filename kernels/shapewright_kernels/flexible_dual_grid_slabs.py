"""A mesh sorted into slabs of x planes of the grid, the pieces of work of everything that goes over its voxels.

Slabs depend on the grid alone, and each lists its triangles in their order, so no result depends on the threads.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from .arrays import Ints
from .flexible_dual_grid_scan import Triangles, set_up
from .threads import run_chunks, spans

SLAB_CELLS = 1 << 23
"""Cells of a slab (1 MB of mask), unless one plane has more."""
SLABS = 16
"""Fewest slabs a grid is cut into, so that threads share the work."""
FACES_PER_CHUNK = 1 << 15


class Slabs(NamedTuple):
    """Triangles by slab."""

    planes: int
    """x planes of a slab."""
    starts: Ints
    """``(slabs + 1,)`` where each slab begins in ``members``."""
    members: NDArray[np.int32]
    """Triangles that can reach a slab, ascending."""

    @property
    def total(self) -> int:
        """Number of slabs."""
        return len(self.starts) - 1

    @property
    def occupied(self) -> list[int]:
        """Slabs that a triangle reaches."""
        return np.flatnonzero(np.diff(self.starts)).tolist()

    def of(self, number: int) -> NDArray[np.int32]:
        """Triangles of one slab."""
        return self.members[self.starts[number] : self.starts[number + 1]]


def checked_mesh(vertices: NDArray[Any], faces: NDArray[Any]) -> tuple[NDArray[np.float32], NDArray[Any]]:
    """Vertices in float32, and faces, both contiguous.

    Raises:
        ValueError: shapes, types or indices do not fit, or a vertex is not finite in float32.
    """
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
    return single, np.ascontiguousarray(faces)


def sort_into_slabs(
    vertices: NDArray[np.float32],
    faces: NDArray[Any],
    origin: NDArray[np.float32],
    steps: NDArray[np.float32],
    counts: tuple[int, int, int],
    threads: int | None,
) -> tuple[NDArray[np.float32], Triangles, Slabs]:
    """Vertices relative to the grid's lower corner, the set-up of the triangles there, and their slabs.

    Args:
        vertices, faces: of :func:`checked_mesh`.
        origin, steps, counts: of :func:`~shapewright_kernels.flexible_dual_grid_placement.place_grid`.
    Raises:
        ValueError: a vertex is too far from the grid for float32.
    """
    moved = vertices - origin
    if not np.isfinite(moved).all():
        raise ValueError("vertices are too far from the grid for float32; drop their faces or choose another aabb")
    triangles = Triangles(
        np.empty((len(faces), 9), np.float32), np.empty((len(faces), 3)), np.empty((len(faces), 6), np.int16)
    )
    chunks = spans(len(faces), FACES_PER_CHUNK)
    run_chunks(lambda c: set_up(moved, faces, steps, counts, *c, triangles), chunks, threads)
    planes = max(1, min(SLAB_CELLS // (counts[1] * counts[2]), -(-counts[0] // SLABS)))
    slabs = -(-counts[0] // planes)

    def bin_chunk(chunk: tuple[int, int], at: Ints, members: NDArray[np.int32], fill: bool) -> Ints:
        _bin_triangles(triangles.cells, *chunk, planes, at, members, fill)
        return at

    nothing = np.empty(0, np.int32)
    per_chunk = run_chunks(lambda c: bin_chunk(c, np.zeros(slabs, np.int64), nothing, False), chunks, threads)
    starts, begins = chunk_places(per_chunk) if chunks else (np.zeros(slabs + 1, np.int64), [])
    members = np.empty(int(starts[-1]), np.int32)
    run_chunks(lambda job: bin_chunk(*job, members, True), list(zip(chunks, begins, strict=True)), threads)
    return moved, triangles, Slabs(planes, starts, members)


def chunk_places(counts: list[Ints]) -> tuple[Ints, list[Ints]]:
    """From counts per (chunk, slab): where each slab begins, and where each chunk writes in each slab."""
    table = np.stack(counts, axis=1)  # (slabs, chunks): within a slab the chunks follow one another
    ends = np.cumsum(table.ravel(), dtype=np.int64)
    begins = (ends - table.ravel()).reshape(table.shape)
    starts = np.concatenate([begins[:, 0], ends[-1:]]).astype(np.int64)
    return starts, [np.ascontiguousarray(begins[:, chunk]) for chunk in range(table.shape[1])]


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
