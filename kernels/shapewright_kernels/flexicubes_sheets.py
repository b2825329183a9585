"""Oriented sheets of any mesh: which faces belong to one side, and normals that decide the side of a point near them.

Faces that meet two by two are turned until they agree, so wrongly wound input has sides as well. Where a surface
branches, ends, or cannot be oriented (Moebius strip) the sheets are cut: a normal there speaks for one sheet only.
Source of the normals: Baerentzen and Aanaes 2005, restricted to one sheet.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import ArrayLike

from .arrays import Bools, Floats, Ints
from .pseudonormal import Pseudonormals
from .topology import duplicate_faces, edge_topology, merge_vertices
from .triangles import face_normals


@dataclass(frozen=True)
class Sheets:
    """A mesh made ready for questions about sides; ``F`` faces remain after degenerate and doubled ones are dropped."""

    vertices: Floats
    """``(V, 3)`` merged positions."""
    faces: Ints
    """``(F, 3)``, wound as given."""
    flipped: Bools
    """``(F,)`` faces whose given winding disagrees with their sheet."""
    normals: Pseudonormals
    """By feature, of the sheet each face belongs to."""
    border: Ints
    """``(B, 2)`` vertices of edges that have one face."""
    seams: int
    """Edges at which a sheet disagrees with itself: more than 0 means that it cannot be oriented."""


@njit(nogil=True, cache=True, error_model="numpy")
def _orient(pairs: Ints, opposed: Bools, start: Ints, links: Ints, sheet: Ints, flip: Bools) -> int:
    """Flood every sheet over its manifold edges; returns the number of sheets. ``links`` are edges by face, CSR."""
    faces = len(sheet)
    queue = np.empty(faces, np.int64)
    sheet[:] = -1
    sheets = 0
    for seed in range(faces):
        if sheet[seed] >= 0:
            continue
        sheet[seed] = sheets
        queue[0] = seed
        head, tail = 0, 1
        while head < tail:  # breadth first, so that the seam of what cannot be oriented is short
            face = queue[head]
            head += 1
            for i in range(start[face], start[face + 1]):
                edge = links[i]
                other = pairs[edge, 0] if pairs[edge, 1] == face else pairs[edge, 1]
                if sheet[other] < 0:
                    sheet[other] = sheets
                    flip[other] = flip[face] != opposed[edge]
                    queue[tail] = other
                    tail += 1
        sheets += 1
    return sheets


@njit(nogil=True, cache=True, error_model="numpy")
def _root(parent: Ints, item: int) -> int:
    while parent[item] != item:
        parent[item] = parent[parent[item]]
        item = parent[item]
    return item


@njit(nogil=True, cache=True, error_model="numpy")
def _join_fans(first: Ints, second: Ints, faces: Ints, parent: Ints) -> None:
    """Join face corners that share a vertex across a fused edge; edges are given by the corner they start at."""
    for i in range(len(first)):
        for a in (first[i], first[i] // 3 * 3 + (first[i] % 3 + 1) % 3):
            for b in (second[i], second[i] // 3 * 3 + (second[i] % 3 + 1) % 3):
                if faces[a // 3, a % 3] == faces[b // 3, b % 3]:
                    p, q = _root(parent, a), _root(parent, b)
                    parent[max(p, q)] = min(p, q)


@njit(nogil=True, cache=True, error_model="numpy")
def _flatten(parent: Ints) -> None:
    for item in range(len(parent)):
        parent[item] = _root(parent, item)


def _unit(vectors: Floats) -> Floats:
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 1e-12)


def oriented_sheets(vertices: ArrayLike, faces: ArrayLike, *, relative_tolerance: float = 1e-7) -> Sheets:
    """Sheets of a mesh. The winding of the larger area of a sheet is kept.

    Args:
        vertices: ``(V, 3)`` finite floats. faces: ``(F, 3)`` integers; any soup.
        relative_tolerance: for merging vertices, in units of the largest extent.
    Raises:
        ValueError: no face with an area remains.

    >>> two = oriented_sheets([[0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0]], [[0, 1, 2], [1, 2, 3]])
    >>> int(two.flipped.sum()), two.seams
    (1, 0)
    """
    positions, group = merge_vertices(vertices, relative_tolerance)
    corners = group[np.ascontiguousarray(faces, np.int64).reshape(-1, 3)]
    normals, areas = face_normals(positions, corners)
    keep = (areas > 0) & ~duplicate_faces(corners)
    corners, normals, areas = corners[keep], normals[keep], areas[keep]
    if len(corners) == 0:
        raise ValueError("the mesh has no face with an area")
    topology = edge_topology(corners)
    manifold = topology.face_counts == 2
    first = topology.corners[topology.offsets[:-1][manifold]]
    second = topology.corners[topology.offsets[:-1][manifold] + 1]
    opposed = topology.inconsistent[manifold]
    pairs = np.stack([first // 3, second // 3], axis=1)
    links = np.argsort(pairs.reshape(-1), kind="stable")
    start = np.searchsorted(pairs.reshape(-1)[links], np.arange(len(corners) + 1)).astype(np.int64)
    sheet = np.empty(len(corners), np.int64)
    flip = np.zeros(len(corners), bool)
    count = _orient(pairs, opposed, start, links // 2, sheet, flip)
    against = np.bincount(sheet, np.where(flip, areas, -areas), minlength=count) > 0
    flip ^= against[sheet]
    normals[flip] *= -1

    agree = (flip[pairs[:, 0]] != flip[pairs[:, 1]]) == opposed
    parent = np.arange(corners.size)
    _join_fans(first[agree], second[agree], corners, parent)
    _flatten(parent)
    triangles = positions[corners]
    along, before = np.roll(triangles, -1, axis=1) - triangles, np.roll(triangles, 1, axis=1) - triangles
    angle = np.arctan2(np.linalg.norm(np.cross(along, before), axis=2), (along * before).sum(axis=2)).reshape(-1)
    by_corner = angle[:, None] * np.repeat(normals, 3, axis=0)
    fans: Floats = np.zeros_like(by_corner)
    for axis in range(3):
        fans[:, axis] = np.bincount(parent, by_corner[:, axis], minlength=corners.size)
    by_edge = np.repeat(normals, 3, axis=0)
    fused = normals[pairs[agree, 0]] + normals[pairs[agree, 1]]
    by_edge[first[agree]] = fused
    by_edge[second[agree]] = fused
    features = Pseudonormals(
        triangles, normals, _unit(by_edge.reshape(-1, 3, 3)), _unit(fans)[parent].reshape(-1, 3, 3)
    )
    border = topology.edges[topology.boundary]
    return Sheets(positions, corners, flip, features, border, int((~agree).sum()))
