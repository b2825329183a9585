"""What the metrics of one pair share: cleaned surfaces, search trees, samples and distances, each made once."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
import torch
from shapewright.errors import ConfigError, MeshError
from shapewright.interfaces import MeshPair
from shapewright.states import Mesh
from shapewright_kernels.arrays import Floats, Ints
from shapewright_kernels.canonical import CanonicalSurface, canonical_surface
from shapewright_kernels.closest_point import ClosestPointIndex
from shapewright_kernels.creases import MergedMesh, merged_mesh
from shapewright_kernels.sampling import sample_triangles
from shapewright_kernels.threads import run_chunks

Role = Literal["reference", "predicted"]
SAMPLES = 100_000
"""Samples per direction of the primary protocol."""


class Surface(NamedTuple):
    """A mesh without copies and faces without area, in canonical order, with its search tree."""

    faces: CanonicalSurface
    search: ClosestPointIndex


class Samples(NamedTuple):
    """Area-uniform points ``(N, 3)`` and the faces ``(N,)`` of the :class:`Surface` they lie on."""

    points: Floats
    faces: Ints


class MeshDistances(NamedTuple):
    """Exact distances of samples to the other surface, and the closest face there."""

    completeness: Floats
    """``(N,)``: reference samples to the result."""
    completeness_faces: Ints
    accuracy: Floats
    """``(N,)``: samples of the result to the reference."""
    accuracy_faces: Ints


def arrays(pair: MeshPair, role: Role) -> tuple[Floats, Ints]:
    """Vertices float64 and faces int64 of one mesh of the pair. Raises MeshError where no number can be measured."""
    mesh: Mesh = getattr(pair, role)
    vertices = mesh.vertices.numpy(force=True).astype(np.float64)
    faces = mesh.faces.numpy(force=True)
    what = "the result" if role == "predicted" else "the reference"
    if len(faces) == 0:
        raise MeshError(f"{what} has no faces, so nothing can be measured; count it as failed")
    if faces.min() < 0 or faces.max() >= len(vertices):
        raise MeshError(f"{what} has faces that name vertices it does not have")
    if not (np.isfinite(vertices).all() or np.isfinite(vertices[faces]).all()):
        raise MeshError(f"{what} has vertices that are not finite; drop their faces first")
    return vertices, faces


def _home(pair: MeshPair, role: Role) -> Role:
    """The reference against itself (noise floor) needs its trees once; samples still come from two streams."""
    return "reference" if pair.predicted is pair.reference else role


def surface(pair: MeshPair, role: Role) -> Surface:
    """The cleaned surface of one mesh of the pair."""
    home = _home(pair, role)

    def compute() -> Surface:
        faces = canonical_surface(*arrays(pair, home))
        if len(faces.corners) == 0:
            what = "the result" if role == "predicted" else "the reference"
            raise MeshError(f"{what} has no face with an area, so nothing can be measured; count it as failed")
        rows = np.arange(3 * len(faces.corners)).reshape(-1, 3)
        return Surface(faces, ClosestPointIndex(faces.corners.reshape(-1, 3), rows, faces.normals))

    return pair.shared(f"{home}/surface", compute)


def merged(pair: MeshPair, role: Role) -> MergedMesh:
    """One mesh of the pair as it is, copies included, with vertices merged by position."""
    home = _home(pair, role)
    return pair.shared(f"{home}/merged", lambda: merged_mesh(*arrays(pair, home)))


def uniforms(pair: MeshPair, role: str, count: int, columns: int) -> Floats:
    """``(count, columns)`` float64 in [0, 1) from the pair's stream for ``role``."""
    draws = torch.rand((count, columns), generator=pair.rng(f"metrics/{role}"), dtype=torch.float64)
    values: Floats = draws.numpy()
    return values


def samples(pair: MeshPair, role: Role, count: int) -> Samples:
    """``count`` area-uniform samples; the reference and the result draw from different streams."""

    def compute() -> Samples:
        faces = surface(pair, role).faces
        return Samples(*sample_triangles(faces.corners, faces.areas, uniforms(pair, f"samples/{role}", count, 3)))

    return pair.shared(f"{role}/samples/{pair.sample}/{pair.seed}/{count}", compute)


def mesh_distances(pair: MeshPair, count: int) -> MeshDistances:
    """Point-to-mesh distances both ways, with ``count`` samples each."""

    def compute() -> MeshDistances:
        roles: tuple[Role, ...] = ("reference", "predicted")
        # both at once: what one thread does alone for one of them (random numbers, sorting) fills the gaps of the other
        run_chunks(lambda role: surface(pair, role), sorted({_home(pair, role) for role in roles}, reverse=True))

        def way(role: Role) -> tuple[Floats, Ints]:
            own, other = surface(pair, role), surface(pair, "predicted" if role == "reference" else "reference")
            known = samples(pair, role, count)
            return other.search.nearest(known.points, own.faces.normals, known.faces)

        (comp, comp_faces), (acc, acc_faces) = run_chunks(way, roles)
        return MeshDistances(comp, comp_faces, acc, acc_faces)

    return pair.shared(f"mesh-distances/{count}", compute)


def checked_samples(samples: int) -> int:
    """``samples`` where it is a usable count; ConfigError otherwise."""
    if samples < 1:
        raise ConfigError(f"samples must be at least 1, not {samples}")
    return samples
