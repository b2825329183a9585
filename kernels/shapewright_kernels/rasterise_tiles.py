"""One tile of a picture: which face is nearest at every sample, and what is told about it.

A sample is covered by a triangle if it lies inside; one that lies exactly on an edge counts as moved to the right by an
infinitesimal amount and down by a far smaller one. The decision about an edge is exact and does not know from which of
its triangles it is asked. So of the triangles around an edge or a vertex that lie side by side on the screen exactly
one covers each sample, wherever the vertices fall.
"""

from __future__ import annotations

from math import ceil, floor, sqrt
from typing import Any, TypeAlias

import numpy as np
from numba import njit

from .arrays import Bools, Floats, Ints
from .exact_orientation import ERROR, orientation
from .lattice_index import Integer
from .rasterise_setup import Faces, View

BATCH = 64
"""Triangles whose corners are fetched together."""
CANCELLED = 1e-12
"""Length of a sum of unit normals that is rounding and no direction."""
SMALL = 1e-280
"""Squares below this have lost digits."""
WIDE = 8
"""Rows of a triangle of at least so many samples are cut to the part between its edges before samples are tested."""
TRUSTED = 1e9
"""Where an edge crosses a row is known to a sample if its coordinates are below this."""

Vector: TypeAlias = tuple[float, float, float]


@njit(nogil=True, cache=True, error_model="numpy")
def _side(ax: float, ay: float, bx: float, by: float, x: float, y: float) -> int:
    """Side (-1, 1) of the edge from ``a`` to ``b`` on which a sample counts."""
    side = orientation(ax, ay, bx, by, x, y)
    if side != 0:
        return side
    if by != ay:
        return -1 if by > ay else 1
    return 1 if bx > ax else -1


@njit(nogil=True, cache=True, error_model="numpy")
def _narrow(
    ax: float, ay: float, bx: float, by: float, y: float, inside: int, first: int, last: int
) -> tuple[int, int]:
    """Samples ``first..last`` of the row at ``y`` less those that are clearly on the other side of an edge."""
    dy = by - ay
    if dy == 0.0:
        return first, last
    crossing = ax + (bx - ax) * ((y - ay) / dy) - 0.5
    if (dy > 0.0) == (inside > 0):  # the left side is the positive one where the edge goes down
        return first, min(last, floor(min(crossing, TRUSTED)) + 1)
    return max(first, ceil(max(crossing, -TRUSTED)) - 1), last


@njit(nogil=True, cache=True, error_model="numpy")
def _after(ax: float, ay: float, ak: float, bx: float, by: float, bk: float) -> bool:
    return bx < ax or (bx == ax and (by < ay or (by == ay and bk < ak)))


@njit(nogil=True, cache=True, error_model="numpy")
def _plane(
    ax: float, ay: float, ak: float, bx: float, by: float, bk: float, cx: float, cy: float, ck: float
) -> tuple[float, float, float, float, float]:
    """``x, y, key, gx, gy``: the key at a screen place is ``key`` and the gradients times the way from ``(x, y)``.

    Corners are taken in one order whatever the winding, so that copies of a face have equal keys.
    """
    if _after(ax, ay, ak, bx, by, bk):
        ax, ay, ak, bx, by, bk = bx, by, bk, ax, ay, ak
    if _after(bx, by, bk, cx, cy, ck):
        bx, by, bk, cx, cy, ck = cx, cy, ck, bx, by, bk
        if _after(ax, ay, ak, bx, by, bk):
            ax, ay, ak, bx, by, bk = bx, by, bk, ax, ay, ak
    area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
    scale = 1.0 / area if area != 0.0 else 0.0
    gx = ((bk - ak) * (cy - ay) - (ck - ak) * (by - ay)) * scale
    gy = ((ck - ak) * (bx - ax) - (bk - ak) * (cx - ax)) * scale
    return ax, ay, ak, gx, gy


@njit(nogil=True, cache=True, error_model="numpy")
def _draw(
    ax: float, ay: float, ak: float, bx: float, by: float, bk: float, cx: float, cy: float, ck: float, face: Integer,
    low: float, high: float, top: int, left: int, bottom: int, right: int, keys: Floats, ids: Ints,
) -> None:  # fmt: skip
    """Draw a triangle of screen corners ``a, b, c`` into a tile of samples ``top..bottom - 1``, ``left..right - 1``."""
    first = max(ceil(max(min(ax, bx, cx) - 0.5, -1.0)), left)
    last = min(floor(min(max(ax, bx, cx) - 0.5, 1e9)), right - 1)
    upper = max(ceil(max(min(ay, by, cy) - 0.5, -1.0)), top)
    lower = min(floor(min(max(ay, by, cy) - 0.5, 1e9)), bottom - 1)
    if first > last or upper > lower:
        return
    turn = orientation(ax, ay, bx, by, cx, cy)
    if turn == 0:
        return
    abx, aby, bcx, bcy, cax, cay = bx - ax, by - ay, cx - bx, cy - by, ax - cx, ay - cy
    # slivers extrapolate; a key beyond those of the corners is rounding
    lowest, highest = min(ak, bk, ck), max(ak, bk, ck)
    x0 = y0 = key0 = gx = gy = 0.0
    known = False
    wide = last - first >= WIDE and max(abs(ax), abs(ay), abs(bx), abs(by), abs(cx), abs(cy)) < TRUSTED
    for row in range(upper, lower + 1):
        y = row + 0.5
        begin, end = first, last
        if wide:
            begin, end = _narrow(ax, ay, bx, by, y, turn, begin, end)
            begin, end = _narrow(bx, by, cx, cy, y, turn, begin, end)
            begin, end = _narrow(cx, cy, ax, ay, y, turn, begin, end)
        for column in range(begin, end + 1):
            if keys[row - top, column - left] > highest:
                continue
            x = column + 0.5
            ab, ab_less = abx * (y - ay), aby * (x - ax)
            bc, bc_less = bcx * (y - by), bcy * (x - bx)
            ca, ca_less = cax * (y - cy), cay * (x - cx)
            inside = min(turn * (ab - ab_less), turn * (bc - bc_less), turn * (ca - ca_less))
            bound = ERROR * max(abs(ab) + abs(ab_less), abs(bc) + abs(bc_less), abs(ca) + abs(ca_less))
            if inside < -bound:
                continue
            if inside <= bound and (
                _side(ax, ay, bx, by, x, y) != turn
                or _side(bx, by, cx, cy, x, y) != turn
                or _side(cx, cy, ax, ay, x, y) != turn
            ):
                continue
            if not known:  # most triangles of a fine mesh cover no sample
                x0, y0, key0, gx, gy = _plane(ax, ay, ak, bx, by, bk, cx, cy, ck)
                known = True
            key = min(max(key0 + gx * (x - x0) + gy * (y - y0), lowest), highest)
            if key < low or key > high:
                continue
            best = keys[row - top, column - left]
            if key > best or (key == best and face < ids[row - top, column - left]):
                keys[row - top, column - left] = key
                ids[row - top, column - left] = face


@njit(nogil=True, cache=True, error_model="numpy")
def draw_tile(
    members: Any, faces: Faces, screen: Floats, cut: Floats, cut_faces: Ints, view: View, top: int, left: int,
    keys: Floats, ids: Ints,
) -> None:  # fmt: skip
    """Nearest face of every sample of a tile into ``keys`` and ``ids``; -inf and -1 without one (*compiled*)."""
    low, high = view.low, view.high
    bottom, right = min(top + keys.shape[0], view.height), min(left + keys.shape[1], view.width)
    keys[:] = -np.inf
    ids[:] = -1
    corners, owners = np.empty((BATCH, 9)), np.empty(BATCH, np.int64)
    for start in range(0, len(members), BATCH):
        count = min(BATCH, len(members) - start)
        for i in range(count):  # nothing here waits for anything, so the processor fetches many corners at a time
            item = np.int64(members[start + i])
            if item < len(faces):
                owners[i] = item
                for corner in range(3):
                    vertex = faces[item, corner]
                    for axis in range(3):
                        corners[i, 3 * corner + axis] = screen[vertex, axis]
            else:
                item -= len(faces)
                owners[i] = cut_faces[item]
                for corner in range(3):
                    for axis in range(3):
                        corners[i, 3 * corner + axis] = cut[item, corner, axis]
        for i in range(count):
            _draw(
                corners[i, 0], corners[i, 1], corners[i, 2], corners[i, 3], corners[i, 4], corners[i, 5],
                corners[i, 6], corners[i, 7], corners[i, 8], owners[i], low, high, top, left,
                bottom, right, keys, ids,
            )  # fmt: skip


@njit(nogil=True, cache=True, error_model="numpy")
def _ray(inverse: Floats, u: float, v: float, perspective: bool) -> tuple[Vector, Vector]:
    """World-space origin and direction of the ray through ``X = u, Y = v``, at depth 1 in perspective."""
    x = inverse[0, 0] * u + inverse[0, 1] * v
    y = inverse[1, 0] * u + inverse[1, 1] * v
    z = inverse[2, 0] * u + inverse[2, 1] * v
    ex, ey, ez = inverse[0, 3], inverse[1, 3], inverse[2, 3]
    bx, by, bz = inverse[0, 2], inverse[1, 2], inverse[2, 2]
    if perspective:
        return (ex, ey, ez), (x - bx, y - by, z - bz)
    return (x + ex, y + ey, z + ez), (-bx, -by, -bz)


@njit(nogil=True, cache=True, error_model="numpy")
def _meet(vertices: Floats, faces: Faces, face: Integer, origin: Vector, ray: Vector) -> tuple[Vector, Vector]:
    """Barycentric coordinates of the point where a ray meets the plane of a face, inside it up to rounding, and the
    normal of the face, of twice its area.

    Source: Moeller and Trumbore 1997.
    """
    a, b, c = faces[face, 0], faces[face, 1], faces[face, 2]
    ax, ay, az = vertices[a, 0], vertices[a, 1], vertices[a, 2]
    ux, uy, uz = vertices[b, 0] - ax, vertices[b, 1] - ay, vertices[b, 2] - az
    vx, vy, vz = vertices[c, 0] - ax, vertices[c, 1] - ay, vertices[c, 2] - az
    normal = (uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx)
    tx, ty, tz = origin[0] - ax, origin[1] - ay, origin[2] - az
    px, py, pz = ray[1] * tz - ray[2] * ty, ray[2] * tx - ray[0] * tz, ray[0] * ty - ray[1] * tx  # ray x t
    second, third = px * vx + py * vy + pz * vz, -(px * ux + py * uy + pz * uz)
    determinant = ray[0] * normal[0] + ray[1] * normal[1] + ray[2] * normal[2]
    if determinant < 0.0:
        determinant, second, third = -determinant, -second, -third
    second, third = max(second, 0.0), max(third, 0.0)
    first = max(determinant - second - third, 0.0)
    total = first + second + third
    if total == 0.0:  # seen edge-on, where no point of the triangle is more right than another
        return (1.0 / 3.0, 1.0 / 3.0, 1.0 / 3.0), normal
    scale = 1.0 / total
    return (first * scale, second * scale, third * scale), normal


@njit(nogil=True, cache=True, error_model="numpy")
def _unit_normal(
    faces: Faces, face: Integer, normals: Floats, weights: Vector, normal: Vector, ray: Vector, facing: bool
) -> Vector:
    """Unit normal at a point of a face: interpolated where ``normals`` has rows, else along ``normal``."""
    x, y, z = normal
    square = x * x + y * y + z * z
    if len(normals) > 0:
        a, b, c = faces[face, 0], faces[face, 1], faces[face, 2]
        nx = weights[0] * normals[a, 0] + weights[1] * normals[b, 0] + weights[2] * normals[c, 0]
        ny = weights[0] * normals[a, 1] + weights[1] * normals[b, 1] + weights[2] * normals[c, 1]
        nz = weights[0] * normals[a, 2] + weights[1] * normals[b, 2] + weights[2] * normals[c, 2]
        if nx * nx + ny * ny + nz * nz > CANCELLED * CANCELLED:
            x, y, z = nx, ny, nz
            square = x * x + y * y + z * z
    if not SMALL < square < 1.0 / SMALL:
        largest = max(abs(x), abs(y), abs(z))  # not zero: such faces are skipped
        x, y, z = x / largest, y / largest, z / largest
        square = x * x + y * y + z * z
    scale = 1.0 / sqrt(square)
    if facing and x * ray[0] + y * ray[1] + z * ray[2] > 0.0:
        scale = -scale
    return x * scale, y * scale, z * scale


@njit(nogil=True, cache=True, error_model="numpy")
def resolve_tile(
    keys: Floats, ids: Ints, vertices: Floats, faces: Faces, normals: Floats, view: View, samples: int, facing: bool,
    top: int, left: int, depth: Any, face_ids: Any, barycentrics: Any, normal: Any, mask: Bools, coverage: Any,
) -> None:  # fmt: skip
    """Write the pixels of a tile of ``samples`` by ``samples`` samples each (*compiled*).

    Depth, face and barycentric coordinates are those of the nearest sample (of the smallest face, of the first sample),
    normals are averaged over covered samples.
    """
    inverse, perspective = view.inverse, view.perspective
    centre_x, centre_y = view.centre
    unit_x, unit_y = 1.0 / view.scale[0], 1.0 / view.scale[1]
    for row in range(top // samples, min((top + keys.shape[0]) // samples, depth.shape[0])):
        for column in range(left // samples, min((left + keys.shape[1]) // samples, depth.shape[1])):
            hits = 0
            best, best_face, best_x, best_y = -np.inf, np.int64(-1), 0, 0
            x = y = z = 0.0
            for i in range(samples):
                for j in range(samples):
                    sample_y, sample_x = row * samples + i, column * samples + j
                    face, key = ids[sample_y - top, sample_x - left], keys[sample_y - top, sample_x - left]
                    if face < 0:
                        continue
                    hits += 1
                    if best_face < 0 or key > best or (key == best and face < best_face):
                        best, best_face, best_x, best_y = key, face, sample_x, sample_y
                    if samples > 1:
                        u, v = (sample_x + 0.5 - centre_x) * unit_x, (centre_y - sample_y - 0.5) * unit_y
                        origin, ray = _ray(inverse, u, v, perspective)
                        weights, along = _meet(vertices, faces, face, origin, ray)
                        nx, ny, nz = _unit_normal(faces, face, normals, weights, along, ray, facing)
                        x, y, z = x + nx, y + ny, z + nz
            mask[row, column] = hits > 0
            coverage[row, column] = hits / (samples * samples)
            face_ids[row, column] = best_face
            if hits == 0:
                depth[row, column] = np.inf
                for axis in range(3):
                    barycentrics[row, column, axis] = normal[row, column, axis] = 0.0
                continue
            depth[row, column] = 1.0 / best if perspective else -best
            u, v = (best_x + 0.5 - centre_x) * unit_x, (centre_y - best_y - 0.5) * unit_y
            origin, ray = _ray(inverse, u, v, perspective)
            weights, along = _meet(vertices, faces, best_face, origin, ray)
            length = sqrt(x * x + y * y + z * z)
            if not length > CANCELLED:  # one sample, or opposite normals
                x, y, z = _unit_normal(faces, best_face, normals, weights, along, ray, facing)
                length = 1.0
            scale = 1.0 / length
            barycentrics[row, column, 0] = weights[0]
            barycentrics[row, column, 1] = weights[1]
            barycentrics[row, column, 2] = weights[2]
            normal[row, column, 0] = x * scale
            normal[row, column, 1] = y * scale
            normal[row, column, 2] = z * scale
