"""Which voxels make a face that the mesh passes through."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from .arrays import Bools, Ints
from .flexicubes_signs import AXES
from .flexicubes_tables import EDGES
from .threads import run_chunks, spans

_CHUNK = 1 << 15


@njit(nogil=True, cache=True, error_model="numpy")
def _around(cubes: Ints, inside: Bools, edges: Ints, axes: Ints, count: NDArray[np.uint8]) -> None:
    """Voxels around each lattice edge whose ends differ in sign."""
    for voxel in range(len(cubes)):
        for e in range(12):
            a, b = cubes[voxel, edges[e, 0]], cubes[voxel, edges[e, 1]]
            if inside[a] != inside[b]:
                count[3 * min(a, b) + axes[e]] += 1


@njit(nogil=True, cache=True, error_model="numpy")
def _real(
    cubes: Ints, inside: Bools, crossed: Bools, edges: Ints, axes: Ints, count: NDArray[np.uint8], low: int, high: int,
    real: Bools,
) -> None:  # fmt: skip
    for voxel in range(low, high):
        for e in range(12):
            a, b = cubes[voxel, edges[e, 0]], cubes[voxel, edges[e, 1]]
            corner = min(a, b)
            if inside[a] != inside[b] and count[3 * corner + axes[e]] == 4 and crossed[corner, axes[e]]:
                real[voxel] = True
                break


def real_voxels(cubes: Ints, inside: Bools, crossed: Bools, *, threads: int | None = None) -> Bools:
    """``(N,)`` bool: the voxel belongs to a face of FlexiCubes around an edge that the mesh crosses.

    Args:
        cubes: ``(N, 8)`` rows of ``C`` corners, ids ascending lexicographically.
        inside: ``(C,)`` bool. crossed: ``(C, 3)`` bool, the edge up each axis is crossed by the mesh.
        threads: never changes the result.

    >>> from .flexicubes_voxels import voxel_corners
    >>> voxels = np.array([[0, 0, 0], [0, 1, 0], [1, 0, 0], [1, 1, 0]], np.int32)
    >>> corners, cubes = voxel_corners(voxels, (2, 2, 1))
    >>> inside = (corners == [1, 1, 0]).all(axis=1)
    >>> real_voxels(cubes, inside, np.ones((len(corners), 3), bool)).tolist()
    [True, True, True, True]
    """
    count = np.zeros(3 * len(inside), np.uint8)
    _around(cubes, inside, EDGES, AXES, count)
    real = np.zeros(len(cubes), bool)
    run_chunks(
        lambda span: _real(cubes, inside, crossed, EDGES, AXES, count, *span, real), spans(len(cubes), _CHUNK), threads
    )
    return real
