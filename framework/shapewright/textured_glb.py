"""GLB with materials: textures as PNG, one primitive a material, alpha modes as viewers expect them."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from .errors import MeshError
from .materials import Appearance, Colour, Material, Texture
from .srgb import to_linear
from .states import Mesh

Array = NDArray[Any]

_WRAPS = {"repeat": 10497, "clamp": 33071, "mirror": 33648}
_FILTERS = {"linear": (9729, 9987), "nearest": (9728, 9728)}
_ARRAY_BUFFER, _INDEX_BUFFER = 34962, 34963


class _Document:
    """A glTF document while it grows."""

    def __init__(self) -> None:
        self.blobs: list[bytes] = []
        self.views: list[dict[str, Any]] = []
        self.accessors: list[dict[str, Any]] = []
        self.images: list[dict[str, Any]] = []
        self.samplers: list[dict[str, Any]] = []
        self.textures: list[dict[str, Any]] = []
        self.size = 0
        self._known: dict[object, int] = {}

    def view(self, data: bytes, target: int | None = None) -> int:
        """Index of a buffer view over ``data``, which starts at a multiple of four bytes."""
        entry: dict[str, Any] = {"buffer": 0, "byteOffset": self.size, "byteLength": len(data)}
        self.views.append(entry if target is None else {**entry, "target": target})
        self.blobs.append(data + b"\0" * (-len(data) % 4))
        self.size += len(self.blobs[-1])
        return len(self.views) - 1

    def accessor(self, values: Array, kind: str, component: int, target: int, **more: Any) -> int:
        entry = {"bufferView": self.view(values.tobytes(), target), "componentType": component, "type": kind}
        self.accessors.append({**entry, "count": values.size if kind == "SCALAR" else len(values), **more})
        return len(self.accessors) - 1

    def texture(self, key: tuple[object, ...], like: Texture, pixels: Callable[[], Array]) -> dict[str, Any]:
        """Reference to a texture with the lookup of ``like``; its image is encoded once for each ``key``."""
        image = self._once(("image", key), self.images, lambda: self._image(like.name, pixels()))
        magnified, minified = _FILTERS[like.filter]
        wrap = {"wrapS": _WRAPS[like.wrap[0]], "wrapT": _WRAPS[like.wrap[1]]}
        look = {"magFilter": magnified, "minFilter": minified, **wrap}
        sampler = self._once(("sampler", *look.values()), self.samplers, lambda: look)
        found = self._once(("texture", image, sampler), self.textures, lambda: {"source": image, "sampler": sampler})
        return {"index": found, "texCoord": like.uv_set} if like.uv_set else {"index": found}

    def _once(self, key: object, entries: list[dict[str, Any]], make: Callable[[], dict[str, Any]]) -> int:
        if key not in self._known:
            entries.append(make())
            self._known[key] = len(entries) - 1
        return self._known[key]

    def _image(self, name: str, pixels: Array) -> dict[str, Any]:
        from PIL import Image

        file = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(pixels)).save(file, "PNG", compress_level=4)
        named = {"name": name} if name else {}
        return {"bufferView": self.view(file.getvalue()), "mimeType": "image/png", **named}


def textured_document(mesh: Mesh, appearance: Appearance, positions: Array) -> tuple[dict[str, Any], bytes]:
    """JSON and binary parts of a GLB file.

    Args:
        positions: ``(V, 3)`` float32 vertices of ``mesh``.
    Raises:
        MeshError: textures that glTF keeps in one image are looked up in different ways.
    """
    document = _Document()
    faces = mesh.faces.numpy(force=True)
    rows = np.zeros(len(faces), np.int64)
    if appearance.face_materials is not None:
        rows = appearance.face_materials.numpy(force=True)
    elif not appearance.materials:
        rows = rows - 1
    materials, primitives = [], []
    for number, row in enumerate(np.unique(rows).tolist()):
        material = appearance.materials[row] if row >= 0 else Material(double_sided=not mesh.oriented)
        materials.append(_material(document, material))
        primitives.append(
            {**_primitive(document, faces, np.flatnonzero(rows == row), appearance, positions), "material": number}
        )
    found = {
        "asset": {"version": "2.0", "generator": "shapewright"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0}],
        "meshes": [{"primitives": primitives}],
        "materials": materials,
        "accessors": document.accessors,
        "bufferViews": document.views,
        "buffers": [{"byteLength": document.size}],
    }
    for name in ("images", "samplers", "textures"):
        if getattr(document, name):
            found[name] = getattr(document, name)
    return found, b"".join(document.blobs)


def _primitive(
    document: _Document, faces: Array, rows: Array, appearance: Appearance, positions: Array
) -> dict[str, Any]:
    """The faces ``rows``; corners that agree in everything share a vertex."""
    columns = [faces[rows].reshape(-1, 1).astype(np.uint32)]
    names = ["POSITION"]
    for index, uv in enumerate(appearance.uvs):
        values = uv.numpy(force=True)[rows].reshape(-1, 2).astype("<f4")
        columns.append(np.stack([values[:, 0], 1 - values[:, 1]], axis=1).astype("<f4").view(np.uint32))
        names.append(f"TEXCOORD_{index}")
    if appearance.corner_normals is not None:
        normals = appearance.corner_normals.numpy(force=True)[rows].reshape(-1, 3).astype(np.float64)
        length = np.linalg.norm(normals, axis=1, keepdims=True)
        normals = np.where(length > 0, normals / np.where(length > 0, length, 1.0), [0.0, 0.0, 1.0])
        columns.append(normals.astype("<f4").view(np.uint32))
        names.append("NORMAL")
    if appearance.corner_colors is not None:
        given = appearance.corner_colors.numpy(force=True)[rows].reshape(3 * len(rows), -1)
        rgba = np.ones((len(given), 4))
        rgba[:, : given.shape[1]] = np.clip(given, 0, 1)
        rgba[:, :3] = to_linear(rgba[:, :3])
        columns.append(np.ascontiguousarray(np.round(rgba * 65535).astype("<u2")).view(np.uint32))
        names.append("COLOR_0")
    table = np.ascontiguousarray(np.concatenate(columns, axis=1))
    first, group = _distinct(table)
    ends = np.cumsum([column.shape[1] for column in columns])[:-1].tolist()
    distinct = [np.ascontiguousarray(part) for part in np.split(table[first], ends, axis=1)]
    attributes: dict[str, int] = {}
    for name, values in zip(names, distinct, strict=True):
        if name == "POSITION":
            points = positions[values[:, 0]]
            bounds = {"min": points.min(axis=0).tolist(), "max": points.max(axis=0).tolist()}
            attributes[name] = document.accessor(points, "VEC3", 5126, _ARRAY_BUFFER, **bounds)
        elif name == "COLOR_0":
            attributes[name] = document.accessor(values, "VEC4", 5123, _ARRAY_BUFFER, normalized=True)
        else:
            kind = "VEC2" if name.startswith("TEXCOORD") else "VEC3"
            attributes[name] = document.accessor(values.view("<f4"), kind, 5126, _ARRAY_BUFFER)
    indices = document.accessor(group.astype("<u4"), "SCALAR", 5125, _INDEX_BUFFER)
    return {"attributes": attributes, "indices": indices, "mode": 4}


def _distinct(table: Array) -> tuple[Array, Array]:
    """Index of the first of each set of equal rows, ascending, and the set of each row."""
    order = np.lexsort(table.T)
    fresh = np.concatenate([[True], (table[order[1:]] != table[order[:-1]]).any(axis=1)])
    first = order[fresh]  # the sort is stable, so the first of its set
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    group = np.empty(len(table), np.int64)
    group[order] = rank[np.cumsum(fresh) - 1]
    return np.sort(first), group


def _linear(color: Colour) -> list[float]:
    linear: list[float] = to_linear(np.asarray(color, np.float64)).round(12).tolist()
    return linear


def _material(document: _Document, material: Material) -> dict[str, Any]:
    def single(texture: Texture) -> dict[str, Any]:
        chosen = list(texture.channels)
        return document.texture((id(texture.pixels), *chosen), texture, lambda: _pixels(texture)[:, :, chosen])

    surface: dict[str, Any] = {
        "baseColorFactor": [*_linear(material.base_color), float(material.alpha)],
        "metallicFactor": float(material.metallic),
        "roughnessFactor": float(material.roughness),
    }
    color, alpha = material.base_color_texture, material.alpha_texture
    shared = color is not None and alpha is not None and alpha.pixels is color.pixels  # viewers ignore alpha if opaque
    if alpha is not None and (material.alpha_mode != "opaque" or shared):
        surface["baseColorTexture"] = _combined(document, material, ((color, (0, 1, 2)), (alpha, (3,))), 4)
    elif color is not None:
        surface["baseColorTexture"] = single(color)
    metallic, roughness = material.metallic_texture, material.roughness_texture
    if metallic is not None or roughness is not None:
        surface["metallicRoughnessTexture"] = _combined(document, material, ((roughness, (1,)), (metallic, (2,))), 3)
    found: dict[str, Any] = {"pbrMetallicRoughness": surface, "doubleSided": material.double_sided}
    if material.name:
        found["name"] = material.name
    if material.alpha_mode != "opaque":
        found["alphaMode"] = material.alpha_mode.upper()
        if material.alpha_mode == "mask":
            found["alphaCutoff"] = float(material.alpha_cutoff)
    if any(material.emissive):
        found["emissiveFactor"] = [min(max(value, 0.0), 1.0) for value in _linear(material.emissive)]
    if material.emissive_texture is not None:
        found["emissiveTexture"] = single(material.emissive_texture)
    if material.normal_texture is not None:
        found["normalTexture"] = single(material.normal_texture)
    return found


def _combined(
    document: _Document, material: Material, parts: tuple[tuple[Texture | None, tuple[int, ...]], ...], width: int
) -> dict[str, Any]:
    """One image of ``width`` channels from several textures; 255 where one is missing."""
    there = [(texture, into) for texture, into in parts if texture is not None]
    first = there[0][0]
    if len({(texture.uv_set, texture.wrap, texture.filter) for texture, _ in there}) > 1:
        raise MeshError(
            f"material {material.name!r}: glTF keeps textures in one image that are looked up in different ways here "
            "(coordinates, wrapping or filter); bake them with transform/bake-pbr"
        )

    def build() -> Array:
        height = max(texture.pixels.shape[0] for texture, _ in there)
        across = max(texture.pixels.shape[1] for texture, _ in there)
        image = np.full((height, across, width), 255, np.uint8)
        for texture, into in there:
            own = _pixels(texture)
            rows = np.arange(height) * own.shape[0] // height
            columns = np.arange(across) * own.shape[1] // across
            image[:, :, list(into)] = own[rows][:, columns][:, :, list(texture.channels)]
        return image

    key = tuple((id(texture.pixels), texture.channels, into) for texture, into in there)
    return document.texture((width, *key), first, build)


def _pixels(texture: Texture) -> Array:
    return np.asarray(texture.pixels.numpy(force=True))


def write_textured_glb(
    mesh: Mesh, file: BinaryIO, positions: Array, container: Callable[[BinaryIO, dict[str, Any], bytes], None]
) -> None:
    """Write the mesh with its appearance; ``container`` puts the two parts into a file."""
    assert mesh.appearance is not None
    document, binary = textured_document(mesh, mesh.appearance, positions)
    container(file, document, binary)
