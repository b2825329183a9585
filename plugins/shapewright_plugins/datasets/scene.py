"""S16: seven shapes standing in a slab, as one mesh and as a GLB.

The GLB has a node for every part, an instanced mesh, a mirroring node and five materials.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from shapewright.mesh_writers import write_glb_chunks

from . import sheets, solids
from .triangles import Array, Triangles, box, concatenated, icosphere

Vector = tuple[float, float, float]

MATERIALS: dict[str, dict[str, Any]] = {
    "opaque": {
        "pbrMetallicRoughness": {"baseColorFactor": [0.8, 0.3, 0.2, 1], "metallicFactor": 0, "roughnessFactor": 0.5}
    },
    "metal": {
        "pbrMetallicRoughness": {"baseColorFactor": [0.9, 0.8, 0.5, 1], "metallicFactor": 1, "roughnessFactor": 0.2}
    },
    "rough": {
        "pbrMetallicRoughness": {"baseColorFactor": [0.5, 0.5, 0.5, 1], "metallicFactor": 0, "roughnessFactor": 1}
    },
    "glass": {
        "alphaMode": "BLEND",
        "pbrMetallicRoughness": {"baseColorFactor": [0.6, 0.8, 1, 0.4], "metallicFactor": 0, "roughnessFactor": 0.05},
    },
    "cut-out": {
        "alphaMode": "MASK",
        "alphaCutoff": 0.5,
        "doubleSided": True,
        "pbrMetallicRoughness": {"baseColorFactor": [0.2, 0.6, 0.2, 1], "metallicFactor": 0, "roughnessFactor": 0.7},
    },
}


@dataclass(frozen=True, slots=True)
class Piece:
    """One use of a mesh: pieces with the same ``mesh`` share its vertices, scaled about the origin of their part."""

    mesh: str
    scale: float = 1.0


@dataclass(frozen=True, slots=True)
class Part:
    """One node of the scene: its pieces, scaled along the axes (a negative factor mirrors) and then shifted."""

    name: str
    pieces: tuple[Piece, ...]
    scale: Vector = (1.0, 1.0, 1.0)
    shift: Vector = (0.0, 0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Scene:
    """Meshes by name, the material of each, and the parts that use them."""

    meshes: dict[str, Triangles]
    materials: dict[str, str]
    parts: tuple[Part, ...]

    def flattened(self) -> Triangles:
        """All parts in place, in one mesh; a mirrored part still faces outward."""
        placed = [
            self.meshes[piece.mesh].moved(scale=np.array(part.scale) * piece.scale, shift=part.shift)
            for part in self.parts
            for piece in part.pieces
        ]
        return concatenated(placed)


def build_scene(
    *, slab: Vector = (4.0, 4.0, 0.1), circle: float = 1.3, sunk: float = 0.02, radii: Vector = (1.0, 0.7, 0.4)
) -> Scene:
    """The scene with z up: a slab whose top is z = 0, and seven shapes of largest extent 1 on a circle."""
    meshes = {
        "slab": box(slab, (0, 0, -slab[2] / 2)),
        "leaf": sheets.leaf(),
        "cup": sheets.cup(),
        "gears": solids.gears(),
        "spikes": solids.spiked_icosahedron(),
        "knot": solids.trefoil_knot(),
        "moebius-strip": sheets.moebius_strip(),
        "sphere": icosphere(5),
        "cube": box(0.3),
    }
    materials = {"slab": "rough", "leaf": "cut-out", "cup": "opaque", "gears": "metal", "spikes": "opaque"}
    materials |= {"knot": "rough", "moebius-strip": "cut-out", "sphere": "glass", "cube": "metal"}
    nested = (*(Piece("sphere", radius) for radius in radii), Piece("cube"))
    standing: list[tuple[str, tuple[Piece, ...]]] = [
        (name, (Piece(name),)) for name in ("leaf", "cup", "gears", "spikes", "knot", "moebius-strip")
    ]
    standing.append(("nested-spheres", nested))
    parts = [Part("slab", (Piece("slab"),))]
    for index, (name, pieces) in enumerate(standing):
        angle = 2 * np.pi * index / len(standing)
        points = np.concatenate([meshes[piece.mesh].vertices * piece.scale for piece in pieces])
        size = 1 / np.ptp(points, axis=0).max()
        scale = (-size if name == "spikes" else size, size, size)
        low, high = (points * scale).min(axis=0), (points * scale).max(axis=0)
        x, y, _ = np.array([circle * np.cos(angle), circle * np.sin(angle), 0]) - (low + high) / 2
        parts.append(Part(name, pieces, scale, (float(x), float(y), float(-sunk - low[2]))))
    return Scene(meshes, materials, tuple(parts))


def scene() -> Triangles:
    """S16 as one mesh."""
    return build_scene().flattened()


def scene_glb(source: Scene | None = None) -> bytes:
    """S16 as GLB: one node a part, ``sphere`` used by three nodes, the spikes mirrored by their node's scale.

    A root node turns z up into glTF's y up. Positions are float32 in each mesh's own coordinates.
    """
    source = build_scene() if source is None else source
    blobs: list[bytes] = []
    accessors: list[dict[str, Any]] = []
    views: list[dict[str, Any]] = []

    def store(values: Array, kind: str, component: int, target: int, **extra: Any) -> int:
        start = sum(map(len, blobs))
        blobs.append(values.tobytes())
        views.append({"buffer": 0, "byteOffset": start, "byteLength": len(blobs[-1]), "target": target})
        accessors.append(
            {"bufferView": len(views) - 1, "componentType": component, "count": len(values), "type": kind, **extra}
        )
        return len(accessors) - 1

    meshes = []
    material_names = list(MATERIALS)
    for name, shape in source.meshes.items():
        points = shape.vertices.astype("<f4")
        limits = {"min": points.min(axis=0).tolist(), "max": points.max(axis=0).tolist()}
        primitive = {
            "attributes": {"POSITION": store(points, "VEC3", 5126, 34962, **limits)},
            "indices": store(shape.faces.astype("<u4").reshape(-1), "SCALAR", 5125, 34963),
            "material": material_names.index(source.materials[name]),
        }
        meshes.append({"name": name, "primitives": [primitive]})
    numbers = {name: index for index, name in enumerate(source.meshes)}
    nodes: list[dict[str, Any]] = [{"name": "scene", "rotation": [-(0.5**0.5), 0, 0, 0.5**0.5], "children": []}]
    for part in source.parts:
        node: dict[str, Any] = {"name": part.name, "scale": list(part.scale), "translation": list(part.shift)}
        nodes[0]["children"].append(len(nodes))
        nodes.append(node)
        if len(part.pieces) == 1:
            node["mesh"] = numbers[part.pieces[0].mesh]
            continue
        node["children"] = list(range(len(nodes), len(nodes) + len(part.pieces)))
        nodes += [{"mesh": numbers[piece.mesh], "scale": [piece.scale] * 3} for piece in part.pieces]
    document = {
        "asset": {"version": "2.0", "generator": "shapewright"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": nodes,
        "meshes": meshes,
        "materials": [{"name": name, **body} for name, body in MATERIALS.items()],
        "accessors": accessors,
        "bufferViews": views,
        "buffers": [{"byteLength": sum(map(len, blobs))}],
    }
    buffer = io.BytesIO()
    write_glb_chunks(buffer, document, b"".join(blobs))
    return buffer.getvalue()
