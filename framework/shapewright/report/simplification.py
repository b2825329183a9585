"""Fewer triangles for the screen: vertices that share a cell of a lattice become one of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from .display_mesh import DisplayMesh, Floats, Ints

_TRIES = 12
_FLAT = 1e-2
"""Eigenvalues of a quadric below this share of the largest say nothing about the position."""


def edges_by_use(faces: Ints) -> tuple[Ints, Ints]:
    """Edges ``(B, 2)`` of exactly one face and ``(J, 2)`` of three or more; the smaller index first, sorted.

    >>> edges_by_use(np.array([[0, 1, 2], [0, 2, 3]]))[0].tolist()
    [[0, 1], [0, 3], [1, 2], [2, 3]]
    """
    edges = np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), axis=1)
    many = int(faces.max()) + 1 if len(faces) else 1
    keys, count = np.unique(edges[:, 0] * many + edges[:, 1], return_counts=True)
    pairs = np.stack([keys // many, keys % many], axis=1)
    return pairs[count == 1], pairs[count > 2]


def merge_equal_positions(vertices: Floats, faces: Ints) -> tuple[Floats, Ints]:
    """One vertex per position, so that edges of separate triangles that coincide count as one; faces that became
    points or lines are dropped."""
    order = np.lexsort(vertices.T)
    rows = vertices[order]
    new = np.ones(len(rows), bool)
    new[1:] = (rows[1:] != rows[:-1]).any(axis=1)
    place = np.empty(len(rows), np.int64)
    place[order] = np.cumsum(new) - 1
    return rows[new], _without_collapsed(place[faces])


def simplified(mesh: DisplayMesh, most_faces: int) -> DisplayMesh:
    """``mesh`` itself where it has at most ``most_faces``, otherwise a coarser one with at most that many.

    Every vertex that stays is one of the mesh's own, with its own error: in each cell of a lattice the one nearest to
    the point that all planes of the cell's faces agree on (Lindstrom 2000), so creases and corners survive. Boundary
    and junction edges are those of ``mesh``, moved to the vertices that stay.
    """
    if len(mesh.faces) <= most_faces:
        return mesh
    lower, extent = mesh.vertices.min(axis=0), float(np.ptp(mesh.vertices, axis=0).max())
    cells = 1.0 + np.sqrt(most_faces / len(mesh.faces) * len(mesh.vertices))  # a first guess; corrected below
    best: tuple[Ints, Ints] | None = None
    low, high = 1.0, np.inf
    for _ in range(_TRIES):
        cluster = _cells_of(mesh.vertices, lower, extent / cells)
        faces = _unique_faces(_without_collapsed(cluster[mesh.faces]))
        if len(faces) <= most_faces:
            low = cells
            best = cluster, faces
            if len(faces) > 0.85 * most_faces:
                break
        else:
            high = cells
        guess = cells * float(np.sqrt(0.93 * most_faces / max(len(faces), 1)))
        cells = guess if low < guess < high else (low + high) / 2 if np.isfinite(high) else 2 * low
    if best is None:
        best = np.zeros(len(mesh.vertices), np.int64), np.zeros((0, 3), np.int64)
    cluster, faces = best
    kept = _representatives(mesh, cluster)
    boundary, junctions = _moved_edges(cluster, mesh.boundary), _moved_edges(cluster, mesh.junctions)
    used = np.zeros(len(kept), bool)
    for rows in (faces, boundary, junctions):
        used[rows] = True
    place = np.cumsum(used) - 1
    kept = kept[used]
    errors = None if mesh.errors is None else mesh.errors[kept]
    return replace(
        mesh,
        vertices=mesh.vertices[kept],
        faces=place[faces],
        boundary=place[boundary],
        junctions=place[junctions],
        errors=errors,
    )


def _cells_of(vertices: Floats, lower: Floats, size: float) -> Ints:
    cell = ((vertices - lower) / size).astype(np.int64)
    widest = int(cell.max()) + 1
    keys = (cell[:, 0] * widest + cell[:, 1]) * widest + cell[:, 2]
    cluster: Ints = np.unique(keys, return_inverse=True)[1].reshape(-1).astype(np.int64)
    return cluster


def _without_collapsed(faces: Ints) -> Ints:
    a, b, c = faces.T
    whole: Ints = faces[(a != b) & (b != c) & (c != a)]
    return whole


def _unique_faces(faces: Ints) -> Ints:
    """Copies go; two faces back to back are both kept, they are seen from different sides."""
    if not len(faces):
        return faces
    first = faces.argmin(axis=1)[:, None]
    turned = np.take_along_axis(faces, (first + np.arange(3)) % 3, axis=1)
    order = np.lexsort(turned.T)
    rows = turned[order]
    new = np.ones(len(rows), bool)
    new[1:] = (rows[1:] != rows[:-1]).any(axis=1)
    unique: Ints = rows[new]
    return unique


def _moved_edges(cluster: Ints, edges: Ints) -> Ints:
    moved = np.sort(cluster[edges], axis=1)
    moved = moved[moved[:, 0] != moved[:, 1]]
    return np.unique(moved, axis=0) if len(moved) else moved


def _representatives(mesh: DisplayMesh, cluster: Ints) -> Ints:
    """``(K,)`` one vertex per cluster: the nearest to the minimum of the cluster's quadric."""
    count = int(cluster.max()) + 1
    sizes = np.bincount(cluster, minlength=count)
    centre = np.stack([np.bincount(cluster, mesh.vertices[:, k], count) / sizes for k in range(3)], axis=1)
    corners = mesh.vertices[mesh.faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    owner = cluster[mesh.faces].T.reshape(-1)
    normals = np.tile(normals, (3, 1))
    offset = np.einsum("ij,ij->i", np.tile(corners[:, 0], (3, 1)) - centre[owner], normals)
    quadric = np.empty((count, 3, 3))
    for i in range(3):
        for j in range(i, 3):
            quadric[:, i, j] = quadric[:, j, i] = np.bincount(owner, normals[:, i] * normals[:, j], count)
    right = np.stack([np.bincount(owner, normals[:, k] * offset, count) for k in range(3)], axis=1)
    values, vectors = np.linalg.eigh(quadric)
    usable = values > np.maximum(_FLAT * values[:, 2:], 1e-300)
    inverse = np.where(usable, 1 / np.where(usable, values, 1.0), 0.0)
    minimum = centre + np.einsum("kij,kj,klj,kl->ki", vectors, inverse, vectors, right, optimize=True)
    distance = ((mesh.vertices - minimum[cluster]) ** 2).sum(axis=1)
    order = np.lexsort((distance, cluster))
    chosen: Ints = order[np.concatenate([[0], np.cumsum(sizes)[:-1]])]
    return chosen
