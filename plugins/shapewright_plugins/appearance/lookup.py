"""What a mesh looks like at points of its faces: factors, textures, vertex colours and attributes as numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from shapewright.materials import Appearance, Material, Texture
from shapewright.states import Mesh
from shapewright_kernels.arrays import Floats, Ints
from shapewright_kernels.texture_sampling import (
    CLAMP,
    MIRROR,
    REPEAT,
    ImageTexture,
    has_mipmaps,
    sample_texture,
)

CHANNELS = {"base_color": 3, "metallic": 1, "roughness": 1, "alpha": 1}
"""What is looked up, and how many numbers each is."""
_WRAPS = {"repeat": REPEAT, "clamp": CLAMP, "mirror": MIRROR}


@dataclass(frozen=True)
class Look:
    """Values at ``N`` points, colours as sRGB, each in [0, 1]."""

    base_color: Floats
    """``(N, 3)``"""
    metallic: Floats
    """``(N, 1)``, as the two that follow."""
    roughness: Floats
    alpha: Floats
    """After the alpha mode: 1 where it is ``opaque``, 0 or 1 where it is ``mask``."""


class Surface:
    """A mesh ready for lookups; textures are prepared once."""

    def __init__(self, mesh: Mesh) -> None:
        self._faces = mesh.faces.numpy(force=True)
        self._attributes = {name: value.numpy(force=True).astype(np.float64) for name, value in mesh.attributes.items()}
        self._look = mesh.appearance or Appearance()
        rows = self._look.face_materials
        known = len(self._look.materials)
        if rows is not None:
            self._rows: Ints = rows.numpy(force=True)
        else:
            self._rows = np.full(len(self._faces), 0 if known else -1, np.int64)
        self._uvs = [uv.numpy(force=True).astype(np.float64) for uv in self._look.uvs]
        colors = self._look.corner_colors
        self._colors = None if colors is None else colors.numpy(force=True).astype(np.float64)
        self._images: dict[int, tuple[Texture, ImageTexture]] = {}

    def at(self, faces: Ints, weights: Floats, texels_per_sample: Floats | None = None) -> Look:
        """Values at points of ``faces`` ``(N,)`` with the corner ``weights`` ``(N, 3)``.

        Args:
            texels_per_sample: ``(F,)`` side, in UV units, that one sample covers on each face: smaller copies of the
                textures are looked up where it is more than a texel. ``None``: the textures themselves.
        """
        count = len(faces)
        values = {name: np.empty((count, width)) for name, width in CHANNELS.items()}
        rows = self._rows[faces]
        for row in np.unique(rows):
            here = np.flatnonzero(rows == row)
            material = self._look.materials[row] if row >= 0 else Material()
            side = None if texels_per_sample is None else texels_per_sample[faces[here]]
            for name, width in CHANNELS.items():
                factor = np.broadcast_to(np.asarray(getattr(material, name), np.float64), (len(here), width))
                texture = material.texture(name)
                if texture is not None:
                    factor = factor * self._texels(texture, faces[here], weights[here], side)
                values[name][here] = factor
        self._tint(values, faces, weights)
        for row in np.unique(rows):
            material = self._look.materials[row] if row >= 0 else Material()
            here = np.flatnonzero(rows == row)
            alpha = values["alpha"][here]
            if material.alpha_mode == "mask":
                values["alpha"][here] = alpha >= material.alpha_cutoff
            elif material.alpha_mode == "opaque" and self._look.materials:
                values["alpha"][here] = 1.0
        return Look(**{name: np.clip(value, 0.0, 1.0) for name, value in values.items()})

    def _tint(self, values: dict[str, Floats], faces: Ints, weights: Floats) -> None:
        """Colours of corners and attributes of vertices, at the points."""
        if self._colors is not None:
            color = np.einsum("nk,nkc->nc", weights, self._colors[faces])
            values["base_color"] *= color[:, :3]
            if color.shape[1] == 4:
                values["alpha"] *= color[:, 3:]
        for name in ("color", *CHANNELS):
            if name not in self._attributes or (name == "color" and self._colors is not None):
                continue
            value = np.einsum("nk,nkc->nc", weights, self._attributes[name][self._faces[faces]])
            if name != "color":
                values[name] = value
                continue
            tinted = bool(self._look.materials)
            values["base_color"] = values["base_color"] * value[:, :3] if tinted else value[:, :3].copy()
            if value.shape[1] == 4:
                values["alpha"] = values["alpha"] * value[:, 3:]

    def _texels(self, texture: Texture, faces: Ints, weights: Floats, side: Floats | None) -> Floats:
        if texture.uv_set < len(self._uvs):
            uvs = np.einsum("nk,nkc->nc", weights, self._uvs[texture.uv_set][faces])
        else:
            uvs = np.zeros((len(faces), 2))
        image = self._image(texture)
        levels: float | Floats = 0.0
        if side is not None and image.linear:
            levels = np.log2(np.maximum(side * image.pixels.shape[0], 1.0))
        return sample_texture(image, uvs, levels)

    def _image(self, texture: Texture) -> ImageTexture:
        if id(texture) not in self._images:
            pixels = texture.pixels
            linear = texture.filter == "linear"
            if linear and not has_mipmaps(pixels.shape[0], pixels.shape[1]):
                pixels = _square(pixels)
            wrap = (_WRAPS[texture.wrap[0]], _WRAPS[texture.wrap[1]])
            made = ImageTexture(np.ascontiguousarray(pixels.numpy(force=True)), texture.channels, linear, wrap)
            self._images[id(texture)] = (texture, made)
        return self._images[id(texture)][1]

    def uv_areas(self) -> Floats:
        """``(F,)``: area of each face in its first UV set; 0 without one."""
        if not self._uvs:
            return np.zeros(len(self._faces))
        a, b, c = (self._uvs[0][:, k] for k in range(3))
        ab, ac = b - a, c - a
        return np.asarray(np.abs(ab[:, 0] * ac[:, 1] - ab[:, 1] * ac[:, 0]) / 2, np.float64)


def _square(pixels: torch.Tensor) -> torch.Tensor:
    """The image as a square with a power of two as its side, the nearest of the longer side, for smaller copies."""
    side = 1 << round(np.log2(max(pixels.shape[0], pixels.shape[1])))
    planes = pixels.permute(2, 0, 1)[None].float()
    resized = torch.nn.functional.interpolate(planes, (side, side), mode="bicubic", antialias=True)
    return resized[0].permute(1, 2, 0).round().clamp(0, 255).to(torch.uint8).contiguous()
