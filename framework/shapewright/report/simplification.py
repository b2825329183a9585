"""Fewer triangles for the screen: vertices that share a cell of a lattice become one of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from .display_mesh import DisplayMesh, Floats
from .paint import Ints
from .places import same_places
from .simplified_paint import simplified_paint

_TRIES = 12
_COLOUR_STEP = 32
"""Colours of one cell that are this many of 255 levels apart are worth more vertices."""
_FINER_LEVELS = 2
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
    stay, place = same_places(vertices)
    return vertices[stay], _without_collapsed(place[faces])


def simplified(mesh: DisplayMesh, most_faces: int) -> DisplayMesh:
    """``mesh`` itself where it has at most ``most_faces``, otherwise a coarser one with at most that many.

    Every vertex that stays is one of the mesh's own, with its own error: in each cell of a lattice the one nearest to
    the point that all planes of the cell's faces agree on (Lindstrom 2000), so creases and corners survive. Boundary
    and junction edges are those of ``mesh``, moved to the vertices that stay; paint as :mod:`.simplified_paint` says.
    """
    if len(mesh.faces) <= most_faces:
        return mesh
    lower, extent = mesh.vertices.min(axis=0), float(np.ptp(mesh.vertices, axis=0).max())
    cells = 1.0 + np.sqrt(most_faces / len(mesh.faces) * len(mesh.vertices))  # a first guess; corrected below
    best: tuple[Ints, Ints] | None = None
    low, high = 1.0, np.inf
    look = _look_of_vertices(mesh)
    for _ in range(_TRIES):
        cluster = _cells_of(mesh.vertices, lower, extent / cells, look)
        faces = _surviving_faces(cluster[mesh.faces])
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
        best = np.zeros(len(mesh.vertices), np.int64), np.zeros(0, np.int64)
    cluster, stay = best
    faces = cluster[mesh.faces[stay]]
    kept = _representatives(mesh, cluster)
    boundary, junctions = _moved_edges(cluster, mesh.boundary), _moved_edges(cluster, mesh.junctions)
    paint = None if mesh.paint is None else simplified_paint(mesh.paint, mesh.vertices, mesh.faces, cluster, kept, stay)
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
        paint=paint,
    )


def _look_of_vertices(mesh: DisplayMesh) -> NDArray[np.int16] | None:
    """``(V, 5)`` colour and material that each vertex has on one of its faces; ``None`` where all look the same."""
    if mesh.paint is None or (mesh.paint.colors is None and len(mesh.paint.materials) < 2):
        return None
    look = np.zeros((len(mesh.vertices), 5), np.int16)
    for corner in range(3):
        if mesh.paint.colors is not None:
            look[mesh.faces[:, corner], :4] = mesh.paint.colors[:, corner]
        look[mesh.faces[:, corner], 4] = np.minimum(mesh.paint.face_materials, 100) * _COLOUR_STEP
    return look


def _cells_of(vertices: Floats, lower: Floats, size: float, look: NDArray[np.int16] | None) -> Ints:
    """``(V,)`` number of the cell of each vertex. A cell where colours differ is cut into eight, and these again: more
    of the vertices then stay along the borders of colours than inside."""
    cluster = _numbered(vertices, lower, size)
    for finer in range(1, 1 + _FINER_LEVELS if look is not None else 1):
        assert look is not None
        varied = np.flatnonzero((_spread(cluster, look) >= _COLOUR_STEP)[cluster])
        if not len(varied):
            break
        parts = _numbered(vertices[varied], lower, size / 2**finer)
        cluster[varied] = int(cluster.max()) + 1 + parts
        cluster = _renumbered(cluster)
    return cluster


def _numbered(vertices: Floats, lower: Floats, size: float) -> Ints:
    cell = ((vertices - lower) / size).astype(np.int64)
    widest = int(cell.max()) + 1
    return _renumbered((cell[:, 0] * widest + cell[:, 1]) * widest + cell[:, 2])


def _renumbered(keys: Ints) -> Ints:
    return np.unique(keys, return_inverse=True)[1].reshape(-1).astype(np.int64)


def _spread(cluster: Ints, look: NDArray[np.int16]) -> Ints:
    """``(K,)`` largest difference of each cell's vertices in any channel."""
    order = np.argsort(cluster, kind="stable")
    starts = np.searchsorted(cluster[order], np.arange(int(cluster.max()) + 1))
    highest, lowest = (function.reduceat(look[order], starts, axis=0) for function in (np.maximum, np.minimum))
    return np.asarray((highest - lowest).max(axis=1), np.int64)


def _without_collapsed(faces: Ints) -> Ints:
    whole: Ints = faces[whole_faces(faces)]
    return whole


def whole_faces(faces: Ints) -> NDArray[np.bool_]:
    """``(F,)`` which faces have three different vertices."""
    a, b, c = faces.T
    return np.asarray((a != b) & (b != c) & (c != a))


def _surviving_faces(faces: Ints) -> Ints:
    """Rows of the faces that are still triangles, of copies one; two faces back to back are both kept, they are seen
    from different sides."""
    whole = np.flatnonzero(whole_faces(faces))
    if not len(whole):
        return whole
    faces = faces[whole]
    first = faces.argmin(axis=1)[:, None]
    turned = np.take_along_axis(faces, (first + np.arange(3)) % 3, axis=1)
    order = np.lexsort(turned.T)
    rows = turned[order]
    new = np.ones(len(rows), bool)
    new[1:] = (rows[1:] != rows[:-1]).any(axis=1)
    unique: Ints = whole[order[new]]
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
