"""Down a :class:`~shapewright_kernels.bvh.Bvh` towards a point, the nearer child first (*compiled*)."""

from __future__ import annotations

from numba import njit

from .arrays import Floats, Ints


@njit(nogil=True, cache=True, error_model="numpy")
def box_distance(boxes: Floats, node: int, x: float, y: float, z: float) -> float:
    """Squared distance from a point to the box of a node."""
    dx = max(boxes[node, 0] - x, x - boxes[node, 3], 0.0)
    dy = max(boxes[node, 1] - y, y - boxes[node, 4], 0.0)
    dz = max(boxes[node, 2] - z, z - boxes[node, 5], 0.0)
    return dx * dx + dy * dy + dz * dz


@njit(nogil=True, cache=True, error_model="numpy", inline="always")
def next_leaf(
    boxes: Floats, first: Ints, size: Ints, x: float, y: float, z: float, window: float, stack: Ints, bounds: Floats,
    top: int,
) -> tuple[int, int]:  # fmt: skip
    """Take nodes off the stack until a leaf is found whose box lies within the squared distance ``window``.

    Args:
        stack, bounds: ``(STACK,)`` nodes still to be looked at, and the squared distances of their boxes.
        top: how many there are; 1 with the root on the stack to begin with.
    Returns:
        The leaf, -1 where there is no other, and the new ``top``.
    """
    leaf = -1
    while leaf < 0 and top > 0:
        top -= 1
        if bounds[top] > window:
            continue
        node = stack[top]
        while size[node] == 0:
            near = first[node]
            far = near + 1
            near_distance = box_distance(boxes, near, x, y, z)
            far_distance = box_distance(boxes, far, x, y, z)
            if far_distance < near_distance:
                near, far = far, near
                near_distance, far_distance = far_distance, near_distance
            if far_distance <= window:
                stack[top] = far
                bounds[top] = far_distance
                top += 1
            if near_distance > window:
                node = -1
                break
            node = near
        leaf = node
    return leaf, top
