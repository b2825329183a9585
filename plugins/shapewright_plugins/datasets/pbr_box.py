"""S15: a box whose base colour, metallic, roughness and opacity are known functions at every point of its surface.

Faces are numbered -x, +x, -y, +y, -z, +z. On each, ``s`` runs to the right and ``t`` up as seen from outside (z is up;
on the two horizontal faces y is), both in [0, 1]. In the texture atlas of 3 x 2 tiles face ``f`` has column ``f % 3``
and row ``f // 3``; texture coordinates are as in glTF, with the origin at the upper left.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .triangles import Array, Triangles, box, concatenated

_OUTWARD = np.array([[-1, 0, 0], [1, 0, 0], [0, -1, 0], [0, 1, 0], [0, 0, -1], [0, 0, 1]], float)
_RIGHT = np.array([[0, -1, 0], [0, 1, 0], [1, 0, 0], [-1, 0, 0], [-1, 0, 0], [1, 0, 0]], float)
_UP = np.array([[0, 0, 1], [0, 0, 1], [0, 0, 1], [0, 0, 1], [0, 1, 0], [0, 1, 0]], float)
_COLUMNS, _ROWS = 3, 2


class SurfaceAttributes(NamedTuple):
    """``base_color`` ``(N, 3)`` sRGB; ``metallic``, ``roughness``, ``opacity`` ``(N,)``; all float64 in [0, 1]."""

    base_color: Array
    metallic: Array
    roughness: Array
    opacity: Array


class TexturedTriangles(NamedTuple):
    """Triangles with texture coordinates ``uv`` ``(V, 2)``; vertices are repeated where coordinates differ."""

    vertices: Array
    faces: Array
    uv: Array


def attributes_of_face(face: Array, s: Array, t: Array) -> SurfaceAttributes:
    """The ground truth at local coordinates ``s``, ``t`` in [0, 1] of the faces numbered ``face``, all ``(N,)``."""
    even = (np.floor(8 * s) + np.floor(8 * t)) % 2 == 0
    high, low = np.full(np.shape(s), 0.9), np.full(np.shape(s), 0.1)
    green = 0.1 + 0.15 * face
    base_color = np.stack([np.where(even, high, low), green, np.where(even, low, high)], axis=-1)
    distance = np.hypot(s - 0.5, t - 0.5)
    opacity = np.where(distance < 0.25, 0.0, np.where(distance < 0.35, 0.5, 1.0))
    return SurfaceAttributes(base_color, np.where((6 * s) % 1 < 0.5, 1.0, 0.0), 0.05 + 0.9 * t, opacity)


def face_coordinates(points: Array, *, side: float = 1.0) -> tuple[Array, Array, Array]:
    """Face number and local ``s``, ``t`` of points ``(N, 3)`` on a box of edge ``side`` about the origin."""
    unit = np.asarray(points, float) / side
    face = (unit @ _OUTWARD.T).argmax(axis=1)
    s = 0.5 + np.einsum("nk,nk->n", unit, _RIGHT[face])
    t = 0.5 + np.einsum("nk,nk->n", unit, _UP[face])
    return face, np.clip(s, 0, 1), np.clip(t, 0, 1)


def attributes_at(points: Array, *, side: float = 1.0) -> SurfaceAttributes:
    """The ground truth at surface points ``(N, 3)``; no texture is sampled."""
    return attributes_of_face(*face_coordinates(points, side=side))


def textures(tile_pixels: int = 512) -> dict[str, Array]:
    """Atlas images ``(2 T, 3 T, C)`` uint8, the functions at the pixel centres.

    ``base_color`` is RGBA in sRGB with the opacity as alpha; ``metallic_roughness`` is RGB as in glTF: roughness in
    green, metallic in blue.
    """
    along = (np.arange(tile_pixels) + 0.5) / tile_pixels
    t, s = np.meshgrid(1 - along, along, indexing="ij")
    base = np.empty((_ROWS * tile_pixels, _COLUMNS * tile_pixels, 4), np.uint8)
    surface = np.zeros((*base.shape[:2], 3), np.uint8)
    for face in range(6):
        values = attributes_of_face(np.full(s.shape, face), s, t)
        row, column = (face // _COLUMNS) * tile_pixels, (face % _COLUMNS) * tile_pixels
        tile = (slice(row, row + tile_pixels), slice(column, column + tile_pixels))
        rgba = np.concatenate([values.base_color, values.opacity[..., None]], axis=-1)
        base[tile] = np.round(rgba * 255)
        surface[tile] = np.round(np.stack([0 * s, values.roughness, values.metallic], axis=-1) * 255)
    return {"base_color": base, "metallic_roughness": surface}


def textured_box(*, side: float = 1.0) -> TexturedTriangles:
    """The box with 24 vertices, four a face, and its texture coordinates."""
    corners = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], float)
    vertices, faces, uv = [], [], []
    for face in range(6):
        offset = corners - 0.5
        vertices.append(side * (0.5 * _OUTWARD[face] + offset[:, :1] * _RIGHT[face] + offset[:, 1:] * _UP[face]))
        uv.append(
            np.stack(
                [(face % _COLUMNS + corners[:, 0]) / _COLUMNS, (face // _COLUMNS + 1 - corners[:, 1]) / _ROWS], axis=1
            )
        )
        faces.append(np.array([[0, 1, 2], [0, 2, 3]]) + 4 * face)
    return TexturedTriangles(np.concatenate(vertices), np.concatenate(faces), np.concatenate(uv))


def pbr_box(*, side: float = 1.0) -> Triangles:
    """S15: the geometry of :func:`textured_box`, 8 vertices."""
    return box(side)


def enclosed_pbr_box(*, side: float = 1.0, outer: float = 1.2) -> Triangles:
    """S15, variant: the same box inside a closed opaque one, so that its attributes lie where no view reaches."""
    return concatenated([box(side), box(outer)])
