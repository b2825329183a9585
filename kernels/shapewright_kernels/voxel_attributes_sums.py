"""Sampling of materials at the voxels of one slab, and their weighted means (*compiled*)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from .arrays import Floats, Ints
from .flexible_dual_grid_scan import Slab, Triangles, row_of
from .flexible_dual_grid_voxels import list_voxels
from .texture_sampling import Slot, sample

SLOTS = ("base_color", "metallic", "roughness", "alpha", "emissive", "normal")
WIDTHS = (3, 1, 1, 1, 3, 3)
ALPHA, NORMAL = 3, 5
OPAQUE, MASK, BLEND = 0, 1, 2

NO_MAP = 1e6
"""Length of the change of position with u and v where a triangle has no area in the image (published value)."""
SMALLEST_MAP = 1e-6
"""Doubled area in the image below which there is none (published value)."""
FAINT = 1e-6
"""Weight of a triangle without area, and the least weight of any: it counts where nothing else is."""


class Shading(NamedTuple):
    """What is sampled: corners of all triangles, and one material."""

    uvs: NDArray[np.float32]
    """``(F, S, 3, 2)``."""
    colors: NDArray[np.float32]
    """``(F, 3, 4)``, or no rows."""
    normals: NDArray[np.float32]
    """``(F, 3, 3)``, or no rows: the normals of the faces."""
    columns: Ints
    """``(6,)`` first column of each of :data:`SLOTS` in the result, -1 for what nobody wants."""
    largest_step: float
    mip_offset: float
    distance_unit: float


@njit(nogil=True, cache=True, error_model="numpy")
def _map_of(
    triangles: Triangles, t: int, corner_uvs: NDArray[np.float32], tangents: Floats
) -> float:  # fmt: skip
    """Length in space of a unit in the image (mean of both directions); ``tangents`` along u and v."""
    corners = triangles.corners
    du1 = np.float64(corner_uvs[1, 0]) - corner_uvs[0, 0]
    dv1 = np.float64(corner_uvs[1, 1]) - corner_uvs[0, 1]
    du2 = np.float64(corner_uvs[2, 0]) - corner_uvs[0, 0]
    dv2 = np.float64(corner_uvs[2, 1]) - corner_uvs[0, 1]
    tangents[:] = 0.0
    tangents[0, 0], tangents[1, 1] = 1.0, 1.0
    area = du1 * dv2 - dv1 * du2
    if not abs(area) >= SMALLEST_MAP:
        return NO_MAP
    lengths = 1.0
    for direction in range(2):
        total = 0.0
        for axis in range(3):
            e1 = np.float64(corners[t, 3 + axis]) - corners[t, axis]
            e2 = np.float64(corners[t, 6 + axis]) - corners[t, axis]
            along = dv2 * e1 - dv1 * e2 if direction == 0 else du1 * e2 - du2 * e1
            tangents[direction, axis] = along
            total += along * along
        length = np.sqrt(total)
        if length > 0.0:
            for axis in range(3):
                tangents[direction, axis] /= length
        lengths *= length / area
    return np.sqrt(lengths)


class Gathered(NamedTuple):
    """The voxels of one triangle: scratch, as long as the longest list of a triangle."""

    found: Ints
    rows: Ints
    weights: Floats
    shares: Floats
    """``(L, 3)`` barycentric coordinates of the voxel's centre, not cut to the triangle."""
    uvs: Floats
    values: Floats
    """``(L, 3)``."""


@njit(nogil=True, cache=True, error_model="numpy")
def _gather(
    slab: Slab,
    triangles: Triangles,
    t: int,
    steps: NDArray[np.float32],
    number: int,
    distance_unit: float,
    last: NDArray[np.int32],
    into: Gathered,
) -> int:
    """Rows, weights and shares of the distinct voxels in ``into.found[:number]``; how many they are."""
    found, rows, weights, shares = into.found, into.rows, into.weights, into.shares
    mask, first, corners = slab.mask, slab.first, triangles.corners
    low0, low1, low2 = slab.low
    stride_y = slab.words * 64
    stride_x = (slab.high[1] - low1) * stride_y
    step0, step1, step2 = np.float64(steps[0]), np.float64(steps[1]), np.float64(steps[2])
    ax, ay, az = np.float64(corners[t, 0]), np.float64(corners[t, 1]), np.float64(corners[t, 2])
    ux, uy, uz = corners[t, 3] - ax, corners[t, 4] - ay, corners[t, 5] - az
    vx, vy, vz = corners[t, 6] - ax, corners[t, 7] - ay, corners[t, 8] - az
    nx, ny, nz = triangles.normals[t, 0], triangles.normals[t, 1], triangles.normals[t, 2]
    uu, uv, vv = ux * ux + uy * uy + uz * uz, ux * vx + uy * vy + uz * vz, vx * vx + vy * vy + vz * vz
    inverse = 1.0 / (uu * vv - uv * uv)
    flat = not np.isfinite(inverse) or (nx == 0.0 and ny == 0.0 and nz == 0.0)
    count = 0
    for place in range(number):
        voxel = found[place]
        row = row_of(mask, first, voxel >> 6, voxel & 63)
        if last[row] == t:
            continue
        last[row] = t
        x = voxel // stride_x
        y = (voxel - x * stride_x) // stride_y
        z = voxel - x * stride_x - y * stride_y
        px, py, pz = (low0 + x + 0.5) * step0 - ax, (low1 + y + 0.5) * step1 - ay, (low2 + z + 0.5) * step2 - az
        rows[count] = row
        if flat:
            weights[count] = FAINT
            shares[count, 0], shares[count, 1], shares[count, 2] = 1.0 / 3.0, 1.0 / 3.0, 1.0 / 3.0
        else:
            along_u, along_v = px * ux + py * uy + pz * uz, px * vx + py * vy + pz * vz
            share1, share2 = (vv * along_u - uv * along_v) * inverse, (uu * along_v - uv * along_u) * inverse
            shares[count, 0], shares[count, 1], shares[count, 2] = 1.0 - share1 - share2, share1, share2
            weights[count] = max(1.0 - (px * nx + py * ny + pz * nz) / distance_unit, FAINT)
        count += 1
    return count


@njit(nogil=True, cache=True, error_model="numpy")
def _tint(colors: NDArray[np.float32], t: int, first: int, width: int, count: int, into: Gathered) -> None:
    """Multiply by the interpolated colours of the corners."""
    for place in range(count):
        for k in range(width):
            colour = 0.0
            for corner in range(3):
                colour += into.shares[place, corner] * colors[t, corner, first + k]
            into.values[place, k] *= min(max(colour, 0.0), 1.0)


@njit(nogil=True, cache=True, error_model="numpy")
def _turn_normals(
    triangles: Triangles, normals: NDArray[np.float32], t: int, tangents: Floats, textured: bool, count: int,
    into: Gathered,
) -> None:  # fmt: skip
    """Tangent-space normals in ``into.values`` (if ``textured``) to unit normals in space."""
    for place in range(count):
        m = (triangles.normals[t, 0], triangles.normals[t, 1], triangles.normals[t, 2])
        mx, my, mz = m
        if len(normals) > 0:
            mx, my, mz = 0.0, 0.0, 0.0
            for k in range(3):
                mx += into.shares[place, k] * normals[t, k, 0]
                my += into.shares[place, k] * normals[t, k, 1]
                mz += into.shares[place, k] * normals[t, k, 2]
        if textured:
            r, g = 2.0 * into.values[place, 0] - 1.0, 2.0 * into.values[place, 1] - 1.0
            b = 2.0 * into.values[place, 2] - 1.0
            mx = r * tangents[0, 0] + g * tangents[1, 0] + b * mx
            my = r * tangents[0, 1] + g * tangents[1, 1] + b * my
            mz = r * tangents[0, 2] + g * tangents[1, 2] + b * mz
        size = np.sqrt(mx * mx + my * my + mz * mz)
        size = size if size > 0.0 else 1.0
        into.values[place, 0], into.values[place, 1], into.values[place, 2] = mx / size, my / size, mz / size


@njit(nogil=True, cache=True, error_model="numpy")
def _add_slot(
    number: int,
    slot: Slot,
    at: int,
    triangles: Triangles,
    t: int,
    shading: Shading,
    alpha_mode: int,
    cutoff: float,
    count: int,
    tangents: Floats,
    into: Gathered,
    sums: Floats,
) -> None:
    """Sample slot ``number`` at the gathered voxels and add it to the columns of ``sums`` from ``at`` on."""
    rows, weights, values = into.rows, into.weights, into.values
    width, level = len(slot.factor), 0.0
    textured = slot.base.shape[0] > 0
    if textured:
        tangents[:] = 0.0
        tangents[0, 0], tangents[1, 1] = 1.0, 1.0
        uvs, shares = into.uvs, into.shares
        if slot.uv_set < shading.uvs.shape[1]:
            corner_uvs = shading.uvs[t, slot.uv_set]
            length = _map_of(triangles, t, corner_uvs, tangents)
            level = np.log2(shading.largest_step / length * slot.base.shape[0]) + shading.mip_offset
            for axis in range(2):
                a, b, c = corner_uvs[0, axis], corner_uvs[1, axis], corner_uvs[2, axis]
                for place in range(count):
                    uvs[place, axis] = shares[place, 0] * a + shares[place, 1] * b + shares[place, 2] * c
        else:
            uvs[:count] = 0.0
    sample(slot, into.uvs, count, level, values)
    if len(shading.colors) > 0 and (number == 0 or number == ALPHA):
        _tint(shading.colors, t, 0 if number == 0 else 3, width, count, into)
    if number == ALPHA and alpha_mode != BLEND:
        for place in range(count):
            values[place, 0] = 0.0 if alpha_mode == MASK and values[place, 0] < cutoff else 1.0
    if number == NORMAL:
        _turn_normals(triangles, shading.normals, t, tangents, textured, count, into)
    for place in range(count):
        row, weight = rows[place], weights[place]
        for k in range(width):
            sums[row, at + k] += weight * values[place, k]


@njit(nogil=True, cache=True, error_model="numpy")
def add_samples(
    slab: Slab,
    triangles: Triangles,
    members: NDArray[np.int32],
    steps: NDArray[np.float32],
    counts: tuple[int, int, int],
    shading: Shading,
    slots: tuple[Slot, Slot, Slot, Slot, Slot, Slot],
    alpha_mode: int,
    cutoff: float,
    into: Gathered,
    last: NDArray[np.int32],
    sums: Floats,
    weights: Floats,
) -> None:
    """Add the samples of the triangles ``members``, which are of one material, each once to each of its voxels.

    Args:
        slab: its mask complete, ``first`` its prefix sums.
        last: ``(N,)`` the triangle that a voxel was last sampled for.
        sums, weights: ``(N, K)`` in the columns that ``shading.columns`` names, and ``(N,)``.
    """
    base_color, metallic, roughness, alpha, emissive, normal = slots
    tangents = np.empty((2, 3))
    at, mode = shading.columns, alpha_mode
    for t in members:
        number = list_voxels(slab, triangles, t, steps, counts, into.found)
        if number == 0:
            continue
        n = _gather(slab, triangles, t, steps, number, shading.distance_unit, last, into)
        for place in range(n):
            weights[into.rows[place]] += into.weights[place]
        if at[0] >= 0:
            _add_slot(0, base_color, at[0], triangles, t, shading, mode, cutoff, n, tangents, into, sums)
        if at[1] >= 0:
            _add_slot(1, metallic, at[1], triangles, t, shading, mode, cutoff, n, tangents, into, sums)
        if at[2] >= 0:
            _add_slot(2, roughness, at[2], triangles, t, shading, mode, cutoff, n, tangents, into, sums)
        if at[3] >= 0:
            _add_slot(3, alpha, at[3], triangles, t, shading, mode, cutoff, n, tangents, into, sums)
        if at[4] >= 0:
            _add_slot(4, emissive, at[4], triangles, t, shading, mode, cutoff, n, tangents, into, sums)
        if at[5] >= 0:
            _add_slot(5, normal, at[5], triangles, t, shading, mode, cutoff, n, tangents, into, sums)
