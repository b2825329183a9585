"""Shapes small enough for a second's work, each of which shows one thing.

All lie within ``Frame()`` and are turned and moved off the lattice, so that no face runs along lattice planes.
Positions are exact in single precision, so that both precisions mean the same shape.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache

import torch
from torch import Tensor

from ..states import Frame, Mesh

CENTRE = (0.0137, -0.0071, 0.0093)
SPHERE, INNER = 0.43, 0.21
"""Radii of the outer and the inner sphere."""
DISC = 0.41
SEAM = 0.54
"""Length of the edge that three quads share."""
CUBE = 0.51
"""Edge of the cube."""


def _mesh(vertices: Tensor, faces: Tensor | list[list[int]], **attributes: Tensor) -> Mesh:
    points = (vertices + vertices.new_tensor(CENTRE)).float().double()
    rows = torch.as_tensor(faces, dtype=torch.int64).reshape(-1, 3)
    return Mesh(points, rows, Frame(), attributes=attributes)


def turn() -> Tensor:
    """A rotation ``(3, 3)`` about no axis in particular."""
    x, y, z = 0.43, 0.71, 0.29
    c, s = math.cos, math.sin
    about_x = torch.tensor([[1, 0, 0], [0, c(x), -s(x)], [0, s(x), c(x)]], dtype=torch.float64)
    about_y = torch.tensor([[c(y), 0, s(y)], [0, 1, 0], [-s(y), 0, c(y)]], dtype=torch.float64)
    about_z = torch.tensor([[c(z), -s(z), 0], [s(z), c(z), 0], [0, 0, 1]], dtype=torch.float64)
    return about_x @ about_y @ about_z


def _icosphere(radius: float) -> tuple[Tensor, Tensor]:
    points, faces = _unit_icosphere(3)
    return points * radius @ turn().T, faces.clone()


@cache
def _unit_icosphere(levels: int) -> tuple[Tensor, Tensor]:
    golden = (1 + 5**0.5) / 2
    vertices = [[-1, golden, 0], [1, golden, 0], [-1, -golden, 0], [1, -golden, 0]]
    vertices += [[z, x, y] for x, y, z in vertices] + [[y, z, x] for x, y, z in vertices]
    points = torch.tensor(vertices, dtype=torch.float64)
    points = points / points.norm(dim=1, keepdim=True)
    near = torch.cdist(points, points) < 1.1  # edges of the icosahedron are 1.051
    found = [
        [a, b, c] for a in range(12) for b in range(a) for c in range(b) if near[a, b] and near[b, c] and near[c, a]
    ]
    faces = torch.tensor(found)
    flipped = torch.linalg.det(points[faces]) < 0
    faces[flipped] = faces[flipped].flip(1)
    for _ in range(levels):
        corners = points[faces]
        a, b, c = corners.unbind(1)
        ab, bc, ca = a + b, b + c, c + a
        soup = torch.stack([a, ab, ca, b, bc, ab, c, ca, bc, ab, bc, ca], dim=1).reshape(-1, 3)
        soup = soup / soup.norm(dim=1, keepdim=True)
        points, index = torch.unique((soup * 2**40).round() / 2**40, dim=0, return_inverse=True)
        faces = index.reshape(-1, 3)
    return points, faces


def sphere() -> Mesh:
    """Closed, one piece, faces outward."""
    return _mesh(*_icosphere(SPHERE))


def nested_spheres() -> Mesh:
    """Two closed pieces, one within the other, both facing outward as authored."""
    outer, faces = _icosphere(SPHERE)
    inner, more = _icosphere(INNER)
    return _mesh(torch.cat([outer, inner]), torch.cat([faces, more + len(outer)]))


def disc() -> Mesh:
    """An open sheet with one boundary loop."""
    rings, around = 6, 48
    angle = torch.arange(around, dtype=torch.float64) * (2 * math.pi / around)
    circle = torch.stack([angle.cos(), angle.sin(), torch.zeros_like(angle)], dim=1)
    points = torch.cat([torch.zeros(1, 3, dtype=torch.float64), *(circle * (k + 1) / rings for k in range(rings))])
    faces = [[0, 1 + i, 1 + (i + 1) % around] for i in range(around)]
    for k in range(rings - 1):
        low, high = 1 + k * around, 1 + (k + 1) * around
        for i in range(around):
            j = (i + 1) % around
            faces += [[low + i, high + i, high + j], [low + i, high + j, low + j]]
    return _mesh(points * DISC @ turn().T, faces)


def three_quads() -> Mesh:
    """Three squares on one edge, 120 degrees apart."""
    half, width = SEAM / 2, 0.36
    points = [[0.0, 0.0, -half], [0.0, 0.0, half]]
    faces = []
    for k in range(3):
        x, y = width * math.cos(k * 2 * math.pi / 3), width * math.sin(k * 2 * math.pi / 3)
        points += [[x, y, -half], [x, y, half]]
        low, high = 2 + 2 * k, 3 + 2 * k
        faces += [[0, low, high], [0, high, 1]]
    return _mesh(torch.tensor(points, dtype=torch.float64) @ turn().T, faces)


_SIDES = torch.tensor([[axis, sign] for axis in range(3) for sign in (-1, 1)])
COLOURS = torch.tensor(
    [[0.9, 0.1, 0.1], [0.1, 0.9, 0.1], [0.1, 0.1, 0.9], [0.9, 0.9, 0.1], [0.1, 0.9, 0.9], [0.9, 0.1, 0.9]],
    dtype=torch.float64,
)
"""Of the sides of the cube, in the order of :func:`cube_sides`."""


def cube_sides() -> tuple[Tensor, Tensor]:
    """Outward normals ``(6, 3)`` of the cube and the distance of its sides from :data:`CENTRE`."""
    normals = torch.zeros(6, 3, dtype=torch.float64)
    normals[torch.arange(6), _SIDES[:, 0]] = _SIDES[:, 1].double()
    return normals @ turn().T, torch.full((6,), CUBE / 2, dtype=torch.float64)


def cube_edges() -> Tensor:
    """``(12, 2, 3)`` ends of the cube's edges."""
    corners = torch.tensor([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], dtype=torch.float64)
    ends = [(a, b) for a in range(8) for b in range(a) if float((corners[a] - corners[b]).abs().sum()) == 2]
    placed = corners * (CUBE / 2) @ turn().T + torch.tensor(CENTRE, dtype=torch.float64)
    return placed[torch.tensor(ends)]


def coloured_cube(cuts: int = 8) -> Mesh:
    """A cube whose sides share no vertices, ``cuts`` squares along each edge; ``base_color`` is one colour a side."""
    steps = torch.linspace(-1, 1, cuts + 1, dtype=torch.float64)
    u, v = (part.reshape(-1) for part in torch.meshgrid(steps, steps, indexing="ij"))
    row = torch.arange(cuts)[:, None] * (cuts + 1) + torch.arange(cuts)
    low = row.reshape(-1)
    squares = torch.stack([low, low + cuts + 1, low + cuts + 2, low + 1], dim=1)  # counter-clockwise in (u, v)
    points, faces = [], []
    for index, (axis, sign) in enumerate(_SIDES.tolist()):
        side = torch.empty(len(u), 3, dtype=torch.float64)
        side[:, axis], side[:, (axis + 1) % 3], side[:, (axis + 2) % 3] = sign, u * sign, v
        points.append(side)
        faces += [squares[:, [0, 1, 2]] + index * len(u), squares[:, [0, 2, 3]] + index * len(u)]
    placed = torch.cat(points) * (CUBE / 2) @ turn().T
    return _mesh(placed, torch.cat(faces), base_color=COLOURS.repeat_interleave(len(u), dim=0))


def painted(mesh: Mesh) -> Mesh:
    """The mesh with materials at its vertices that change from place to place, all within [0.1, 0.9]."""
    waves = (torch.sin(5 * mesh.vertices.double() + torch.tensor([0.3, 1.1, 2.3])) * 0.4 + 0.5).float()
    look = {"base_color": waves, "metallic": waves[:, :1], "roughness": waves[:, 1:2], "alpha": waves[:, 2:]}
    return replace(mesh, attributes={**mesh.attributes, **look})


def cube() -> Mesh:
    """Eight corners, twelve creases of 90 degrees."""
    corners = torch.tensor([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], dtype=torch.float64)
    soup = coloured_cube(1)
    placed = corners * (CUBE / 2) @ turn().T
    index = torch.cdist(soup.vertices - soup.vertices.new_tensor(CENTRE), placed).argmin(dim=1)
    return _mesh(placed, index[soup.faces])


def empty() -> Mesh:
    """No vertex, no face."""
    return Mesh(torch.zeros(0, 3, dtype=torch.float64), torch.zeros(0, 3, dtype=torch.int64), Frame())


def triangle() -> Mesh:
    """One face."""
    corners = torch.tensor([[-0.3, -0.2, 0.1], [0.35, -0.1, -0.2], [0.05, 0.4, 0.15]], dtype=torch.float64)
    return _mesh(corners, [[0, 1, 2]])


def tetrahedron() -> Mesh:
    """Four faces, outward; rough enough that directions matter."""
    corners = torch.tensor([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]], dtype=torch.float64)
    return _mesh(corners * 0.24 @ turn().T, [[0, 1, 2], [0, 2, 3], [0, 3, 1], [1, 3, 2]])


def placed(mesh: Mesh, frame: Frame) -> Mesh:
    """``mesh`` of the unit frame scaled and moved into another cube-shaped one."""
    lower = mesh.vertices.new_tensor(frame.lower)
    size = frame.extent[0]
    return Mesh((mesh.vertices + 0.5) * size + lower, mesh.faces, frame, mesh.oriented, mesh.attributes)
