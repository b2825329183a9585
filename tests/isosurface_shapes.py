"""Fields with known surfaces, and checks of the topology of meshes, for the tests of the iso-surface extractors."""

from __future__ import annotations

import numpy as np
import torch
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from shapewright.states import Frame, GridField, SparseField, SparseTensor

Array = np.ndarray

CENTRE = np.array([0.013, 0.021, -0.017])
AXIS = np.array([1.0, 2.0, 3.0]) / np.sqrt(14.0)


def rotation(angle: float = 0.5) -> Array:
    """About ``AXIS``, so that nothing is aligned with the lattice."""
    cross = np.array([[0, -AXIS[2], AXIS[1]], [AXIS[2], 0, -AXIS[0]], [-AXIS[1], AXIS[0], 0]])
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def lattice(resolution: int) -> Array:
    """``(R + 1, R + 1, R + 1, 3)`` points of ``[-1, 1]^3``."""
    ticks = np.linspace(-1, 1, resolution + 1)
    return np.stack(np.meshgrid(ticks, ticks, ticks, indexing="ij"), axis=-1)


def sphere(resolution: int, radius: float = 0.8) -> Array:
    """Signed distance of a sphere on :func:`lattice`."""
    return np.linalg.norm(lattice(resolution), axis=-1) - radius


def box(points: Array, half: float = 0.5) -> tuple[Array, Array]:
    """Exact signed distance and gradient of a turned cube with edges of length ``2 half``."""
    local = (points - CENTRE) @ rotation()
    beyond = np.abs(local) - half
    outside = np.maximum(beyond, 0)
    length = np.linalg.norm(outside, axis=-1)
    nearest_face = np.eye(3)[beyond.argmax(axis=-1)]
    away = np.where(length[..., None] > 0, outside / np.maximum(length, 1e-300)[..., None], nearest_face)
    return np.where(length > 0, length, beyond.max(axis=-1)), (away * np.sign(local)) @ rotation().T


def box_edges(count: int, half: float = 0.5) -> Array:
    """Points on the twelve edges of :func:`box`."""
    along = np.linspace(-half, half, count)
    points = []
    for axis in range(3):
        for first in (-half, half):
            for second in (-half, half):
                edge = np.empty((count, 3))
                edge[:, axis], edge[:, (axis + 1) % 3], edge[:, (axis + 2) % 3] = along, first, second
                points.append(edge)
    return np.concatenate(points) @ rotation().T + CENTRE


def random_signs(rng: np.random.Generator, inner: int) -> Array:
    """A random field on ``inner ** 3`` lattice points inside a border of outside points: its surface is closed."""
    values = np.ones((inner + 2,) * 3)
    values[1:-1, 1:-1, 1:-1] = rng.uniform(-1, 1, (inner,) * 3)
    return values


def grid_field(values: Array, **options: object) -> GridField:
    """Field on ``[-1, 1]^3``."""
    return GridField(torch.from_numpy(values), Frame((-1.0,) * 3, (1.0,) * 3), **options)  # type: ignore[arg-type]


def sparse_field(values: Array, keep: Array | None = None, **options: object) -> SparseField:
    """The points ``keep`` (default: all) of a cubic grid as a sparse field on ``[-1, 1]^3``."""
    chosen = np.ones(values.shape, bool) if keep is None else keep
    coords = np.argwhere(chosen)
    coords = torch.from_numpy(np.concatenate([np.zeros((len(coords), 1)), coords], axis=1)).int()
    feats = torch.from_numpy(values[chosen])[:, None]
    tensor = SparseTensor(coords, feats, values.shape[0] - 1)
    return SparseField(tensor, frame=Frame((-1.0,) * 3, (1.0,) * 3), **options)  # type: ignore[arg-type]


def directed_edges(faces: Array) -> Array:
    """``(3 F, 2)``"""
    return np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])


def boundary_edges(faces: Array) -> int:
    """Directed edges whose reverse is not in the mesh as often."""
    edges = directed_edges(faces)
    total = int(faces.max()) + 1 if len(faces) else 1
    forward, counts = np.unique(edges[:, 0] * total + edges[:, 1], return_counts=True)
    balance = dict(zip(forward.tolist(), counts.tolist(), strict=True))
    return sum(n != balance.get(key % total * total + key // total, 0) for key, n in balance.items())


def is_closed_manifold(faces: Array) -> bool:
    """Every edge has two faces of opposite direction, and the faces at every vertex form one fan."""
    if len(faces) == 0:
        return True
    edges = directed_edges(faces)
    total = int(faces.max()) + 1
    keys, reverse = edges[:, 0] * total + edges[:, 1], edges[:, 1] * total + edges[:, 0]
    if len(np.unique(keys)) != len(keys) or not np.array_equal(np.sort(keys), np.sort(reverse)):
        return False
    # Join the corners (face, vertex) of neighbouring faces at both ends of their edge: one group a vertex is one fan.
    count = len(faces)
    face = np.tile(np.arange(count), 3)
    begin = np.concatenate([face[:count] + count * corner for corner in range(3)])
    end = np.concatenate([face[:count] + count * ((corner + 1) % 3) for corner in range(3)])
    partner = np.argsort(keys)[np.searchsorted(np.sort(keys), reverse)]
    joined = coo_matrix(
        (np.ones(2 * len(keys)), (np.concatenate([begin, end]), np.concatenate([end[partner], begin[partner]]))),
        shape=(3 * count, 3 * count),
    )
    return bool(connected_components(joined, directed=False)[0] == len(np.unique(faces)))


def euler_characteristic(faces: Array) -> int:
    """Of a closed mesh."""
    return len(np.unique(faces)) - len(np.unique(np.sort(directed_edges(faces), axis=1), axis=0)) + len(faces)


def volume(vertices: Array, faces: Array) -> float:
    """Signed; positive where normals point outwards."""
    a, b, c = vertices[faces].transpose(1, 0, 2)
    return float(np.einsum("ij,ij->", a, np.cross(b, c)) / 6)


def surface_distance(points: Array, vertices: Array, faces: Array) -> Array:
    """Exact distances of ``points`` from a mesh."""
    from shapewright_kernels.closest_point import ClosestPointIndex

    return ClosestPointIndex(vertices.astype(np.float64), faces).query(points)[0]
