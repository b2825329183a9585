"""A clean closed mesh around any triangles: the surface at a small distance from them, pulled back onto them.

The distance needs no inside, so it does not matter how the triangles are wound, what they cut or where they are open. A
sheet gets a wall on either side. Walls against spaces that count as filled are left out, so a solid gets one skin.

Source: TRELLIS.2 (arXiv 2512.14692), ``remesh_narrow_band_dc``; there every surface gets both walls.
"""

from __future__ import annotations

from math import ceil
from typing import Literal, get_args

import numpy as np

from .arrays import Bools, Floats, Ints
from .closest_point import ClosestPointIndex
from .dual_contouring import dual_contouring_sparse
from .enclosed_spaces import spaces_beside
from .narrow_band import CELL_DIAGONAL, Coords, Lattice, narrow_band
from .solid_signs import SolidSigns
from .winding import winding_numbers

Filled = Literal["winding", "enclosed", "none"]
FILLED = get_args(Filled)
SMALLEST_BAND = 0.6
"""In cells: a thinner wall may let lattice points on its two sides touch."""
MARGIN = 2
"""Cells around the surface that stay free."""
PROBES = 64
"""Points of a space whose winding numbers decide whether it is filled."""


def remesh_shell(
    vertices: Floats,
    faces: Ints,
    *,
    resolution: int,
    band: float = 1.0,
    project_back: float = 0.9,
    filled: Filled = "winding",
    threads: int | None = None,
) -> tuple[Floats, Ints]:
    """Closed two-manifold around triangles.

    Args:
        vertices: ``(V, 3)`` finite float64. faces: ``(F, 3)``, at least one with an extent.
        resolution: cells along the longest side of the mesh. band: distance of the surface, in cells.
        project_back: share of the way from there to the closest point of the mesh that each vertex goes.
        filled: spaces without a way out that get no wall: those around which the mesh winds (``winding``), all
            (``enclosed``) or none (``none``, as published).
        threads: never changes the result.
    Returns:
        ``(M, 3)`` vertices float64 and ``(G, 3)`` int64 faces, counter-clockwise seen from the free side. No two walls
        share a vertex; walls of a sheet lie on one another where ``project_back`` is 1.
    Raises:
        ValueError: an option out of range, or a mesh without extent.
    """
    if resolution < 2 or not band >= SMALLEST_BAND or not 0 <= project_back <= 1 or filled not in FILLED:
        raise ValueError(
            f"resolution from 2, band from {SMALLEST_BAND}, project_back in [0, 1] and filled of {FILLED}, not "
            f"{resolution}, {band}, {project_back}, {filled!r}"
        )
    used = vertices[np.unique(faces)] if len(faces) else vertices[:0]
    extent = float(np.ptp(used, axis=0).max()) if len(used) else 0.0
    if not extent > 0:
        raise ValueError("the mesh has no extent")
    cell = extent / resolution
    cells = resolution + 2 * ceil(band + MARGIN)
    middle = (used.min(axis=0) + used.max(axis=0)) / 2
    lattice = Lattice(middle - cell * cells / 2, cell, cells)
    near = narrow_band(vertices, faces, lattice, band + CELL_DIAGONAL, threads)
    values = near.distances - band * cell
    if filled != "none":
        inside = _filled(vertices, faces, lattice, near.coords, values < 0, filled, threads)
        values[inside] = -near.distances[inside]
    found, triangles = dual_contouring_sparse(near.coords, values, threads=threads)
    points = np.asarray(found, np.float64) * cell + lattice.lower
    if project_back > 0 and len(points):
        _, _, closest = ClosestPointIndex(vertices, faces, threads=threads).query(points, threads=threads)
        points += project_back * (closest - points)
    return points, triangles


def _filled(
    vertices: Floats, faces: Ints, lattice: Lattice, coords: Coords, wall: Bools, filled: Filled, threads: int | None
) -> Bools:
    """Which lattice points beside the wall lie in a space that counts as filled."""
    spaces = spaces_beside(coords, wall, lattice.resolution + 1)
    count = int(spaces.max(initial=0)) + 1
    solid = np.zeros(count + 1, np.bool_)  # the last is the wall's -1
    solid[1:count] = True
    if filled == "winding" and count > 1:
        order = np.argsort(spaces, kind="stable")
        starts = np.searchsorted(spaces[order], np.arange(1, count + 1))
        sizes = np.diff(starts)
        chosen = np.minimum(sizes, PROBES)
        owner = np.repeat(np.arange(count - 1), chosen)
        place = np.arange(len(owner)) - np.repeat(np.cumsum(chosen) - chosen, chosen)
        rows = order[starts[owner] + place * sizes[owner] // chosen[owner]]
        signs = SolidSigns(vertices, faces)  # for faces with their windings repaired
        winding = np.abs(winding_numbers(lattice.points(coords[rows]), signs.vertices, signs.faces, threads=threads))
        solid[1:count] = np.bincount(owner, winding, count - 1) > 0.5 * chosen
    return solid[spaces]
