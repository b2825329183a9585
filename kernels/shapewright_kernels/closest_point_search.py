"""Search for the closest faces of points: packets first, single points where packets do not pay (*compiled*)."""

from __future__ import annotations

import numpy as np
from numba import njit

from .arrays import Floats, Ints
from .bvh import STACK
from .bvh_descent import box_distance, next_leaf
from .plane_frames import nearest_in_plane, squared_distance
from .point_packets import (
    BEST,
    BUDGET,
    LANES,
    NEAREST,
    ROOM,
    SECOND,
    SLACK,
    fill_lanes,
    lower_packet,
    seed_lanes,
    tied,
    undecided,
)

TIE = 1e-13
"""Distances that differ by less than this, relative to themselves plus the largest coordinate, are equal. Where the
closest point lies on an edge, several faces are closest, and which one is told must not depend on the last bit."""
SAME_COSINE = 1e-9
"""Cosines that differ by less than this are equal when faces are told apart by normal."""


@njit(nogil=True, cache=True, error_model="numpy")
def _tie_window(squared: float, scale: float) -> float:
    """Square of the largest distance that counts as equal to one with this square."""
    slack = TIE * (np.sqrt(squared) + scale)
    return squared + slack * (2.0 * np.sqrt(squared) + slack)


@njit(nogil=True, cache=True, error_model="numpy")
def _better_normal(wanted: Floats, candidate: Floats, holder: Floats, earlier: bool) -> bool:
    new = wanted[0] * candidate[0] + wanted[1] * candidate[1] + wanted[2] * candidate[2]
    old = wanted[0] * holder[0] + wanted[1] * holder[1] + wanted[2] * holder[2]
    if abs(abs(new) - abs(old)) > SAME_COSINE:
        return abs(new) > abs(old)
    if abs(new - old) > SAME_COSINE:
        return new > old
    return earlier


@njit(nogil=True, cache=True, error_model="numpy")
def _choose(
    distance: float, item: int, best: float, found: int, wanted: Floats, ids: Ints, normals: Floats, scale: float
) -> tuple[int, float]:
    """Face to tell and smallest squared distance, after a face within the window of the best so far was met."""
    if found < 0 or _tie_window(distance, scale) < best:
        found = item
    elif len(wanted) == 0:
        if ids[item] < ids[found]:
            found = item
    elif item != found and _better_normal(wanted, normals[ids[item]], normals[ids[found]], ids[item] < ids[found]):
        found = item
    return found, min(best, distance)


@njit(nogil=True, cache=True, error_model="numpy")
def _settle(
    points: Floats, rows: Ints, begin: int, end: int, lanes: Floats, squares: Floats, seen: Ints, tested: int,
    slack: float, wanted: Floats, sources: Ints, ids: Ints, frames: Floats, normals: Floats, limit: float,
    scale: float,
) -> None:  # fmt: skip
    """Decide, in the lanes that have several nearest faces, which one to tell, among the faces that were ``seen``."""
    nobody = wanted[:0].ravel()
    for lane in range(end - begin):  # from here on by the one formula that also decides for single points
        found = int(lanes[NEAREST + lane])
        if found >= 0 and lanes[SECOND + lane] <= lanes[BEST + lane] * (1.0 + 2.0 * SLACK) + slack:
            row = rows[begin + lane]
            lanes[SECOND + lane] = squared_distance(frames, found, points[row, 0], points[row, 1], points[row, 2])
        else:
            lanes[SECOND + lane] = -1.0
    for place in range(tested):
        if not tied(squares, place, lanes, LANES, slack):
            continue
        item = seen[place]
        for lane in range(end - begin):
            best = lanes[SECOND + lane]
            if best < 0.0 or squares[place, lane] > lanes[BEST + lane] * (1.0 + 2.0 * SLACK) + slack:
                continue
            row = rows[begin + lane]
            distance = squared_distance(frames, item, points[row, 0], points[row, 1], points[row, 2])
            if distance <= _tie_window(best, scale) and distance <= limit:
                found, lanes[SECOND + lane] = _choose(
                    distance, item, best, int(lanes[NEAREST + lane]), wanted[sources[row]] if len(wanted) else nobody,
                    ids, normals, scale,
                )  # fmt: skip
                lanes[NEAREST + lane] = found
    for lane in range(end - begin):
        if lanes[SECOND + lane] >= 0.0:
            lanes[BEST + lane] = lanes[SECOND + lane]


@njit(nogil=True, cache=True, error_model="numpy")
def _search(
    x: float, y: float, z: float, seed: int, wanted: Floats, boxes: Floats, first: Ints, size: Ints, ids: Ints,
    frames: Floats, normals: Floats, limit: float, scale: float, stack: Ints, bounds: Floats,
) -> tuple[int, float]:  # fmt: skip
    """Slot of the face to tell for one point, or -1, and the squared distance; ties are decided here."""
    best, found, window = limit, -1, limit
    if seed >= 0:
        distance = squared_distance(frames, seed, x, y, z)
        if distance <= limit:
            best, found, window = distance, seed, _tie_window(distance, scale)
    stack[0] = 0
    bounds[0] = box_distance(boxes, 0, x, y, z)
    top = 1
    while True:
        leaf, top = next_leaf(boxes, first, size, x, y, z, window, stack, bounds, top)
        if leaf < 0:
            break
        for item in range(first[leaf], first[leaf] + size[leaf]):
            distance = squared_distance(frames, item, x, y, z)
            if distance <= window and distance <= limit:
                found, best = _choose(distance, item, best, found, wanted, ids, normals, scale)
                window = _tie_window(best, scale)
    return found, best


@njit(nogil=True, cache=True, error_model="numpy")
def answer_queries(
    points: Floats, rows: Ints, start: int, stop: int, boxes: Floats, first: Ints, size: Ints, ids: Ints,
    frames: Floats, limit: float, scale: float, wanted: Floats, sources: Ints, normals: Floats,
    distances: Floats, faces: Ints, closest: Floats,
) -> None:  # fmt: skip
    stack, bounds = np.empty(STACK, np.int64), np.empty(STACK)
    lanes, packet = np.zeros(ROOM), np.empty(6)
    bits = lanes.view(np.int64)
    squares, seen = np.empty((BUDGET, LANES)), np.empty(BUDGET, np.int64)
    seeds = np.full(4, -1, np.int64)
    lane_limit = np.nextafter(limit, np.inf)
    slack = SLACK * scale * scale
    seed, nobody = -1, wanted[:0].ravel()
    given_up, alone = 0, 0
    for begin in range(start, stop, LANES):
        end = min(begin + LANES, stop)
        decided = False
        if alone > 0:
            alone -= 1
        elif end - begin >= LANES // 4:
            fill_lanes(points, rows, begin, end, lane_limit, lanes)
            seed_lanes(frames, seeds, lane_limit, slack, lanes, LANES, squares)
            tested = lower_packet(
                lanes, bits, LANES, slack, boxes, first, size, frames, stack, bounds, packet, squares, seen
            )
            decided = tested >= 0
            given_up = 0 if decided else min(given_up + 1, 3)
            alone = 0 if decided else 4**given_up
            if decided:
                for place in range(len(seeds)):
                    seeds[place] = int(lanes[NEAREST + (place + 1) * LANES // len(seeds) - 1])
                if undecided(lanes, LANES, slack):
                    _settle(
                        points, rows, begin, end, lanes, squares, seen, tested, slack, wanted, sources, ids, frames,
                        normals, limit, scale,
                    )  # fmt: skip
        for slot in range(begin, end):
            row, lane = rows[slot], slot - begin
            x, y, z = points[row, 0], points[row, 1], points[row, 2]
            if decided:
                best, found = lanes[BEST + lane], int(lanes[NEAREST + lane])
            else:
                found, best = _search(
                    x, y, z, seed, wanted[sources[row]] if len(wanted) > 0 else nobody, boxes, first, size, ids, frames,
                    normals, limit, scale, stack, bounds,
                )  # fmt: skip
            if found < 0:
                distances[row] = np.inf
                faces[row] = -1
                if len(closest) > 0:
                    closest[row] = np.nan
                continue
            seed = found
            distances[row] = np.sqrt(best)
            faces[row] = ids[found]
            if len(closest) > 0:
                s, t = nearest_in_plane(frames, found, x, y, z)
                for axis in range(3):
                    closest[row, axis] = frames[found, axis] + s * frames[found, 3 + axis] + t * frames[found, 6 + axis]
