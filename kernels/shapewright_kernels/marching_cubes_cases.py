"""The 256 sign patterns of a cell, derived by rule: surface loops through crossing edges, and triangles that fill them.

Corner ``c = 4 dx + 2 dy + dz``; bit ``c`` of a case is set where the corner is inside. Edge ``4 axis + 2 u + v`` runs
along ``axis`` at offsets ``u, v`` of the other two axes in ascending order. Face ``2 axis + side``.

On every face of the cell the surface leaves segments between crossing edges; joined end to end they close into loops. A
face with four crossing edges is ambiguous: its two inside corners are kept apart, each cut off by its own segment. That
rule sees the face only, so the two cells that share it agree and nothing leaks. A loop is one patch of surface:
marching cubes fills it with triangles, dual contouring places one vertex in it.

Two further rules make the results 2-manifold.

- Marching cubes: no triangle has an inner edge between two points of one cell face. Such an edge could be drawn by the
  neighbour as well and would then have four triangles.
- Dual contouring (:data:`Cases.problem`): where one loop passes an ambiguous face twice, and that of the neighbour does
  too, their two vertices would be joined by two coinciding edges. Both cells then resolve that face the other way,
  which splits both loops.

Sources: Lorensen and Cline 1987 (the cases); Nielson 2004 and Schaefer, Ju and Warren 2007 (one dual vertex a patch);
Wenger 2013 and Shen et al. 2023 (FlexiCubes) on the coinciding edges. The tables are our own derivation.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

FACES = 6
EDGES = 12
_OTHERS = ((1, 2), (0, 2), (0, 1))


class Cases(NamedTuple):
    """Tables over cases, and for loops over ``case * 7 + 1 + flipped face`` (``case * 7``: no face is flipped)."""

    edge_offset: NDArray[np.int64]
    """``(12, 3)`` lower end of an edge relative to its cell."""
    triangle_count: NDArray[np.int64]
    """``(256,)``"""
    triangles: NDArray[np.int8]
    """``(256, T, 3)`` edges of the triangles, counter-clockwise seen from outside the surface; unused rows are -1."""
    loop_count: NDArray[np.int64]
    """``(1792,)``"""
    loop_of_edge: NDArray[np.int8]
    """``(1792, 12)`` the loop that passes a crossing edge; -1 on other edges."""
    problem: NDArray[np.int8]
    """``(256,)`` the ambiguous face that one loop passes twice, or -1. No case has two of them."""


def _corner(x: int, y: int, z: int) -> int:
    return 4 * x + 2 * y + z


def _edge_between(first: int, second: int) -> int:
    axis = {4: 0, 2: 1, 1: 2}[first ^ second]
    low = min(first, second)
    bits = (low >> 2 & 1, low >> 1 & 1, low & 1)
    u, v = (bits[other] for other in _OTHERS[axis])
    return 4 * axis + 2 * u + v


def _face_corners(face: int) -> list[int]:
    """The four corners, counter-clockwise seen from outside the cell."""
    axis, side = divmod(face, 2)
    u, v = (axis + 1) % 3, (axis + 2) % 3
    corners = []
    for step in ((0, 0), (1, 0), (1, 1), (0, 1)):
        point = [0, 0, 0]
        point[axis], point[u], point[v] = side, step[0], step[1]
        corners.append(_corner(*point))
    return corners if side else corners[::-1]


def _segments(case: int, face: int, flipped: bool) -> list[tuple[int, int]]:
    """Directed segments that the surface leaves on a face; all crossing edges have one in and one out over both
    faces."""
    corners = _face_corners(face)
    inside = [bool(case >> corner & 1) for corner in corners]
    entries = [i for i in range(4) if inside[i] and not inside[i - 1]]
    segments = []
    for entry in entries:
        leave = next(i for i in range(entry + 1, entry + 5) if not inside[i % 4])
        if flipped:  # cut off the run of outside corners before the entry instead
            leave = next(i for i in range(entry, entry - 4, -1) if inside[(i - 1) % 4])
        begin = _edge_between(corners[(leave - 1) % 4], corners[leave % 4])
        end = _edge_between(corners[(entry - 1) % 4], corners[entry % 4])
        segments.append((end, begin))
    return segments


def loops(case: int, flipped: int = -1) -> list[list[int]]:
    """Closed loops of crossing edges of a case, counter-clockwise seen from outside the surface.

    >>> loops(0b00000001)
    [[0, 4, 8]]
    """
    following: dict[int, int] = {}
    for face in range(FACES):
        following |= dict(_segments(case, face, face == flipped))
    result = []
    while following:
        loop = [min(following)]
        while (edge := following.pop(loop[-1])) != loop[0]:
            loop.append(edge)
        result.append(loop)
    return result


def _faces_of_edge(edge: int) -> set[int]:
    axis, rest = divmod(edge, 4)
    first, second = _OTHERS[axis]
    return {2 * first + (rest >> 1), 2 * second + (rest & 1)}


def _midpoint(edge: int) -> NDArray[np.float64]:
    axis, rest = divmod(edge, 4)
    point = np.full(3, 0.5)
    first, second = _OTHERS[axis]
    point[first], point[second] = rest >> 1, rest & 1
    return point


def _triangulate(loop: list[int]) -> list[tuple[int, int, int]]:
    """Triangles of a loop: no inner edge within a cell face, then the shortest inner edges (of edge midpoints)."""
    size = len(loop)
    points = [_midpoint(edge) for edge in loop]

    def length(i: int, j: int) -> float:
        if j - i in (1, size - 1):
            return 0.0
        if _faces_of_edge(loop[i]) & _faces_of_edge(loop[j]):
            return float("inf")
        return float(((points[i] - points[j]) ** 2).sum())

    @cache
    def best(i: int, j: int) -> tuple[float, tuple[tuple[int, int, int], ...]]:
        if j - i < 2:
            return 0.0, ()
        choices = []
        for k in range(i + 1, j):
            left, right = best(i, k), best(k, j)
            cost = left[0] + right[0] + length(i, k) + length(k, j)
            choices.append((cost, (*left[1], (i, k, j), *right[1])))
        return min(choices)

    cost, triangles = best(0, size - 1)
    if not np.isfinite(cost):
        raise AssertionError(f"loop {loop} cannot be filled without an edge in a cell face")
    return [(loop[i], loop[j], loop[k]) for i, j, k in triangles]


def _problem_faces(case: int) -> list[int]:
    owner = {edge: number for number, loop in enumerate(loops(case)) for edge in loop}
    return [
        face
        for face in range(FACES)
        if len(ends := _segments(case, face, False)) == 2 and owner[ends[0][0]] == owner[ends[1][0]]
    ]


@cache
def case_tables() -> Cases:
    """All tables; made once a process (some 50 ms)."""
    offsets = np.floor([_midpoint(edge) for edge in range(EDGES)]).astype(np.int64)
    filled = [[triangle for loop in loops(case) for triangle in _triangulate(loop)] for case in range(256)]
    triangles = np.full((256, max(map(len, filled)), 3), -1, np.int8)
    loop_count = np.zeros(256 * 7, np.int64)
    loop_of_edge = np.full((256 * 7, EDGES), -1, np.int8)
    problem = np.full(256, -1, np.int8)
    for case in range(256):
        if filled[case]:
            triangles[case, : len(filled[case])] = filled[case]
        faces = _problem_faces(case)
        if len(faces) > 1:
            raise AssertionError(f"case {case} has {len(faces)} problem faces")
        problem[case] = faces[0] if faces else -1
        for flipped in [-1, *faces]:
            row = case * 7 + 1 + flipped
            found = loops(case, flipped)
            loop_count[row] = len(found)
            for number, loop in enumerate(found):
                loop_of_edge[row, loop] = number
    counts = np.array([len(case) for case in filled], np.int64)
    return Cases(offsets, counts, triangles, loop_count, loop_of_edge, problem)
