"""Pictures of a mesh: what each camera sees, through transparent faces too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from shapewright.errors import MeshError
from shapewright.states import Mesh
from shapewright_kernels.arrays import Floats, Ints
from shapewright_kernels.cameras import Camera, look_at, perspective
from shapewright_kernels.rasterise import Image, MeshImages, rasterise
from torch import Tensor

from .lookup import CHANNELS, Look, Surface
from .shading import shade

OPAQUE = 1 - 1 / 512
"""Alpha from which a pixel hides what is behind it."""


def orbit(count: int, *, pitch: float, fov: float, centre: Sequence[float], radius: float, up: str) -> list[Camera]:
    """``count`` cameras around a ball of ``radius``, which fills the picture, at ``pitch`` degrees above its equator.

    The first looks from the front (+z for y up, -y for z up), the others follow anticlockwise seen from above.
    """
    distance = radius / np.sin(np.radians(fov) / 2)
    cameras = []
    for index in range(count):
        yaw, tilt = 2 * np.pi * index / count, np.radians(pitch)
        x, y, z = np.sin(yaw) * np.cos(tilt), np.sin(tilt), np.cos(yaw) * np.cos(tilt)
        way, upward = ((x, y, z), (0.0, 1.0, 0.0)) if up == "y" else ((x, -z, y), (0.0, 0.0, 1.0))
        eye = np.asarray(centre, np.float64) + distance * np.asarray(way)
        cameras.append(perspective(look_at(eye, centre, upward), fov=fov, near=distance * 1e-3))
    return cameras


def fitting_orbit(mesh: Mesh, count: int, *, pitch: float, fov: float) -> list[Camera]:
    """:func:`orbit` around the ball about the mesh's bounding box; around its frame where the mesh has no faces."""
    points = (
        mesh.corners.reshape(-1, 3).double() if len(mesh.faces) else torch.tensor([mesh.frame.lower, mesh.frame.upper])
    )
    if not bool(points.isfinite().all()):
        raise MeshError("the mesh has vertices that are not finite; load it with repair")
    low, high = points.amin(dim=0), points.amax(dim=0)
    radius = max(float((high - low).norm()) / 2, 1e-9)
    centre = ((low + high) / 2).tolist()
    return orbit(count, pitch=pitch, fov=fov, centre=centre, radius=radius, up=mesh.frame.up)


class Painter:
    """Draws one mesh for many cameras."""

    def __init__(self, mesh: Mesh, *, smooth: bool, layers: int) -> None:
        self.vertices: Floats = mesh.vertices.numpy(force=True).astype(np.float64)
        self.faces: Ints = mesh.faces.numpy(force=True)
        self.surface = Surface(mesh)
        self.smooth = smooth
        self.layers = layers
        normals = None if mesh.appearance is None else mesh.appearance.corner_normals
        self.normals = None if normals is None or not smooth else normals.numpy(force=True).astype(np.float64)

    def draw(self, camera: Camera, size: int, wanted: frozenset[str], background: float) -> dict[str, Tensor]:
        """Buffers ``(H, W, C)`` float32 by name, int32 for ``face_id``."""
        images = rasterise(
            self.vertices, self.faces, camera, size, size, normals="smooth" if self.smooth else "flat", facing=True
        )
        mask = images.mask
        normals = self._normals(images)
        buffers: dict[str, NDArray[Any]] = {
            "mask": mask[:, :, None].astype(np.float32),
            "depth": np.where(mask, images.depth, 0.0)[:, :, None].astype(np.float32),
            "normal": normals,
        }
        if "face_id" in wanted:
            buffers["face_id"] = images.face_ids[:, :, None]
        if wanted & {*CHANNELS, "color"}:
            buffers |= self._painted(images, camera, size, wanted, background, normals)
        return {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in buffers.items()}

    def _normals(self, images: MeshImages) -> Image:
        if self.normals is None:
            return images.normal
        result = np.zeros_like(images.normal)
        ids, weights = images.face_ids[images.mask], images.barycentrics[images.mask].astype(np.float64)
        mixed = np.einsum("nk,nkc->nc", weights, self.normals[ids])
        length = np.linalg.norm(mixed, axis=1, keepdims=True)
        mixed = np.where(length > 1e-6, mixed / np.maximum(length, 1e-6), images.normal[images.mask])
        flip = (mixed * images.normal[images.mask]).sum(axis=1, keepdims=True) < 0
        result[images.mask] = np.where(flip, -mixed, mixed)
        return result

    def _painted(
        self, images: MeshImages, camera: Camera, size: int, wanted: frozenset[str], background: float, normals: Image
    ) -> dict[str, Image]:
        look, shaded = self._layer(images, camera, size, normals)
        planes: dict[str, Floats] = {name: getattr(look, name) for name in CHANNELS}
        planes["color"] = shaded
        ids = np.flatnonzero(images.mask)
        buffers = {name: np.zeros((size * size, value.shape[1])) for name, value in planes.items()}
        for name, value in planes.items():
            buffers[name][ids] = value
        clear = ids[look.alpha[:, 0] < OPAQUE]
        if len(clear) and self.layers > 1:
            self._behind(images, camera, size, buffers)
        over = buffers["alpha"]
        buffers["color"] = buffers["color"] * over + background * (1 - over)
        return {
            name: value.reshape(size, size, -1).astype(np.float32) for name, value in buffers.items() if name in wanted
        }

    def _layer(self, images: MeshImages, camera: Camera, size: int, normals: Image) -> tuple[Look, Floats]:
        mask = images.mask
        faces, weights = images.face_ids[mask].astype(np.int64), images.barycentrics[mask].astype(np.float64)
        look = self.surface.at(faces, weights, self._coverage(faces, camera, size))
        points = np.einsum("nk,nkc->nc", weights, self.vertices[self.faces[faces]])
        rotation = camera.world_to_camera[:3, :3]
        if camera.perspective:
            views = camera.camera_to_world[:3, 3] - points
            views /= np.maximum(np.linalg.norm(views, axis=1, keepdims=True), 1e-12)
        else:
            views = np.broadcast_to(rotation[2] / np.linalg.norm(rotation[2]), points.shape)
        return look, shade(look, normals[mask].astype(np.float64), views, rotation)

    def _coverage(self, faces: Ints, camera: Camera, size: int) -> Floats:
        """``(F,)``: side of a pixel in UV units on each face that is seen, from areas on the screen; 0 elsewhere."""
        seen = np.unique(faces)
        sides = np.zeros(len(self.faces))
        local = self.vertices[self.faces[seen]] @ camera.world_to_camera[:3, :3].T + camera.world_to_camera[:3, 3]
        scale = np.maximum(-local[:, :, 2:], 1e-9) if camera.perspective else 1.0
        screen = local[:, :, :2] / scale * np.asarray(camera.focal) * size
        ab, ac = screen[:, 1] - screen[:, 0], screen[:, 2] - screen[:, 0]
        pixels = np.abs(ab[:, 0] * ac[:, 1] - ab[:, 1] * ac[:, 0]) / 2
        sides[seen] = np.sqrt(self.surface.uv_areas()[seen] / np.maximum(pixels, 1e-9))
        return sides

    def _behind(self, images: MeshImages, camera: Camera, size: int, buffers: dict[str, Floats]) -> None:
        """Mix in, below each clear pixel, what the faces behind show: drawn again without the faces in front.

        A face that is clear somewhere is left out as a whole in the next layer, and only counts at clear pixels.
        """
        left = np.ones(len(self.faces), np.bool_)
        front = images
        depth = np.where(images.mask, images.depth, np.inf).reshape(-1).astype(np.float64)
        open_ = images.mask.reshape(-1) & (buffers["alpha"][:, 0] < OPAQUE)
        for _ in range(self.layers - 1):
            ids = front.face_ids.reshape(-1)
            left[ids[open_ & (ids >= 0)]] = False
            rows = np.flatnonzero(left)
            if not open_.any() or not len(rows):
                return
            found = rasterise(
                self.vertices, self.faces[rows], camera, size, size, normals="smooth" if self.smooth else "flat",
                facing=True,
            )  # fmt: skip
            named = np.where(found.mask, rows[np.maximum(found.face_ids, 0)], -1).astype(np.int32)
            behind = found.mask.reshape(-1) & open_ & (found.depth.reshape(-1) >= depth * (1 - 1e-6))
            shown = MeshImages(
                found.depth, named, found.barycentrics, found.normal, behind.reshape(size, size), found.coverage, 0
            )
            look, shaded = self._layer(shown, camera, size, found.normal)
            here = np.flatnonzero(behind)
            over, under = buffers["alpha"][here], look.alpha
            total = over + (1 - over) * under
            for name, value in {**{n: getattr(look, n) for n in CHANNELS if n != "alpha"}, "color": shaded}.items():
                mixed = buffers[name][here] * over + value * (1 - over) * under
                buffers[name][here] = np.where(total > 0, mixed / np.maximum(total, 1e-12), 0.0)
            buffers["alpha"][here] = total
            depth[here] = found.depth.reshape(-1)[here]
            open_ = open_ & found.mask.reshape(-1) & (buffers["alpha"][:, 0] < OPAQUE)
            front = MeshImages(found.depth, named, found.barycentrics, found.normal, found.mask, found.coverage, 0)
