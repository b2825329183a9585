"""Energy of a dual vertex beyond the edge hits: triangles that overlap its voxel, boundary edges that pass through it.

(*compiled*; see :mod:`.flexible_dual_grid_scan` for the slab.) Sources: TRELLIS.2 spec section 1.4; overlap test of
Schwarz and Seidel 2010; traversal of Amanatides and Woo 1987.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from .arrays import Ints
from .flexible_dual_grid_scan import LONG_LINE, Slab, Triangles, add_plane, cell_of, clipped_range, row_of
from .lattice_index import below, lowest_bit, popcount

MINIMUM_EDGE = 1e-6
"""Boundary edges shorter than this are left out (length units of the mesh)."""


@njit(nogil=True, cache=True, error_model="numpy")
def _cell_span(triangles: Triangles, t: int, axis: int, step: np.float32, count: int) -> tuple[int, int]:
    """``max(trunc(low / step), 0) .. min(trunc(high / step + 1), count)``, half open; float32, as published."""
    u, v, w = triangles.corners[t, axis], triangles.corners[t, 3 + axis], triangles.corners[t, 6 + axis]
    start = np.float64(min(u, v, w) / step)
    end = np.float64(max(u, v, w) / step + np.float32(1.0))
    if not end >= 1.0:
        return 0, 0
    return cell_of(start, 1.0, count + 1), min(count, int(min(end, 1e9)))


@njit(nogil=True, cache=True, error_model="numpy")
def add_overlaps(
    slab: Slab,
    triangles: Triangles,
    t: int,
    steps: NDArray[np.float32],
    counts: tuple[int, int, int],
    tests: NDArray[np.float32],
) -> None:
    """Add the plane of triangle ``t`` once to every active voxel of the slab that it overlaps (touching counts).

    ``tests`` ``(3, 3, 3)`` is room to work in.
    """
    corners = triangles.corners
    n0, n1, n2 = triangles.normals[t, 0], triangles.normals[t, 1], triangles.normals[t, 2]
    if n0 == 0.0 and n1 == 0.0 and n2 == 0.0:
        return
    sx, sy, sz = np.float64(steps[0]), np.float64(steps[1]), np.float64(steps[2])
    ax, ay, az = np.float64(corners[t, 0]), np.float64(corners[t, 1]), np.float64(corners[t, 2])
    x_start, x_end = _cell_span(triangles, t, 0, steps[0], counts[0])
    y_start, y_end = _cell_span(triangles, t, 1, steps[1], counts[1])
    z_start, z_end = _cell_span(triangles, t, 2, steps[2], counts[2])
    if (x_start < slab.low[0] or x_end > slab.high[0]) and y_end - y_start > LONG_LINE:
        near, far = clipped_range(corners, t, 1, (slab.low[0] - 1) * sx, (slab.high[0] + 1) * sx)
        if near > far:
            return
        y_start = max(y_start, cell_of(near, sy, counts[1]) - 1)
        y_end = min(y_end, cell_of(far, sy, counts[1]) + 2)
    x_start, x_end = max(x_start, slab.low[0]), min(x_end, slab.high[0])
    y_start, y_end = max(y_start, slab.low[1]), min(y_end, slab.high[1])
    z_start, z_end = max(z_start, slab.low[2]), min(z_end, slab.high[2])
    if x_start >= x_end or y_start >= y_end or z_start >= z_end:
        return
    # The tests that follow are float32, operation by operation as published: where a mesh is aligned with the grid,
    # rounding alone decides what touches a voxel.
    m0, m1, m2 = np.float32(n0), np.float32(n1), np.float32(n2)
    zero = np.float32(0.0)
    # Plane: the voxel's two extreme corners along the normal lie on different sides (or on the plane).
    k0 = steps[0] if m0 > zero else zero
    k1 = steps[1] if m1 > zero else zero
    k2 = steps[2] if m2 > zero else zero
    upper = m0 * (k0 - corners[t, 0]) + (m1 * (k1 - corners[t, 1]) + m2 * (k2 - corners[t, 2]))
    lower = m0 * (steps[0] - k0 - corners[t, 0]) + (
        m1 * (steps[1] - k1 - corners[t, 1]) + m2 * (steps[2] - k2 - corners[t, 2])
    )
    # Edges in the three projections (x, y), (y, z), (z, x): normal . p + offset >= 0, the offset moved to the voxel's
    # critical corner.
    for projection in range(3):
        u, v, w = projection, (projection + 1) % 3, (projection + 2) % 3
        side = np.float32(-1.0 if triangles.normals[t, w] < 0.0 else 1.0)
        for k in range(3):
            i, j = 3 * k, 3 * ((k + 1) % 3)
            normal_u = -side * (corners[t, j + v] - corners[t, i + v])
            normal_v = side * (corners[t, j + u] - corners[t, i + u])
            out = max(normal_u, zero) * steps[u] + max(normal_v, zero) * steps[v]
            tests[projection, k, 0], tests[projection, k, 1] = normal_u, normal_v
            tests[projection, k, 2] = -(normal_u * corners[t, i + u] + normal_v * corners[t, i + v]) + out
    long_columns = z_end - z_start > LONG_LINE and abs(n2) > 1e-6
    lowest = min(n0, 0.0) * sx + min(n1, 0.0) * sy + min(n2, 0.0) * sz
    highest = max(n0, 0.0) * sx + max(n1, 0.0) * sy + max(n2, 0.0) * sz
    for x in range(x_start, x_end):
        px = np.float32(x) * steps[0]
        for y in range(y_start, y_end):
            py = np.float32(y) * steps[1]
            if not _inside(tests, 0, px, py):
                continue
            partial = n0 * (x * sx - ax) + n1 * (y * sy - ay) - n2 * az
            z_first, z_last = z_start, z_end
            if long_columns:
                u, w = -(partial + lowest) / (n2 * sz), -(partial + highest) / (n2 * sz)
                z_first = max(z_first, cell_of(min(u, w), 1.0, counts[2]) - 1)
                z_last = min(z_last, cell_of(max(u, w), 1.0, counts[2]) + 2)
            column = ((x - slab.low[0]) * (slab.high[1] - slab.low[1]) + (y - slab.low[1])) * slab.words
            offset_first, offset_last = z_first - slab.low[2], z_last - slab.low[2]
            if offset_first >= offset_last:
                continue
            for word in range(offset_first >> 6, ((offset_last - 1) >> 6) + 1):
                present = slab.mask[column + word]
                bits = present
                if word == offset_first >> 6:
                    bits &= ~below(offset_first & 63)
                if word == (offset_last - 1) >> 6 and offset_last & 63 != 0:
                    bits &= below(offset_last & 63)
                while bits != np.uint64(0):
                    bit = lowest_bit(bits)
                    bits &= bits - np.uint64(1)
                    z = slab.low[2] + (word << 6) + bit
                    pz = np.float32(z) * steps[2]
                    level = m0 * px + (m1 * py + m2 * pz)
                    if (level + upper) * (level + lower) > zero:
                        continue
                    if _inside(tests, 1, py, pz) and _inside(tests, 2, pz, px):
                        row = int(slab.first[column + word]) + _rank(present, bit)
                        add_plane(slab.sums, row, n0, n1, n2, partial + n2 * (z * sz))


@njit(nogil=True, cache=True, error_model="numpy")
def _inside(tests: NDArray[np.float32], projection: int, u: np.float32, v: np.float32) -> bool:
    """Whether the voxel at ``(u, v)`` in this projection reaches the inner side of all three edges."""
    for k in range(3):
        if tests[projection, k, 0] * u + tests[projection, k, 1] * v + tests[projection, k, 2] < np.float32(0.0):
            return False
    return True


@njit(nogil=True, cache=True, error_model="numpy")
def _rank(present: np.uint64, bit: int) -> int:
    return popcount(present & below(bit))


class Boundary(NamedTuple):
    """Voxels on boundary edges, grouped by slab."""

    starts: Ints
    """``(slabs + 1,)`` first entry of each slab."""
    edges: NDArray[np.int32]
    """``(E, 2)`` vertices of the boundary edges, smaller index first."""
    edge: NDArray[np.int32]
    """``(M,)`` edge of an entry."""
    cells: NDArray[np.int16]
    """``(M, 3)`` voxel of an entry."""


@njit(nogil=True, cache=True, error_model="numpy")
def group_edges(faces: Any, starts: Ints, others: NDArray[np.int32]) -> None:
    """Bucket the undirected edges by their smaller vertex; ``starts`` (V + 1) comes in as zeros."""
    for t in range(len(faces)):
        for k in range(3):
            starts[min(faces[t, k], faces[t, (k + 1) % 3]) + 1] += 1
    for v in range(1, len(starts)):
        starts[v] += starts[v - 1]
    for t in range(len(faces)):
        for k in range(3):
            i, j = faces[t, k], faces[t, (k + 1) % 3]
            low = min(i, j)
            others[starts[low]] = max(i, j)
            starts[low] += 1
    for v in range(len(starts) - 1, 0, -1):
        starts[v] = starts[v - 1]
    starts[0] = 0


@njit(nogil=True, cache=True, error_model="numpy")
def _sort(values: NDArray[np.int32]) -> None:
    """In place; most vertices have few neighbours, and a call of the general sort costs more than sorting them."""
    if len(values) > 32:
        values[:] = np.sort(values)
        return
    for end in range(1, len(values)):
        value, place = values[end], end
        while place > 0 and values[place - 1] > value:
            values[place] = values[place - 1]
            place -= 1
        values[place] = value


@njit(nogil=True, cache=True, error_model="numpy")
def single_edges(
    starts: Ints, others: NDArray[np.int32], first: int, last: int, edges: NDArray[np.int32], place: int
) -> int:
    """Edges that occur once, of the smaller vertices ``first..last``: their number; written if ``edges`` has room."""
    count = 0
    for v in range(first, last):
        bucket = others[starts[v] : starts[v + 1]]
        _sort(bucket)
        for i in range(len(bucket)):
            if (i > 0 and bucket[i - 1] == bucket[i]) or (i + 1 < len(bucket) and bucket[i + 1] == bucket[i]):
                continue
            if len(edges) > 0:
                edges[place + count, 0], edges[place + count, 1] = v, bucket[i]
            count += 1
    return count


@njit(nogil=True, cache=True, error_model="numpy")
def walk_edges(
    vertices: NDArray[np.float32],
    edges: NDArray[np.int32],
    first: int,
    last: int,
    steps: NDArray[np.float32],
    counts: tuple[int, int, int],
    slab_planes: int,
    places: Ints,
    boundary: Boundary,
    fill: bool,
) -> None:
    """Voxels of the grid on the edges ``first..last``, in order along each edge.

    Counts them per slab into ``places`` or, with ``fill``, writes them from ``places[slab]`` on. The walk starts at the
    edge's first vertex, but whole stretches outside the grid are skipped: the work is bounded by the grid.
    """
    cell, sign = np.empty(3, np.int64), np.empty(3, np.int64)
    next_at, spacing = np.empty(3), np.empty(3)
    for e in range(first, last):
        i, j = edges[e, 0], edges[e, 1]
        dx = np.float64(vertices[j, 0]) - np.float64(vertices[i, 0])
        dy = np.float64(vertices[j, 1]) - np.float64(vertices[i, 1])
        dz = np.float64(vertices[j, 2]) - np.float64(vertices[i, 2])
        length = np.sqrt(dx * dx + dy * dy + dz * dz)
        if length < MINIMUM_EDGE:
            continue
        # Parameters (lengths along the edge) at which it enters and leaves the grid, one cell of margin.
        enter, leave = 0.0, length
        for axis in range(3):
            direction = (dx if axis == 0 else (dy if axis == 1 else dz)) / length
            step, at = np.float64(steps[axis]), np.float64(vertices[i, axis])
            below_grid, above_grid = -step - at, (counts[axis] + 1) * step - at
            if direction == 0.0:
                if below_grid > 0.0 or above_grid < 0.0:
                    leave = -1.0
            else:
                u, w = below_grid / direction, above_grid / direction
                enter, leave = max(enter, min(u, w)), min(leave, max(u, w))
        if enter > leave:
            continue
        for axis in range(3):
            direction = (dx if axis == 0 else (dy if axis == 1 else dz)) / length
            step, at = np.float64(steps[axis]), np.float64(vertices[i, axis])
            start = np.floor(np.float64(vertices[i, axis] / steps[axis]))  # float32 quotient, as published
            if enter > 0.0:  # begin where it comes near the grid; clamped, because far away this sum is coarse
                at = min(max(at + direction * enter, -step), (counts[axis] + 1) * step)
                start = np.floor(at / step)
            cell[axis] = int(start)
            sign[axis] = 1 if direction > 0.0 else -1
            spacing[axis] = step / abs(direction) if direction != 0.0 else np.inf
            next_at[axis] = np.inf
            if direction != 0.0:
                border = np.float64(steps[axis] * np.float32(start + 1.0 if direction > 0.0 else start))
                next_at[axis] = (border - at) / direction
        length -= enter
        while True:
            inside = True
            for axis in range(3):
                inside &= 0 <= cell[axis] < counts[axis]
            if inside:
                slab = cell[0] // slab_planes
                if fill:
                    boundary.edge[places[slab]] = e
                    for axis in range(3):
                        boundary.cells[places[slab], axis] = cell[axis]
                places[slab] += 1
            if next_at[0] < next_at[1]:
                axis = 0 if next_at[0] < next_at[2] else 2
            else:
                axis = 1 if next_at[1] < next_at[2] else 2
            if not next_at[axis] <= length:
                break
            cell[axis] += sign[axis]
            if cell[axis] < -2 or cell[axis] > counts[axis] + 1:  # it can only get further away
                break
            next_at[axis] += spacing[axis]


@njit(nogil=True, cache=True, error_model="numpy")
def add_boundary(
    slab: Slab,
    boundary: Boundary,
    number: int,
    vertices: NDArray[np.float32],
    steps: NDArray[np.float32],
    weight: float,
) -> None:
    """Add ``weight`` times the squared distance to the line of each boundary edge on a voxel of slab ``number``."""
    sums = slab.sums
    for m in range(boundary.starts[number], boundary.starts[number + 1]):
        x, y, z = int(boundary.cells[m, 0]), int(boundary.cells[m, 1]), int(boundary.cells[m, 2])
        if not (slab.low[1] <= y < slab.high[1] and slab.low[2] <= z < slab.high[2]):
            continue
        column = (x - slab.low[0]) * (slab.high[1] - slab.low[1]) + (y - slab.low[1])
        row = row_of(slab.mask, slab.first, column * slab.words + ((z - slab.low[2]) >> 6), (z - slab.low[2]) & 63)
        if row < 0:
            continue
        i, j = boundary.edges[boundary.edge[m], 0], boundary.edges[boundary.edge[m], 1]
        vx, vy, vz = np.float64(vertices[i, 0]), np.float64(vertices[i, 1]), np.float64(vertices[i, 2])
        dx, dy, dz = vertices[j, 0] - vx, vertices[j, 1] - vy, vertices[j, 2] - vz
        length = np.sqrt(dx * dx + dy * dy + dz * dz)
        dx, dy, dz = dx / length, dy / length, dz / length
        # From the voxel's corner to the line's foot point: the right-hand side is (I - d d^T)(v0 - corner).
        rx, ry, rz = vx - x * np.float64(steps[0]), vy - y * np.float64(steps[1]), vz - z * np.float64(steps[2])
        along = dx * rx + dy * ry + dz * rz
        sums[row, 0] += weight * (1.0 - dx * dx)
        sums[row, 1] -= weight * dx * dy
        sums[row, 2] -= weight * dx * dz
        sums[row, 3] += weight * (1.0 - dy * dy)
        sums[row, 4] -= weight * dy * dz
        sums[row, 5] += weight * (1.0 - dz * dz)
        sums[row, 6] += weight * (rx - dx * along)
        sums[row, 7] += weight * (ry - dy * along)
        sums[row, 8] += weight * (rz - dz * along)
