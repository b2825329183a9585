"""Connected regions of a binary image."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray


class Regions(NamedTuple):
    """``labels`` ``(H, W)`` int32, 0 for the background and from 1 in the order of their first pixels; ``sizes`` ``(R +
    1,)`` pixels by label."""

    labels: NDArray[np.int32]
    sizes: NDArray[np.int64]


@njit(nogil=True, cache=True, error_model="numpy")
def _root(parent: NDArray[np.int32], at: Any) -> Any:
    while parent[at] != at:
        parent[at] = parent[parent[at]]
        at = parent[at]
    return at


@njit(nogil=True, cache=True, error_model="numpy")
def _label(mask: NDArray[np.bool_], diagonal: bool, labels: NDArray[np.int32], parent: NDArray[np.int32]) -> int:
    height, width = mask.shape
    for y in range(height):
        for x in range(width):
            if not mask[y, x]:
                continue
            own = np.int32(y * width + x)
            parent[own] = own
            for back in range(4):  # the neighbours that were seen before: left, above, and the two beside that
                if back > 1 and not diagonal:
                    break
                ny = y if back == 0 else y - 1
                nx = x - 1 if back == 0 or back == 2 else (x if back == 1 else x + 1)
                if ny < 0 or nx < 0 or nx >= width or not mask[ny, nx]:
                    continue
                a, b = _root(parent, own), _root(parent, ny * width + nx)
                if a < b:
                    parent[b] = a
                else:
                    parent[a] = b
    count = 0
    for y in range(height):
        for x in range(width):
            if mask[y, x]:
                root = _root(parent, y * width + x)
                if root == y * width + x:
                    count += 1
                    labels[y, x] = count
                else:
                    labels[y, x] = labels[root // width, root % width]
    return count


def connected_regions(mask: NDArray[np.bool_], *, diagonal: bool = True) -> Regions:
    """Label the regions of ``mask`` ``(H, W)``; with ``diagonal`` pixels that touch at a corner belong together.

    >>> connected_regions(np.eye(3, dtype=bool)).sizes.tolist()
    [0, 3]
    >>> connected_regions(np.eye(3, dtype=bool), diagonal=False).sizes.tolist()
    [0, 1, 1, 1]
    """
    if mask.ndim != 2 or mask.size >= 2**31:
        raise ValueError(f"mask must be (H, W) of fewer than 2^31 pixels, not {mask.shape}")
    mask = np.ascontiguousarray(mask, dtype=np.bool_)
    labels = np.zeros(mask.shape, np.int32)
    count = _label(mask, diagonal, labels, np.empty(mask.size, np.int32))
    sizes = np.bincount(labels[mask], minlength=count + 1).astype(np.int64)
    return Regions(labels, sizes)
