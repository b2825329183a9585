"""Which lattice points lie inside a mesh: those whose generalised winding number exceeds one half in absolute value."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import inf

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .arrays import Bools, Floats, Ints
from .mesh_closing import close_merged
from .narrow_band import Coords, Lattice
from .orientation import consistent_orientation
from .topology import edge_topology, merge_vertices
from .triangles import face_normals
from .winding import WindingIndex, build_winding_index, winding_numbers
from .winding_bricks import lattice_windings
from .winding_columns import column_sides, column_windings

ON_SURFACE = 1e-12
"""A point nearer than this, in units of the mesh's largest extent, lies on the surface."""
ENCLOSED = 0.95
"""A point on the surface is inside only where all directions lead inside (winding number at least 1): on a surface
between inside and outside it counts as outside."""


INSIDE, REVERSED = 1, 2
"""Bits of :meth:`SolidSigns.sides`: inside; and the winding number is negative (a mesh turned inside out)."""

Sides = NDArray[np.uint8]

FEW_POINTS = 128
"""Points up to which summing all faces costs less than building a hierarchy over them."""


@dataclass(frozen=True, slots=True)
class SignReport:
    """What a signed method did to a mesh, and what its sign is worth."""

    flipped_faces: int
    """Faces turned to agree with their neighbours."""
    unorientable_edges: int
    """Edges at which no winding of the faces agrees."""
    boundary_edges: int
    """Edges of the oriented boundary of the repaired mesh; T-junctions included."""
    open_edges: int
    """The same without T-junctions; 0 where the winding number is an integer, so that inside is well defined."""


class SolidSigns:
    """Inside and outside of one mesh.

    Where neighbouring faces disagree in winding, the winding is repaired first
    (:func:`~shapewright_kernels.orientation.consistent_orientation`). The winding number is then exact on meshes
    without open edges, by ray crossings; on open ones it is that of the mesh closed by caps (an integer, exact) less
    that of the caps (by multipoles, to 0.005; see :mod:`.mesh_closing`). Turning all faces over changes nothing.

    Args:
        vertices: ``(V, 3)`` finite floats. faces: ``(F, 3)`` integers, at least one.
        relative_tolerance: for merging vertices, in units of the largest extent.
    """

    def __init__(self, vertices: ArrayLike, faces: ArrayLike, *, relative_tolerance: float = 1e-9) -> None:
        positions, group = merge_vertices(vertices, relative_tolerance)
        merged = group[np.asarray(faces, np.int64).reshape(-1, 3)]
        topology = edge_topology(merged)
        oriented = consistent_orientation(merged, face_normals(positions, merged)[1], topology)
        self.vertices: Floats = positions
        self.faces: Ints = oriented.faces
        """Over :attr:`vertices`, in the order given, with their repaired winding."""
        self.flipped: Bools = oriented.flipped
        """``(F,)``: the faces whose winding was repaired."""
        self.topology = edge_topology(oriented.faces) if oriented.flipped.any() else topology
        """Edges of :attr:`faces`."""
        self._closed = close_merged(positions, oriented.faces, self.topology)
        self._extent = float(np.ptp(positions, axis=0).max())
        self.report = SignReport(
            int(oriented.flipped.sum()), oriented.conflicts, self._closed.boundary_edges, self._closed.open_edges
        )

    @cached_property
    def _surface_index(self) -> WindingIndex:
        return build_winding_index(self.vertices, self.faces)

    @cached_property
    def _cap_index(self) -> WindingIndex:
        return build_winding_index(self._closed.vertices, self._closed.faces[self._closed.caps :])

    def on_surface(self, distances: Floats) -> Bools:
        """Which of the points at these unsigned distances count as lying on the surface."""
        return distances <= ON_SURFACE * self._extent

    def windings(self, coords: Coords, distances: Floats, lattice: Lattice, threads: int | None = None) -> Floats:
        """Generalised winding numbers ``(N,)`` float64 at lattice points.

        Args:
            coords: ``(N, 3)`` int32, lexicographic. distances: ``(N,)`` from the mesh, unsigned.
        Returns:
            On the surface the mean over all directions, elsewhere as described for the class.
        """
        if 2 * self._closed.open_edges > len(self.faces):  # a soup: caps would cost more than the faces themselves
            result = lattice_windings(self._surface_index, coords, lattice, threads)
        else:
            numbers = column_windings(coords, self._closed.vertices, self._closed.faces, lattice, threads)
            result = numbers.astype(np.float64)
            if self._closed.open_edges:
                result -= lattice_windings(self._cap_index, coords, lattice, threads)
        at = np.flatnonzero(self.on_surface(distances))
        if len(at):
            result[at] = self._windings_at(lattice.points(coords[at]), threads)
        return result

    def sides(self, coords: Coords, distances: Floats, lattice: Lattice, threads: int | None = None) -> Sides:
        """:data:`INSIDE` and :data:`REVERSED` of lattice points ``(N,)`` uint8; arguments as for :meth:`windings`.

        Inside is where the winding number exceeds 1/2 either way; on the surface only where all sides are inside.
        """
        if self._closed.open_edges:
            windings = self.windings(coords, distances, lattice, threads)
            return self._sides(windings, np.where(self.on_surface(distances), ENCLOSED, 0.5))
        closed = self._closed
        sides = column_sides(coords, closed.vertices, closed.faces, lattice, INSIDE, INSIDE | REVERSED, threads)
        at = np.flatnonzero(self.on_surface(distances))
        if len(at):
            windings = self._windings_at(lattice.points(coords[at]), threads)
            sides[at] = self._sides(windings, np.full(len(at), ENCLOSED))
        return sides

    @staticmethod
    def _sides(windings: Floats, least: Floats) -> Sides:
        return INSIDE * (np.abs(windings) > least).astype(np.uint8) + REVERSED * (windings < 0).astype(np.uint8)

    def _windings_at(self, points: Floats, threads: int | None) -> Floats:
        if len(points) <= FEW_POINTS:
            return winding_numbers(points, self.vertices, self.faces, accuracy=inf, threads=threads)
        return self._surface_index.query(points, threads=threads)
