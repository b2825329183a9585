"""The paint of a mesh whose vertices were drawn together: no colour is mixed, no picture runs across its seams.

A corner that moved to another vertex takes the paint which that vertex has on the same material and the same piece of
the picture. Where it has none (the piece ends before it), the corner keeps its own: the picture is then stretched there
by less than a triangle.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .paint import Bytes, Ints, Paint, Singles
from .places import same_places

_SLACK = 4.0
"""Coordinates further away than this many times what the face's own scale promises lie on another piece."""
_CANDIDATES = 16


def simplified_paint(
    paint: Paint, vertices: NDArray[np.float64], faces: Ints, cluster: Ints, kept: Ints, stay: Ints
) -> Paint:
    """The paint of the faces that stay.

    Args:
        paint: of ``faces`` ``(F, 3)`` over ``vertices`` ``(V, 3)``.
        cluster: ``(V,)`` which vertex of the new mesh each becomes.
        kept: ``(K,)`` the vertex that stands for each cluster.
        stay: ``(G,)`` rows of the faces that stay.
    """
    own = paint.select(stay)
    if not len(stay) or (paint.uvs is None and paint.colors is None):
        return own
    place = same_places(vertices)[1]
    targets = kept[cluster[faces[stay]]]
    wanted = np.zeros(int(place.max()) + 1, bool)
    wanted[place[targets]] = True
    there = _Corners(place[faces], paint, wanted)
    key: NDArray[Any]
    if own.uvs is not None:
        key, sought = there.uvs, own.uvs.astype(np.float64)
        moved = np.linalg.norm(vertices[targets] - vertices[faces[stay]], axis=2)
        reach = (_SLACK * _scale(sought, vertices[faces[stay]])[:, None] * moved) ** 2 + 1e-12
    else:
        assert own.colors is not None
        key, sought = there.colors, own.colors.astype(np.float64)
        reach = np.full(targets.shape, np.inf)
    chosen = there.nearest(place[targets], own.face_materials, key, sought, reach)
    found = chosen >= 0
    uvs, colors = own.uvs, own.colors
    if uvs is not None:
        uvs = np.where(found[:, :, None], there.uvs[chosen], uvs)
    if colors is not None:
        colors = np.where(found[:, :, None], there.colors[chosen], colors)
    return replace(own, uvs=uvs, colors=colors)


class _Corners:
    """What is painted at some places, each combination once, by place."""

    def __init__(self, places: Ints, paint: Paint, wanted: NDArray[np.bool_]) -> None:
        rows, columns = np.nonzero(wanted[places])
        materials = paint.face_materials[rows]
        none = np.zeros((len(rows), 0), np.float32)
        uvs: Singles = none if paint.uvs is None else paint.uvs[rows, columns]
        colors: Bytes = none.astype(np.uint8) if paint.colors is None else paint.colors[rows, columns]
        place = places[rows, columns]
        order = np.lexsort([*colors.T, *uvs.T, materials, place])
        new = np.ones(len(order), bool)
        new[1:] = False
        for values in (place[:, None], materials[:, None], uvs, colors):
            new[1:] |= (values[order[1:]] != values[order[:-1]]).any(axis=1)
        order = order[new]
        self.place, self.materials, self.uvs, self.colors = place[order], materials[order], uvs[order], colors[order]

    def nearest(
        self,
        places: Ints,
        materials: Ints,
        key: NDArray[Any],
        sought: NDArray[np.float64],
        reach: NDArray[np.float64],
    ) -> Ints:
        """``(G, 3)`` rows at ``places`` ``(G, 3)`` of ``materials`` ``(G,)`` whose ``key`` is nearest to ``sought``
        ``(G, 3, k)``, at most the root of ``reach`` ``(G, 3)`` away; -1 where there is none."""
        first, last = (np.searchsorted(self.place, places, side=side) for side in ("left", "right"))
        best, chosen = reach.copy(), np.full(places.shape, -1, np.int64)
        for step in range(min(_CANDIDATES, int((last - first).max(initial=0)))):
            row = np.minimum(first + step, last - 1)
            away = ((key[row].astype(np.float64) - sought) ** 2).sum(axis=2)
            fits = (first + step < last) & (self.materials[row] == materials[:, None]) & (away <= best)
            best[fits], chosen[fits] = away[fits], row[fits]
        return chosen


def _scale(uvs: NDArray[np.float64], corners: NDArray[np.float64]) -> NDArray[np.float64]:
    """``(G,)`` how long one unit of space is in the texture, by the longest edges of each face."""
    sides = [np.linalg.norm(values - np.roll(values, 1, axis=1), axis=2).max(axis=1) for values in (uvs, corners)]
    return np.asarray(sides[0] / np.maximum(sides[1], 1e-30))
