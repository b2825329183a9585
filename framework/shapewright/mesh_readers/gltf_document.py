"""A glTF document and its buffers: accessors as arrays, nodes as placed meshes. Nothing here knows what a mesh is."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np

from ..errors import MeshError
from .polygons import Array

_TYPES = {5120: "<i1", 5121: "<u1", 5122: "<i2", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
_WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT2": 4, "MAT3": 9, "MAT4": 16}
_DEEPEST = 512
_MOST_VISITS = 1 << 16
_MOST_INSTANCES = 1 << 20
_LARGEST_EMPTY = 1 << 28


class GltfDocument:
    """The JSON part, and the bytes that it refers to, read when they are asked for."""

    def __init__(self, path: Path) -> None:
        self.folder = path.parent
        data = memoryview(path.read_bytes())
        self.binary = data[:0]
        text = data
        if bytes(data[:4]) == b"glTF":
            length = int.from_bytes(data[12:16], "little")
            text, rest = data[20 : 20 + length], data[20 + length :]
            if len(rest) >= 8:
                self.binary = rest[8 : 8 + int.from_bytes(rest[:4], "little")]
        try:
            self.document: dict[str, Any] = json.loads(bytes(text))
            self.document.get("asset")
        except (ValueError, AttributeError, RecursionError):
            raise MeshError("the JSON part is damaged or truncated") from None
        self._buffers: dict[int, memoryview] = {}
        self._accessors: dict[int, Array] = {}

    def entries(self, name: str) -> list[Any]:
        """All entries of a list at the top of the document."""
        found: list[Any] = self.document.get(name, [])
        return found

    def entry(self, name: str, index: int) -> dict[str, Any]:
        """One of them; a negative index is one that is not there."""
        if index < 0:
            raise IndexError(f"{name}[{index}]")
        found: dict[str, Any] = self.entries(name)[index]
        return found

    def resource(self, uri: str) -> memoryview:
        """Bytes of a data URI or of a file beside the document."""
        if uri.startswith("data:"):
            return memoryview(base64.b64decode(uri.partition(",")[2]))
        target = (self.folder / unquote(uri)).resolve()
        if not target.is_relative_to(self.folder.resolve()):
            raise MeshError("a file outside the folder of the mesh is not read")
        return memoryview(target.read_bytes())

    def view(self, index: int) -> memoryview:
        """Bytes of a buffer view."""
        view = self.entry("bufferViews", index)
        start, length = view.get("byteOffset", 0), view["byteLength"]
        data = self._buffer(view["buffer"])
        if start < 0 or length < 0 or start + length > len(data):
            raise MeshError("a buffer ends before what is said to lie in it")
        return data[start : start + length]

    def _buffer(self, index: int) -> memoryview:
        if index not in self._buffers:
            uri = self.entry("buffers", index).get("uri")
            try:
                self._buffers[index] = self.binary if uri is None else self.resource(uri)
            except OSError as error:
                raise MeshError(f"the buffer {str(uri)[:60]}: {error.strerror or error}") from None
        return self._buffers[index]

    def accessor(self, index: int) -> Array:
        """``(N, width)``, normalised integers as float64 in [-1, 1], other integers as int64. Not to be written to."""
        if index not in self._accessors:
            self._accessors[index] = self._accessor(self.entry("accessors", index))
        return self._accessors[index]

    def _accessor(self, accessor: Mapping[str, Any]) -> Array:
        kind, width, count = np.dtype(_TYPES[accessor["componentType"]]), _WIDTHS[accessor["type"]], accessor["count"]
        if "bufferView" in accessor:
            raw = self._rows(accessor["bufferView"], accessor.get("byteOffset", 0), kind, width, count)
        elif count < 0 or count * width > _LARGEST_EMPTY:
            raise MeshError("an accessor without data announces too many elements")
        else:
            raw = np.zeros((count, width), kind)
        if "sparse" in accessor:
            raw = self._replaced(raw, accessor["sparse"])
        if kind.kind == "f":
            return raw.astype(np.float64)
        if accessor.get("normalized"):
            return np.maximum(raw / np.iinfo(kind).max, -1.0)
        return raw.astype(np.int64)

    def _rows(self, view: int, start: int, kind: np.dtype[Any], width: int, count: int) -> Array:
        stride = self.entry("bufferViews", view).get("byteStride", 0) or kind.itemsize * width
        data = self.view(view)
        last = start + stride * (count - 1) + kind.itemsize * width
        if start < 0 or count < 0 or stride < 0 or (count and last > len(data)):
            raise MeshError("an accessor reaches past the end of its buffer")
        return np.ndarray((count, width), kind, data, start, (stride, kind.itemsize))

    def _replaced(self, raw: Array, sparse: Mapping[str, Any]) -> Array:
        """A copy of ``raw`` with the rows that a sparse accessor lists."""
        count, where, what = sparse["count"], sparse["indices"], sparse["values"]
        index_kind = np.dtype(_TYPES[where["componentType"]])
        rows = self._rows(where["bufferView"], where.get("byteOffset", 0), index_kind, 1, count)[:, 0].astype(np.int64)
        if count and not 0 <= rows.min() <= rows.max() < len(raw):
            raise MeshError("a sparse accessor replaces elements that are not there")
        result = np.array(raw)
        result[rows] = self._rows(what["bufferView"], what.get("byteOffset", 0), raw.dtype, raw.shape[1], count)
        return result

    def placed_meshes(self) -> list[tuple[dict[str, Any], int, Array]]:
        """Nodes of the scene that hold a mesh, its index, and the ``(4, 4)`` transform into the scene; depth first.

        ``EXT_mesh_gpu_instancing`` places a mesh once for each of its instances.
        """
        nodes, scenes = self.entries("nodes"), self.entries("scenes")
        children = {child for node in nodes for child in node.get("children", [])}
        roots = [number for number in range(len(nodes)) if number not in children]
        if scenes:
            roots = self.entry("scenes", self.document.get("scene", 0)).get("nodes", [])
        placed: list[tuple[dict[str, Any], int, Array]] = []
        waiting = [(root, np.eye(4), 0) for root in reversed(roots)]
        visits = 0
        while waiting:
            number, above, depth = waiting.pop()
            visits += 1
            if depth > _DEEPEST or visits > len(nodes) + _MOST_VISITS:
                raise MeshError("the nodes form a circle, or are nested too deeply")
            node = self.entry("nodes", number)
            matrix = above @ _local_matrix(node)
            if "mesh" in node:
                placed += [(node, node["mesh"], matrix @ instance) for instance in self._instances(node)]
            waiting += [(child, matrix, depth + 1) for child in reversed(node.get("children", []))]
        return placed

    def _instances(self, node: Mapping[str, Any]) -> list[Array]:
        body = node.get("extensions", {}).get("EXT_mesh_gpu_instancing")
        if body is None:
            return [np.eye(4)]
        found = {name: self.accessor(index) for name, index in body["attributes"].items()}
        counts = {len(found[name]) for name in ("TRANSLATION", "ROTATION", "SCALE") if name in found}
        if len(counts) != 1 or max(counts) > _MOST_INSTANCES:
            raise MeshError("the instances of a node are not described once each")
        names = {"TRANSLATION": "translation", "ROTATION": "rotation", "SCALE": "scale"}
        given = {names[name]: values for name, values in found.items() if name in names}
        return [_local_matrix({name: values[row] for name, values in given.items()}) for row in range(counts.pop())]


def _local_matrix(node: Mapping[str, Any]) -> Array:
    if "matrix" in node:
        return np.asarray(node["matrix"], np.float64).reshape(4, 4).T
    x, y, z, w = map(float, node.get("rotation", (0.0, 0.0, 0.0, 1.0)))
    turn = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )
    matrix = np.eye(4)
    matrix[:3, :3] = turn * np.asarray(node.get("scale", (1.0, 1.0, 1.0)), np.float64)
    matrix[:3, 3] = node.get("translation", (0.0, 0.0, 0.0))
    return matrix
