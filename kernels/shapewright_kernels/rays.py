"""Rays through a triangle mesh: which points are seen from outside, and which lie inside."""

from __future__ import annotations

import numpy as np
from numba import njit

from .arrays import Bools, Floats, Ints
from .bvh import STACK, Bvh
from .closest_point import curve_order
from .threads import run_chunks, spans

CHUNK = 512


def fibonacci_directions(count: int) -> Floats:
    """``(count, 3)`` unit vectors spread evenly over the sphere (Gonzalez 2010); no component is zero.

    >>> float(abs(fibonacci_directions(128).sum(axis=0)).max()) < 2
    True
    """
    step = np.arange(count) + 0.5
    z = 1.0 - 2.0 * step / count
    angle = np.pi * (3.0 - np.sqrt(5.0)) * step
    ring = np.sqrt(1.0 - z * z)
    return np.stack([ring * np.cos(angle), ring * np.sin(angle), z], axis=1)


def escapes(
    tree: Bvh, corners: Floats, points: Floats, directions: Floats, *, skip: float, threads: int | None = None
) -> Bools:
    """Whether a ray from the point along at least one of ``directions`` meets no triangle.

    Args:
        tree: hierarchy over the triangles ``corners`` ``(F, 3, 3)``.
        points: ``(Q, 3)``. directions: ``(D, 3)``.
        skip: hits nearer than this (in units of the direction's length) do not count, so that a point on a triangle
            does not block itself.
    Returns:
        ``(Q,)`` bool. Both sides of a triangle block.
    """
    points = np.ascontiguousarray(points, dtype=np.float64)
    order = curve_order(points)
    free = np.zeros(len(points), np.bool_)
    ordered = np.ascontiguousarray(corners[tree.order])

    def work(span: tuple[int, int]) -> None:
        _escapes(points, order, *span, directions, tree.boxes, tree.first, tree.size, ordered, skip, free)

    run_chunks(work, spans(len(points), CHUNK), threads)
    return free


def crossing_numbers(
    tree: Bvh, corners: Floats, weights: Floats, points: Floats, *, threads: int | None = None
) -> Ints:
    """Winding numbers of a closed surface by signed crossings of the ray along +z.

    Equals the generalised winding number where that is an integer, which is everywhere for surfaces on whose edges as
    many faces run one way as the other. Neighbours decide on a shared edge by the same arithmetic, so no ray slips
    between them, provided that the corners of every triangle are sorted (:mod:`.canonical`).

    Args:
        tree: hierarchy over the triangles ``corners`` ``(F, 3, 3)``.
        weights: ``(F,)``: 1 where outward is to the left of the corner order as given, -1 where it is to the right.
        points: ``(Q, 3)``, not on the surface.
    Returns:
        ``(Q,)`` int64: 1 inside, 0 outside.
    """
    points = np.ascontiguousarray(points, dtype=np.float64)
    order = curve_order(points)
    numbers = np.zeros(len(points), np.int64)
    ordered = np.ascontiguousarray(corners[tree.order])
    signs = weights[tree.order].astype(np.int64)

    def work(span: tuple[int, int]) -> None:
        _crossings(points, order, *span, tree.boxes, tree.first, tree.size, ordered, signs, numbers)

    run_chunks(work, spans(len(points), CHUNK), threads)
    return numbers


@njit(nogil=True, cache=True, error_model="numpy")
def _blocks(triangle: Floats, ox: float, oy: float, oz: float, dx: float, dy: float, dz: float, skip: float) -> bool:
    """Moeller and Trumbore 1997, both sides, the border included."""
    ax, ay, az = triangle[0, 0], triangle[0, 1], triangle[0, 2]
    ux, uy, uz = triangle[1, 0] - ax, triangle[1, 1] - ay, triangle[1, 2] - az
    vx, vy, vz = triangle[2, 0] - ax, triangle[2, 1] - ay, triangle[2, 2] - az
    px, py, pz = dy * vz - dz * vy, dz * vx - dx * vz, dx * vy - dy * vx
    determinant = ux * px + uy * py + uz * pz
    if determinant == 0.0:
        return False
    tx, ty, tz = ox - ax, oy - ay, oz - az
    u = (tx * px + ty * py + tz * pz) / determinant
    if not 0.0 <= u <= 1.0:
        return False
    qx, qy, qz = ty * uz - tz * uy, tz * ux - tx * uz, tx * uy - ty * ux
    v = (dx * qx + dy * qy + dz * qz) / determinant
    if not (v >= 0.0 and u + v <= 1.0):
        return False
    return (vx * qx + vy * qy + vz * qz) / determinant > skip


@njit(nogil=True, cache=True, error_model="numpy")
def _enters(
    boxes: Floats, node: int, ox: float, oy: float, oz: float, ix: float, iy: float, iz: float, skip: float
) -> bool:
    """Whether the ray with inverse direction ``(ix, iy, iz)`` meets the box of ``node`` beyond ``skip``."""
    a, b = (boxes[node, 0] - ox) * ix, (boxes[node, 3] - ox) * ix
    enter, leave = min(a, b), max(a, b)
    a, b = (boxes[node, 1] - oy) * iy, (boxes[node, 4] - oy) * iy
    enter, leave = max(enter, min(a, b)), min(leave, max(a, b))
    a, b = (boxes[node, 2] - oz) * iz, (boxes[node, 5] - oz) * iz
    enter, leave = max(enter, min(a, b)), min(leave, max(a, b))
    return leave >= max(enter, skip) * (1.0 - 1e-14)


@njit(nogil=True, cache=True, error_model="numpy")
def _escapes(
    points: Floats, rows: Ints, start: int, stop: int, directions: Floats, boxes: Floats, first: Ints, size: Ints,
    corners: Floats, skip: float, free: Bools,
) -> None:  # fmt: skip
    stack = np.empty(STACK, np.int64)
    blockers = np.zeros(len(directions), np.int64)  # what blocked the neighbour on the curve likely blocks this point
    preferred = 0  # the way out of the neighbour on the curve is likely this point's too
    for slot in range(start, stop):
        row = rows[slot]
        x, y, z = points[row, 0], points[row, 1], points[row, 2]
        for turn in range(len(directions)):
            way = (preferred + turn) % len(directions)
            dx, dy, dz = directions[way, 0], directions[way, 1], directions[way, 2]
            if _blocks(corners[blockers[way]], x, y, z, dx, dy, dz, skip):
                continue
            ix, iy, iz = 1.0 / dx, 1.0 / dy, 1.0 / dz
            stack[0] = 0
            top = 1
            blocked = False
            while top > 0 and not blocked:
                top -= 1
                node = stack[top]
                if not _enters(boxes, node, x, y, z, ix, iy, iz, skip):
                    continue
                if size[node] == 0:
                    stack[top] = first[node]
                    stack[top + 1] = first[node] + 1
                    top += 2
                    continue
                for item in range(first[node], first[node] + size[node]):
                    if _blocks(corners[item], x, y, z, dx, dy, dz, skip):
                        blocked = True
                        blockers[way] = item
                        break
            if not blocked:
                free[row] = True
                preferred = way
                break


@njit(nogil=True, cache=True, error_model="numpy")
def _side(ax: float, ay: float, bx: float, by: float, x: float, y: float) -> int:
    """Signed crossing of the edge a, b with the ray from ``(x, y)`` along +x; ``a`` sorts before ``b``."""
    if (ay > y) == (by > y):
        return 0
    left = (bx - ax) * (y - ay) - (x - ax) * (by - ay)
    if by > ay:
        return 1 if left > 0.0 else 0
    return -1 if left < 0.0 else 0


@njit(nogil=True, cache=True, error_model="numpy")
def _crossings(
    points: Floats, rows: Ints, start: int, stop: int, boxes: Floats, first: Ints, size: Ints, corners: Floats,
    signs: Ints, numbers: Ints,
) -> None:  # fmt: skip
    stack = np.empty(STACK, np.int64)
    for slot in range(start, stop):
        row = rows[slot]
        x, y, z = points[row, 0], points[row, 1], points[row, 2]
        total = 0
        stack[0] = 0
        top = 1
        while top > 0:
            top -= 1
            node = stack[top]
            if (
                x < boxes[node, 0] or x > boxes[node, 3] or y < boxes[node, 1] or y > boxes[node, 4]
                or z > boxes[node, 5]
            ):  # fmt: skip
                continue
            if size[node] == 0:
                stack[top] = first[node]
                stack[top + 1] = first[node] + 1
                top += 2
                continue
            for item in range(first[node], first[node] + size[node]):
                a, b, c = corners[item, 0], corners[item, 1], corners[item, 2]
                around = (
                    _side(a[0], a[1], b[0], b[1], x, y)
                    + _side(b[0], b[1], c[0], c[1], x, y)
                    - _side(a[0], a[1], c[0], c[1], x, y)
                )
                if around == 0:
                    continue
                ux, uy, uz = b[0] - a[0], b[1] - a[1], b[2] - a[2]
                vx, vy, vz = c[0] - a[0], c[1] - a[1], c[2] - a[2]
                nx, ny, nz = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
                # the plane is above the point where its height minus z is positive; nz has the sign of `around`
                height = nx * (a[0] - x) + ny * (a[1] - y) + nz * (a[2] - z)
                if height * around > 0.0:
                    total += around * signs[item]
        numbers[row] = total
