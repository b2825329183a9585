"""Display meshes of a run: one small file per result and per reference, written while the bench has the meshes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..atomic import atomic_file
from .display_mesh import DisplayMesh, Floats, encode
from .mesh_paint import STORED, TextureLimits, paint_of
from .places import same_places
from .simplification import edges_by_use, simplified, whole_faces

if TYPE_CHECKING:
    from ..states import Mesh

FOLDER = "views"
MOST_FACES = 20_000
"""A stored display mesh has at most this many; beyond it, a view of a few hundred pixels shows no more."""
MOST_PAINTED_FACES = 60_000
"""Of a painted one: borders of colours are seen where a crease of the same size is not."""


def display_mesh(
    mesh: Mesh,
    errors_at: Callable[[Floats], Floats | None] = lambda points: None,
    *,
    textures: TextureLimits = STORED,
    most_faces: int | None = None,
) -> DisplayMesh:
    """The mesh as a page shows it, painted where it has materials or coloured vertices.

    Args:
        mesh: any triangle mesh with finite vertices.
        errors_at: points ``(N, 3)`` to distances ``(N,)``; it is asked about the vertices that stay, once.
        textures: how much of the textures stays.
        most_faces: instead of :data:`MOST_FACES`, or :data:`MOST_PAINTED_FACES` for a painted one.
    """
    stay, place = same_places(mesh.vertices.numpy(force=True).astype(np.float64))
    faces = place[mesh.faces.numpy(force=True)]
    whole = whole_faces(faces)
    paint = paint_of(mesh, textures)
    if paint is not None and not whole.all():
        paint = paint.select(whole)
    merged = faces[whole]
    boundary, junctions = edges_by_use(merged)
    vertices = mesh.vertices.numpy(force=True).astype(np.float64)[stay]
    full = DisplayMesh(vertices, merged, boundary, junctions, None, mesh.oriented, len(faces), paint)
    small = simplified(full, most_faces or (MOST_FACES if paint is None else MOST_PAINTED_FACES))
    return replace(small, errors=errors_at(small.vertices))


class ViewStore:
    """Display meshes below one folder, named by their content: a file is never changed, a copy never kept twice."""

    def __init__(self, out: Path) -> None:
        self.out = out

    def write(self, mesh: DisplayMesh) -> str:
        """Keep one; returns its path below the folder."""
        blob = encode(mesh)
        place = Path(FOLDER) / f"{hashlib.sha256(blob).hexdigest()[:32]}.swdm"
        if not (self.out / place).is_file():
            with atomic_file(self.out / place) as temporary:
                temporary.write_bytes(blob)
        return place.as_posix()

    def holds(self, place: str | None) -> bool:
        """Whether a path that :meth:`write` returned is still there."""
        return place is not None and (self.out / place).is_file()
