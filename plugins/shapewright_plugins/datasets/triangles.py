"""Triangle arrays and the few constructions that the stress suite is made of. Angles in radians, z up."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[Any]


class Triangles(NamedTuple):
    """``vertices`` ``(V, 3)`` float64 and ``faces`` ``(F, 3)`` int64, counter-clockwise seen from outside."""

    vertices: Array
    faces: Array

    def moved(self, *, scale: ArrayLike = 1.0, turn: ArrayLike | None = None, shift: ArrayLike = 0.0) -> Triangles:
        """Scaled along the axes, then turned by a rotation matrix, then shifted.

        A mirroring scale turns the faces round, so that outward stays outward.
        """
        factors = np.broadcast_to(np.asarray(scale, float), 3)
        vertices = self.vertices * factors
        if turn is not None:
            vertices = vertices @ np.asarray(turn, float).T
        faces = self.faces[:, ::-1] if np.prod(factors) < 0 else self.faces
        return Triangles(vertices + np.asarray(shift, float), faces)


def concatenated(parts: Sequence[Triangles]) -> Triangles:
    """All parts in one mesh, nothing joined."""
    starts = np.cumsum([0, *(len(part.vertices) for part in parts)])
    faces = [part.faces + start for part, start in zip(parts, starts, strict=False)]
    return Triangles(np.concatenate([part.vertices for part in parts]), np.concatenate(faces))


def welded(shape: Triangles, decimals: int = 9) -> Triangles:
    """Equal positions merged, triangles that lost a corner dropped, unused vertices removed."""
    _, first, group = np.unique(shape.vertices.round(decimals) + 0.0, axis=0, return_index=True, return_inverse=True)
    faces = first[group.reshape(-1)][shape.faces]
    whole = (faces != faces[:, [1, 2, 0]]).all(axis=1)
    used, faces = np.unique(faces[whole], return_inverse=True)
    return Triangles(shape.vertices[used], faces.reshape(-1, 3).astype(np.int64))


def grid_faces(rows: int, columns: int) -> Array:
    """Faces of ``rows x columns`` cells over ``(rows + 1)(columns + 1)`` vertices, cell (i, j) cut from (i, j) to
    (i + 1, j + 1)."""
    i, j = np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij")
    a = i * (columns + 1) + j
    b, c, d = a + columns + 1, a + columns + 2, a + 1
    return np.stack([np.stack([a, b, c], -1), np.stack([a, c, d], -1)], axis=2).reshape(-1, 3).astype(np.int64)


def sheet(rows: int, columns: int, surface: Callable[[Array, Array], Sequence[Array]]) -> Triangles:
    """``surface(u, v)`` with u and v in [0, 1] on a grid of ``rows x columns`` cells."""
    u, v = np.meshgrid(np.linspace(0, 1, rows + 1), np.linspace(0, 1, columns + 1), indexing="ij")
    points = np.stack(np.broadcast_arrays(*surface(u, v)), axis=-1).reshape(-1, 3)
    return Triangles(points.astype(np.float64), grid_faces(rows, columns))


def icosahedron() -> Triangles:
    """Regular, vertices at distance 1."""
    golden = (1 + 5**0.5) / 2
    vertices = [(s, t * golden, 0.0) for s in (-1.0, 1.0) for t in (-1.0, 1.0)]
    points = np.array([np.roll(vertex, turn) for turn in range(3) for vertex in vertices])
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    distance = np.linalg.norm(points[:, None] - points[None], axis=2)
    near = (distance > 0) & (distance < 1.1)
    faces = []
    for a in range(12):
        for b in range(a + 1, 12):
            for c in range(b + 1, 12):
                if near[a, b] and near[b, c] and near[a, c]:
                    outward = np.linalg.det(points[[a, b, c]]) > 0
                    faces.append((a, b, c) if outward else (a, c, b))
    return Triangles(points, np.array(faces, np.int64))


def icosphere(subdivisions: int, radius: float = 1.0, centre: ArrayLike = (0.0, 0.0, 0.0)) -> Triangles:
    """Icosahedron with every triangle cut into four ``subdivisions`` times, vertices on the sphere."""
    points, faces = icosahedron()
    for _ in range(subdivisions):
        edges = np.sort(np.stack([faces, faces[:, [1, 2, 0]]], axis=-1), axis=-1).reshape(-1, 2)
        unique, number = np.unique(edges, axis=0, return_inverse=True)
        middle = points[unique].mean(axis=1)
        ab, bc, ca = (number.reshape(-1, 3) + len(points)).T
        a, b, c = faces.T
        quarters = [(a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca)]
        faces = np.stack([np.stack(quarter, axis=-1) for quarter in quarters], axis=1).reshape(-1, 3)
        points = np.concatenate([points, middle / np.linalg.norm(middle, axis=1, keepdims=True)])
    return Triangles(points * radius + np.asarray(centre, float), faces)


def box(size: ArrayLike = 1.0, centre: ArrayLike = (0.0, 0.0, 0.0)) -> Triangles:
    """Axis-aligned box of 12 triangles on 8 vertices."""
    corners = np.array([[i, j, k] for i in (-0.5, 0.5) for j in (-0.5, 0.5) for k in (-0.5, 0.5)])
    quads = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    faces = [face for a, b, c, d in quads for face in ((a, b, c), (a, c, d))]
    return Triangles(corners * np.asarray(size, float) + np.asarray(centre, float), np.array(faces, np.int64))


def revolved(profile: ArrayLike, sectors: int) -> Triangles:
    """A profile ``(N, 2)`` of (r, z) points turned about the z axis; the solid lies to the left of its direction."""
    radius, height = np.asarray(profile, float).T

    def surface(u: Array, v: Array) -> tuple[Array, Array, Array]:
        step = np.rint(u * (len(radius) - 1)).astype(int)
        angle = 2 * np.pi * np.where(v < 1, v, 0.0)  # the last column must be the first, to the bit
        return radius[step] * np.cos(angle), radius[step] * np.sin(angle), height[step]

    turned = welded(sheet(len(radius) - 1, sectors, surface))
    return Triangles(turned.vertices, turned.faces[:, ::-1])


def _transported(tangents: Array, points: Array) -> Array:
    """Rotation-minimising normals along a polyline by double reflection.

    Source: Wang, Juettler, Zheng and Liu 2008, "Computation of rotation minimizing frames".
    """
    normals = np.empty_like(points)
    start = np.cross(tangents[0], np.eye(3)[np.abs(tangents[0]).argmin()])
    normals[0] = start / np.linalg.norm(start)
    for i in range(len(points) - 1):
        across = points[i + 1] - points[i]
        scale = 2 / (across @ across)
        normal = normals[i] - scale * (across @ normals[i]) * across
        tangent = tangents[i] - scale * (across @ tangents[i]) * across
        turn = tangents[i + 1] - tangent
        length = turn @ turn
        normals[i + 1] = normal - (2 / length) * (turn @ normal) * turn if length > 0 else normal
    return normals


def tube(points: Array, radius: float, sides: int, *, closed: bool) -> Triangles:
    """A round tube about a polyline ``(N, 3)``.

    Open ones get a cap at each end; for closed ones, whose last point is joined to the first, the twist that the frame
    has gathered on the way round is spread evenly.
    """
    if closed:
        tangents = np.roll(points, -1, axis=0) - np.roll(points, 1, axis=0)
    else:
        tangents = np.gradient(points, axis=0)
    tangents = tangents / np.linalg.norm(tangents, axis=1, keepdims=True)
    twist = np.zeros(len(points))
    if closed:
        loop = _transported(np.concatenate([tangents, tangents[:1]]), np.concatenate([points, points[:1]]))
        normals = loop[:-1]
        gathered = np.arctan2(np.cross(loop[0], loop[-1]) @ tangents[0], loop[0] @ loop[-1])
        twist = -gathered * np.arange(len(points)) / len(points)
    else:
        normals = _transported(tangents, points)
    binormals = np.cross(tangents, normals)
    angle = 2 * np.pi * np.arange(sides) / sides + twist[:, None]
    ring = np.cos(angle)[..., None] * normals[:, None] + np.sin(angle)[..., None] * binormals[:, None]
    vertices = (points[:, None] + radius * ring).reshape(-1, 3)
    count = len(points) if closed else len(points) - 1
    i, j = (axis.reshape(-1) for axis in np.meshgrid(np.arange(count), np.arange(sides), indexing="ij"))
    after, beside = (i + 1) % len(points), (j + 1) % sides
    a, b, c, d = i * sides + j, after * sides + j, after * sides + beside, i * sides + beside
    faces = np.concatenate([np.stack([a, c, b], -1), np.stack([a, d, c], -1)])
    if not closed:
        first = np.arange(sides)
        second = np.roll(first, -1)
        last = (len(points) - 1) * sides
        start, end = len(vertices), len(vertices) + 1
        vertices = np.concatenate([vertices, points[[0, -1]]])
        caps = [np.stack([second, first, np.full(sides, start)], -1)]
        caps.append(np.stack([first + last, second + last, np.full(sides, end)], -1))
        faces = np.concatenate([faces, *caps])
    return Triangles(vertices, faces.astype(np.int64))


def rotation_from_uniforms(uniforms: ArrayLike) -> Array:
    """Uniformly distributed rotation matrix from three uniforms in [0, 1).

    Source: Shoemake 1992, "Uniform random rotations" (Graphics Gems III).
    """
    u, v, w = np.asarray(uniforms, float)
    low, high = np.sqrt(1 - u), np.sqrt(u)
    x, y = np.sin(2 * np.pi * v) * low, np.cos(2 * np.pi * v) * low
    z, s = np.sin(2 * np.pi * w) * high, np.cos(2 * np.pi * w) * high
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * s), 2 * (x * z + y * s)],
            [2 * (x * y + z * s), 1 - 2 * (x * x + z * z), 2 * (y * z - x * s)],
            [2 * (x * z - y * s), 2 * (y * z + x * s), 1 - 2 * (x * x + y * y)],
        ]
    )


def rotation_about(axis: ArrayLike, angle: float) -> Array:
    """Rotation matrix about ``axis`` by ``angle`` (Rodrigues' formula)."""
    x, y, z = np.asarray(axis, float) / np.linalg.norm(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.asarray(np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross)


def union(parts: Sequence[Triangles]) -> Triangles:
    """Exact boolean union of closed parts."""
    from manifold3d import Manifold, OpType

    return from_manifold(Manifold.batch_boolean([to_manifold(part) for part in parts], OpType.Add))


def to_manifold(shape: Triangles) -> Any:
    """The shape as a solid of manifold3d."""
    from manifold3d import Manifold, Mesh64

    return Manifold(Mesh64(np.ascontiguousarray(shape.vertices), np.ascontiguousarray(shape.faces, np.uint64)))


def from_manifold(solid: Any) -> Triangles:
    """The surface of a solid of manifold3d, in float64."""
    mesh = solid.to_mesh64()
    # Copies, because the library hands out views that may not be written to (and does not take such views back).
    return Triangles(np.array(mesh.vert_properties[:, :3], np.float64), np.array(mesh.tri_verts, np.int64))
