"""Smooth normals at the vertices of a mesh."""

from __future__ import annotations

from math import atan2, sqrt
from typing import Any

import numpy as np
from numba import njit

from .arrays import Floats


def vertex_normals(vertices: Floats, faces: Any) -> Floats:
    """Unit normals ``(V, 3)``: normals of the faces around, weighted by their angles; faces without area have no say.

    A vertex that only such faces use, or around which normals cancel, gets zero. Vertices at one position are not
    joined: a seam of texture coordinates stays a crease.

    Args:
        vertices: ``(V, 3)`` float64. faces: ``(F, 3)`` integers below ``V``.
    """
    normals = np.zeros((len(vertices), 3))
    _add_faces(vertices, faces, normals)
    return normals


@njit(nogil=True, cache=True, error_model="numpy")
def _add_faces(vertices: Floats, faces: Any, normals: Floats) -> None:
    for face in range(len(faces)):
        a, b, c = faces[face, 0], faces[face, 1], faces[face, 2]
        ax, ay, az = vertices[a, 0], vertices[a, 1], vertices[a, 2]
        bx, by, bz = vertices[b, 0], vertices[b, 1], vertices[b, 2]
        ux, uy, uz = bx - ax, by - ay, bz - az
        vx, vy, vz = vertices[c, 0] - ax, vertices[c, 1] - ay, vertices[c, 2] - az
        wx, wy, wz = vertices[c, 0] - bx, vertices[c, 1] - by, vertices[c, 2] - bz
        nx, ny, nz = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
        area = sqrt(nx * nx + ny * ny + nz * nz)
        if not 0.0 < area < np.inf:
            continue
        at_a = atan2(area, ux * vx + uy * vy + uz * vz)
        at_b = atan2(area, -(ux * wx + uy * wy + uz * wz))
        for corner in range(3):
            angle = at_a if corner == 0 else at_b if corner == 1 else np.pi - at_a - at_b
            vertex = faces[face, corner]
            normals[vertex, 0] += angle * nx / area
            normals[vertex, 1] += angle * ny / area
            normals[vertex, 2] += angle * nz / area
    for vertex in range(len(normals)):
        x, y, z = normals[vertex, 0], normals[vertex, 1], normals[vertex, 2]
        length = sqrt(x * x + y * y + z * z)
        for axis in range(3):
            # opposite faces leave rounding behind, which is no direction
            normals[vertex, axis] = normals[vertex, axis] / length if length > 1e-12 else 0.0
