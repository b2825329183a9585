"""Meshes of the library trimesh and back, for scripts that have them; files are read by :mod:`.mesh_io`."""

from __future__ import annotations

import io
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from .errors import MeshError, MeshWarning
from .materials import Material, Texture
from .mesh_readers.polygons import Array, Polygons
from .mesh_readers.texture_files import alpha_channel, colour_channels
from .mesh_readers.textured import TexturedPolygons
from .mesh_writers import write_glb
from .srgb import to_srgb
from .states import Mesh

if TYPE_CHECKING:
    import trimesh


def from_trimesh(source: trimesh.Trimesh | trimesh.Scene) -> Mesh:
    """A mesh of trimesh, or all meshes of a scene where they stand, cleaned as :func:`~shapewright.load_mesh` does.

    Materials, texture coordinates and colours of vertices and faces come along; colours count as sRGB, factors of
    ``PBRMaterial`` as linear light, as glTF has them.

    Returns:
        ``vertices`` ``(V, 3)`` float64, ``faces`` ``(F, 3)`` int64; ``appearance`` and ``attributes["color"]`` as
        :func:`~shapewright.textured_meshes.load_textured_mesh` sets them.
    Raises:
        MeshError: something else was given, or no usable face is left. What was dropped is a :class:`MeshWarning`.
    """
    import trimesh

    from .textured_meshes import cleaned_mesh

    parts: list[Any] = list(source.dump()) if isinstance(source, trimesh.Scene) else [source]
    if not all(isinstance(part, trimesh.Trimesh) for part in parts):
        kinds = ", ".join(sorted({type(part).__name__ for part in parts if not isinstance(part, trimesh.Trimesh)}))
        raise MeshError(f"from_trimesh takes a Trimesh, or a Scene of such, not {kinds}")
    mesh, counts = cleaned_mesh(_joined(parts))
    if counts:
        warnings.warn(MeshWarning("trimesh mesh", counts), stacklevel=2)
    return mesh


def to_trimesh(mesh: Mesh) -> trimesh.Trimesh | trimesh.Scene:
    """``mesh`` for trimesh: a ``Trimesh`` with the same vertices and faces, and colours of vertices if it has any.

    A mesh with materials becomes a ``Scene``, one geometry a material, with positions in float32: it goes through a GLB
    in memory.
    """
    import trimesh

    if mesh.appearance is not None and mesh.appearance.materials:
        file = io.BytesIO()
        write_glb(mesh, file)
        scene: trimesh.Scene = trimesh.load_scene(io.BytesIO(file.getvalue()), file_type="glb")
        return scene
    colors = mesh.attributes.get("color", mesh.attributes.get("base_color"))
    return trimesh.Trimesh(
        mesh.vertices.numpy(force=True),
        mesh.faces.numpy(force=True),
        vertex_colors=None if colors is None else np.rint(colors.numpy(force=True) * 255).astype(np.uint8),
        process=False,
    )


def _joined(parts: list[Any]) -> TexturedPolygons:
    vertices = [np.zeros((0, 3)), *(np.asarray(part.vertices, np.float64) for part in parts)]
    starts = np.cumsum([len(each) for each in vertices])
    corners = [(np.asarray(part.faces, np.int64) + starts[k]).reshape(-1) for k, part in enumerate(parts)]
    joined = np.concatenate([np.zeros(0, np.int64), *corners])
    kinds = {part.visual.kind for part in parts}
    of_vertices = None
    if kinds == {"vertex"}:
        of_vertices = np.concatenate([np.asarray(part.visual.vertex_colors, np.float64) / 255 for part in parts])
    polygons = Polygons(np.concatenate(vertices), np.full(len(joined) // 3, 3, np.int64), joined, of_vertices)
    if not kinds & {"texture", "face"}:
        return TexturedPolygons(polygons)
    materials = [_material(part.visual.material) for part in parts if part.visual.kind == "texture"]
    row, rows = 0, []
    for part in parts:
        textured = part.visual.kind == "texture"
        rows.append(np.full(len(part.faces), row if textured else -1, np.int64))
        row += textured
    return TexturedPolygons(
        polygons,
        tuple(materials),
        np.concatenate(rows),
        (np.concatenate([_places(part) for part in parts]),) if materials else (),
        np.concatenate([_tints(part) for part in parts]) if kinds & {"face", "vertex"} else None,
    )


def _places(part: Any) -> Array:
    """``(3 F, 2)`` texture coordinates of corners; 0 without any."""
    if part.visual.kind != "texture" or part.visual.uv is None:
        return np.zeros((part.faces.size, 2))
    found: Array = np.asarray(part.visual.uv, np.float64)[part.faces.reshape(-1), :2]
    return found


def _tints(part: Any) -> Array:
    """``(3 F, 4)`` colours of corners; white without any."""
    if part.visual.kind == "face":
        return np.repeat(np.asarray(part.visual.face_colors, np.float64) / 255, 3, axis=0)
    if part.visual.kind == "vertex":
        stored: Array = np.asarray(part.visual.vertex_colors, np.float64)[part.faces.reshape(-1)] / 255
        return stored
    return np.ones((part.faces.size, 4))


def _material(found: Any) -> Material:
    """Of a ``PBRMaterial``, or of a ``SimpleMaterial``, whose colours are not linear."""
    linear = type(found).__name__ != "SimpleMaterial"
    pbr = found if linear else found.to_pbr()
    base = _factor(pbr.baseColorFactor, np.ones(4))
    glow = to_srgb(_factor(pbr.emissiveFactor, np.zeros(3))).tolist()
    red, green, blue = (to_srgb(base[:3]) if linear else base[:3]).tolist()
    color, rough = _pixels(pbr.baseColorTexture), _pixels(pbr.metallicRoughnessTexture)
    emissive, normal = _pixels(pbr.emissiveTexture), _pixels(pbr.normalTexture)
    mode = str(pbr.alphaMode or "OPAQUE").lower()
    opacity = None if color is None or mode == "opaque" else alpha_channel(color)
    return Material(
        name=str(pbr.name or ""),
        base_color=(red, green, blue),
        metallic=_number(pbr.metallicFactor, 1.0 if linear else 0.0),
        roughness=_number(pbr.roughnessFactor, 1.0 if linear else 0.5),
        alpha=float(base[3]) if len(base) > 3 else 1.0,
        emissive=(glow[0], glow[1], glow[2]),
        base_color_texture=None if color is None else Texture(color, colour_channels(color)),
        metallic_texture=None if rough is None else Texture(rough, (2 if rough.shape[2] > 2 else 0,)),
        roughness_texture=None if rough is None else Texture(rough, (1 if rough.shape[2] > 2 else 0,)),
        alpha_texture=None if color is None or opacity is None else Texture(color, (opacity,)),
        emissive_texture=None if emissive is None else Texture(emissive, colour_channels(emissive)),
        normal_texture=None if normal is None else Texture(normal, colour_channels(normal)),
        alpha_mode=mode if mode in ("opaque", "mask", "blend") else "opaque",
        alpha_cutoff=_number(pbr.alphaCutoff, 0.5),
        double_sided=bool(pbr.doubleSided),
    )


def _factor(value: Any, default: Array) -> Array:
    if value is None:
        return default
    values = np.asarray(value)
    return values / 255 if values.dtype.kind in "iu" else values.astype(np.float64)


def _number(value: Any, default: float) -> float:
    return default if value is None else float(value)


def _pixels(image: Any) -> torch.Tensor | None:
    """``(H, W, C)`` uint8 of a picture of Pillow."""
    if image is None:
        return None
    plain = image if image.mode in ("L", "LA", "RGB", "RGBA") else image.convert("RGBA" if "A" in image.mode else "RGB")
    values = np.array(plain)
    return torch.from_numpy(values.reshape(values.shape[0], values.shape[1], -1))
