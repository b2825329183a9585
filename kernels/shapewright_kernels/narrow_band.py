"""Exact distances from a triangle mesh at the lattice points near it, without a dense grid.

The lattice is cut into bricks of 8^3 points. A first pass lists the triangles that can come within the band of each
brick; a second one computes the distances of a brick's points to its triangles, in float64, in rows of eight points
(:mod:`.narrow_band_bricks`). Layers of bricks along x are independent; each owns its output.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from .arrays import Floats, Ints
from .narrow_band_bricks import BRICK, ROWS, brick_lists, layer_distances, write_layer
from .plane_distance import LIMITS, PLANE_COLUMNS, complete_planes, limit_planes
from .plane_frames import nearest_in_plane, plane_frames
from .threads import OrderedPieces, run_chunks, spans
from .triangles import layer_members

CELL_DIAGONAL = 1.75
"""Smallest useful band, in cells: a cell that the surface touches has all its corners within sqrt(3) = 1.7321 cells."""

FACES = 1 << 13
"""Faces in one piece of the preparation."""

Coords = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class NarrowBand:
    """Lattice points near a mesh: ``coords`` ``(N, 3)`` int32 lexicographic, ``distances`` ``(N,)`` float64 (unsigned),
    ``faces`` ``(N,)`` int32, the nearest face (the smallest id where distances are equal to the last bit)."""

    coords: Coords
    distances: Floats
    faces: NDArray[np.int32]


class Lattice:
    """Lattice points ``lower + index * spacing``, ``index`` in ``0..resolution`` along each axis."""

    def __init__(self, lower: ArrayLike, spacing: ArrayLike, resolution: int) -> None:
        if resolution < 1:
            raise ValueError(f"resolution must be at least 1, not {resolution}")
        self.lower = np.broadcast_to(np.asarray(lower, np.float64), 3).copy()
        self.spacing = np.broadcast_to(np.asarray(spacing, np.float64), 3).copy()
        self.resolution = resolution
        if not (self.spacing > 0).all():
            raise ValueError(f"spacing must be positive, not {self.spacing.tolist()}")

    def points(self, coords: Coords) -> Floats:
        """Positions ``(N, 3)`` float64."""
        return self.lower + coords * self.spacing


def narrow_band(
    vertices: Floats, faces: Ints, lattice: Lattice, band: float = CELL_DIAGONAL, threads: int | None = None
) -> NarrowBand:
    """All lattice points within ``band`` cells of the mesh, with their distance and nearest face.

    Args:
        vertices: ``(V, 3)`` finite floats. faces: ``(F, 3)`` integers; degenerate faces are segments or points.
        lattice: where to look. What lies outside of it only matters through its distance to points inside.
        band: in cells (of the longest side, where cells are not cubes).
        threads: never changes the result.
    Returns:
        :class:`NarrowBand`. Memory: 24 bytes a point, 560 a face, and the bricks of one layer a thread.

    >>> triangle = np.array([[0.0, 0.0, 1.0], [4.0, 0.0, 1.0], [0.0, 4.0, 1.0]])
    >>> near = narrow_band(triangle, np.array([[0, 1, 2]]), Lattice(0.0, 1.0, 1), band=1.0)
    >>> near.coords.shape, near.distances.round(9).tolist()
    ((8, 3), [1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0])
    """
    shifted = np.asarray(vertices, np.float64) - lattice.lower
    faces = np.asarray(faces)
    reach = float(band * lattice.spacing.max())
    low, high = np.empty((len(faces), 3)), np.empty((len(faces), 3))
    planes, limits = np.empty((len(faces), PLANE_COLUMNS)), np.empty((len(faces), LIMITS, 4))

    def prepare(span: tuple[int, int]) -> None:
        part = slice(*span)
        corners = shifted[faces[part]]
        low[part], high[part] = corners.min(axis=1) - reach, corners.max(axis=1) + reach
        planes[part] = complete_planes(plane_frames(corners))
        limits[part] = limit_planes(planes[part], reach)

    run_chunks(prepare, spans(len(faces), FACES), threads)
    layers = lattice.resolution // BRICK + 1
    thickness = BRICK * lattice.spacing[0]
    first = np.floor(np.clip(low[:, 0] / thickness, -1, layers)).astype(np.int64)
    last = np.floor(np.clip(high[:, 0] / thickness, -1, layers)).astype(np.int64)
    starts, members = layer_members(first, last, layers)

    def lists(layer: int) -> tuple[Ints, Ints, Ints]:
        mine = members[starts[layer] : starts[layer + 1]]
        return brick_lists(mine, limits, low, high, layer, lattice.spacing, lattice.resolution)

    occupied = [layer for layer in range(layers) if starts[layer + 1] > starts[layer]]
    found = run_chunks(lists, occupied, threads)
    bricks = [len(ids) for ids, _, _ in found]
    # As many rows as there might be: pages that nothing is written to cost nothing, and the rest is cut off.
    most = sum(bricks) * BRICK**3
    near = NarrowBand(np.empty((most, 3), np.int32), np.empty(most), np.empty(most, np.int32))
    scratch, pieces = threading.local(), OrderedPieces()

    def measure(piece: int) -> None:
        with pieces.failing_together():
            if not hasattr(scratch, "best"):
                shape = max(bricks) * ROWS, BRICK
                scratch.best, scratch.nearest = np.empty(shape), np.empty(shape, np.int64)
            bodies = scratch.best, scratch.nearest
            masks, rows = layer_distances(
                *found[piece], planes, limits, low, high, occupied[piece], lattice.spacing, lattice.resolution, reach,
                *bodies,
            )  # fmt: skip
            mine = slice(*pieces.place(piece, int(rows[-1])))
            write_layer(
                found[piece][0], masks, rows, *bodies, occupied[piece], lattice.resolution,
                near.coords[mine], near.distances[mine], near.faces[mine],
            )  # fmt: skip

    run_chunks(measure, range(len(found)), threads)
    count = pieces.total
    near.coords.resize((count, 3), refcheck=False)
    near.distances.resize(count, refcheck=False)
    near.faces.resize(count, refcheck=False)
    return near


def closest_points(points: Floats, face_ids: ArrayLike, corners: Floats, threads: int | None = None) -> Floats:
    """Closest points ``(N, 3)`` to ``points`` ``(N, 3)``, each on its triangle ``corners[face_id]`` ``(3, 3)``."""
    frames = plane_frames(np.ascontiguousarray(corners, np.float64))
    ids = np.ascontiguousarray(face_ids, np.int64)
    queries = np.ascontiguousarray(points, np.float64)
    closest = np.empty_like(queries)
    run_chunks(
        lambda span: _closest(queries, ids, frames, span[0], span[1], closest), spans(len(queries), 1 << 16), threads
    )
    return closest


@njit(nogil=True, cache=True, error_model="numpy")
def _closest(points: Floats, ids: Ints, frames: Floats, start: int, end: int, closest: Floats) -> None:
    for row in range(start, end):
        frame = frames[ids[row]]
        s, t = nearest_in_plane(frames, ids[row], points[row, 0], points[row, 1], points[row, 2])
        for axis in range(3):
            closest[row, axis] = frame[axis] + s * frame[3 + axis] + t * frame[6 + axis]
