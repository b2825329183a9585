"""One tile of a picture: which face is nearest at every sample, and what is told about it.

A sample is covered by a triangle if it lies inside; one that lies exactly on an edge counts as moved to the right by an
infinitesimal amount and down by a far smaller one. The decision about an edge is exact and does not know from which of
its triangles it is asked. So of the triangles around an edge or a vertex that lie side by side on the screen exactly
one covers each sample, wherever the vertices fall.
"""

from __future__ import annotations

from math import ceil, floor, sqrt
from typing import Any

import numpy as np
from numba import njit

from .arrays import Bools, Floats, Ints
from .exact_orientation import ERROR, orientation
from .lattice_index import Integer
from .rasterise_setup import Faces, View

CANCELLED = 1e-12
"""Length of a sum of unit normals that is rounding and no direction."""
WIDE = 8
"""Rows of a triangle of at least so many samples are cut to the part between its edges before samples are tested."""
TRUSTED = 1e9
"""Where an edge crosses a row is known to a sample if its coordinates are below this."""


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
def _draw(
    ax: float, ay: float, ak: float, bx: float, by: float, bk: float, cx: float, cy: float, ck: float, face: Integer,
    view: View, top: int, left: int, keys: Floats, ids: Ints,
) -> None:  # fmt: skip
    """Draw a triangle of screen corners ``a, b, c`` into a tile that begins at sample ``(top, left)``."""
    # in one order whatever the winding: copies of a face get the same keys, and of two faces the same edge
    if _after(ax, ay, ak, bx, by, bk):
        ax, ay, ak, bx, by, bk = bx, by, bk, ax, ay, ak
    if _after(bx, by, bk, cx, cy, ck):
        bx, by, bk, cx, cy, ck = cx, cy, ck, bx, by, bk
        if _after(ax, ay, ak, bx, by, bk):
            ax, ay, ak, bx, by, bk = bx, by, bk, ax, ay, ak
    first = max(ceil(max(ax - 0.5, -1.0)), left)
    last = min(floor(min(cx - 0.5, 1e9)), min(left + keys.shape[1], view.width) - 1)
    upper = max(ceil(max(min(ay, by, cy) - 0.5, -1.0)), top)
    lower = min(floor(min(max(ay, by, cy) - 0.5, 1e9)), min(top + keys.shape[0], view.height) - 1)
    if first > last or upper > lower:
        return
    turn = orientation(ax, ay, bx, by, cx, cy)
    if turn == 0:
        return
    abx, aby, acx, acy, bcx, bcy = bx - ax, by - ay, cx - ax, cy - ay, cx - bx, cy - by
    area = abx * acy - aby * acx
    scale = 1.0 / area if area != 0.0 else 0.0
    gx = ((bk - ak) * acy - (ck - ak) * aby) * scale
    gy = ((ck - ak) * abx - (bk - ak) * acx) * scale
    # slivers extrapolate; a key beyond those of the corners is rounding
    lowest, highest = min(ak, bk, ck), max(ak, bk, ck)
    wide = last - first >= WIDE and max(abs(ax), abs(ay), abs(bx), abs(by), abs(cx), abs(cy)) < TRUSTED
    for row in range(upper, lower + 1):
        y = row + 0.5
        begin, end = first, last
        if wide:
            begin, end = _narrow(ax, ay, bx, by, y, turn, begin, end)
            begin, end = _narrow(bx, by, cx, cy, y, turn, begin, end)
            begin, end = _narrow(ax, ay, cx, cy, y, -turn, begin, end)
        for column in range(begin, end + 1):
            if keys[row - top, column - left] > highest:
                continue
            x = column + 0.5
            ab, ab_less = abx * (y - ay), aby * (x - ax)
            bc, bc_less = bcx * (y - by), bcy * (x - bx)
            ac, ac_less = acx * (y - ay), acy * (x - ax)
            inside = min(turn * (ab - ab_less), turn * (bc - bc_less), turn * (ac_less - ac))
            bound = ERROR * max(abs(ab) + abs(ab_less), abs(bc) + abs(bc_less), abs(ac) + abs(ac_less))
            if inside < -bound:
                continue
            if inside <= bound and (
                _side(ax, ay, bx, by, x, y) != turn
                or _side(bx, by, cx, cy, x, y) != turn
                or _side(ax, ay, cx, cy, x, y) == turn
            ):
                continue
            key = min(max(ak + gx * (x - ax) + gy * (y - ay), lowest), highest)
            if key < view.low or key > view.high:
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
    keys[:] = -np.inf
    ids[:] = -1
    for i in range(len(members)):
        item = np.int64(members[i])
        if item < len(faces):
            a, b, c = faces[item, 0], faces[item, 1], faces[item, 2]
            _draw(
                screen[a, 0], screen[a, 1], screen[a, 2], screen[b, 0], screen[b, 1], screen[b, 2],
                screen[c, 0], screen[c, 1], screen[c, 2], item, view, top, left, keys, ids,
            )  # fmt: skip
        else:
            item -= len(faces)
            _draw(
                cut[item, 0, 0], cut[item, 0, 1], cut[item, 0, 2], cut[item, 1, 0], cut[item, 1, 1], cut[item, 1, 2],
                cut[item, 2, 0], cut[item, 2, 1], cut[item, 2, 2], cut_faces[item], view, top, left, keys, ids,
            )  # fmt: skip


@njit(nogil=True, cache=True, error_model="numpy")
def _ray(inverse: Floats, u: float, v: float, perspective: bool, origin: Floats, direction: Floats) -> None:
    """World-space ray through ``X = u, Y = v``, at depth 1 in perspective."""
    for axis in range(3):
        offset = inverse[axis, 0] * u + inverse[axis, 1] * v
        if perspective:
            origin[axis] = inverse[axis, 3]
            direction[axis] = offset - inverse[axis, 2]
        else:
            origin[axis] = offset + inverse[axis, 3]
            direction[axis] = -inverse[axis, 2]


@njit(nogil=True, cache=True, error_model="numpy")
def _sides(vertices: Floats, faces: Faces, face: Integer, axis: int) -> tuple[float, float, float]:
    """First corner of a face along an axis, and the way from it to the others."""
    first = vertices[faces[face, 0], axis]
    return first, vertices[faces[face, 1], axis] - first, vertices[faces[face, 2], axis] - first


@njit(nogil=True, cache=True, error_model="numpy")
def _weights(vertices: Floats, faces: Faces, face: Integer, origin: Floats, ray: Floats) -> tuple[float, float, float]:
    """Barycentric coordinates of the point where a ray meets the plane of a face, inside it up to rounding.

    Source: Moeller and Trumbore 1997.
    """
    ax, ux, vx = _sides(vertices, faces, face, 0)
    ay, uy, vy = _sides(vertices, faces, face, 1)
    az, uz, vz = _sides(vertices, faces, face, 2)
    px, py, pz = ray[1] * vz - ray[2] * vy, ray[2] * vx - ray[0] * vz, ray[0] * vy - ray[1] * vx
    tx, ty, tz = origin[0] - ax, origin[1] - ay, origin[2] - az
    qx, qy, qz = ty * uz - tz * uy, tz * ux - tx * uz, tx * uy - ty * ux
    determinant = ux * px + uy * py + uz * pz
    if determinant == 0.0:  # seen edge-on, where no point of the triangle is more right than another
        return 1.0 / 3.0, 1.0 / 3.0, 1.0 / 3.0
    second = max((tx * px + ty * py + tz * pz) / determinant, 0.0)
    third = max((ray[0] * qx + ray[1] * qy + ray[2] * qz) / determinant, 0.0)
    first = max(1.0 - second - third, 0.0)
    total = first + second + third
    return first / total, second / total, third / total


@njit(nogil=True, cache=True, error_model="numpy")
def _normal_at(
    vertices: Floats, faces: Faces, face: Integer, normals: Floats, weights: tuple[float, float, float], ray: Floats,
    facing: bool,
) -> tuple[float, float, float]:  # fmt: skip
    """Unit normal at a point of a face: interpolated where ``normals`` has rows, else that of its plane."""
    x = y = z = length = 0.0
    if len(normals) > 0:
        a, b, c = faces[face, 0], faces[face, 1], faces[face, 2]
        x = weights[0] * normals[a, 0] + weights[1] * normals[b, 0] + weights[2] * normals[c, 0]
        y = weights[0] * normals[a, 1] + weights[1] * normals[b, 1] + weights[2] * normals[c, 1]
        z = weights[0] * normals[a, 2] + weights[1] * normals[b, 2] + weights[2] * normals[c, 2]
        length = sqrt(x * x + y * y + z * z)
    if not length > CANCELLED:
        _, ux, vx = _sides(vertices, faces, face, 0)
        _, uy, vy = _sides(vertices, faces, face, 1)
        _, uz, vz = _sides(vertices, faces, face, 2)
        x, y, z = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
        largest = max(abs(x), abs(y), abs(z))  # not zero: such faces are skipped
        x, y, z = x / largest, y / largest, z / largest
        length = sqrt(x * x + y * y + z * z)
    if facing and x * ray[0] + y * ray[1] + z * ray[2] > 0.0:
        length = -length
    return x / length, y / length, z / length


@njit(nogil=True, cache=True, error_model="numpy")
def resolve_tile(
    keys: Floats, ids: Ints, vertices: Floats, faces: Faces, normals: Floats, view: View, samples: int, facing: bool,
    top: int, left: int, depth: Any, face_ids: Any, barycentrics: Any, normal: Any, mask: Bools, coverage: Any,
) -> None:  # fmt: skip
    """Write the pixels of a tile of ``samples`` by ``samples`` samples each (*compiled*).

    Depth, face and barycentric coordinates are those of the nearest sample (of the smallest face, of the first sample),
    normals are averaged over covered samples.
    """
    origin, ray = np.empty(3), np.empty(3)
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
                        _ray(inverse, u, v, perspective, origin, ray)
                        weights = _weights(vertices, faces, face, origin, ray)
                        nx, ny, nz = _normal_at(vertices, faces, face, normals, weights, ray, facing)
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
            _ray(inverse, u, v, perspective, origin, ray)
            weights = _weights(vertices, faces, best_face, origin, ray)
            length = sqrt(x * x + y * y + z * z)
            if not length > CANCELLED:  # one sample, or opposite normals
                x, y, z = _normal_at(vertices, faces, best_face, normals, weights, ray, facing)
                length = 1.0
            barycentrics[row, column, 0] = weights[0]
            barycentrics[row, column, 1] = weights[1]
            barycentrics[row, column, 2] = weights[2]
            normal[row, column, 0] = x / length
            normal[row, column, 1] = y / length
            normal[row, column, 2] = z / length
