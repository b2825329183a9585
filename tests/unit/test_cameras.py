"""Cameras: the convention by hand, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from shapewright_kernels.cameras import Camera, from_intrinsics, from_opencv, look_at, orthographic, perspective


def image_position(camera: Camera, point: list[float]) -> tuple[float, float]:
    x, y, z, _ = camera.world_to_camera @ [*point, 1.0]
    reach = -z if camera.perspective else 1.0
    return camera.centre[0] + camera.focal[0] * x / reach, camera.centre[1] - camera.focal[1] * y / reach


def test_look_at_is_rigid_and_looks_along_minus_z() -> None:
    eye, target = np.array([1.0, -2.0, 3.0]), np.array([0.5, 0.5, -1.0])
    matrix = look_at(eye, target, up=(0, 0, 1))
    assert np.allclose(matrix[:3, :3] @ matrix[:3, :3].T, np.eye(3), atol=1e-15)
    assert np.linalg.det(matrix[:3, :3]) == pytest.approx(1)
    assert np.allclose(matrix @ [*eye, 1], [0, 0, 0, 1], atol=1e-15)
    assert np.allclose(matrix @ [*target, 1], [0, 0, -np.linalg.norm(eye - target), 1], atol=1e-14)
    assert (matrix @ [0, 0, 1, 0])[0] == pytest.approx(0)
    assert (matrix @ [0, 0, 1, 0])[1] > 0


def test_field_of_view_reaches_from_top_to_bottom() -> None:
    camera = perspective(look_at((0, 0, 0), (0, 0, -1)), fov=90, aspect=2)
    assert image_position(camera, [0, 3, -3]) == pytest.approx((0.5, 0))
    assert image_position(camera, [0, -3, -3]) == pytest.approx((0.5, 1))
    assert image_position(camera, [6, 0, -3]) == pytest.approx((1, 0.5))


def test_extent_reaches_from_top_to_bottom() -> None:
    camera = orthographic(look_at((0, 0, 9), (0, 0, 0)), extent=4, aspect=0.5)
    assert image_position(camera, [1, 2, -7]) == pytest.approx((1, 0))


def test_calibration_in_pixels_equals_field_of_view() -> None:
    height, width, focal = 30, 40, 55.0
    pose = from_opencv(np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 5], [0, 0, 0, 1.0]]))
    camera = from_intrinsics(pose, [[focal, 0, 20], [0, focal, 15], [0, 0, 1]], height, width)
    same = perspective(
        look_at((0, 0, -5), (0, 0, 0), up=(0, -1, 0)), fov=2 * np.degrees(np.arctan(15 / 55)), aspect=4 / 3
    )
    assert np.allclose(camera.world_to_camera, same.world_to_camera)
    assert camera.focal == pytest.approx(same.focal)
    # OpenCV: x right, y down, z into the picture
    assert image_position(camera, [1, 2, 0]) == pytest.approx((0.5 + 55 / 5 / 40, 0.5 + 2 * 55 / 5 / 30))


def test_bad_cameras_are_refused() -> None:
    pose = np.eye(4)
    with pytest.raises(ValueError, match="coincide"):
        look_at((1, 1, 1), (1, 1, 1))
    with pytest.raises(ValueError, match="another `up`"):
        look_at((0, 5, 0), (0, 0, 0))
    with pytest.raises(ValueError, match="fov"):
        perspective(pose, fov=180)
    with pytest.raises(ValueError, match="near above 0"):
        perspective(pose, fov=40, near=0)
    with pytest.raises(ValueError, match="below far"):
        orthographic(pose, extent=1, near=2, far=1)
    with pytest.raises(ValueError, match="extent"):
        orthographic(pose, extent=0)
    with pytest.raises(ValueError, match="no inverse"):
        Camera(np.diag([1.0, 0, 1, 1]), (1, 1))
    with pytest.raises(ValueError, match="last row"):
        Camera(np.ones((4, 4)), (1, 1))
    with pytest.raises(ValueError, match="focal"):
        Camera(pose, (1, -1))
    with pytest.raises(ValueError, match="intrinsics"):
        from_intrinsics(pose, [[5, 1, 0], [0, 5, 0], [0, 0, 1]], 8, 8)
