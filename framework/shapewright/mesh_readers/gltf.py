"""glTF and GLB through trimesh: every node's mesh, moved by the transforms above it, in one soup of indexed
triangles."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import MeshError
from .polygons import Array, Polygons

_TRIANGLE_FAN = 6


def read_gltf(path: Path) -> Polygons:
    """Triangles of all nodes. A transform that mirrors turns the winding round, so that outward stays outward."""
    import trimesh

    logging.getLogger("trimesh").addHandler(logging.NullHandler())  # its remarks belong to no one's terminal
    _refuse_unreadable_features(path)
    try:
        scene: Any = trimesh.load(path, force="scene", process=False, skip_materials=True)
        parts = [(scene.geometry[name], matrix) for matrix, name in _placed(scene)]
    except Exception as error:
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise MeshError(f"cannot be read as {path.suffix[1:].lower()}: {reason}") from None
    vertices: list[Array] = []
    faces: list[Array] = []
    colors: list[Array | None] = []
    start = 0
    for part, matrix in parts:
        if not isinstance(part, trimesh.Trimesh) or not len(part.faces):
            continue
        local = np.asarray(part.vertices, np.float64)
        triangles = np.asarray(part.faces, np.int64)
        valid = (triangles >= 0) & (triangles < len(local))
        # Parts may share one table of vertices: each takes the rows it uses. An index past the table must not reach
        # into the next part; it becomes -1, out of range for good.
        own = np.zeros(len(local), bool)
        own[triangles[valid]] = True
        row = np.cumsum(own) - 1 + start
        placed = np.where(valid, row[np.where(valid, triangles, 0)], -1)
        local = local[own]
        with np.errstate(invalid="ignore", over="ignore"):
            vertices.append(local @ matrix[:3, :3].T + matrix[:3, 3])
        mirrored = np.linalg.det(matrix[:3, :3]) < 0
        faces.append(placed[:, ::-1] if mirrored else placed)
        visual: Any = part.visual
        has_colors = visual.kind == "vertex"
        colors.append(np.asarray(visual.vertex_colors, np.float64)[own] / 255.0 if has_colors else None)
        start += len(local)
    if not faces:
        return Polygons(np.zeros((0, 3)), np.zeros(0, np.int64), np.zeros(0, np.int64))
    whole = [color for color in colors if color is not None]
    triangles = np.concatenate(faces)
    return Polygons(
        np.concatenate(vertices),
        np.full(len(triangles), 3, np.int64),
        np.ascontiguousarray(triangles).reshape(-1),
        np.concatenate(whole) if len(whole) == len(colors) else None,
    )


def _refuse_unreadable_features(path: Path) -> None:
    """Raise for what trimesh would leave out without a word: triangle fans, and compression it has no decoder for."""
    with path.open("rb") as file:
        if path.suffix.lower() == ".glb":
            header = file.read(20)
            text = file.read(int.from_bytes(header[12:16], "little")) if len(header) == 20 else b""
        else:
            text = file.read()
    try:
        document = json.loads(text)
        required = document.get("extensionsRequired", [])
        modes = {part.get("mode", 4) for mesh in document.get("meshes", []) for part in mesh.get("primitives", [])}
    except (ValueError, AttributeError, TypeError):
        raise MeshError("the JSON part is damaged or truncated") from None
    compressed = [name for name in required if "compression" in name]
    if compressed:
        raise MeshError(f"{', '.join(compressed)} is not read; export the file without compression")
    if _TRIANGLE_FAN in modes:
        raise MeshError("triangle fans are not read; export the file with plain triangles")


def _placed(scene: object) -> list[tuple[Array, str]]:
    graph = scene.graph  # type: ignore[attr-defined]
    return [graph[node] for node in graph.nodes_geometry]
