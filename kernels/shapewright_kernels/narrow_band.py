"""Exact distances from a triangle mesh at the lattice points near it, without a dense grid.

The lattice is cut into bricks of 8^3 points. A first pass lists the triangles that can come within the band of each
brick; a second one computes the distances of a brick's points to its triangles, in float64, each triangle in its own
plane frame (see :mod:`.closest_point`): three projections and a distance in the plane, free of branches, so that the
loop over points compiles to vector instructions. Layers of bricks along x are independent; each owns its output.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, floor, sqrt

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from .arrays import Floats, Ints
from .closest_point import _nearest_in_plane, _plane_frames, _squared_distance
from .threads import run_chunks, spans
from .triangles import layer_members

BRICK = 8
CELL_DIAGONAL = 1.75
"""Smallest useful band, in cells: a cell that the surface touches has all its corners within sqrt(3) = 1.7321 cells."""

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
        :class:`NarrowBand`. Memory: 24 bytes a point, 400 a face, and the bricks of one layer a thread.

    >>> triangle = np.array([[0.0, 0.0, 1.0], [4.0, 0.0, 1.0], [0.0, 4.0, 1.0]])
    >>> near = narrow_band(triangle, np.array([[0, 1, 2]]), Lattice(0.0, 1.0, 1), band=1.0)
    >>> near.coords.shape, near.distances.round(9).tolist()
    ((8, 3), [1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0])
    """
    corners = np.ascontiguousarray((np.asarray(vertices, np.float64) - lattice.lower)[faces])
    reach = float(band * lattice.spacing.max())
    low, high = corners.min(axis=1) - reach, corners.max(axis=1) + reach
    planes = _planes(_plane_frames(corners))
    layers = lattice.resolution // BRICK + 1
    thickness = BRICK * lattice.spacing[0]
    first = np.floor(np.clip(low[:, 0] / thickness, -1, layers)).astype(np.int64)
    last = np.floor(np.clip(high[:, 0] / thickness, -1, layers)).astype(np.int64)
    starts, members = layer_members(first, last, layers)

    def layer_band(layer: int) -> tuple[Coords, Floats, NDArray[np.int32]]:
        mine = members[starts[layer] : starts[layer + 1]]
        brick_starts, brick_faces = _brick_lists(
            mine, planes, low, high, layer, lattice.spacing, lattice.resolution, reach
        )
        return _layer_points(
            brick_starts, brick_faces, planes, low, high, layer, lattice.spacing, lattice.resolution, reach
        )

    occupied = [layer for layer in range(layers) if starts[layer + 1] > starts[layer]]
    parts = run_chunks(layer_band, occupied, threads)
    if not parts:
        return NarrowBand(np.empty((0, 3), np.int32), np.empty(0), np.empty(0, np.int32))
    coords, distances, nearest = zip(*parts, strict=True)
    return NarrowBand(np.concatenate(coords), np.concatenate(distances), np.concatenate(nearest))


def closest_points(points: Floats, face_ids: ArrayLike, corners: Floats, threads: int | None = None) -> Floats:
    """Closest points ``(N, 3)`` to ``points`` ``(N, 3)``, each on its triangle ``corners[face_id]`` ``(3, 3)``."""
    frames = _plane_frames(np.ascontiguousarray(corners, np.float64))
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
        s, t = _nearest_in_plane(frames, ids[row], points[row, 0], points[row, 1], points[row, 2])
        for axis in range(3):
            closest[row, axis] = frame[axis] + s * frame[3 + axis] + t * frame[6 + axis]


@njit(nogil=True, cache=True, error_model="numpy")
def _planes(frames: Floats) -> Floats:
    """Plane frames completed to orthonormal bases, ``(F, 20)``, so that degenerate triangles need no branch.

    Columns: the 12 of ``_plane_frames`` (which end with length, foot and height), the completed height direction (3),
    the normal (3), inverse squared lengths of the left and the right side.
    """
    planes = np.zeros((len(frames), 20))
    for row in range(len(frames)):
        plane = planes[row]
        plane[:12] = frames[row]
        bx, by, bz = plane[3], plane[4], plane[5]
        if plane[9] == 0.0:
            bx, by, bz = 1.0, 0.0, 0.0
            plane[3] = 1.0
        hx, hy, hz = plane[6], plane[7], plane[8]
        if plane[11] == 0.0:  # any direction across the segment
            if abs(bx) <= abs(by) and abs(bx) <= abs(bz):
                hx, hy, hz = 0.0, -bz, by
            elif abs(by) <= abs(bz):
                hx, hy, hz = bz, 0.0, -bx
            else:
                hx, hy, hz = -by, bx, 0.0
            scale = 1.0 / sqrt(hx * hx + hy * hy + hz * hz)
            hx, hy, hz = hx * scale, hy * scale, hz * scale
        plane[12], plane[13], plane[14] = hx, hy, hz
        plane[15], plane[16], plane[17] = by * hz - bz * hy, bz * hx - bx * hz, bx * hy - by * hx
        left = plane[10] ** 2 + plane[11] ** 2
        right = (plane[9] - plane[10]) ** 2 + plane[11] ** 2
        plane[18] = 1.0 / left if left > 0.0 else 0.0
        plane[19] = 1.0 / right if right > 0.0 else 0.0
    return planes


@njit(nogil=True, cache=True, error_model="numpy")
def _brick_range(low: float, high: float, spacing: float, bricks: int) -> tuple[int, int]:
    """Bricks whose lattice points may lie between two positions."""
    first = floor(max(low / spacing, 0.0)) // BRICK
    last = floor(min(high / spacing, bricks * float(BRICK)) + 1.0) // BRICK
    return first, min(last, bricks - 1)


@njit(nogil=True, cache=True, error_model="numpy")
def _brick_lists(
    members: Ints, planes: Floats, low: Floats, high: Floats, layer: int, spacing: Floats, resolution: int, reach: float
) -> tuple[Ints, Ints]:
    """Triangles that may come within reach of each brick of a layer (bricks in order y, z): starts and face ids."""
    bricks = resolution // BRICK + 1
    half = 0.5 * (BRICK - 1)
    radius = reach + half * sqrt(spacing[0] ** 2 + spacing[1] ** 2 + spacing[2] ** 2)
    square = (radius * (1.0 + 1e-9)) ** 2
    x = (layer * BRICK + half) * spacing[0]
    starts = np.zeros(bricks * bricks + 1, np.int64)
    total = np.int64(0)
    for count_only in (True, False):
        if count_only:
            pairs = np.empty(0, np.int64)
            cursor = np.empty(0, np.int64)
        else:
            pairs = np.empty(total, np.int64)
            cursor = starts[:-1].copy()
        for face in members:
            y0, y1 = _brick_range(low[face, 1], high[face, 1], spacing[1], bricks)
            z0, z1 = _brick_range(low[face, 2], high[face, 2], spacing[2], bricks)
            for by in range(y0, y1 + 1):
                y = (by * BRICK + half) * spacing[1]
                for bz in range(z0, z1 + 1):
                    z = (bz * BRICK + half) * spacing[2]
                    if _squared_distance(planes, face, x, y, z) <= square:
                        brick = by * bricks + bz
                        if count_only:
                            starts[brick + 1] += 1
                        else:
                            pairs[cursor[brick]] = face
                            cursor[brick] += 1
        if count_only:
            for brick in range(bricks * bricks):
                starts[brick + 1] += starts[brick]
            total = starts[-1]
    return starts, pairs


@njit(nogil=True, cache=True, error_model="numpy")
def _plane_of_points(plane: Floats, face: int, x: float, y: Floats, z: Floats, best: Floats, nearest: Ints) -> None:
    """Lower ``best`` and ``nearest`` by the squared distances of the points ``(x, y[i], z[i])`` to one triangle."""
    x -= plane[0]
    s_x, t_x, h_x = x * plane[3], x * plane[12], x * plane[15]
    oy, oz = plane[1], plane[2]
    sy, sz, ty, tz, hy, hz = plane[4], plane[5], plane[13], plane[14], plane[16], plane[17]
    length, foot, height = plane[9], plane[10], plane[11]
    run = length - foot
    left_scale, right_scale = plane[18], plane[19]
    flat_triangle = height <= 0.0  # no interior
    for i in range(best.size):
        dy = y[i] - oy
        dz = z[i] - oz
        s = s_x + dy * sy + dz * sz
        t = t_x + dy * ty + dz * tz
        h = h_x + dy * hy + dz * hz
        rest = length - s
        # base, left side, right side: clamp the foot of the perpendicular
        along = s if s > 0.0 else 0.0
        along = along if along < length else length
        base = (s - along) * (s - along) + t * t
        along = (s * foot + t * height) * left_scale
        along = along if along > 0.0 else 0.0
        along = along if along < 1.0 else 1.0
        ds, dt = s - along * foot, t - along * height
        left = ds * ds + dt * dt
        along = (rest * run + t * height) * right_scale
        along = along if along > 0.0 else 0.0
        along = along if along < 1.0 else 1.0
        ds, dt = rest - along * run, t - along * height
        right = ds * ds + dt * dt
        flat = left if left < right else right
        flat = base if base < flat else flat
        outside = flat_triangle | (t < 0.0) | (foot * t > height * s) | (run * t > height * rest)
        square = h * h + (flat if outside else 0.0)
        closer = square < best[i]
        best[i] = square if closer else best[i]
        nearest[i] = face if closer else nearest[i]


@njit(nogil=True, cache=True, error_model="numpy")
def _layer_points(
    starts: Ints,
    pairs: Ints,
    planes: Floats,
    low: Floats,
    high: Floats,
    layer: int,
    spacing: Floats,
    resolution: int,
    reach: float,
) -> tuple[Coords, Floats, NDArray[np.int32]]:
    bricks = resolution // BRICK + 1
    side = resolution + 1
    occupied = 0
    for brick in range(bricks * bricks):
        occupied += starts[brick + 1] > starts[brick]
    best = np.full((occupied, BRICK, BRICK * BRICK), np.inf)
    nearest = np.zeros((occupied, BRICK, BRICK * BRICK), np.int64)
    rows = np.zeros(BRICK * side + 1, np.int64)  # kept points of each line along z
    y, z = np.empty(BRICK * BRICK), np.empty(BRICK * BRICK)
    square = reach * reach
    slot = -1
    for brick in range(bricks * bricks):
        if starts[brick + 1] == starts[brick]:
            continue
        slot += 1
        y_first, z_first = brick // bricks * BRICK, brick % bricks * BRICK
        for i in range(BRICK * BRICK):
            y[i] = (y_first + i // BRICK) * spacing[1]
            z[i] = (z_first + i % BRICK) * spacing[2]
        for face in pairs[starts[brick] : starts[brick + 1]]:
            # planes and rows out of the triangle's reach are skipped; rounding costs at most one more
            x0 = max(floor(max(low[face, 0] / spacing[0], 0.0)) - layer * BRICK, 0)
            x1 = min(ceil(min(high[face, 0] / spacing[0], float(side))) - layer * BRICK, BRICK - 1)
            y0 = max(floor(max(low[face, 1] / spacing[1], 0.0)) - y_first, 0)
            y1 = min(ceil(min(high[face, 1] / spacing[1], float(side))) - y_first, BRICK - 1)
            part = slice(y0 * BRICK, (y1 + 1) * BRICK)
            if y1 < y0:
                continue
            for x in range(x0, x1 + 1):
                _plane_of_points(
                    planes[face], face, (layer * BRICK + x) * spacing[0],
                    y[part], z[part], best[slot, x, part], nearest[slot, x, part],
                )  # fmt: skip
        for x in range(min(BRICK, side - layer * BRICK)):
            for i in range(BRICK * BRICK):
                if best[slot, x, i] <= square and y_first + i // BRICK < side and z_first + i % BRICK < side:
                    rows[x * side + y_first + i // BRICK + 1] += 1
    for row in range(BRICK * side):
        rows[row + 1] += rows[row]
    count = rows[-1]
    coords = np.empty((count, 3), np.int32)
    distances = np.empty(count)
    faces = np.empty(count, np.int32)
    slot = -1
    for brick in range(bricks * bricks):  # z grows with the brick within a row of bricks, so each line fills in order
        if starts[brick + 1] == starts[brick]:
            continue
        slot += 1
        y_first, z_first = brick // bricks * BRICK, brick % bricks * BRICK
        for x in range(min(BRICK, side - layer * BRICK)):
            for i in range(BRICK * BRICK):
                if best[slot, x, i] <= square and y_first + i // BRICK < side and z_first + i % BRICK < side:
                    row = x * side + y_first + i // BRICK
                    place = rows[row]
                    rows[row] += 1
                    coords[place, 0] = layer * BRICK + x
                    coords[place, 1] = y_first + i // BRICK
                    coords[place, 2] = z_first + i % BRICK
                    distances[place] = sqrt(best[slot, x, i])
                    faces[place] = nearest[slot, x, i]
    return coords, distances, faces
