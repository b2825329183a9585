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
_CHUNK = 1 << 16
"""Voxels, or corner buckets, of one unit of work."""
_MAX_AXIS = 1 << 21
"""Three axes of this many voxels still pack into one int64 key."""


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
    cases: Bytes, voxels: Ints, cubes: Ints, groups: Ints, sizes: Ints, number: Ints, edges: Ints, low: int, high: int,
    starts: Ints, dual_voxel: Ints, dual_start: Ints, edge: Bytes, ends: Ints, slots: Ints,
) -> None:  # fmt: skip
    """Write dual vertices and incidences of a chunk; ``slots (S, 12)`` gets the dual vertex of each crossing edge, else
    -1."""
    for i in range(low, high):
        case = cases[i]
        row = voxels[i]
        duals = number[case]
        for e in range(12):
            slots[i, e] = -1
        for g in range(duals):
            dual = starts[duals - 1, 0]
            at = starts[duals - 1, 1]
            dual_voxel[dual] = i
            dual_start[dual] = at
            for k in range(sizes[case, g]):
                e = groups[case, g, k]
                edge[at] = e
                ends[at, 0] = cubes[row, edges[e, 0]]
                ends[at, 1] = cubes[row, edges[e, 1]]
                slots[i, e] = dual
                at += 1
            starts[duals - 1, 0] = dual + 1
            starts[duals - 1, 1] = at


@njit(nogil=True, cache=True, error_model="numpy")
def _bucket_sizes(ends: Ints, sizes: Ints) -> None:
    for i in range(len(ends)):
        sizes[ends[i, 0] + 1] += 1


@njit(nogil=True, cache=True, error_model="numpy")
def _fill_buckets(voxels: Ints, cubes: Ints, edges: Ints, slots: Ints, next_free: Ints, far: Ints, dual: Ints) -> None:
    """Stable counting sort of (edge, dual vertex) pairs by the edge's first corner, in voxel order within a bucket."""
    for i in range(len(voxels)):
        row = voxels[i]
        for e in range(12):
            if slots[i, e] >= 0:
                near = cubes[row, edges[e, 0]]
                at = next_free[near]
                next_free[near] = at + 1
                far[at] = cubes[row, edges[e, 1]]
                dual[at] = slots[i, e]


@njit(nogil=True, cache=True, error_model="numpy")
def _sort_buckets(start: Ints, far: Ints, dual: Ints, positive: Bools, low: int, high: int) -> tuple[int, int]:
    """Order each bucket by the edge's second corner (stable) and count the quads of both kinds."""
    ahead = behind = 0
    for near in range(low, high):
        first, last = start[near], start[near + 1]
        for i in range(first + 1, last):
            other, vertex = far[i], dual[i]
            j = i
            while j > first and far[j - 1] > other:
                far[j], dual[j] = far[j - 1], dual[j - 1]
                j -= 1
            far[j], dual[j] = other, vertex
        i = first
        while i < last:
            j = i + 1
            while j < last and far[j] == far[i]:
                j += 1
            if j - i == 4:
                if positive[near]:
                    ahead += 1
                else:
                    behind += 1
            elif j - i > 4:
                return -1, -1
            i = j
    return ahead, behind


@njit(nogil=True, cache=True, error_model="numpy")
def _emit_quads(
    start: Ints, far: Ints, dual: Ints, positive: Bools, low: int, high: int, ahead: int, behind: int,
    quads: Ints, quad_ends: Ints,
) -> None:  # fmt: skip
    for near in range(low, high):
        i = start[near]
        last = start[near + 1]
        while i < last:
            j = i + 1
            while j < last and far[j] == far[i]:
                j += 1
            if j - i == 4:
                if positive[near]:
                    at = ahead
                    ahead += 1
                    turn = (0, 1, 3, 2)
                else:
                    at = behind
                    behind += 1
                    turn = (2, 3, 1, 0)
                for k in range(4):
                    quads[at, k] = dual[i + turn[k]]
                quad_ends[at, 0] = near
                quad_ends[at, 1] = far[i]
            i = j


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
        ValueError: a coordinate is negative or above 2^21, a voxel occurs twice, or more than four voxels claim one
            edge.
    """
    voxels, cases = _surface(cubes, coords, inside, threads)
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
    slots = np.empty((len(voxels), 12), np.int64)
    run_chunks(
        lambda c: _fill(
            cases, voxels, cubes, groups, sizes, number, EDGES, *chunks[c], starts[c],
            dual_voxel, dual_start, edge, ends, slots,
        ),
        range(len(chunks)),
        threads,
    )  # fmt: skip
    quads, quad_ends = _quads(voxels, cubes, ends, slots, positive, threads)
    return Topology(voxels, cases, dual_voxel, dual_start, edge, ends, quads, quad_ends)


def _quads(
    voxels: Ints,
    cubes: Ints,
    ends: Ints,
    slots: Ints,
    positive: Bools,
    threads: int | None,
) -> tuple[Ints, Ints]:
    start = np.zeros(len(positive) + 1, np.int64)
    _bucket_sizes(ends, start)
    np.cumsum(start, out=start)
    far = np.empty(len(ends), np.int64)
    dual = np.empty(len(ends), np.int64)
    _fill_buckets(voxels, cubes, EDGES, slots, start[:-1].copy(), far, dual)
    chunks = spans(len(positive), _CHUNK)
    counts = run_chunks(lambda span: _sort_buckets(start, far, dual, positive, *span), chunks, threads)
    kinds = np.array(counts, np.int64).reshape(-1, 2)
    if (kinds < 0).any():
        raise ValueError(
            "more than four voxels share one edge: corner ids and voxel coordinates do not belong together"
        )
    first = np.cumsum(kinds, axis=0) - kinds
    ahead = int(kinds[:, 0].sum())
    total = int(kinds.sum())
    quads = np.empty((total, 4), np.int64)
    quad_ends = np.empty((total, 2), np.int64)
    run_chunks(
        lambda c: _emit_quads(
            start, far, dual, positive, *chunks[c], first[c, 0], ahead + first[c, 1], quads, quad_ends
        ),
        range(len(chunks)),
        threads,
    )
    return quads, quad_ends


__all__ = ["CORNERS", "EDGES", "Topology", "topology"]
