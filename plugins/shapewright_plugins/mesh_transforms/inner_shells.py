"""``transform/remove-inner-shells``: connected parts that nobody sees from outside go."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from shapewright.errors import ConfigError
from shapewright.interfaces import Transform
from shapewright.states import Mesh
from shapewright_kernels.arrays import Floats, Ints
from shapewright_kernels.bvh import build_bvh, triangle_boxes
from shapewright_kernels.rays import escapes, fibonacci_directions
from shapewright_kernels.topology import connected_groups, merge_vertices

from .parts import arrays, with_faces_of

SKIP = 1e-5
"""Hits nearer than this share of the extent are the surface itself, or a copy that rounding moved."""


@dataclass(frozen=True)
class Config:
    """A part stays if from at least ``visible_share`` of its ``samples`` face centres (all of them where it has fewer)
    a ray along one of ``directions`` leaves the mesh without meeting it."""

    samples: int = 256
    directions: int = 128
    visible_share: float = 0.0

    def __post_init__(self) -> None:
        if self.samples < 1 or self.directions < 1:
            raise ConfigError(f"samples and directions must be at least 1, not {self.samples} and {self.directions}")
        if not 0 <= self.visible_share < 1:
            raise ConfigError(f"visible_share lies in [0, 1), not {self.visible_share}; 0 keeps what is seen at all")


class RemoveInnerShells(Transform[Config]):
    """Parts share a vertex position within, none with others. What is seen at all stays whole, its far side too."""

    Config = Config

    def apply(self, *, mesh: Mesh) -> Mesh:
        """The mesh itself where every part is seen."""
        if not len(mesh.faces):
            return mesh
        vertices, faces = arrays(mesh)
        _, group = merge_vertices(vertices)
        _, part = connected_groups(group[faces])
        count = int(part.max()) + 1
        if count == 1:
            return mesh
        corners = np.ascontiguousarray(vertices[faces])
        rows = _chosen(part, count, self.config.samples)
        seen = self._seen(corners, corners[rows].mean(axis=1))
        share = np.bincount(part[rows], seen, count) / np.bincount(part[rows], minlength=count)
        hidden = share <= self.config.visible_share
        hidden[np.argmax(share)] = False  # something is always in front
        return with_faces_of(mesh, np.flatnonzero(~hidden[part])) if hidden.any() else mesh

    def _seen(self, corners: Floats, points: Floats) -> Floats:
        extent = float(np.ptp(corners.reshape(-1, 3), axis=0).max())
        tree = build_bvh(*triangle_boxes(corners))
        found = escapes(tree, corners, points, fibonacci_directions(self.config.directions), skip=SKIP * extent)
        return found.astype(np.float64)


def _chosen(part: Ints, count: int, samples: int) -> Ints:
    """At most ``samples`` faces of each part, evenly spaced in the order of the faces."""
    order = np.argsort(part, kind="stable")
    sizes = np.bincount(part, minlength=count)
    place = np.arange(len(part)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    wanted, total = np.minimum(sizes, samples)[part[order]], sizes[part[order]]
    slot = place * wanted // total  # the first face of each slot is taken
    fresh = (place == 0) | (slot != (place - 1) * wanted // total)
    return np.sort(order[fresh])
