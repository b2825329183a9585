"""Where the grid of an O-Voxel lies: its lower corner, the size of a voxel, and how many there are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

MAXIMUM_GRID = 32767
"""Largest number of cells along an axis."""

Number = float | int
PerAxis = Number | Sequence[Number] | NDArray[Any]


def _per_axis(value: PerAxis, name: str, dtype: Any) -> NDArray[Any]:
    array = np.asarray(value)
    if array.shape not in ((), (1,), (3,)) or not np.issubdtype(array.dtype, np.number):
        raise ValueError(f"{name} must be one number or three, not {value!r}")
    if not np.all(np.isfinite(array)) or np.any(array <= 0):
        raise ValueError(f"{name} must be positive and finite, not {value!r}")
    if dtype is np.int64 and np.any(array != np.round(array)):
        raise ValueError(f"{name} must be whole numbers of cells, not {value!r}")
    return np.broadcast_to(array.astype(dtype), (3,)).copy()


def place_grid(
    vertices: NDArray[np.float32],
    voxel_size: PerAxis | None = None,
    grid_size: PerAxis | None = None,
    aabb: ArrayLike | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.float32], tuple[int, int, int]]:
    """Origin, voxel size and cells an axis of the grid that the published converter uses, in its float32 arithmetic.

    Without ``aabb`` the box is that of ``vertices``, padded to whole voxels (``voxel_size`` given) and then by one
    voxel in ``grid_size`` (if given), half on each side.

    Raises:
        ValueError: neither size is given, a value is out of range, or the mesh is flat and has no ``aabb``.
    """
    if voxel_size is None and grid_size is None:
        raise ValueError("give voxel_size or grid_size")
    step = None if voxel_size is None else _per_axis(voxel_size, "voxel_size", np.float32)
    count = None if grid_size is None else _per_axis(grid_size, "grid_size", np.int64)
    if aabb is None:
        if len(vertices) == 0:
            raise ValueError("a mesh without vertices has no bounds; give aabb")
        low, high = vertices.min(axis=0), vertices.max(axis=0)
        if step is not None:
            extent = high - low
            padding = np.ceil(extent / step) * step - extent
            low, high = low - padding * np.float32(0.5), high + padding * np.float32(0.5)
        if count is not None:
            if np.any(count < 2):
                raise ValueError("one cell cannot be padded: give aabb or a grid_size of at least 2")
            padding = (high - low) / (count - 1).astype(np.float32)
            low, high = low - padding * np.float32(0.5), high + padding * np.float32(0.5)
    else:
        box = np.asarray(aabb, np.float32)
        if box.shape != (2, 3) or not np.all(np.isfinite(box)) or np.any(box[1] <= box[0]):
            raise ValueError(f"aabb must be [[min x, y, z], [max x, y, z]] with min < max, not {aabb!r}")
        low, high = box
    if step is None:
        assert count is not None
        step = ((high - low) / count.astype(np.float32)).astype(np.float32)
    if count is None:
        count = np.round((high - low) / step).astype(np.int64)
    if np.any(count < 1) or np.any(step <= 0):
        raise ValueError("the mesh is flat along an axis and spans no voxel there; give aabb")
    if np.any(count > MAXIMUM_GRID):
        raise ValueError(f"the grid would have {count.tolist()} cells; at most {MAXIMUM_GRID} an axis are possible")
    return low.astype(np.float32), step, (int(count[0]), int(count[1]), int(count[2]))
