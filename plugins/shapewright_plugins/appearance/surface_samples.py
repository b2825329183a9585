"""Points on the reference, what it looks like there, and the closest points of the result."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
import torch
from shapewright.errors import MeshError
from shapewright.interfaces import MeshPair
from shapewright.states import Mesh
from shapewright_kernels.arrays import Bools, Floats, Ints
from shapewright_kernels.barycentric import barycentrics
from shapewright_kernels.canonical import CanonicalSurface, canonical_surface
from shapewright_kernels.closest_point import ClosestPointIndex
from shapewright_kernels.rays import escapes, fibonacci_directions
from shapewright_kernels.sampling import sample_triangles

from .lookup import CHANNELS, Look, Surface

Role = Literal["reference", "predicted"]
DIRECTIONS = 128
SKIP = 1e-5
"""As in ``metric/interior``: hits nearer than this (``box1``) are the surface that the sample lies on."""


class Painted(NamedTuple):
    """A mesh without copies and faces without area, its search tree, and its materials."""

    vertices: Floats
    faces: Ints
    clean: CanonicalSurface
    search: ClosestPointIndex
    look: Surface
    stated: Bools
    """``(F,)``: whether anything is said about the look of a face of the mesh."""


class Found(NamedTuple):
    """What a mesh looks like at ``N`` points of it; ``known`` where it says so, by finite numbers."""

    look: Look
    known: Bools


class Samples(NamedTuple):
    """Area-uniform points ``(N, 3)`` of the reference, the normals of their faces, and the look there."""

    points: Floats
    normals: Floats
    found: Found


def channels(mesh: Mesh) -> frozenset[str]:
    """What a mesh says something about: all :data:`.lookup.CHANNELS` where it has materials, else those it has
    attributes or colours for."""
    named = {name for name in CHANNELS if name in mesh.attributes}
    colors = [mesh.attributes.get("color")]
    if mesh.appearance is not None:
        named |= set(CHANNELS) if mesh.appearance.materials else set()
        colors.append(mesh.appearance.corner_colors)
    for color in colors:
        if color is not None:
            named |= {"base_color", "alpha"} if color.shape[-1] == 4 else {"base_color"}
    return frozenset(named)


def reference_samples(pair: MeshPair, count: int) -> Samples:
    """``count`` samples of the reference, once for all its results."""

    def compute() -> Samples:
        surface = painted(pair, "reference")
        draws = torch.rand((count, 3), generator=pair.rng("appearance/samples"), dtype=torch.float64)
        points, rows = sample_triangles(surface.clean.corners, surface.clean.areas, draws.numpy())
        return Samples(points, surface.clean.normals[rows], look_at(surface, surface.clean.source[rows], points))

    return pair.shared(f"reference/appearance/samples/{pair.sample}/{pair.seed}/{count}", compute)


def outer_samples(pair: MeshPair, count: int) -> Bools:
    """Which of :func:`reference_samples` are seen from outside along one of 128 directions."""

    def compute() -> Bools:
        clean, search = painted(pair, "reference").clean, painted(pair, "reference").search
        points = reference_samples(pair, count).points
        return escapes(search.tree, clean.corners, points, fibonacci_directions(DIRECTIONS), skip=SKIP)

    return pair.shared(f"reference/appearance/outer/{pair.sample}/{pair.seed}/{count}", compute)


def closest_look(pair: MeshPair, samples: Samples) -> Found:
    """The look of the result at its points closest to the samples; of equally far faces the one that faces alike."""
    surface = painted(pair, "predicted")
    _, rows, closest = surface.search.query(samples.points, normals=samples.normals)
    return look_at(surface, surface.clean.source[rows], closest)


def look_at(surface: Painted, faces: Ints, points: Floats) -> Found:
    """The look of ``faces`` ``(N,)`` of the mesh at ``points`` ``(N, 3)`` on them."""
    look = surface.look.at(faces, barycentrics(points, surface.vertices[surface.faces[faces]]))
    finite = [np.isfinite(getattr(look, name)).all(axis=1) for name in CHANNELS]
    return Found(look, surface.stated[faces] & np.logical_and.reduce(finite))


def painted(pair: MeshPair, role: Role) -> Painted:
    """One mesh of the pair. Raises MeshError where it has no face with an area, or one that is not finite."""
    home: Role = "reference" if pair.predicted is pair.reference else role

    def compute() -> Painted:
        mesh: Mesh = getattr(pair, home)
        what = "the result" if home == "predicted" else "the reference"
        vertices, faces = mesh.vertices.numpy(force=True).astype(np.float64), mesh.faces.numpy(force=True)
        if len(faces) and not 0 <= faces.min() <= faces.max() < len(vertices):
            raise MeshError(f"{what} has faces that name vertices it does not have")
        if not np.isfinite(vertices[faces]).all():
            raise MeshError(f"{what} has vertices that are not finite; drop their faces first")
        clean = canonical_surface(vertices, faces)
        if not len(clean.corners):
            raise MeshError(f"{what} has no face with an area, so nothing can be measured; count it as failed")
        rows = np.arange(3 * len(clean.corners)).reshape(-1, 3)
        search = ClosestPointIndex(clean.corners.reshape(-1, 3), rows, clean.normals)
        return Painted(vertices, faces, clean, search, Surface(mesh), _stated(mesh))

    return pair.shared(f"{home}/appearance/painted", compute)


def _stated(mesh: Mesh) -> Bools:
    """Faces of no material say nothing, unless corners or vertices have colours."""
    look = mesh.appearance
    colored = bool({"base_color", "color"} & mesh.attributes.keys()) or (
        look is not None and look.corner_colors is not None
    )
    if colored or look is None or look.face_materials is None:
        return np.ones(len(mesh.faces), np.bool_)
    return np.asarray(look.face_materials.numpy(force=True) >= 0)
