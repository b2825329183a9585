"""``renderer/raster``: pictures on the CPU, without a display."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from shapewright.errors import ConfigError, MeshError
from shapewright.interfaces import Renderer
from shapewright.states import Mesh
from shapewright_kernels.cameras import Camera
from torch import Tensor

from .views import Painter, fitting_orbit

BUFFERS = ("base_color", "metallic", "roughness", "alpha", "color", "face_id")


@dataclass(frozen=True)
class Config:
    """``size``: pixels along the square picture. ``views``, ``pitch``, ``fov`` (degrees): the orbit that is taken
    where no cameras are given. ``buffers``: which of base_color, metallic, roughness, alpha, color and face_id come
    beside depth, normal and mask. ``smooth``: normals of corners or vertices instead of those of faces. ``layers``:
    how many faces deep transparency is looked through. ``background``: grey behind ``color``."""

    size: int = 512
    views: int = 4
    pitch: float = 20.0
    fov: float = 36.0
    buffers: tuple[str, ...] = ("base_color", "metallic", "roughness", "alpha", "color")
    smooth: bool = False
    layers: int = 8
    background: float = 1.0

    def __post_init__(self) -> None:
        if not 1 <= self.size <= 16384:
            raise ConfigError(f"size lies between 1 and 16384, not {self.size}")
        if self.views < 1 or self.layers < 1:
            raise ConfigError(f"views and layers must be at least 1, not {self.views} and {self.layers}")
        if not -89 <= self.pitch <= 89 or not 1 <= self.fov <= 170:
            raise ConfigError(f"pitch lies in -89..89 and fov in 1..170 degrees, not {self.pitch} and {self.fov}")
        if not 0 <= self.background <= 1:
            raise ConfigError(f"background lies in [0, 1], not {self.background}")
        unknown = set(self.buffers) - set(BUFFERS)
        if unknown:
            raise ConfigError(f"buffers are some of {', '.join(BUFFERS)}, not {', '.join(sorted(unknown))}")


class Raster(Renderer[Config]):
    """One sample a pixel, at its centre; the same bits for every number of threads."""

    Config = Config

    def render(self, mesh: Mesh, cameras: Any = None) -> Mapping[str, Tensor]:
        """Buffers ``(B, H, W, C)``: ``depth`` along the viewing axis (0 outside), ``normal`` in world space turned to
        the viewer (0 outside), ``mask``; those of the config. ``base_color`` is sRGB without
        light, ``color`` is shaded and sRGB; ``face_id`` is int32 and -1 outside.

        Args:
            cameras: a :class:`shapewright_kernels.cameras.Camera` or several; ``None`` for the orbit of the config.
        Raises:
            ConfigError: something else was given as a camera. MeshError: the mesh cannot be drawn.
        """
        if cameras is None:
            found = fitting_orbit(mesh, self.config.views, pitch=self.config.pitch, fov=self.config.fov)
        else:
            found = [cameras] if isinstance(cameras, Camera) else list(cameras)
        if not found or not all(isinstance(camera, Camera) for camera in found):
            raise ConfigError("cameras are one or more shapewright_kernels.cameras.Camera, or None for an orbit")
        try:
            painter = Painter(mesh, smooth=self.config.smooth, layers=self.config.layers)
            wanted = frozenset(self.config.buffers)
            views = [painter.draw(camera, self.config.size, wanted, self.config.background) for camera in found]
        except ValueError as error:
            raise MeshError(f"the mesh cannot be drawn: {error}") from None
        return {name: torch.stack([view[name] for view in views]) for name in views[0]}
