"""``transform/fix-winding``: neighbours agree about their sides, closed parts face outward."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from shapewright.interfaces import Transform
from shapewright.states import Mesh
from shapewright_kernels.arrays import Bools, Floats, Ints
from shapewright_kernels.orientation import consistent_orientation
from shapewright_kernels.topology import connected_groups, edge_topology, merge_vertices
from shapewright_kernels.triangles import face_normals
from shapewright_kernels.winding import winding_numbers

from .parts import arrays, turned, wound


@dataclass(frozen=True)
class Config:
    """``outward``: turn closed parts so that they enclose a positive volume. A part that lies within another closed
    part keeps its side, since it may be a cavity; ``False`` only makes neighbours agree."""

    outward: bool = True


class FixWinding(Transform[Config]):
    """Flips faces only. The sides that the larger part of a connected area has are kept where it is not closed."""

    Config = Config

    def apply(self, *, mesh: Mesh) -> Mesh:
        """``oriented`` is true afterwards unless some part has no two sides (a Moebius strip)."""
        if not len(mesh.faces):
            return mesh
        vertices, faces = arrays(mesh)
        merged, group = merge_vertices(vertices)
        corners = group[faces]
        topology = edge_topology(corners)
        found = consistent_orientation(corners, face_normals(merged, corners)[1], topology)
        flipped = found.flipped
        if self.config.outward:
            flipped = flipped ^ _inward(merged, found.faces)
        mesh = turned(mesh, flipped) if flipped.any() else mesh
        after = mesh.faces.numpy(force=True)
        return replace(mesh, oriented=found.conflicts == 0 and wound(vertices, after))


def _inward(points: Floats, faces: Ints) -> Bools:
    """``(F,)``: faces of closed parts of negative volume that lie in no other closed part."""
    _, part = connected_groups(faces)
    count = int(part.max(initial=-1)) + 1
    topology = edge_topology(faces)
    sound = (topology.face_counts == 2) & ~topology.inconsistent
    broken = np.repeat(~sound, topology.face_counts)
    closed = np.bincount(part[topology.corners // 3], broken, count) == 0
    closed &= np.bincount(part, ~topology.proper, count) == 0
    a, b, c = (points[faces[:, k]] for k in range(3))
    volume = np.bincount(part, (a * np.cross(b, c)).sum(axis=1), count)
    wrong = closed & (volume < 0)
    if not wrong.any():
        return np.zeros(len(faces), np.bool_)
    return np.asarray((wrong & ~_nested(points, faces, part, closed, wrong))[part])


def _nested(points: Floats, faces: Ints, part: Ints, closed: Bools, wanted: Bools) -> Bools:
    """Which of the parts ``wanted`` lie within another closed part, judged by one vertex of each."""
    count = len(closed)
    low, high = np.full((count, 3), np.inf), np.full((count, 3), -np.inf)
    corners = points[faces]
    np.minimum.at(low, part, corners.min(axis=1))
    np.maximum.at(high, part, corners.max(axis=1))
    first = np.full(count, len(faces), np.int64)
    np.minimum.at(first, part, np.arange(len(faces)))
    probe = points[faces[first, 0]]
    order = np.argsort(part, kind="stable")
    starts = np.searchsorted(part[order], np.arange(count + 1))
    nested = np.zeros(count, np.bool_)
    for outer in np.flatnonzero(closed):
        inside = wanted & ~nested & (low >= low[outer]).all(axis=1) & (high <= high[outer]).all(axis=1)
        inside[outer] = False
        if inside.any():
            rows = np.flatnonzero(inside)
            own = faces[order[starts[outer] : starts[outer + 1]]]
            nested[rows] = np.abs(winding_numbers(probe[rows], points, own)) > 0.5
    return nested
