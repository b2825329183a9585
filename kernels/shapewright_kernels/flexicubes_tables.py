"""Case tables of Dual Marching Cubes as FlexiCubes uses them, generated from their rules instead of stored.

Numbering: corner ``c`` of a voxel lies at offset ``(c & 1, c >> 1 & 1, c >> 2 & 1)``; a case is the sum of
``2 ** c`` over its inside corners. Source: Nielson 2004; Shen et al. 2023 (FlexiCubes), whose published tables these
equal entry by entry (the tests compare hashes).
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

EDGES = np.array(
    [[0, 1], [1, 5], [4, 5], [0, 4], [2, 3], [3, 7], [6, 7], [2, 6], [2, 0], [3, 1], [7, 5], [6, 4]], dtype=np.int64
)
"""``(12, 2)`` oriented corner pairs. All voxels around an edge orient it alike: x and z edges ascend, y edges
descend."""

CORNERS = np.array([[c & 1, c >> 1 & 1, c >> 2 & 1] for c in range(8)], dtype=np.int64)
"""``(8, 3)`` offsets of the corners."""

_PUBLISHED_ORDER = {231: [[4, 5, 9], [2, 3, 11]]}
"""The one case whose published group order breaks the rule; it affects vertex numbering only."""


class Tables(NamedTuple):
    """Three tables over the 256 cases, int16.

    ``groups (256, 4, 7)``: edges of each dual vertex, padded with -1. ``number (256,)``: dual vertices of a case.
    ``check (256, 5)``: ``(flag, dx, dy, dz, other case)`` of cases that two voxels sharing the ambiguous face must
    invert together.
    """

    groups: NDArray[np.int16]
    number: NDArray[np.int16]
    check: NDArray[np.int16]


def _faces() -> list[tuple[tuple[int, int, int], list[int]]]:
    """Outward normal and corners of the six faces."""
    result = []
    for axis in range(3):
        for side in (0, 1):
            normal = [0, 0, 0]
            normal[axis] = 2 * side - 1
            corners = [c for c in range(8) if (c >> axis & 1) == side]
            result.append(((normal[0], normal[1], normal[2]), corners))
    return result


def _groups(case: int) -> tuple[list[list[int]], list[tuple[tuple[int, int, int], list[int]]]]:
    """Dual vertices of a case as lists of edges, and its ambiguous faces with their four crossing edges."""
    inside = [bool(case >> c & 1) for c in range(8)]
    crossing = [e for e, (a, b) in enumerate(EDGES) if inside[a] != inside[b]]
    root = {e: e for e in crossing}

    def find(e: int) -> int:
        while root[e] != e:
            e = root[e]
        return e

    ambiguous = []
    for normal, corners in _faces():
        on_face = [e for e in crossing if set(EDGES[e].tolist()) <= set(corners)]
        if len(on_face) == 2:
            root[find(on_face[0])] = find(on_face[1])
        elif len(on_face) == 4:
            ambiguous.append((normal, on_face))
            for corner in (c for c in corners if inside[c]):  # inside regions are kept apart
                first, second = (e for e in on_face if corner in EDGES[e])
                root[find(first)] = find(second)
    parts: dict[int, list[int]] = {}
    for e in crossing:
        parts.setdefault(find(e), []).append(e)

    def lowest_inside(group: list[int]) -> int:
        return min(c for e in group for c in EDGES[e].tolist() if inside[c])

    return sorted(parts.values(), key=lowest_inside), ambiguous


@cache
def tables() -> Tables:
    """The three tables; read-only arrays.

    >>> tables().groups[1, 0, :3].tolist(), int(tables().number[105])
    ([0, 3, 8], 4)
    """
    padded = np.full((256, 4, 7), -1, np.int16)
    count = np.zeros(256, np.int16)
    check = np.zeros((256, 5), np.int16)
    for case in range(256):
        groups, ambiguous = _groups(case)
        groups = _PUBLISHED_ORDER.get(case, groups)
        count[case] = len(groups)
        for row, group in enumerate(groups):
            padded[case, row, : len(group)] = group
        if len(ambiguous) == 1:
            normal, on_face = ambiguous[0]
            if any(set(on_face) <= set(group) for group in groups):
                check[case] = [1, *normal, 255 - case]
    for table in (padded, count, check):
        table.setflags(write=False)
    return Tables(padded, count, check)
