"""Make the winding of neighbouring faces agree, where the mesh allows it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import ArrayLike

from .arrays import Bools, Floats, Ints
from .face_links import face_links
from .topology import EdgeTopology, edge_topology


class Orientation(NamedTuple):
    """Result of :func:`consistent_orientation`."""

    faces: Ints
    """``(F, 3)``, some with their last two corners exchanged."""
    flipped: Bools
    """``(F,)``"""
    conflicts: int
    """Edges at which no choice agrees: more than none means that a component is not orientable (Moebius strip)."""


def consistent_orientation(faces: ArrayLike, areas: Floats, topology: EdgeTopology | None = None) -> Orientation:
    """Flip faces until all neighbours across an edge with exactly two faces agree.

    Orientation spreads over such edges only; a component that they connect keeps the winding that the larger part of
    its area already has (on a tie, that of its first face). A consistent mesh comes back unchanged.

    Args:
        faces: ``(F, 3)`` over merged vertices. areas: ``(F,)``.
        topology: of ``faces``, where it is known.
    """
    corners = np.array(faces, np.int64).reshape(-1, 3)
    topology = topology or edge_topology(corners)
    flipped = np.zeros(len(corners), bool)
    if not topology.inconsistent.any():
        return Orientation(corners, flipped, 0)
    pairs = topology.manifold_pairs
    opposed = topology.inconsistent[topology.face_counts == 2]
    parity, component = _spread(pairs, opposed, len(corners))
    turned = np.bincount(component, weights=np.where(parity, areas, 0.0))
    kept = np.bincount(component, weights=np.where(parity, 0.0, areas))
    flipped = parity ^ (turned > kept)[component]
    corners[flipped] = corners[flipped][:, [0, 2, 1]]
    conflicts = int((flipped[pairs[:, 0]] ^ flipped[pairs[:, 1]] ^ opposed).sum())
    return Orientation(corners, flipped, conflicts)


@njit(nogil=True, cache=True, error_model="numpy")
def _spread(pairs: Ints, opposed: Bools, count: int) -> tuple[Bools, Ints]:
    """Breadth-first over faces: whether each differs in winding from the first of its component, and its component."""
    starts, links = face_links(pairs, count)
    parity = np.zeros(count, np.bool_)
    component = np.full(count, -1, np.int64)
    queue = np.empty(count, np.int64)
    components = 0
    for seed in range(count):
        if component[seed] >= 0:
            continue
        component[seed] = components
        queue[0] = seed
        head, tail = 0, 1
        while head < tail:
            face = queue[head]
            head += 1
            for link in links[starts[face] : starts[face + 1]]:
                other = pairs[link // 2, 1 - link % 2]
                if component[other] < 0:
                    component[other] = components
                    parity[other] = parity[face] ^ opposed[link // 2]
                    queue[tail] = other
                    tail += 1
        components += 1
    return parity, component
