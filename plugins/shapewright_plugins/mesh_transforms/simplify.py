"""``transform/simplify``: fewer faces."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from shapewright.errors import ConfigError, MeshError, MissingExtraError
from shapewright.interfaces import Transform
from shapewright.run import refuse_bytes
from shapewright.states import Mesh
from shapewright_kernels.arrays import Floats, Ints
from shapewright_kernels.topology import duplicate_faces, flat_faces, merge_vertices

from .parts import arrays, carried, wound

BYTES_PER_FACE = 500
"""Peak memory, measured on 13 million faces with four attributes: the library's, and the search's for attributes."""


@dataclass(frozen=True)
class Config:
    """``faces``: how many may be left; a mesh with fewer passes unchanged. ``lock_boundary``: vertices of the boundary
    stay where they are; otherwise they move along it, and its corners are rounded. ``aggressiveness``: 1 to 20, how
    fast the tolerated error grows; lower is slower and better. ``merge``: vertices at one position are one first; not
    for what ``transform/split-non-manifold`` has cut, nor for sheets that are to move apart."""

    faces: int = 100_000
    lock_boundary: bool = True
    aggressiveness: float = 3.0
    merge: bool = True

    def __post_init__(self) -> None:
        if self.faces < 4:
            raise ConfigError(f"faces must be at least 4, not {self.faces}")
        if not 1 <= self.aggressiveness <= 20:
            raise ConfigError(f"aggressiveness lies between 1 and 20, not {self.aggressiveness}")


class Simplify(Transform[Config]):
    """Edge collapse by quadric error, unless ``merge`` is off on the mesh with vertices merged by position.

    Attributes of vertices are taken over from the closest point of the mesh as it was. Materials with textures are not:
    their coordinates would no longer fit, bake them anew with ``transform/bake-pbr``.
    """

    Config = Config

    def apply(self, *, mesh: Mesh) -> Mesh:
        """Raises MissingExtraError without the extra ``texture``, MeshError where no face would be left, ResourceError
        where memory would not suffice."""
        if len(mesh.faces) <= self.config.faces:
            return mesh
        what = f"transform/simplify of {len(mesh.faces):,} faces"
        refuse_bytes(BYTES_PER_FACE * len(mesh.faces), what, "lower the resolution, or simplify in parts")
        vertices, faces = arrays(mesh)
        less, kept = simplified(vertices, faces, self.config)
        return replace(
            mesh,
            vertices=torch.from_numpy(less).to(mesh.vertices.dtype),
            faces=torch.from_numpy(kept),
            attributes=carried(mesh, vertices, faces, less),
            oriented=mesh.oriented and wound(less, kept),
            appearance=None,
        )


def simplified(vertices: Floats, faces: Ints, config: Config) -> tuple[Floats, Ints]:
    """Vertices and faces, of about ``config.faces`` faces; without flat faces and copies."""
    collapse = _library()
    merged, corners = vertices, faces
    if config.merge:
        merged, group = merge_vertices(vertices)
        corners = group[faces]
    corners = corners[~(flat_faces(merged, corners) | duplicate_faces(corners))]
    if len(corners) > config.faces:
        # in a box of size 1: the library's tolerances are absolute
        low, size = merged.min(axis=0), float(np.ptp(merged, axis=0).max())
        moved, corners = collapse(
            (merged - low) / size,
            corners.astype(np.int32),
            target_count=config.faces,
            agg=config.aggressiveness,
            preserve_border=config.lock_boundary,
        )
        merged, corners = np.asarray(moved, np.float64) * size + low, np.asarray(corners, np.int64)
        corners = corners[~(flat_faces(merged, corners) | duplicate_faces(corners))]
    if not len(corners):
        raise MeshError("no face with an area is left; ask for more faces")
    used, renumbered = np.unique(corners, return_inverse=True)
    return np.ascontiguousarray(merged[used]), renumbered.reshape(-1, 3).astype(np.int64)


def _library() -> Any:
    try:
        from fast_simplification import simplify
    except ImportError:
        raise MissingExtraError("fast-simplification", "texture", "transform/simplify") from None
    return simplify
