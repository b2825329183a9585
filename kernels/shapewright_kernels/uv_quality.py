"""How well texture coordinates fit a mesh."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .arrays import Floats, Ints
from .rows import cross_rows, dot_rows, norm_rows
from .topology import connected_groups, edge_topology


class UvQuality(NamedTuple):
    """Result of :func:`uv_quality`."""

    charts: int
    """Pieces that no seam crosses."""
    stretch: float
    """L2 stretch, area-weighted: 1 where no length is changed."""
    spread: float
    """Texels a length, of the densest places to the sparsest, less 5 % of the area at either end: 1 if even."""
    fill: float
    """Area of the charts in the unit square."""
    seams: float
    """Length of all seams, in sides of a square with the area of the mesh."""


def uv_quality(vertices: Floats, faces: Ints, uvs: Floats) -> UvQuality:
    """Figures of ``uvs`` ``(F, 3, 2)`` for faces ``(F, 3)`` with an area over merged vertices ``(V, 3)``.

    Faces without an area in the texture count for the fill only.

    Source: Sander, Snyder, Gortler and Hoppe 2001, "Texture mapping progressive meshes" (the stretch).

    >>> square = np.array([[0.0, 0, 0], [2, 0, 0], [2, 2, 0], [0, 2, 0]])
    >>> faces = np.array([[0, 1, 2], [0, 2, 3]])
    >>> uv_quality(square, faces, square[faces][:, :, :2] / 4)
    UvQuality(charts=1, stretch=1.0, spread=1.0, fill=0.25, seams=0.0)
    """
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    solid = norm_rows(cross_rows(b - a, c - a)) / 2
    one, two = uvs[:, 1] - uvs[:, 0], uvs[:, 2] - uvs[:, 0]
    turn = one[:, 0] * two[:, 1] - one[:, 1] * two[:, 0]
    flat = np.abs(turn) / 2
    labels, seams = _charts(vertices, faces, uvs)
    known = flat > 1e-14 * flat.sum()
    scale = solid[known].sum() / flat[known].sum()
    # rows of the map from the texture to space, by its two columns (Sander et al., section 3)
    safe = np.where(known, turn, 1.0)[:, None]
    by_u = ((b - a) * two[:, 1:] - (c - a) * one[:, 1:]) / safe
    by_v = ((c - a) * one[:, :1] - (b - a) * two[:, :1]) / safe
    squared = (dot_rows(by_u, by_u) + dot_rows(by_v, by_v))[known] / (2 * scale)
    density = np.sqrt(flat * scale / solid)[known]
    order = np.argsort(density)
    share = np.cumsum(solid[known][order]) / solid[known].sum()
    low, high = density[order][np.searchsorted(share, (0.05, 0.95))]
    return UvQuality(
        int(labels.max()) + 1,
        float(np.sqrt((squared * solid[known]).sum() / solid[known].sum())),
        float(high / low),
        float(flat.sum()),
        float(seams / np.sqrt(solid.sum())),
    )


def _charts(vertices: Floats, faces: Ints, uvs: Floats) -> tuple[Ints, float]:
    """The chart of each face, and the length of the edges of two faces that lie apart in the texture."""
    topology = edge_topology(faces)
    starts = topology.offsets[:-1][topology.face_counts == 2]
    sides = []
    for place in range(2):
        corner = topology.corners[starts + place]
        face, k = corner // 3, corner % 3
        ends = np.stack([uvs[face, k], uvs[face, (k + 1) % 3]], axis=1)
        swapped = faces[face, k] > faces[face, (k + 1) % 3]
        sides.append(np.where(swapped[:, None, None], ends[:, ::-1], ends))
    joined = (np.abs(sides[0] - sides[1]) < 1e-6).all(axis=(1, 2))
    pairs = topology.manifold_pairs[joined]
    alone = np.repeat(np.arange(len(faces))[:, None], 2, axis=1)
    _, labels = connected_groups(np.concatenate([alone, pairs]))
    ends = vertices[topology.edges[topology.face_counts == 2][~joined]]
    return labels[: len(faces)], float(norm_rows(ends[:, 0] - ends[:, 1]).sum())
