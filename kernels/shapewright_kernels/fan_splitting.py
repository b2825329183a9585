"""Vertices with one fan of faces each: edges with more than two faces and vertices where fans meet are cut open."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .arrays import Ints
from .topology import connected_groups, edge_topology


class SplitFans(NamedTuple):
    """Result of :func:`split_fans`."""

    faces: Ints
    """``(F, 3)`` over the new vertices."""
    sources: Ints
    """``(W,)`` ascending: the vertex that each new one is a copy of."""


def split_fans(faces: Ints, group: Ints | None = None) -> SplitFans:
    """Give each vertex a copy for each fan of faces around it.

    Faces are neighbours where exactly two share an edge, whichever way they are wound; a fan is what neighbours connect
    around a vertex. Afterwards no edge has more than two faces, and the faces at a vertex form one strip or one disc.

    Args:
        faces: ``(F, 3)`` with three different corners each.
        group: ``(V,)`` vertices that count as one (a position with a seam); they stay apart, and are cut together.

    >>> fins = np.array([[0, 1, 2], [0, 1, 3], [0, 1, 4]])
    >>> split_fans(fins).faces.tolist(), split_fans(fins).sources.tolist()
    ([[0, 3, 6], [1, 4, 7], [2, 5, 8]], [0, 0, 0, 1, 1, 1, 2, 3, 4])
    """
    corners = np.asarray(faces, np.int64).reshape(-1, 3)
    merged = corners if group is None else group[corners]
    topology = edge_topology(merged)
    two = topology.face_counts == 2
    starts = topology.offsets[:-1][two]
    ends = topology.edges[two]
    links = []
    for end in range(2):  # the corners of the two faces at either end of their edge
        sides = []
        for place in range(2):
            corner = topology.corners[starts + place]
            tail = merged.reshape(-1)[corner] == ends[:, end]
            sides.append(np.where(tail, corner, corner - corner % 3 + (corner + 1) % 3))
        links.append(np.stack(sides, axis=1))
    alone = np.repeat(np.arange(3 * len(corners))[:, None], 2, axis=1)
    _, fan = connected_groups(np.concatenate([alone, *links]))
    keys = np.stack([corners.reshape(-1), fan[: len(alone)]], axis=1)
    distinct, renumbered = np.unique(keys, axis=0, return_inverse=True)
    return SplitFans(renumbered.reshape(-1, 3).astype(np.int64), np.ascontiguousarray(distinct[:, 0]))
