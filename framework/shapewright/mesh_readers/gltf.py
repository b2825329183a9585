"""glTF and GLB: the triangles of every node's mesh, moved by the transforms above it, in one table.

Own code, because trimesh 5.2 passes over what changes shapes or looks without a word: sparse accessors, normalised
integers (``KHR_mesh_quantization``), instances (``EXT_mesh_gpu_instancing``), samplers, UV sets beyond the first and
``KHR_texture_transform``. Tests compare the two readers where trimesh reads all there is.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import MeshError
from ..srgb import to_srgb
from .gltf_document import GltfDocument
from .gltf_materials import GltfMaterials, Lookup, looked_up
from .polygons import Array, Polygons
from .textured import TexturedPolygons

_TRIANGLES, _STRIP, _FAN = 4, 5, 6
_MOST_TRIANGLES = 1 << 29


def read_gltf(path: Path) -> Polygons:
    """Triangles of all nodes. A transform that mirrors turns the winding round, so that outward stays outward."""
    return _read(path, look=False).polygons


def read_textured_gltf(path: Path) -> TexturedPolygons:
    """The triangles of :func:`read_gltf` with their materials, texture coordinates, colours and normals."""
    return _read(path, look=True)


def _read(path: Path, *, look: bool) -> TexturedPolygons:
    gltf = GltfDocument(path)
    try:
        _refuse_compression(gltf)
        notes: Counter[str] = Counter()
        materials = None
        if look:
            from .texture_files import Images

            materials = GltfMaterials(gltf, Images(notes))
        parts = _Parts(materials.lookups if materials else [], look)
        triangles = 0
        for node, index, matrix in gltf.placed_meshes():
            mesh = gltf.entry("meshes", index)
            notes["skins (the mesh stays at rest)"] += "skin" in node
            for part in mesh["primitives"]:
                notes["morph targets (the mesh stays at rest)"] += len(part.get("targets", []))
                parts.add(gltf, part, matrix)
                triangles += len(parts.faces[-1]) if parts.faces else 0
                if triangles > _MOST_TRIANGLES:
                    raise MeshError(f"more than {_MOST_TRIANGLES:,} triangles")
        return parts.joined(() if materials is None else materials.materials, +notes)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError, MeshError) as error:
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        reason = f"{reason} is missing" if isinstance(error, KeyError) else reason
        raise MeshError(f"cannot be read as {path.suffix[1:].lower()}: {reason}") from None


def _refuse_compression(gltf: GltfDocument) -> None:
    compressed = [name for name in gltf.document.get("extensionsRequired", []) if "compression" in name]
    if compressed:
        raise MeshError(f"{', '.join(compressed)} is not read; export the file without compression")


@dataclass
class _Parts:
    """Primitives that were read; one entry a primitive in every list."""

    lookups: list[Lookup]
    look: bool
    vertices: list[Array] = field(default_factory=list)
    vertex_colors: list[Array | None] = field(default_factory=list)
    faces: list[Array] = field(default_factory=list)
    rows: list[Array] = field(default_factory=list)
    uvs: list[list[Array]] = field(default_factory=list)
    colors: list[Array | None] = field(default_factory=list)
    normals: list[Array | None] = field(default_factory=list)
    start: int = 0

    def add(self, gltf: GltfDocument, part: dict[str, Any], matrix: Array) -> None:
        """One primitive in the place that ``matrix`` says; points and lines are passed over."""
        attributes, mode = part["attributes"], part.get("mode", _TRIANGLES)
        if mode not in (_TRIANGLES, _STRIP, _FAN) or "POSITION" not in attributes:
            return
        local = gltf.accessor(attributes["POSITION"])
        if local.shape[1] != 3:
            raise MeshError(f"positions have {local.shape[1]} coordinates")
        index = gltf.accessor(part["indices"])[:, 0] if "indices" in part else np.arange(len(local))
        triangles = _triangles(index, mode)
        if not len(triangles):
            return
        if np.linalg.det(matrix[:3, :3]) < 0:
            triangles = triangles[:, ::-1]
        # Parts may share one table of vertices: each takes the rows it uses. An index past the table must not reach
        # into the next part; it becomes -1, out of range for good.
        valid = (triangles >= 0) & (triangles < len(local))
        corners = np.where(valid, triangles, 0)
        own = np.zeros(len(local), bool)
        own[triangles[valid]] = True
        self.faces.append(np.where(valid, (np.cumsum(own) - 1 + self.start)[corners], -1))
        with np.errstate(invalid="ignore", over="ignore"):
            self.vertices.append(local[own] @ matrix[:3, :3].T + matrix[:3, 3])
        self.start += int(own.sum())
        colors = _of_vertices(gltf, attributes, "COLOR_0", len(local))
        if colors is not None:
            colors = np.concatenate([to_srgb(colors[:, :3]), colors[:, 3:]], axis=1)
        self.vertex_colors.append(None if colors is None else colors[own])
        if self.look:
            self._add_look(gltf, part, matrix, corners.reshape(-1), colors, len(local))

    def _add_look(
        self, gltf: GltfDocument, part: dict[str, Any], matrix: Array, corners: Array, colors: Array | None, count: int
    ) -> None:
        attributes = part["attributes"]
        row, known = part.get("material", -1), len(gltf.entries("materials"))
        self.rows.append(np.full(len(corners) // 3, row if 0 <= row < known else -1, np.int64))
        places = []
        for lookup in self.lookups:
            stored = _of_vertices(gltf, attributes, f"TEXCOORD_{lookup[1]}", count)
            places.append(np.zeros((len(corners), 2)) if stored is None else looked_up(stored, lookup)[corners])
        self.uvs.append(places)
        self.colors.append(None if colors is None else colors[corners])
        normals = _of_vertices(gltf, attributes, "NORMAL", count)
        if normals is not None:
            a, b, c = matrix[:3, :3].T
            cofactors = np.stack([np.cross(b, c), np.cross(c, a), np.cross(a, b)])  # inverse transpose, scaled
            normals = (normals @ (cofactors * np.sign(np.linalg.det(matrix[:3, :3]))))[corners]
        self.normals.append(normals)

    def joined(self, materials: tuple[Any, ...], notes: Counter[str]) -> TexturedPolygons:
        """All primitives in one table."""
        if not self.faces:
            nothing = np.zeros(0, np.int64)
            return TexturedPolygons(Polygons(np.zeros((0, 3)), nothing, nothing, notes=notes))
        corners = np.ascontiguousarray(np.concatenate(self.faces)).reshape(-1)
        whole = [_four(colors) for colors in self.vertex_colors if colors is not None]
        polygons = Polygons(
            np.concatenate(self.vertices),
            np.full(len(corners) // 3, 3, np.int64),
            corners,
            np.concatenate(whole) if len(whole) == len(self.vertex_colors) else None,
            notes=notes,
        )
        if not self.look:
            return TexturedPolygons(polygons)
        sizes = [face.size for face in self.faces]
        return TexturedPolygons(
            polygons,
            materials,
            np.concatenate(self.rows),
            tuple(np.concatenate(each) for each in zip(*self.uvs, strict=True)),
            _filled(self.colors, sizes, np.ones(4)),
            _filled(self.normals, sizes, np.full(3, np.inf)),
        )


def _of_vertices(gltf: GltfDocument, attributes: dict[str, int], name: str, count: int) -> Array | None:
    """``(count, width)`` numbers of an attribute, or ``None`` where it is not there, or not one for each vertex."""
    if name not in attributes:
        return None
    values = gltf.accessor(attributes[name])
    widths = {"COLOR_0": (3, 4), "NORMAL": (3,)}.get(name, (2,))
    if len(values) != count or values.shape[1] not in widths:
        return None
    return values


def _four(colors: Array) -> Array:
    return colors if colors.shape[1] == 4 else np.concatenate([colors, np.ones((len(colors), 1))], axis=1)


def _filled(parts: list[Array | None], sizes: list[int], missing: Array) -> Array | None:
    """All parts in one table, ``missing`` for those that have nothing; ``None`` if none has."""
    if all(part is None for part in parts):
        return None
    full = np.broadcast_to
    rows = [
        full(missing, (size, len(missing))) if part is None else _four(part) if len(missing) == 4 else part
        for part, size in zip(parts, sizes, strict=True)
    ]
    return np.concatenate(rows)


def _triangles(index: Array, mode: int) -> Array:
    if mode == _TRIANGLES:
        return np.asarray(index[: len(index) // 3 * 3].reshape(-1, 3))
    if mode == _FAN:
        return np.stack(
            [np.full(max(len(index) - 2, 0), index[0] if len(index) else 0), index[1:-1], index[2:]], axis=1
        )
    strip = np.stack([index[:-2], index[1:-1], index[2:]], axis=1)
    strip[1::2] = strip[1::2, [1, 0, 2]]
    return strip
