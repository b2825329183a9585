"""Which voxels triangles make active, one slab of the grid at a time (*compiled*).

The rule, and why ranges are cut to the slab the way they are, is that of :mod:`.flexible_dual_grid_scan`, which adds
quadrics where this lists voxels; a test holds the two against each other. Kept apart because the loop there has no room
for another branch.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from .arrays import Ints
from .flexible_dual_grid_scan import LONG_LINE, Slab, Triangles, cell_of, clipped_range
from .lattice_index import popcount


@njit(nogil=True, cache=True, error_model="numpy")
def list_voxels(
    slab: Slab, triangles: Triangles, t: int, steps: NDArray[np.float32], counts: tuple[int, int, int], found: Ints
) -> int:
    """Voxels of the slab around the grid edges that triangle ``t`` crosses, in the order of the scan, with repetitions.

    Args:
        found: takes their places in the slab's mask, in bits; where it has no room they are set in the mask instead.
    Returns:
        How many there are.
    """
    corners, cells, mask = triangles.corners, triangles.cells, slab.mask
    x_low, y_low, z_low = slab.low
    x_high = slab.high[0]
    stride_y = slab.words * 64
    stride_x = (slab.high[1] - y_low) * stride_y
    origin = x_low * stride_x + y_low * stride_y + z_low
    step_x = np.float64(steps[0])
    leaves_slab = cells[t, 0] < x_low - 1 or cells[t, 3] > x_high
    marks = len(found) == 0
    number = 0
    for edge_axis in range(3):
        a0, a1 = (edge_axis + 1) % 3, (edge_axis + 2) % 3
        if cells[t, a0] == cells[t, 3 + a0] or cells[t, a1] == cells[t, 3 + a1]:
            continue  # no grid line between its corners
        step0, step1, step2 = np.float64(steps[a0]), np.float64(steps[a1]), np.float64(steps[edge_axis])
        i, j, k = 0, 3, 6  # corners sorted by the row coordinate
        if corners[t, j + a1] < corners[t, i + a1]:
            i, j = j, i
        if corners[t, k + a1] < corners[t, j + a1]:
            j, k = k, j
            if corners[t, j + a1] < corners[t, i + a1]:
                i, j = j, i
        row_start = cell_of(np.float64(corners[t, i + a1]), step1, counts[a1])
        row_middle = cell_of(np.float64(corners[t, j + a1]), step1, counts[a1])
        row_end = cell_of(np.float64(corners[t, k + a1]), step1, counts[a1])
        clip_low, clip_high = row_start, row_end
        if a1 == 0:
            clip_low, clip_high = max(row_start, x_low - 1), min(row_end, x_high)
        elif leaves_slab and row_end - row_start > LONG_LINE:
            near, far = clipped_range(corners, t, a1, (x_low - 2) * step_x, (x_high + 1) * step_x)
            if near > far:
                continue
            clip_low = max(row_start, cell_of(near, step1, counts[a1]) - 2)
            clip_high = min(row_end, cell_of(far, step1, counts[a1]) + 2)
        clip_low, clip_high = max(clip_low, int(cells[t, a1])), min(clip_high, int(cells[t, 3 + a1]))
        layer_low, layer_high = int(cells[t, edge_axis]), int(cells[t, 3 + edge_axis])
        if edge_axis == 0:
            layer_low, layer_high = max(layer_low, x_low), min(layer_high, x_high - 1)
        count2 = np.float64(counts[edge_axis])
        if edge_axis == 0:
            stride0, stride1, stride2, in_x0, in_x1, in_x2 = stride_y, 1, stride_x, 0, 0, 1
        elif edge_axis == 1:
            stride0, stride1, stride2, in_x0, in_x1, in_x2 = 1, stride_x, stride_y, 0, 1, 0
        else:
            stride0, stride1, stride2, in_x0, in_x1, in_x2 = stride_x, stride_y, 1, 1, 0, 0
        b0, b1 = np.float64(corners[t, j + a0]), np.float64(corners[t, j + a1])
        b2 = np.float64(corners[t, j + edge_axis])
        for half in range(2):
            apex, far_end = (i, k) if half == 0 else (k, i)
            first_row = max(clip_low, row_start if half == 0 else row_middle)
            last_row = min(clip_high, row_middle if half == 0 else row_end)
            p0, p1 = np.float64(corners[t, apex + a0]), np.float64(corners[t, apex + a1])
            p2 = np.float64(corners[t, apex + edge_axis])
            c0, c1 = np.float64(corners[t, far_end + a0]), np.float64(corners[t, far_end + a1])
            c2 = np.float64(corners[t, far_end + edge_axis])
            for r in range(first_row, last_row):
                y = np.float64(np.float32(r + 1) * steps[a1])
                left, left_z, right, right_z = p0, p2, p0, p2
                if p1 != b1:
                    q = (y - p1) / (b1 - p1)
                    left, left_z = (1.0 - q) * p0 + q * b0, (1.0 - q) * p2 + q * b2
                if p1 != c1:
                    q = (y - p1) / (c1 - p1)
                    right, right_z = (1.0 - q) * p0 + q * c0, (1.0 - q) * p2 + q * c2
                if left > right:
                    left, left_z, right, right_z = right, right_z, left, left_z
                column_start = cell_of(left, step0, counts[a0])
                column_end = cell_of(right, step0, counts[a0])
                if a0 == 0:
                    column_start, column_end = max(column_start, x_low - 1), min(column_end, x_high)
                elif edge_axis == 0 and leaves_slab and column_end - column_start > LONG_LINE:
                    bound_low, bound_high = (x_low - 2) * step_x, (x_high + 1) * step_x
                    if max(left_z, right_z) < bound_low or min(left_z, right_z) > bound_high:
                        continue
                    if left_z != right_z:
                        u = left + (right - left) * ((bound_low - left_z) / (right_z - left_z))
                        w = left + (right - left) * ((bound_high - left_z) / (right_z - left_z))
                        column_start = max(column_start, cell_of(min(u, w), step0, counts[a0]) - 2)
                        column_end = min(column_end, cell_of(max(u, w), step0, counts[a0]) + 2)
                column_start = max(column_start, int(cells[t, a0]))
                column_end = min(column_end, int(cells[t, 3 + a0]))
                for c in range(column_start, column_end):
                    x = np.float64(np.float32(c + 1) * steps[a0])
                    q = (x - left) / (right - left)
                    level = ((1.0 - q) * left_z + q * right_z) / step2
                    if not (level > -1.0 and level < count2):
                        continue
                    layer = int(level)
                    if layer < layer_low or layer > layer_high:
                        continue
                    at = c * stride0 + r * stride1 + layer * stride2 - origin
                    plane = c * in_x0 + r * in_x1 + layer * in_x2  # the x plane that the voxel lies in
                    for dx in range(2):
                        for dy in range(2):
                            if not x_low <= plane + dx * in_x0 + dy * in_x1 < x_high:
                                continue
                            voxel = at + dx * stride0 + dy * stride1
                            if marks:
                                mask[voxel >> 6] |= np.uint64(1) << np.uint64(voxel & 63)
                            else:
                                found[number] = voxel
                            number += 1
    return number


@njit(nogil=True, cache=True, error_model="numpy")
def find_voxels(
    number: int,
    planes: int,
    members: NDArray[np.int32],
    triangles: Triangles,
    steps: NDArray[np.float32],
    counts: tuple[int, int, int],
) -> tuple[Slab, int, int]:
    """Slab ``number``, ``planes`` thick and cut to the box of its ``members``, with its active voxels but no sums or
    flags yet; how many voxels there are, and the longest list of one triangle."""
    y_low, y_high, z_low, z_high = counts[1], 0, counts[2], 0
    for t in members:
        y_low, y_high = min(y_low, triangles.cells[t, 1]), max(y_high, triangles.cells[t, 4] + 1)
        z_low, z_high = min(z_low, triangles.cells[t, 2]), max(z_high, triangles.cells[t, 5] + 1)
    low = (number * planes, y_low, z_low)
    high = (min((number + 1) * planes, counts[0]), max(y_low, y_high), max(z_low, z_high))
    words = (high[2] - low[2] + 63) >> 6
    mask = np.zeros((high[0] - low[0]) * (high[1] - low[1]) * words, np.uint64)
    first = np.empty(len(mask), np.int32)
    slab = Slab(low, high, words, mask, first, np.empty((0, 9)), np.empty(0, np.uint8))
    longest, total = 0, 0
    nowhere = np.empty(0, np.int64)
    for t in members:
        longest = max(longest, list_voxels(slab, triangles, t, steps, counts, nowhere))
    for word in range(len(mask)):
        first[word] = total
        total += popcount(mask[word])
    return slab, total, longest
