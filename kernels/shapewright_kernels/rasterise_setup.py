"""Before a picture is drawn: vertices on the screen, faces cut at the near plane, and lists of faces by tile.

*Screen* coordinates are in samples, x to the right and y down, sample ``(i, j)`` having its centre at
``(j + 0.5, i + 0.5)``. The *key* of a point grows towards the viewer and is affine over the screen: ``1 / depth`` in
perspective, ``-depth`` otherwise.
"""

from __future__ import annotations

from math import ceil, floor
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from .arrays import Floats, Ints
from .cameras import Camera
from .threads import run_chunks, spans

VERTICES_PER_CHUNK = 1 << 15
FACES_PER_CHUNK = 1 << 15
CHUNKS = 64
"""At most so many chunks of faces, whatever their number: each keeps a counter for every tile."""
BEHIND = -np.inf
"""Key of a vertex that lies before the near plane of a perspective camera, and has no place on the screen."""
FARTHEST = 1e140
"""Screen coordinates beyond this are not finite for us: their products would overflow."""
NOWHERE, CUT = -1, -2
"""Instead of a first tile: the face covers no sample; the face crosses the near plane."""

Ranges = NDArray[np.int16]
Faces = NDArray[np.integer[Any]]


class View(NamedTuple):
    """A camera and the size of its image in samples, as kernels read them."""

    matrix: Floats
    """``(4, 4)`` world to camera."""
    inverse: Floats
    scale: tuple[float, float]
    """Samples per unit of ``X / depth`` (of ``X``), and of ``Y``."""
    centre: tuple[float, float]
    near: float
    low: float
    """Least key that is seen; ``high`` the greatest."""
    high: float
    perspective: bool
    height: int
    width: int


def make_view(camera: Camera, height: int, width: int) -> View:
    """The view of a camera with ``height`` times ``width`` samples."""
    return View(
        matrix=camera.world_to_camera.copy(),
        inverse=camera.camera_to_world,
        scale=(float(camera.focal[0]) * width, float(camera.focal[1]) * height),
        centre=(float(camera.centre[0]) * width, float(camera.centre[1]) * height),
        near=float(camera.near),
        low=float(1 / camera.far if camera.perspective else -camera.far),
        high=float(1 / camera.near if camera.perspective else -camera.near),
        perspective=camera.perspective,
        height=height,
        width=width,
    )


def project(vertices: Floats, view: View, threads: int | None) -> Floats:
    """``(V, 3)`` screen x, y and key; key :data:`BEHIND` before the near plane in perspective, NaN if not finite."""
    screen = np.empty((len(vertices), 3))
    chunks = spans(len(vertices), VERTICES_PER_CHUNK)
    run_chunks(lambda span: _project(vertices, view, *span, screen), chunks, threads)
    return screen


class TileLists(NamedTuple):
    """Which triangles may cover samples of each tile. Tiles are numbered row by row."""

    ranges: Ranges
    """``(F + E, 4)`` first and last tile column, first and last tile row; see :data:`NOWHERE`, :data:`CUT`."""
    counts: Ints
    """``(chunks, tiles)``."""
    chunks: list[tuple[int, int]]
    skipped: int
    """Faces without area, or with a corner that is not finite."""
    cut: Floats
    """``(E, 3, 3)`` screen corners of what is left of faces that cross the near plane."""
    cut_faces: Ints
    """``(E,)``: face of each."""


def list_tiles(vertices: Floats, faces: Faces, screen: Floats, view: View, tile: int, threads: int | None) -> TileLists:
    """Count the triangles of every tile of ``tile`` by ``tile`` samples."""
    count = len(faces)
    ranges = np.empty((count, 4), np.int16)
    chunks = spans(count, max(FACES_PER_CHUNK, -(-count // CHUNKS)))
    skipped = run_chunks(lambda span: _find_ranges(vertices, faces, screen, view, tile, *span, ranges), chunks, threads)
    crossing = np.flatnonzero(ranges[:, 0] == CUT)
    cut, cut_faces = np.empty((2 * len(crossing), 3, 3)), np.empty(2 * len(crossing), np.int64)
    left, lost = _cut(vertices, faces, view, crossing, cut, cut_faces)
    cut, cut_faces = cut[:left], cut_faces[:left]
    if left:
        extra = np.empty((left, 4), np.int16)
        _find_cut_ranges(cut, view, tile, extra)
        ranges = np.concatenate([ranges, extra])
        chunks.append((count, count + left))
    across, down = -(-view.width // tile), -(-view.height // tile)
    counts = np.zeros((len(chunks), across * down), np.int64)
    jobs = list(enumerate(chunks))
    run_chunks(lambda job: _count_tiles(ranges, across, *job[1], counts[job[0]]), jobs, threads)
    return TileLists(ranges, counts, chunks, int(sum(skipped)) + lost, cut, cut_faces)


def fill_tiles(lists: TileLists, across: int, first: int, last: int, threads: int | None) -> tuple[Ints, Any]:
    """Members of tiles ``first..last - 1``: ``starts (last - first + 1,)`` and triangles int32, ascending in a tile."""
    counts = lists.counts[:, first:last]
    totals = counts.sum(axis=0)
    starts = np.append(0, np.cumsum(totals))
    members = np.empty(int(starts[-1]), np.int32)
    cursors = np.ascontiguousarray(np.cumsum(counts, axis=0) - counts + starts[:-1])
    jobs = list(enumerate(lists.chunks))
    run_chunks(
        lambda job: _fill_tiles(lists.ranges, across, first, last, *job[1], cursors[job[0]], members), jobs, threads
    )
    return starts, members


@njit(nogil=True, cache=True, error_model="numpy")
def _to_screen(x: float, y: float, depth: float, view: View) -> tuple[float, float]:
    reach = depth if view.perspective else 1.0
    sx = view.centre[0] + view.scale[0] * x / reach
    sy = view.centre[1] - view.scale[1] * y / reach
    # multiples of 2^-44: products of differences never underflow
    return (sx + 256.0) - 256.0, (sy + 256.0) - 256.0


@njit(nogil=True, cache=True, error_model="numpy")
def _in_camera(vertices: Floats, vertex: Any, m: Floats) -> tuple[float, float, float]:
    """x, y and depth."""
    x, y, z = vertices[vertex, 0], vertices[vertex, 1], vertices[vertex, 2]
    return (
        m[0, 0] * x + m[0, 1] * y + m[0, 2] * z + m[0, 3],
        m[1, 0] * x + m[1, 1] * y + m[1, 2] * z + m[1, 3],
        -(m[2, 0] * x + m[2, 1] * y + m[2, 2] * z + m[2, 3]),
    )


@njit(nogil=True, cache=True, error_model="numpy")
def _project(vertices: Floats, view: View, start: int, stop: int, screen: Floats) -> None:
    for vertex in range(start, stop):
        x, y, depth = _in_camera(vertices, vertex, view.matrix)
        key = 1.0 / depth if view.perspective else -depth
        sx = sy = 0.0
        if not abs(x) + abs(y) + abs(depth) < np.inf:
            key = np.nan
        elif view.perspective and depth < view.near:
            key = BEHIND
        else:
            sx, sy = _to_screen(x, y, depth, view)
            if not abs(sx) + abs(sy) < FARTHEST:
                key = np.nan
        screen[vertex, 0], screen[vertex, 1], screen[vertex, 2] = sx, sy, key


@njit(nogil=True, cache=True, error_model="numpy")
def _tiles(low: float, high: float, samples: int, tile: int) -> tuple[int, int]:
    """First and last tile with a sample centre between ``low`` and ``high``; the first is -1 if there is none."""
    first = max(ceil(min(max(low - 0.5, -1.0), 1e9)), 0)
    last = min(floor(max(min(high - 0.5, 1e9), -1.0)), samples - 1)
    if first > last:
        return NOWHERE, NOWHERE
    return first // tile, last // tile


@njit(nogil=True, cache=True, error_model="numpy")
def _set_range(
    ax: float, ay: float, bx: float, by: float, cx: float, cy: float, view: View, tile: int, ranges: Ranges, item: int
) -> None:
    left, right = _tiles(min(ax, bx, cx), max(ax, bx, cx), view.width, tile)
    top, bottom = _tiles(min(ay, by, cy), max(ay, by, cy), view.height, tile)
    ranges[item, 0], ranges[item, 1], ranges[item, 2], ranges[item, 3] = left, right, top, bottom
    if top < 0:
        ranges[item, 0] = NOWHERE


@njit(nogil=True, cache=True, error_model="numpy")
def _find_ranges(
    vertices: Floats, faces: Faces, screen: Floats, view: View, tile: int, start: int, stop: int, ranges: Ranges
) -> int:
    """Tiles of each face; returns how many faces were skipped."""
    skipped = 0
    for face in range(start, stop):
        a, b, c = faces[face, 0], faces[face, 1], faces[face, 2]
        ka, kb, kc = screen[a, 2], screen[b, 2], screen[c, 2]
        ranges[face, 0] = NOWHERE
        ux, uy, uz = vertices[b, 0] - vertices[a, 0], vertices[b, 1] - vertices[a, 1], vertices[b, 2] - vertices[a, 2]
        vx, vy, vz = vertices[c, 0] - vertices[a, 0], vertices[c, 1] - vertices[a, 1], vertices[c, 2] - vertices[a, 2]
        flat = uy * vz == uz * vy and uz * vx == ux * vz and ux * vy == uy * vx
        if flat or np.isnan(ka) or np.isnan(kb) or np.isnan(kc):
            skipped += 1
            continue
        nearest, farthest = max(ka, kb, kc), min(ka, kb, kc)
        if nearest == BEHIND or farthest > view.high:
            continue
        if farthest == BEHIND:
            ranges[face, 0] = CUT
            continue
        if nearest < view.low:
            continue
        _set_range(
            screen[a, 0], screen[a, 1], screen[b, 0], screen[b, 1], screen[c, 0], screen[c, 1], view, tile, ranges, face
        )
    return skipped


@njit(nogil=True, cache=True, error_model="numpy")
def _find_cut_ranges(cut: Floats, view: View, tile: int, ranges: Ranges) -> None:
    for item in range(len(cut)):
        _set_range(
            cut[item, 0, 0], cut[item, 0, 1], cut[item, 1, 0], cut[item, 1, 1], cut[item, 2, 0], cut[item, 2, 1],
            view, tile, ranges, item,
        )  # fmt: skip


@njit(nogil=True, cache=True, error_model="numpy")
def _before(a: Floats, b: Floats) -> bool:
    """Whether point ``a`` comes before ``b`` in the order of x, y, z."""
    for axis in range(2):
        if a[axis] != b[axis]:
            return a[axis] < b[axis]
    return a[2] < b[2]


@njit(nogil=True, cache=True, error_model="numpy")
def _cut(vertices: Floats, faces: Faces, view: View, crossing: Ints, cut: Floats, cut_faces: Ints) -> tuple[int, int]:
    """What lies beyond the near plane of faces that cross it: one or two triangles each. Returns their number, and
    that of faces skipped because they are not finite on the screen."""
    corners, polygon = np.empty((3, 3)), np.empty((4, 3))
    size = lost = 0
    for face in crossing:
        for corner in range(3):
            corners[corner] = _in_camera(vertices, faces[face, corner], view.matrix)
        sides = 0
        for corner in range(3):
            one, two = corners[corner], corners[(corner + 1) % 3]
            if one[2] >= view.near:
                polygon[sides] = one
                sides += 1
            if (one[2] >= view.near) != (two[2] >= view.near):
                # from the same end for both faces of the edge, so that they are cut at the same point
                start, stop = (one, two) if _before(one, two) else (two, one)
                share = (view.near - start[2]) / (stop[2] - start[2])
                polygon[sides, 0] = start[0] + share * (stop[0] - start[0])
                polygon[sides, 1] = start[1] + share * (stop[1] - start[1])
                polygon[sides, 2] = view.near
                sides += 1
        finite = True
        for side in range(sides):
            depth = polygon[side, 2]
            polygon[side, 0], polygon[side, 1] = _to_screen(polygon[side, 0], polygon[side, 1], depth, view)
            polygon[side, 2] = 1.0 / depth
            finite &= abs(polygon[side, 0]) + abs(polygon[side, 1]) < FARTHEST
        lost += not finite
        for side in range(2, sides if finite else 0):
            cut[size, 0], cut[size, 1], cut[size, 2] = polygon[0], polygon[side - 1], polygon[side]
            cut_faces[size] = face
            size += 1
    return size, lost


@njit(nogil=True, cache=True, error_model="numpy")
def _count_tiles(ranges: Ranges, across: int, start: int, stop: int, counts: Ints) -> None:
    for item in range(start, stop):
        if ranges[item, 0] >= 0:
            for row in range(ranges[item, 2], ranges[item, 3] + 1):
                for column in range(ranges[item, 0], ranges[item, 1] + 1):
                    counts[row * across + column] += 1


@njit(nogil=True, cache=True, error_model="numpy")
def _fill_tiles(
    ranges: Ranges, across: int, first: int, last: int, start: int, stop: int, cursors: Ints, members: Any
) -> None:
    for item in range(start, stop):
        if ranges[item, 0] >= 0:
            for row in range(ranges[item, 2], ranges[item, 3] + 1):
                for column in range(ranges[item, 0], ranges[item, 1] + 1):
                    tile = row * across + column
                    if first <= tile < last:
                        members[cursors[tile - first]] = item
                        cursors[tile - first] += 1
