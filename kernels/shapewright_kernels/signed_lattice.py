"""Values and gradients of a signed distance at lattice points, from unsigned distances, nearest faces and sides."""

from __future__ import annotations

from math import sqrt

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from .arrays import Floats
from .narrow_band import Coords, Lattice
from .plane_frames import nearest_in_plane, plane_frames
from .solid_signs import INSIDE, Sides
from .threads import run_chunks, spans

_CHUNK = 1 << 16

Singles = NDArray[np.float32]


def signed_values(distances: Floats, sides: Sides, smallest: float, threads: int | None = None) -> Singles:
    """``distances`` ``(N,)`` raised to ``smallest`` at least, negative where ``sides`` say inside; ``(N,)`` float32."""
    values = np.empty(len(distances), np.float32)
    run_chunks(lambda span: _values(distances, sides, smallest, *span, values), spans(len(distances), _CHUNK), threads)
    return values


def signed_gradients(
    coords: Coords,
    lattice: Lattice,
    nearest: NDArray[np.int32],
    corners: ArrayLike,
    sides: Sides,
    threads: int | None = None,
) -> Singles:
    """Unit vectors ``(N, 3)`` float32 along which the signed distance grows fastest, zero at points on the surface.

    Args:
        coords: ``(N, 3)`` int32 lattice points. nearest: ``(N,)`` the face that each is nearest to.
        corners: ``(F, 3, 3)`` positions of the faces' corners.
        sides: ``(N,)`` of :meth:`~shapewright_kernels.solid_signs.SolidSigns.sides`; the gradient points away from the
            surface outside and towards it inside.
    """
    frames = plane_frames(np.ascontiguousarray(corners, np.float64))
    gradients = np.empty((len(coords), 3), np.float32)
    run_chunks(
        lambda span: _gradients(coords, lattice.lower, lattice.spacing, nearest, frames, sides, *span, gradients),
        spans(len(coords), _CHUNK),
        threads,
    )
    return gradients


@njit(nogil=True, cache=True, error_model="numpy")
def _values(distances: Floats, sides: Sides, smallest: float, start: int, stop: int, values: Singles) -> None:
    for row in range(start, stop):
        size = max(distances[row], smallest)
        values[row] = -size if sides[row] & INSIDE else size


@njit(nogil=True, cache=True, error_model="numpy")
def _gradients(
    coords: Coords, lower: Floats, spacing: Floats, nearest: NDArray[np.int32], frames: Floats, sides: Sides,
    start: int, stop: int, gradients: Singles,
) -> None:  # fmt: skip
    for row in range(start, stop):
        face = nearest[row]
        x = lower[0] + coords[row, 0] * spacing[0]
        y = lower[1] + coords[row, 1] * spacing[1]
        z = lower[2] + coords[row, 2] * spacing[2]
        s, t = nearest_in_plane(frames, face, x, y, z)
        x -= frames[face, 0] + s * frames[face, 3] + t * frames[face, 6]
        y -= frames[face, 1] + s * frames[face, 4] + t * frames[face, 7]
        z -= frames[face, 2] + s * frames[face, 5] + t * frames[face, 8]
        length = sqrt(x * x + y * y + z * z)
        scale = 0.0 if length == 0.0 else (-1.0 if sides[row] & INSIDE else 1.0) / length
        gradients[row, 0], gradients[row, 1], gradients[row, 2] = x * scale, y * scale, z * scale
