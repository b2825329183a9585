"""Capability claims of representations and extractors, each shown on the toy that it is about."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from ..states import Mesh
from . import toys
from .check import Check, require
from .examples import calls
from .geometry import cell, demonstrate
from .measure import Floats, Surface, distances, surface
from .subject import Subject


def _corners(mesh: Mesh) -> Floats:
    found: Floats = mesh.vertices.detach().cpu().double().numpy()[mesh.faces.cpu().numpy()]
    return found


def _near(value: float, wanted: float, share: float) -> bool:
    return abs(value - wanted) <= share * wanted


# --- open surfaces ----------------------------------------------------------------------------------------------------
def open_surfaces(subject: Subject) -> None:
    """A disc keeps its one boundary where it is, and stays a single sheet."""
    truth = surface(toys.disc())

    def judge(mesh: Mesh) -> None:
        found = surface(mesh)
        border, wanted = found.counts == 1, truth.counts == 1
        require(border.any(), "the disc has no boundary any more")
        require(found.boundary_loops() == 1, f"the disc has {found.boundary_loops()} boundary loops, not 1")
        length, whole = found.length(border), truth.length(wanted)
        require(_near(length, whole, 0.3), f"its boundary is {length:.3g} long, not {whole:.3g}")
        require(_near(found.area, truth.area, 0.2), f"its area is {found.area:.3g}, not {truth.area:.3g}")

    demonstrate(subject, "disc", "open_surfaces", judge)


# --- interiors --------------------------------------------------------------------------------------------------------
def interiors(subject: Subject) -> None:
    """Of two nested spheres both are left, whole and of their size."""

    truth = surface(toys.nested_spheres())
    centre = np.array(toys.CENTRE)

    def judge(mesh: Mesh) -> None:
        found = surface(mesh)
        pieces = found.pieces()
        require(len(pieces) == 2, f"two nested spheres became {len(pieces)} piece(s)")
        require(_near(found.area, truth.area, 0.1), f"their area is {found.area:.3g}, not {truth.area:.3g}")
        radii = sorted(
            float(np.linalg.norm(found.vertices[np.unique(piece)] - centre, axis=1).mean()) for piece in pieces
        )
        for radius, wanted in zip(radii, (toys.INNER, toys.SPHERE), strict=True):
            require(abs(radius - wanted) <= cell(subject) / 2, f"a sphere of radius {wanted} has radius {radius:.3g}")

    demonstrate(subject, "nested", "interiors", judge)


# --- seams ------------------------------------------------------------------------------------------------------------
def non_manifold(subject: Subject) -> None:
    """Three quads on one edge stay three sheets that meet there."""
    truth = surface(toys.three_quads())

    def judge(mesh: Mesh) -> None:
        found = surface(mesh)
        seam = found.length(found.counts == 3)
        require(
            _near(found.area, truth.area, 0.2), f"the area of three quads is {found.area:.3g}, not {truth.area:.3g}"
        )
        require(seam >= 0.6 * toys.SEAM, f"three faces meet along {seam:.3g}, not along {toys.SEAM}")
        surplus = found.length(found.counts > 3)
        require(surplus <= 0.3 * toys.SEAM, f"more than three faces meet along {surplus:.3g}")

    demonstrate(subject, "three quads", "non_manifold", judge)


# --- orientation ------------------------------------------------------------------------------------------------------
VOLUME = 4 / 3 * np.pi * toys.SPHERE**3


def _require_outward(found: Surface) -> None:
    require(not (found.balance != 0).any(), "neighbouring faces of a sphere wind against one another")
    require(
        _near(found.volume, VOLUME, 0.15),
        f"the faces of a sphere enclose {found.volume:.3g}, not {VOLUME:.3g}; wind them outward",
    )


def oriented(subject: Subject) -> None:
    """A sphere's faces point outward."""

    def judge(mesh: Mesh) -> None:
        _require_outward(surface(mesh))

    demonstrate(subject, "sphere", "oriented", judge)


def honest_winding(subject: Subject) -> None:
    """``Mesh.oriented`` is what the spec claims: metrics trust the winding of a mesh that says so."""
    claimed = subject.spec.capabilities.oriented
    for call in calls(subject):
        said = subject.result(call).oriented
        require(
            said == claimed,
            f"extract({call.label}): Mesh.oriented is {said}, the spec {'claims' if claimed else 'does not claim'} "
            "orientation",
        )


# --- creases ----------------------------------------------------------------------------------------------------------
BLUNT = 0.12
"""Mean distance of a crease from the result, in cells, above which it counts as bevelled. A chamfer through the
crossings of a lattice loses a quarter of a cell and more."""


def sharp_edges(subject: Subject) -> None:
    """The creases of a turned cube lie on the result, to well under a cell."""
    ends = toys.cube_edges().numpy()
    along = np.linspace(0.12, 0.88, 12)[:, None, None]
    points = (ends[:, 0] * (1 - along) + ends[:, 1] * along).reshape(-1, 3)

    def judge(mesh: Mesh) -> None:
        require(len(mesh.faces), "nothing is left of the cube")
        lost = float(distances(points, _corners(mesh)).mean()) / cell(subject)
        require(lost <= BLUNT, f"the creases of a cube are {lost:.2f} cells off on average, more than {BLUNT}")

    demonstrate(subject, "cube", "sharp_edges", judge)


# --- materials --------------------------------------------------------------------------------------------------------
def pbr(subject: Subject) -> None:
    """Each side of a cube keeps its colour."""

    def judge(mesh: Mesh) -> None:
        colours = mesh.attributes.get("base_color")
        require(colours is not None, f"the mesh has no attribute base_color but {sorted(mesh.attributes) or 'none'}")
        assert colours is not None
        normals, offsets = toys.cube_sides()
        local = mesh.vertices.detach().cpu().double() - torch.tensor(toys.CENTRE, dtype=torch.float64)
        height = local @ normals.T - offsets
        order = height.abs().sort(dim=1)
        clear = (order.values[:, 0] < 1.5 * cell(subject)) & (order.values[:, 1] > 2 * cell(subject))
        require(bool(clear.any()), "no vertex lies on one side of the cube alone")
        wanted = toys.COLOURS[order.indices[clear, 0]]
        off = (colours.detach().cpu().double()[clear, :3] - wanted).abs().amax(dim=1)
        wrong = float((off > 0.1).double().mean())
        require(wrong <= 0.02, f"{wrong:.0%} of the cube's sides has another colour")

    demonstrate(subject, "coloured cube", "pbr", judge)


def _claim(name: str, proves: str, run: Callable[[Subject], None]) -> Check:
    return Check(name, proves, run, claim=name)


OPEN_SURFACES = _claim("open_surfaces", "a disc keeps its one boundary and stays single", open_surfaces)
INTERIORS = _claim("interiors", "nested spheres stay nested, both whole", interiors)
NON_MANIFOLD = _claim("non_manifold", "three quads on one edge stay three", non_manifold)
ORIENTED = _claim("oriented", "a sphere's faces point outward and enclose its volume", oriented)
SHARP_EDGES = _claim("sharp_edges", "the creases of a turned cube stay to an eighth of a cell", sharp_edges)
PBR = _claim("pbr", "a coloured cube keeps its colours", pbr)
GEOMETRIC = (OPEN_SURFACES, INTERIORS, NON_MANIFOLD, ORIENTED, SHARP_EDGES, PBR)
HONEST_WINDING = Check("honest_winding", "Mesh.oriented says what the spec claims", honest_winding)
