"""Display meshes of a run: one small file per result and per reference, written while the bench has the meshes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..atomic import atomic_file
from .display_mesh import DisplayMesh, Floats, encode
from .simplification import edges_by_use, merge_equal_positions, simplified

if TYPE_CHECKING:
    from ..states import Mesh

FOLDER = "views"
MOST_FACES = 20_000
"""A stored display mesh has at most this many; beyond it, a view of a few hundred pixels shows no more."""


def display_mesh(mesh: Mesh, errors_at: Callable[[Floats], Floats | None] = lambda points: None) -> DisplayMesh:
    """The mesh as a page shows it.

    Args:
        mesh: any triangle mesh with finite vertices.
        errors_at: points ``(N, 3)`` to distances ``(N,)``; it is asked about the vertices that stay, once.
    """
    vertices, faces = mesh.vertices.numpy(force=True).astype(np.float64), mesh.faces.numpy(force=True)
    vertices, merged = merge_equal_positions(vertices, faces)
    boundary, junctions = edges_by_use(merged)
    full = DisplayMesh(vertices, merged, boundary, junctions, None, mesh.oriented, len(faces))
    small = simplified(full, MOST_FACES)
    return DisplayMesh(
        small.vertices,
        small.faces,
        small.boundary,
        small.junctions,
        errors_at(small.vertices),
        small.oriented,
        small.full_faces,
    )


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
