"""From the appearance of a mesh to attributes on the voxels of its dual grid."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from shapewright.errors import MeshError
from shapewright.materials import ALPHA_MODES, WRAPS, Material, Texture
from shapewright.states import Frame, Mesh
from shapewright_kernels.texture_sampling import ImageTexture, has_mipmaps
from shapewright_kernels.voxel_attributes import PBR, SurfaceMaterial, sample_materials
from torch import Tensor

COLOURED = ("base_color", "color")
"""Vertex attributes that are colours, first come first."""
_WHITE = SurfaceMaterial(base_color=(1.0, 1.0, 1.0))


def has_appearance(mesh: Mesh) -> bool:
    """Whether there is anything to sample: materials, or colours of corners or vertices."""
    look = mesh.appearance
    painted = look is not None and (bool(look.materials) or look.corner_colors is not None)
    return painted or any(name in mesh.attributes for name in COLOURED)


def sample_attributes(mesh: Mesh, resolution: int, frame: Frame) -> dict[str, Tensor]:
    """``base_color``, ``metallic``, ``roughness``, ``alpha``, ``(N, C)`` float32, of the voxels of the dual grid.

    Materials and colours of a mesh multiply. Colours without a material are the base colour of a white one.
    """
    faces = mesh.faces.numpy(force=True)
    appearance = mesh.appearance
    materials, face_materials, uvs = [_WHITE], None, None
    colors = _vertex_colors(mesh)
    if appearance is not None and appearance.materials:
        materials = [surface_material(material) for material in appearance.materials]
        face_materials = None if appearance.face_materials is None else appearance.face_materials.numpy(force=True)
        if appearance.uvs:
            uvs = np.stack([_float32(uv) for uv in appearance.uvs], axis=1)
    if appearance is not None and appearance.corner_colors is not None:
        colors = _rgba(_float32(appearance.corner_colors))
    try:
        voxels = sample_materials(
            mesh.vertices.numpy(force=True),
            faces,
            materials,
            face_materials=face_materials,
            uvs=uvs,
            corner_colors=colors,
            grid_size=resolution,
            aabb=[frame.lower, frame.upper],
            attributes=PBR,
            distance_unit=max(frame.extent),
        )
    except ValueError as error:
        raise MeshError(f"the materials cannot be sampled: {error}") from error
    return {name: torch.from_numpy(np.ascontiguousarray(voxels[name])) for name in PBR}


def surface_material(material: Material) -> SurfaceMaterial:
    """The material as the kernel takes it; images without mipmaps are resized as the published toolkit does it."""
    textures = {}
    for slot in PBR:
        texture = material.texture(slot)
        if texture is not None:
            textures[slot] = image_texture(texture)
    return SurfaceMaterial(
        material.base_color,
        material.metallic,
        material.roughness,
        material.alpha,
        material.emissive,
        textures,
        ALPHA_MODES.index(material.alpha_mode),
        material.alpha_cutoff,
    )


def image_texture(texture: Texture) -> ImageTexture:
    """The texture as the kernel takes it; a square power of two is used as it is, without a copy."""
    pixels = np.ascontiguousarray(texture.pixels.numpy(force=True))
    linear = texture.filter == "linear"
    channels = texture.channels
    if not has_mipmaps(*pixels.shape[:2]):
        pixels, channels = resized(pixels, channels), tuple(range(len(channels)))
    wrap = (WRAPS.index(texture.wrap[0]), WRAPS.index(texture.wrap[1]))
    return ImageTexture(pixels, channels, linear, wrap, texture.uv_set)


def resized(pixels: NDArray[np.uint8], channels: tuple[int, ...]) -> NDArray[np.uint8]:
    """Channels of an image resized (Lanczos) to the square whose side is the power of two nearest to its longer side,
    ties up, channel by channel, so that alpha does not enter colours."""
    from PIL import Image

    side = nearest_power_of_two(max(pixels.shape[:2]))
    result = np.empty((side, side, len(channels)), np.uint8)
    for place, channel in enumerate(channels):
        plane = Image.fromarray(np.ascontiguousarray(pixels[:, :, channel]))
        result[:, :, place] = np.asarray(plane.resize((side, side), Image.Resampling.LANCZOS))
    return result


def nearest_power_of_two(size: int) -> int:
    """The nearest power of two, the larger of two equally near.

    >>> [nearest_power_of_two(size) for size in (1, 3, 5, 6, 1000)]
    [1, 4, 4, 8, 1024]
    """
    above = 1 << (size - 1).bit_length()
    below = max(above >> 1, 1)
    return above if above - size <= size - below else below


def _vertex_colors(mesh: Mesh) -> NDArray[np.float32] | None:
    """``(F, 3, 4)`` from the first vertex attribute that is a colour."""
    for name in COLOURED:
        if name in mesh.attributes:
            colors = _rgba(_float32(mesh.attributes[name]))
            if not np.isfinite(colors).all():
                raise MeshError(f"the vertex attribute {name!r} is not finite everywhere")
            found: NDArray[np.float32] = colors[mesh.faces.numpy(force=True)]
            return found
    return None


def _rgba(colors: NDArray[np.float32]) -> NDArray[np.float32]:
    if colors.shape[-1] == 4:
        return colors
    return np.concatenate([colors[..., :3], np.ones_like(colors[..., :1])], axis=-1)


def _float32(values: Tensor) -> NDArray[Any]:
    return np.ascontiguousarray(values.detach().numpy(force=True), np.float32)
