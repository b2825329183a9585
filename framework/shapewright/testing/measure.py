"""What claims are judged by: edges and their faces, pieces, areas, distances. Plain NumPy; the toys are small."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..states import Mesh

Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Surface:
    """A mesh with vertices merged by position and flat faces left out."""

    vertices: Floats
    faces: Ints
    edges: Ints
    """``(E, 2)``, smaller vertex first."""
    counts: Ints
    """``(E,)`` faces on each edge."""
    balance: Ints
    """``(E,)`` faces that run along the edge upwards, less those that run downwards."""

    @property
    def corners(self) -> Floats:
        found: Floats = self.vertices[self.faces]
        return found

    @property
    def area(self) -> float:
        return float(np.linalg.norm(_cross(self.corners), axis=1).sum() / 2)

    @property
    def volume(self) -> float:
        """Signed; positive where faces point outwards."""
        return float(np.linalg.det(self.corners).sum() / 6) if len(self.faces) else 0.0

    def length(self, of: NDArray[np.bool_]) -> float:
        """Total length of the edges chosen by ``of`` ``(E,)``."""
        ends = self.vertices[self.edges[of]]
        return float(np.linalg.norm(ends[:, 1] - ends[:, 0], axis=1).sum())

    def pieces(self) -> list[Ints]:
        """Faces of each connected piece (pieces that share no vertex)."""
        return _groups(self.faces, self.faces, len(self.vertices))

    def boundary_loops(self) -> int:
        """Connected pieces of the boundary."""
        border = self.edges[self.counts == 1]
        return len(_groups(border, border, len(self.vertices)))


def surface(mesh: Mesh) -> Surface:
    """Positions within a millionth of the mesh's size are one vertex."""
    points = mesh.vertices.detach().cpu().double().numpy()
    faces = mesh.faces.cpu().numpy()
    size = float(np.ptp(points, axis=0).max()) if len(points) else 1.0
    _, first, index = np.unique(
        np.round(points / (max(size, 1e-12) * 1e-6)), axis=0, return_index=True, return_inverse=True
    )
    vertices, faces = points[first], index.reshape(-1)[faces].reshape(-1, 3)
    if len(faces):
        distinct = (faces[:, 0] != faces[:, 1]) & (faces[:, 1] != faces[:, 2]) & (faces[:, 2] != faces[:, 0])
        faces = faces[distinct]
    runs = faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)
    edges, which, counts = np.unique(np.sort(runs, axis=1), axis=0, return_inverse=True, return_counts=True)
    balance = np.zeros(len(edges), np.int64)
    np.add.at(balance, which.reshape(-1), np.where(runs[:, 0] < runs[:, 1], 1, -1))
    return Surface(vertices, faces, edges.reshape(-1, 2), counts, balance)


def _groups(members: Ints, links: Ints, count: int) -> list[Ints]:
    """``members`` (rows of vertices) by connected piece, where each row of ``links`` joins its vertices."""
    if not len(members):
        return []
    label = np.arange(count)
    while True:
        least = label[links].min(axis=1)
        before = label.copy()
        for column in range(links.shape[1]):
            np.minimum.at(label, links[:, column], least)
        label = label[label]
        if (label == before).all():
            break
    roots = label[members[:, 0]]
    return [members[roots == root] for root in np.unique(roots)]


def _cross(corners: Floats) -> Floats:
    found: Floats = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    return found


def distances(points: Floats, corners: Floats) -> Floats:
    """``(P,)`` exact distances of points ``(P, 3)`` to the nearest of the triangles ``(F, 3, 3)``."""
    best = np.full(len(points), np.inf)
    if not len(corners):
        return best
    for start in range(0, len(points), 64):
        part = points[start : start + 64, None]
        found = np.minimum.reduce([_to_segment(part, corners[:, k], corners[:, (k + 1) % 3]) for k in range(3)])
        normal = _cross(corners)
        size = np.linalg.norm(normal, axis=1)
        unit = normal / np.maximum(size, 1e-300)[:, None]
        height = ((part - corners[:, 0]) * unit).sum(axis=-1)
        foot = part - height[..., None] * unit
        within = size > 0
        for k in range(3):
            side = np.cross(corners[:, (k + 1) % 3] - corners[:, k], foot - corners[:, k])
            within = within & ((side * unit).sum(axis=-1) >= 0)
        best[start : start + 64] = np.where(within, np.minimum(found, np.abs(height)), found).min(axis=1)
    return best


def _to_segment(points: Floats, a: Floats, b: Floats) -> Floats:
    run = b - a
    squared = np.maximum((run * run).sum(axis=-1), 1e-300)
    along = np.clip(((points - a) * run).sum(axis=-1) / squared, 0, 1)
    found: Floats = np.linalg.norm(points - a - along[..., None] * run, axis=-1)
    return found


def sample(mesh: Mesh, count: int = 600) -> Floats:
    """Points spread over a mesh: centres of faces, the larger ones cut further; fixed, no randomness."""
    corners = mesh.vertices.detach().cpu().double().numpy()[mesh.faces.cpu().numpy()]
    while 0 < len(corners) < count:
        a, b, c = corners[:, 0], corners[:, 1], corners[:, 2]
        ab, bc, ca = (a + b) / 2, (b + c) / 2, (c + a) / 2
        quarters = [(a, ab, ca), (b, bc, ab), (c, ca, bc), (ab, bc, ca)]
        corners = np.concatenate([np.stack(quarter, axis=1) for quarter in quarters])
    found: Floats = corners.mean(axis=1)[:: max(len(corners) // count, 1)]
    return found
