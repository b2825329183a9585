"""Cameras as plain arrays, in the convention of OpenGL: the camera looks along its own -z, x is right, y is up.

A camera maps the world to *image positions*: ``(0, 0)`` is the top left corner of the image and ``(1, 1)`` the bottom
right one, so a camera knows nothing about pixels. The centre of pixel ``(row, column)`` of an ``(H, W)`` image is at
``((column + 0.5) / W, (row + 0.5) / H)``. *Depth* is the distance along the viewing axis (camera ``-z``), not along
the ray.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from .arrays import Floats


@dataclass(frozen=True, slots=True, eq=False)
class Camera:
    """A point ``(X, Y, Z)`` of camera space, at depth ``-Z``, is seen at image position
    ``(centre[0] + focal[0] * X / s, centre[1] - focal[1] * Y / s)`` with ``s = -Z`` in perspective, 1 otherwise.

    Raises:
        ValueError: the matrix is not affine and invertible, or a number is out of range.
    """

    world_to_camera: Floats
    """``(4, 4)``: columns of points are multiplied from the left. May scale and mirror; depth is in its units."""
    focal: tuple[float, float]
    """Image widths and heights per unit of ``X / depth`` (per unit of ``X`` without perspective)."""
    centre: tuple[float, float] = (0.5, 0.5)
    """Image position of the viewing axis."""
    near: float = 1e-3
    """What is nearer than this is cut away; above 0 in perspective, may be ``-inf`` otherwise."""
    far: float = np.inf
    """What is farther than this is not seen."""
    perspective: bool = True

    def __post_init__(self) -> None:
        matrix = np.array(self.world_to_camera, dtype=np.float64)
        if matrix.shape != (4, 4) or not np.isfinite(matrix).all() or matrix[3].tolist() != [0, 0, 0, 1]:
            raise ValueError("world_to_camera must be a finite (4, 4) matrix with last row 0 0 0 1")
        if np.linalg.matrix_rank(matrix[:3, :3]) < 3:
            raise ValueError("world_to_camera has no inverse")
        matrix.setflags(write=False)
        object.__setattr__(self, "world_to_camera", matrix)
        if not all(np.isfinite(f) and f > 0 for f in self.focal):
            raise ValueError(f"focal lengths must be finite and above 0, not {self.focal}")
        if not all(np.isfinite(c) for c in self.centre):
            raise ValueError(f"centre must be finite, not {self.centre}")
        if not self.near < self.far or np.isnan(self.far):
            raise ValueError(f"near must be below far, not {self.near} and {self.far}")
        if self.perspective and not self.near > 0:
            raise ValueError(f"a perspective camera needs near above 0, not {self.near}")

    @property
    def camera_to_world(self) -> Floats:
        """``(4, 4)`` inverse; its last column holds the position of the eye."""
        return np.asarray(np.linalg.inv(self.world_to_camera), dtype=np.float64)


def look_at(eye: ArrayLike, target: ArrayLike, up: ArrayLike = (0.0, 1.0, 0.0)) -> Floats:
    """World-to-camera matrix ``(4, 4)`` of a camera at ``eye`` that sees ``target`` in the middle, ``up`` upwards.

    Raises:
        ValueError: ``eye`` and ``target`` coincide, or the view is along ``up``.

    >>> (look_at((0, 0, 3), (0, 0, 0)) @ [1, 2, 0, 1]).tolist()
    [1.0, 2.0, -3.0, 1.0]
    """
    position = np.asarray(eye, np.float64)
    back = position - np.asarray(target, np.float64)
    if not np.linalg.norm(back) > 0:
        raise ValueError(f"eye and target coincide at {position.tolist()}")
    back /= np.linalg.norm(back)
    upwards = np.asarray(up, np.float64) / np.linalg.norm(up)
    right = np.cross(upwards, back)
    if not np.linalg.norm(right) > 1e-9:
        raise ValueError("the view is along `up`; give another `up`")
    right /= np.linalg.norm(right)
    matrix = np.eye(4)
    matrix[:3, :3] = right, np.cross(back, right), back
    matrix[:3, 3] = -matrix[:3, :3] @ position
    return matrix


def perspective(
    world_to_camera: ArrayLike, *, fov: float, aspect: float = 1.0, near: float = 1e-3, far: float = np.inf
) -> Camera:
    """Camera with a vertical field of view of ``fov`` degrees.

    Args:
        aspect: width of the image over its height; 1 for square pixels in a square image.
    """
    if not 0 < fov < 180:
        raise ValueError(f"fov must lie between 0 and 180 degrees, not {fov}")
    focal = 0.5 / float(np.tan(np.radians(fov) / 2))
    return Camera(np.asarray(world_to_camera), (focal / aspect, focal), near=near, far=far)


def orthographic(
    world_to_camera: ArrayLike, *, extent: float, aspect: float = 1.0, near: float = -np.inf, far: float = np.inf
) -> Camera:
    """Camera that sees ``extent`` units of camera space from the bottom to the top of the image.

    Args:
        aspect: width of the image over its height.
    """
    if not extent > 0:
        raise ValueError(f"extent must be above 0, not {extent}")
    return Camera(
        np.asarray(world_to_camera), (1 / (extent * aspect), 1 / extent), near=near, far=far, perspective=False
    )


def from_intrinsics(
    world_to_camera: ArrayLike, matrix: ArrayLike, height: int, width: int, *, near: float = 1e-3, far: float = np.inf
) -> Camera:
    """Camera with a calibration ``matrix`` ``(3, 3)`` in pixels ``[[fx, 0, cx], [0, fy, cy], [0, 0, 1]]``.

    The top left corner of the image is ``(0, 0)``, as in the rest of this module: add 0.5 to ``cx`` and ``cy`` that
    count from the centre of the first pixel. A calibration of an image of size 1 is in image positions already.

    Raises:
        ValueError: skew, or another matrix than that.
    """
    k = np.asarray(matrix, np.float64)
    if k.shape != (3, 3) or np.abs(k[[0, 1, 2, 2], [1, 0, 0, 1]]).max() > 0 or k[2, 2] != 1:
        raise ValueError(f"intrinsics must be [[fx, 0, cx], [0, fy, cy], [0, 0, 1]], not {k.tolist()}")
    focal, centre = (k[0, 0] / width, k[1, 1] / height), (k[0, 2] / width, k[1, 2] / height)
    return Camera(np.asarray(world_to_camera), focal, centre, near=near, far=far)


def from_opencv(extrinsics: ArrayLike) -> Floats:
    """World-to-camera matrix of ours for one of OpenCV, whose cameras look along +z with y down.

    >>> from_opencv(np.eye(4)).diagonal().tolist()
    [1.0, -1.0, -1.0, 1.0]
    """
    return np.diag([1.0, -1.0, -1.0, 1.0]) @ np.asarray(extrinsics, np.float64)
