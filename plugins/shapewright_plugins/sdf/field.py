"""From unsigned distances at lattice points to the values and gradients of a field."""

from __future__ import annotations

import warnings
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from shapewright.errors import MeshError
from shapewright.states import Frame, Mesh
from shapewright_kernels.narrow_band import Lattice, closest_points
from shapewright_kernels.pseudonormal import Pseudonormals, merged_pseudonormals, nearest_feature_normals, pseudonormals
from shapewright_kernels.signed_lattice import signed_gradients, signed_values
from shapewright_kernels.solid_signs import ON_SURFACE, REVERSED, Sides, SignReport, SolidSigns

from .config import Config

SMALLEST = 1e-7
"""No value is nearer to the level than this, in cells: a field never equals its level at a lattice point, so no
extractor has to decide what a corner on the surface means. Points on the surface count as outside."""

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]


class OpenSurfaceWarning(UserWarning):
    """A solid was made of a mesh that bounds none. ``report`` says how open it is."""

    def __init__(self, report: SignReport) -> None:
        self.report = report
        super().__init__(
            f"the mesh is open ({report.open_edges} open edges) and has no inside; policy 'solid': the sign follows "
            "its winding number and may add or drop walls. Choose surface=shell (doubled sheets) or surface=refuse, "
            "or a representation with open surfaces"
        )


class OrientationWarning(UserWarning):
    """Neighbouring faces disagreed in winding and some were turned over. ``report`` says how many."""

    def __init__(self, report: SignReport) -> None:
        self.report = report
        rest = f"; {report.unorientable_edges} edges cannot agree" if report.unorientable_edges else ""
        super().__init__(f"turned {report.flipped_faces} faces to agree with their neighbours{rest}")


class DistanceField:
    """A mesh and how the field around it is signed; :meth:`values` and :meth:`gradients` take any portion of the
    points."""

    def __init__(self, mesh: Mesh, config: Config) -> None:
        self.config = config
        self.vertices: Floats = mesh.vertices.numpy(force=True).astype(np.float64)
        self.faces: NDArray[np.int64] = mesh.faces.numpy(force=True)
        if not len(self.faces):
            raise MeshError("the mesh has no faces, so it has no distance")
        if self.faces.min() < 0 or self.faces.max() >= len(self.vertices):
            raise MeshError("a face refers to a vertex that does not exist")
        if not np.isfinite(self.vertices[self.faces]).all():
            raise MeshError("a face has a vertex that is not finite; clean the mesh first")
        self.vertices, self.faces = _used(self.vertices, self.faces)
        self._extent = float(np.ptp(self.vertices, axis=0).max())
        self.frame: Frame = mesh.frame.with_margin(config.resolution, config.margin)
        spacing = np.array(self.frame.extent) / config.resolution
        self.lattice = Lattice(self.frame.lower, spacing, config.resolution)
        self.cell = float(spacing.max())
        self.level = config.thickness * self.cell if config.shell else 0.0
        self.signs: SolidSigns | None = None
        if not config.shell:
            self.signs = SolidSigns(self.vertices, self.faces)
            _announce(self.signs.report, config)

    @cached_property
    def _normals(self) -> Pseudonormals:
        """Of the faces in the winding that the signs use."""
        if self.signs is None:
            return pseudonormals(self.vertices, self.faces)
        return merged_pseudonormals(self.signs.vertices, self.signs.faces, self.signs.topology)

    def sides(self, coords: NDArray[np.int32], distances: Floats) -> Sides:
        """Which side of the surface lattice points lie on, ``(N,)``; zeros around shells, which have no inside."""
        if self.signs is None:
            return np.zeros(len(coords), np.uint8)
        return self.signs.sides(coords, distances, self.lattice)

    def values(self, distances: Floats, sides: Sides) -> Singles:
        """Field values ``(N,)`` float32, none of them equal to the level."""
        smallest = SMALLEST * self.cell
        if self.signs is None:
            offset = distances - self.level
            shifted: Singles = (self.level + np.where(np.abs(offset) < smallest, smallest, offset)).astype(np.float32)
            return shifted
        return signed_values(distances, sides, smallest)

    def gradients(
        self, coords: NDArray[np.int32], distances: Floats, faces: NDArray[np.int32], sides: Sides
    ) -> Singles:
        """Unit gradients ``(N, 3)`` float32; on the surface the outward pseudonormal of the nearest feature."""
        corners = self.vertices[self.faces]
        result = signed_gradients(coords, self.lattice, faces, corners, sides)
        at = np.flatnonzero(distances <= ON_SURFACE * self._extent)
        if len(at):
            closest = closest_points(self.lattice.points(coords[at]), faces[at], corners)
            outward = nearest_feature_normals(closest, faces[at].astype(np.int64), self._normals)
            result[at] = np.where(sides[at] & REVERSED, -1.0, 1.0)[:, None] * outward
        return result


def _used(vertices: Floats, faces: NDArray[np.int64]) -> tuple[Floats, NDArray[np.int64]]:
    """Without the vertices that no face refers to, which need not be finite."""
    mask = np.zeros(len(vertices), bool)
    mask[faces] = True
    if mask.all():
        return vertices, faces
    return vertices[mask], (np.cumsum(mask) - 1)[faces]


def _announce(report: SignReport, config: Config) -> None:
    if report.open_edges and config.surface == "refuse":
        raise MeshError(
            f"the mesh is open ({report.open_edges} open edges), so it has no inside, and surface=refuse; "
            "choose surface=solid or surface=shell to convert it"
        )
    if report.flipped_faces:
        warnings.warn(OrientationWarning(report), stacklevel=4)
    if report.open_edges:
        warnings.warn(OpenSurfaceWarning(report), stacklevel=4)
