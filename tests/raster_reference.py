"""Plain ray casting for tests of pictures: every pixel against every face."""

from __future__ import annotations

import numpy as np
from shapewright_kernels.cameras import Camera


def cast_rays(
    vertices: np.ndarray, faces: np.ndarray, camera: Camera, height: int, width: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Depth ``(H, W)``, face, and whether the pixel is too near to an edge of any face for rounding to be trusted."""
    rows, columns = np.meshgrid(np.arange(height) + 0.5, np.arange(width) + 0.5, indexing="ij")
    x = (columns / width - camera.centre[0]) / camera.focal[0]
    y = (camera.centre[1] - rows / height) / camera.focal[1]
    one = np.ones_like(x)
    corners = vertices[faces] @ camera.world_to_camera[:3, :3].T + camera.world_to_camera[:3, 3]
    a, u, v = corners[:, 0], corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    if camera.perspective:
        origins, rays = np.zeros((height, width, 1, 3)), np.stack([x, y, -one], axis=-1)[:, :, None]
    else:
        origins, rays = (
            np.stack([x, y, 0 * one], axis=-1)[:, :, None],
            np.broadcast_to([0.0, 0, -1], (height, width, 1, 3)),
        )
    p = np.cross(rays, v)
    determinant = (p * u).sum(-1)
    determinant[determinant == 0] = np.nan  # no area, or edge-on
    offset = origins - a
    q = np.cross(offset, u)
    second = (offset * p).sum(-1) / determinant
    third = (rays * q).sum(-1) / determinant
    depth = (q * v).sum(-1) / determinant
    least = np.minimum(np.minimum(second, third), 1 - second - third)
    seen = (least >= 0) & (depth >= camera.near) & (depth <= camera.far)
    vague = (np.minimum(abs(least), np.minimum(abs(depth - camera.near), abs(depth - camera.far))) < 1e-7).any(-1)
    depth = np.where(seen, depth, np.inf)
    ids = np.where(seen.any(-1), depth.argmin(-1), -1)
    return depth.min(-1), ids, vague
