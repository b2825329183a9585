"""Pictures of result and reference from the same cameras, which depend on neither."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

import numpy as np
from shapewright.errors import MeshError
from shapewright.interfaces import MeshPair
from shapewright.states import Frame, Mesh
from shapewright_kernels.arrays import Bools, Floats
from shapewright_kernels.cameras import Camera, look_at, perspective

from .lookup import CHANNELS
from .quality import psnr
from .renderer import Config, Raster
from .similarity import similarity_inside

Role = Literal["reference", "predicted"]
YAWS, PITCH, FIELD_OF_VIEW = (30.0, 120.0, 210.0, 300.0), 30.0, 6.0
"""Degrees: the views of TRELLIS.2's evaluation."""
SIZE = 512
GREY = 0.5
"""Behind everything, so that missing what is dark costs as much as missing what is bright."""
VIEWS = "4 views of 512 x 512, pixels in either silhouette"


class Picture(NamedTuple):
    """One quantity of both meshes: ``(B, H, W, C)`` in [0, 1] each, :data:`GREY` outside."""

    predicted: Floats
    reference: Floats


class Pictures(NamedTuple):
    """What is seen of both meshes, and the union of their silhouettes ``(B, H, W)``."""

    planes: Mapping[str, Picture]
    mask: Bools

    def psnr(self, name: str) -> float:
        """Over the pixels of all views in the union."""
        picture = self.planes[name]
        return psnr(picture.predicted[self.mask], picture.reference[self.mask])

    def similarity(self, name: str) -> float:
        """Mean SSIM over the same pixels."""
        picture = self.planes[name]
        views = zip(picture.predicted, picture.reference, self.mask, strict=True)
        found = [similarity_inside(first, second, mask) for first, second, mask in views]
        return sum(total for total, _ in found) / sum(count for _, count in found)


def cameras(up: str) -> list[Camera]:
    """The fixed cameras: far away, so nearly parallel, and turned about the ``up`` axis (``y`` or ``z``).

    Yaw 0 looks from the front (+z for y up, -y for z up), and grows anticlockwise seen from above.
    """
    radius = float(np.linalg.norm(Frame().extent)) / 2
    distance = radius / np.sin(np.radians(FIELD_OF_VIEW) / 2)
    found = []
    for yaw in np.radians(YAWS):
        tilt = np.radians(PITCH)
        x, y, z = np.sin(yaw) * np.cos(tilt), np.sin(tilt), np.cos(yaw) * np.cos(tilt)
        way, upward = ((x, y, z), (0.0, 1.0, 0.0)) if up == "y" else ((x, -z, y), (0.0, 0.0, 1.0))
        eye = distance * np.asarray(way)
        found.append(perspective(look_at(eye, (0.0, 0.0, 0.0), upward), fov=FIELD_OF_VIEW, near=distance / 100))
    return found


def pictures(pair: MeshPair, *, materials: bool, size: int) -> Pictures | None:
    """``normal``, or with ``materials`` base_color, metallic, roughness, alpha and color (shaded), of both meshes.

    Returns:
        ``None`` where neither mesh covers a pixel.
    """
    first, first_mask = _views(pair, "predicted", materials=materials, size=size)
    second, second_mask = _views(pair, "reference", materials=materials, size=size)
    mask = first_mask | second_mask
    planes = {name: Picture(first[name], second[name]) for name in first}
    return Pictures(planes, mask) if mask.any() else None


def _views(pair: MeshPair, role: Role, *, materials: bool, size: int) -> tuple[dict[str, Floats], Bools]:
    """Planes ``(B, H, W, C)`` and the silhouettes ``(B, H, W)`` of one mesh."""
    home: Role = "reference" if pair.predicted is pair.reference else role
    up = pair.reference.frame.up  # of both: they show the same side

    def compute() -> tuple[dict[str, Floats], Bools]:
        mesh: Mesh = getattr(pair, home)
        if not len(mesh.faces):
            what = "the result" if home == "predicted" else "the reference"
            raise MeshError(f"{what} has no faces, so nothing can be measured; count it as failed")
        buffers = (*CHANNELS, "color") if materials else ()
        renderer = Raster(Config(size=size, buffers=buffers, background=GREY))
        found = renderer.render(mesh, cameras(up))
        mask = found["mask"].numpy() > 0
        if not materials:
            return {"normal": np.where(mask, (found["normal"].numpy() + 1) / 2, GREY)}, mask[..., 0]
        alpha = found["alpha"].numpy()
        shown = {name: found[name].numpy() * alpha + GREY * (1 - alpha) for name in CHANNELS if name != "alpha"}
        return {**shown, "alpha": alpha, "color": found["color"].numpy()}, mask[..., 0]

    return pair.shared(f"{home}/appearance/pictures/{materials}/{size}/{up}", compute)
