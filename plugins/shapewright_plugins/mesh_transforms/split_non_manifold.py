"""``transform/split-non-manifold``: what meets in one edge or vertex without being one surface is cut apart there."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from shapewright.interfaces import Transform
from shapewright.states import Mesh
from shapewright_kernels.fan_splitting import split_fans
from shapewright_kernels.topology import merge_vertices

from .parts import arrays, with_faces_of, wound


@dataclass(frozen=True)
class Config:
    """Nothing to choose."""


class SplitNonManifold(Transform[Config]):
    """Copies vertices until no edge has more than two faces and no vertex more than one fan; nothing moves.

    Faces that name a vertex twice are dropped. The copies lie at one position, so a step that merges vertices by
    position joins them again: ``transform/simplify`` does not with ``merge=false``.
    """

    Config = Config

    def apply(self, *, mesh: Mesh) -> Mesh:
        """The mesh itself where nothing is to be cut. Attributes and materials stay."""
        if not len(mesh.faces):
            return mesh
        vertices, faces = arrays(mesh)
        _, group = merge_vertices(vertices)
        merged = group[faces]
        proper = (merged != np.roll(merged, 1, axis=1)).all(axis=1)
        if not proper.all():
            mesh = with_faces_of(mesh, np.flatnonzero(proper))
            if not len(mesh.faces):
                return mesh
            vertices, faces = arrays(mesh)
            _, group = merge_vertices(vertices)
        split = split_fans(faces, group)
        used = len(np.unique(faces))
        if len(split.sources) == used:
            return mesh
        rows = torch.from_numpy(split.sources)
        return replace(
            mesh,
            vertices=mesh.vertices[rows],
            faces=torch.from_numpy(split.faces),
            attributes={name: value[rows] for name, value in mesh.attributes.items()},
            oriented=mesh.oriented and wound(vertices, faces),
        )
