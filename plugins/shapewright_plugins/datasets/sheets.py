"""Stress shapes that bound no volume: leaf, crossed sheets, cup, gyroid, Moebius strip, rolled cloth.

These are S01, S02, S04b, S08, S11 and S12 of the suite. Every size, count and seed is a parameter; the defaults are the
shapes of the suite.
"""

from __future__ import annotations

import numpy as np

from .triangles import Array, Triangles, concatenated, grid_faces, revolved, rotation_about, sheet, welded

CUP_PROFILE = ((0.0, 0.0), (0.30, 0.0), (0.36, 0.1), (0.40, 0.8))


def leaf(
    rows: int = 160,
    columns: int = 64,
    *,
    half_width: float = 0.30,
    camber: float = 0.10,
    fold: float = 0.25,
    vein_height: float = 0.012,
    veins: int = 14,
) -> Triangles:
    """S01: a cambered leaf with a creased midrib and creased side veins, one boundary loop."""

    def surface(u: Array, v: Array) -> tuple[Array, Array, Array]:
        s = 2 * v - 1
        w = half_width * np.sin(np.pi * u**0.85) * (1 - 0.25 * u)
        side = np.abs(s)
        vein = np.abs(np.sin(veins * np.pi * u - 5 * np.pi * side * w / half_width))
        z = camber * np.sin(np.pi * u) + fold * w * side + vein_height * vein * w / half_width
        return 2 * (u - 0.5), w * s, z

    return welded(sheet(rows, columns, surface))


def _square(cells: int) -> Triangles:
    return sheet(cells, cells, lambda u, v: (2 * u - 1, 2 * v - 1, 0 * u))


def crossed_sheets(cells: int = 32) -> Triangles:
    """S02a: squares in the planes z = 0, y = 0, x = 0 that share the vertices on the axes; edges there have 4 faces."""
    flat = _square(cells)
    planes = [Triangles(flat.vertices[:, order], flat.faces) for order in ([0, 1, 2], [0, 2, 1], [2, 0, 1])]
    return welded(concatenated(planes))


def piercing_sheets(cells: int = 33, *, angle: float = np.deg2rad(37.0), axis: Array | None = None) -> Triangles:
    """S02b: a square in z = 0 and one in y = 0, turned, that pierce each other without a common vertex."""
    flat = _square(cells)
    upright = Triangles(flat.vertices[:, [0, 2, 1]], flat.faces)
    turn = rotation_about((1.0, 2.0, 3.0) if axis is None else axis, angle)
    return concatenated([flat, upright.moved(turn=turn)])


def cup(sectors: int = 128, *, profile: tuple[tuple[float, float], ...] = CUP_PROFILE) -> Triangles:
    """S04b: an open cup of one sheet, one boundary loop."""
    return revolved(profile, sectors)


def gyroid(samples: int = 96, *, wave_number: float = 2 * np.pi, half_size: float = 1.0) -> Triangles:
    """S08: zero set of sin kx cos ky + sin ky cos kz + sin kz cos kx in a cube, open at its walls.

    An odd ``samples`` puts zeros of the function onto samples, which gives slivers.
    """
    from shapewright_kernels.marching_cubes import marching_cubes

    axis = np.linspace(-half_size, half_size, samples) * wave_number
    x, y, z = np.meshgrid(axis, axis, axis, indexing="ij", sparse=True)
    values = np.sin(x) * np.cos(y) + np.sin(y) * np.cos(z) + np.sin(z) * np.cos(x)
    vertices, faces = marching_cubes(values)
    return Triangles(vertices * (2 * half_size / (samples - 1)) - half_size, faces)


def moebius_strip(around: int = 256, across: int = 16, *, radius: float = 1.0, half_width: float = 0.35) -> Triangles:
    """S11: one side, one boundary loop; along one column the faces on both sides run through their edges alike."""
    t, s = np.meshgrid(2 * np.pi * np.arange(around) / around, np.linspace(-1, 1, across + 1), indexing="ij")
    s = half_width * s
    reach = radius + s * np.cos(t / 2)
    vertices = np.stack([reach * np.cos(t), reach * np.sin(t), s * np.sin(t / 2)], axis=-1).reshape(-1, 3)
    number = np.arange((around + 1) * (across + 1)).reshape(around + 1, across + 1)
    number[around] = number[0, ::-1]  # the last column is the first with s reversed
    return Triangles(vertices, number.reshape(-1)[grid_faces(around, across)])


def rolled_cloth(
    rows: int = 1200,
    columns: int = 40,
    *,
    turns: float = 5.0,
    inner_radius: float = 0.10,
    pitch: float = 0.012,
    ripple: float = 0.0015,
) -> Triangles:
    """S12: a cloth rolled up with layers ``pitch`` apart and a fine ripple, length 1 along y."""

    def surface(u: Array, v: Array) -> tuple[Array, Array, Array]:
        phi, y = 2 * np.pi * turns * u, v - 0.5
        radius = inner_radius + pitch * phi / (2 * np.pi) + ripple * np.sin(40 * np.pi * y + 3 * phi)
        return radius * np.cos(phi), y, radius * np.sin(phi)

    return sheet(rows, columns, surface)
