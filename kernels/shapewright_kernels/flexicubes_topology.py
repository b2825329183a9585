"""Connectivity of FlexiCubes: which dual vertices exist, which edges they average, which four make a quad.

Everything discrete happens here, in compiled code and linear in the number of surface voxels: no row-wise unique, no
hash map. Positions never enter, so the float arithmetic can stay differentiable elsewhere. Source: Shen et al. 2023,
section 4; ambiguity rule of Nielson's Dual Marching Cubes (cases C16 and C19).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from .arrays import Bools, Ints
from .flexicubes_tables import CORNERS, EDGES, tables
from .threads import run_chunks, spans

Rows = NDArray[np.int32]
Bytes = NDArray[np.uint8]
_CHUNK = 1 << 14
"""Voxels, or corners, of one unit of work."""
_SPARSE = 8
"""Corners a surface voxel from which on most corners have nothing to do with the surface."""
_MAX_AXIS = 1 << 21
"""Three axes of this many voxels still pack into one int64 key."""

_AXES = (CORNERS[EDGES[:, 0]] != CORNERS[EDGES[:, 1]]).argmax(axis=1)
"""Axis of each edge."""
_ACROSS = np.array([[1, 2], [0, 2], [0, 1]])[_AXES]
_ROLES = 3 - (CORNERS[EDGES[:, 0]][np.arange(12)[:, None], _ACROSS] @ np.array([2, 1]))
"""Place of the voxel among the four around each of its edges, in lexicographic order."""
_EDGE_AT = np.empty((3, 4), np.int64)
"""The edge of each axis in the voxel at each place around it."""
_EDGE_AT[_AXES, _ROLES] = np.arange(12)


@dataclass(frozen=True)
class Topology:
    """Dual mesh without positions. ``S`` surface voxels, ``D`` dual vertices, ``E`` incidences (dual vertex, edge),
    ``Q`` quads.

    Dual vertices come by voxels with one, two, three, four of them, then in lexicographic voxel order, then in group
    order; incidences follow their dual vertex, ascending in the voxel's edge number.
    """

    voxels: Ints
    """``(S,)`` rows of the caller's voxels that hold surface, in lexicographic order of their coordinates."""
    cases: Bytes
    """``(S,)`` cases after inversion of ambiguous pairs."""
    dual_voxel: Ints
    """``(D,)`` index into ``voxels``."""
    dual_start: Ints
    """``(D + 1,)`` first incidence of each dual vertex."""
    edge: Bytes
    """``(E,)`` edge number 0..11 within the voxel."""
    ends: Ints
    """``(E, 2)`` global ids of the edge's corners, oriented."""
    quads: Ints
    """``(Q, 4)`` dual vertices around an edge with four surface voxels, wound towards positive values; quads whose
    first corner is positive come first, then the others, each in order of the edge's corner ids."""
    quad_ends: Ints
    """``(Q, 2)`` corners of the edge that each quad surrounds."""


@njit(nogil=True, cache=True, error_model="numpy")
def _keys(coords: Rows, keys: Ints) -> bool:
    """Packed lexicographic keys; returns whether they already ascend strictly."""
    ascending = True
    for row in range(len(coords)):
        key = (np.int64(coords[row, 0]) << 42) | (np.int64(coords[row, 1]) << 21) | np.int64(coords[row, 2])
        keys[row] = key
        if row and keys[row - 1] >= key:
            ascending = False
    return ascending


@njit(nogil=True, cache=True, error_model="numpy")
def _classify(cubes: Ints, inside: Bools, order: Ints, low: int, high: int, cases: Bytes) -> int:
    """Case of each voxel (in sorted order) and the number of voxels that hold surface."""
    surface = 0
    for i in range(low, high):
        row = order[i] if len(order) else i
        case = 0
        for c in range(8):
            if inside[cubes[row, c]]:
                case |= 1 << c
        cases[i] = case
        surface += case != 0 and case != 255
    return surface


@njit(nogil=True, cache=True, error_model="numpy")
def _compact(
    cases: Bytes, order: Ints, keys: Ints, low: int, high: int, start: int, voxels: Ints, found: Bytes, found_keys: Ints
) -> None:
    at = start
    for i in range(low, high):
        if cases[i] != 0 and cases[i] != 255:
            voxels[at] = order[i] if len(order) else i
            found[at] = cases[i]
            found_keys[at] = keys[i]
            at += 1


@njit(nogil=True, cache=True, error_model="numpy")
def _inverted(cases: Bytes, keys: Ints, coords: Rows, voxels: Ints, flagged: Ints, check: Ints, result: Bytes) -> None:
    """Swap a flagged case for its partner where the voxel across the ambiguous face is flagged as well.

    ``flagged`` are indices of flagged voxels; their keys ascend, so a neighbour is found by bisection.
    """
    count = len(flagged)
    for f in range(count):
        i = flagged[f]
        case = cases[i]
        row = voxels[i]
        x = np.int64(coords[row, 0]) + check[case, 1]
        y = np.int64(coords[row, 1]) + check[case, 2]
        z = np.int64(coords[row, 2]) + check[case, 3]
        if x < 0 or y < 0 or z < 0:
            continue
        wanted = (x << 42) | (y << 21) | z
        low, high = 0, count
        while low < high:
            middle = (low + high) >> 1
            if keys[flagged[middle]] < wanted:
                low = middle + 1
            else:
                high = middle
        if low < count and keys[flagged[low]] == wanted:
            result[i] = check[case, 4]


@njit(nogil=True, cache=True, error_model="numpy")
def _count(cases: Bytes, sizes: Ints, number: Ints, low: int, high: int, counts: Ints) -> None:
    """Dual vertices and incidences of a chunk by the voxel's number of dual vertices; ``counts (4, 2)``."""
    for i in range(low, high):
        case = cases[i]
        duals = number[case]
        counts[duals - 1, 0] += duals
        for g in range(duals):
            counts[duals - 1, 1] += sizes[case, g]


@njit(nogil=True, cache=True, error_model="numpy")
def _fill(
    cases: Bytes, voxels: Ints, cubes: Ints, groups: Ints, sizes: Ints, number: Ints, edges: Ints, axes: Ints,
    roles: Ints, low: int, high: int, starts: Ints, dual_voxel: Ints, dual_start: Ints, edge: Bytes, ends: Ints,
    around: Rows,
) -> None:  # fmt: skip
    """Write dual vertices and incidences of a chunk; ``around (3 C, 4)`` gets, for the edge of each axis that starts at
    a corner, the dual vertices of the voxels around it."""
    for i in range(low, high):
        case = cases[i]
        row = voxels[i]
        duals = number[case]
        for g in range(duals):
            dual = starts[duals - 1, 0]
            at = starts[duals - 1, 1]
            dual_voxel[dual] = i
            dual_start[dual] = at
            for k in range(sizes[case, g]):
                e = groups[case, g, k]
                near = cubes[row, edges[e, 0]]
                edge[at] = e
                ends[at, 0] = near
                ends[at, 1] = cubes[row, edges[e, 1]]
                around[3 * near + axes[e], roles[e]] = dual
                at += 1
            starts[duals - 1, 0] = dual + 1
            starts[duals - 1, 1] = at


@njit(nogil=True, cache=True, error_model="numpy")
def _count_quads(around: Rows, positive: Bools, low: int, high: int) -> tuple[int, int, int]:
    """Quads of both kinds at the corners ``low..high``, and dual vertices around their edges."""
    ahead = behind = filled = 0
    for near in range(low, high):
        for axis in range(3):
            present = 0
            for role in range(4):
                present += around[3 * near + axis, role] >= 0
            filled += present
            if present == 4:
                if positive[near]:
                    ahead += 1
                else:
                    behind += 1
    return ahead, behind, filled


@njit(nogil=True, cache=True, error_model="numpy")
def _far(around: Rows, dual_voxel: Ints, voxels: Ints, cubes: Ints, edge_at: Ints, ends: Ints, slot: int) -> int:
    """Second corner of an edge; -1 where the four voxels around it do not agree."""
    axis = slot % 3
    far = -1
    for role in range(4):
        row = voxels[dual_voxel[around[slot, role]]]
        other = int(cubes[row, ends[edge_at[axis, role], 1]])
        if role > 0 and other != far:
            return -1
        far = other
    return far


@njit(nogil=True, cache=True, error_model="numpy")
def _emit_quads(
    around: Rows, dual_voxel: Ints, voxels: Ints, cubes: Ints, edges: Ints, edge_at: Ints, positive: Bools,
    low: int, high: int, ahead: int, behind: int, quads: Ints, quad_ends: Ints,
) -> bool:  # fmt: skip
    """Write the quads of the corners ``low..high``, those of one corner in order of their second corner; whether ids
    and coordinates fit."""
    far, axes = np.empty(3, np.int64), np.empty(3, np.int64)
    for near in range(low, high):
        count = 0
        for axis in range(3):
            slot = 3 * near + axis
            if min(around[slot, 0], around[slot, 1], around[slot, 2], around[slot, 3]) < 0:
                continue
            other = _far(around, dual_voxel, voxels, cubes, edge_at, edges, slot)
            if other < 0:
                return False
            at = count
            while at > 0 and far[at - 1] > other:
                far[at], axes[at] = far[at - 1], axes[at - 1]
                at -= 1
            far[at], axes[at] = other, axis
            count += 1
        for k in range(count):
            if positive[near]:
                at = ahead
                ahead += 1
                turn = (0, 1, 3, 2)
            else:
                at = behind
                behind += 1
                turn = (2, 3, 1, 0)
            for place in range(4):
                quads[at, place] = around[3 * near + axes[k], turn[place]]
            quad_ends[at, 0] = near
            quad_ends[at, 1] = far[k]
    return True


def _sorted_rows(coords: Rows) -> tuple[Ints, Ints]:
    """Ascending keys of the voxels and the permutation that sorts them (empty when they are sorted already)."""
    if len(coords) and (coords.min() < 0 or coords.max() >= _MAX_AXIS):
        raise ValueError(f"voxel coordinates must lie in [0, {_MAX_AXIS}); found {coords.min()} to {coords.max()}")
    keys = np.empty(len(coords), np.int64)
    if _keys(coords, keys):
        return keys, np.empty(0, np.int64)
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    if (keys[1:] == keys[:-1]).any():
        raise ValueError("a voxel is listed twice; merge duplicates before extraction")
    return keys, order


def _surface(cubes: Ints, coords: Rows, inside: Bools, threads: int | None) -> tuple[Ints, Bytes]:
    """Rows of surface voxels in lexicographic order and their cases, ambiguous pairs inverted."""
    keys, order = _sorted_rows(coords)
    cases = np.empty(len(coords), np.uint8)
    chunks = spans(len(coords), _CHUNK)
    counts = run_chunks(lambda span: _classify(cubes, inside, order, *span, cases), chunks, threads)
    starts = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)]).astype(np.int64)
    voxels = np.empty(starts[-1], np.int64)
    found = np.empty(starts[-1], np.uint8)
    found_keys = np.empty(starts[-1], np.int64)
    run_chunks(
        lambda item: _compact(cases, order, keys, *item[0], item[1], voxels, found, found_keys),
        zip(chunks, starts[:-1].tolist(), strict=True),
        threads,
    )
    check = tables().check
    flagged = np.flatnonzero(check[:, 0][found])
    resolved = found.copy()
    _inverted(found, found_keys, coords, voxels, flagged, check.astype(np.int64), resolved)
    return voxels, resolved


def topology(
    cubes: Ints,
    coords: Rows,
    inside: Bools,
    positive: Bools,
    *,
    threads: int | None = None,
) -> Topology:
    """Dual vertices, incidences and quads of the voxels whose corners differ in sign.

    Args:
        cubes: ``(N, 8)`` int64 (int32 works too) corner ids, numbered as in :mod:`.flexicubes_tables`.
        coords: ``(N, 3)`` int32 voxel coordinates, each once, any order; the result does not depend on it.
        inside: ``(C,)`` bool, value below zero.
        positive: ``(C,)`` bool, value above zero (an exact zero is neither; published winding rule).
        threads: worker threads; the result is the same for every number.
    Raises:
        ValueError: a coordinate is negative or above 2^21, a voxel occurs twice, or corner ids and coordinates do not
            belong together.
    """
    voxels, cases = _surface(cubes, coords, inside, threads)
    rows = voxels
    used: Ints | None = None
    if len(positive) > _SPARSE * len(voxels):  # a full grid: speak of the corners next to the surface only
        rows, cubes, used = _compacted(voxels, cubes, len(positive))
        positive = positive[used]
    table = tables()
    groups = table.groups.astype(np.int64)
    sizes = (table.groups >= 0).sum(axis=2)
    number = table.number.astype(np.int64)
    chunks = spans(len(voxels), _CHUNK)
    counts = np.zeros((len(chunks), 4, 2), np.int64)
    run_chunks(lambda c: _count(cases, sizes, number, *chunks[c], counts[c]), range(len(chunks)), threads)
    # Rank by (number of dual vertices, chunk): that is the published vertex order.
    ranked = counts.transpose(1, 0, 2).reshape(-1, 2)
    starts = (np.cumsum(ranked, axis=0) - ranked).reshape(4, len(chunks), 2).transpose(1, 0, 2).copy()
    duals, incidences = (int(total) for total in ranked.sum(axis=0))

    dual_voxel = np.empty(duals, np.int64)
    dual_start = np.empty(duals + 1, np.int64)
    dual_start[-1] = incidences
    edge = np.empty(incidences, np.uint8)
    ends = np.empty((incidences, 2), np.int64)
    around = np.full((3 * len(positive), 4), -1, np.int32)
    run_chunks(
        lambda c: _fill(
            cases, rows, cubes, groups, sizes, number, EDGES, _AXES, _ROLES, *chunks[c], starts[c],
            dual_voxel, dual_start, edge, ends, around,
        ),
        range(len(chunks)),
        threads,
    )  # fmt: skip
    quads, quad_ends = _quads(rows, cubes, dual_voxel, around, positive, incidences, threads)
    if used is not None:
        ends, quad_ends = used[ends], used[quad_ends]
    return Topology(voxels, cases, dual_voxel, dual_start, edge, ends, quads, quad_ends)


def _compacted(voxels: Ints, cubes: Ints, corners: int) -> tuple[Ints, Ints, Ints]:
    """Rows ``0..S``, the surface voxels' corners renumbered in their order, and the old numbers of those."""
    mine = cubes[voxels]
    held = np.zeros(corners, bool)
    held[mine.reshape(-1)] = True
    used = np.flatnonzero(held)
    return np.arange(len(voxels)), np.searchsorted(used, mine), used


def _quads(
    voxels: Ints,
    cubes: Ints,
    dual_voxel: Ints,
    around: Rows,
    positive: Bools,
    incidences: int,
    threads: int | None,
) -> tuple[Ints, Ints]:
    chunks = spans(len(positive), _CHUNK)
    counts = run_chunks(lambda span: _count_quads(around, positive, *span), chunks, threads)
    kinds = np.array(counts, np.int64).reshape(-1, 3)
    problem = ValueError(
        "more than one voxel claims a place at an edge: corner ids and voxel coordinates do not belong together"
    )
    if kinds[:, 2].sum() != incidences:
        raise problem
    first = np.cumsum(kinds, axis=0) - kinds
    ahead = int(kinds[:, 0].sum())
    total = ahead + int(kinds[:, 1].sum())
    quads = np.empty((total, 4), np.int64)
    quad_ends = np.empty((total, 2), np.int64)
    fits = run_chunks(
        lambda c: _emit_quads(
            around, dual_voxel, voxels, cubes, EDGES, _EDGE_AT, positive, *chunks[c],
            first[c, 0], ahead + first[c, 1], quads, quad_ends,
        ),
        range(len(chunks)),
        threads,
    )  # fmt: skip
    if not all(fits):
        raise problem
    return quads, quad_ends


__all__ = ["CORNERS", "EDGES", "Topology", "topology"]
