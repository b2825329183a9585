"""``transform/drop-small-parts``: connected parts below a size go."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from shapewright.errors import ConfigError
from shapewright.interfaces import Transform
from shapewright.states import Mesh
from shapewright_kernels.topology import connected_groups, duplicate_faces, flat_faces, merge_vertices
from shapewright_kernels.triangles import face_normals

from .parts import arrays, with_faces_of


@dataclass(frozen=True)
class Config:
    """A part is dropped that has less area than ``min_area`` (in squared units of the mesh; published for a unit box:
    1e-5), less than ``min_share`` of the area of the largest part, or fewer faces than ``min_faces``.
    ``repeated_faces``: faces without area and copies of faces go too."""

    min_area: float = 1e-5
    min_share: float = 0.0
    min_faces: int = 0
    repeated_faces: bool = True

    def __post_init__(self) -> None:
        if not self.min_area >= 0 or self.min_faces < 0:
            raise ConfigError(f"min_area and min_faces are 0 or more, not {self.min_area} and {self.min_faces}")
        if not 0 <= self.min_share < 1:
            raise ConfigError(f"min_share lies in [0, 1), not {self.min_share}; 0 drops nothing by comparison")


class DropSmallParts(Transform[Config]):
    """Parts share a vertex position within, none with others. The part with most area always stays."""

    Config = Config

    def apply(self, *, mesh: Mesh) -> Mesh:
        """The mesh itself where nothing is dropped. Attributes and materials stay."""
        if not len(mesh.faces):
            return mesh
        vertices, faces = arrays(mesh)
        merged, group = merge_vertices(vertices)
        corners = group[faces]
        kept = np.ones(len(faces), np.bool_)
        if self.config.repeated_faces:
            kept = ~(flat_faces(merged, corners) | duplicate_faces(corners))
            kept[0] |= not kept.any()  # a mesh without any area keeps a face
        _, part = connected_groups(corners)
        count = int(part.max()) + 1
        area = np.bincount(part, face_normals(merged, corners)[1] * kept, count)
        faces_left = np.bincount(part, kept, count)
        small = (area < self.config.min_area) | (area < self.config.min_share * area.max())
        small |= faces_left < self.config.min_faces
        small[np.argmax(area)] = False
        kept &= ~small[part]
        return mesh if kept.all() else with_faces_of(mesh, np.flatnonzero(kept))
