"""Writers of mesh files: GLB, OBJ, PLY, STL and OFF from arrays. Winding and vertex order are kept."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray

from .errors import MeshError
from .srgb import to_linear
from .states import Mesh
from .textured_glb import write_textured_glb

Array = NDArray[Any]
Writer = Callable[[Mesh, BinaryIO], None]

_ROWS_AT_ONCE = 1 << 16
LARGEST_ROUNDING = 1e-3
"""Share of the shape's size by which float32 may move a vertex: a cell at resolution 1,000."""


def _arrays(mesh: Mesh) -> tuple[Array, Array, Array | None]:
    color = mesh.attributes.get("color", mesh.attributes.get("base_color"))
    if color is not None and "color" not in mesh.attributes and "alpha" in mesh.attributes:
        color = torch.cat([color, mesh.attributes["alpha"].to(color)], dim=1)
    colors = None if color is None else np.clip(color.numpy(force=True).astype(np.float64), 0.0, 1.0)
    return mesh.vertices.numpy(force=True), mesh.faces.numpy(force=True), colors


def _single(vertices: Array, what: str) -> Array:
    with np.errstate(over="ignore"):
        narrow = vertices.astype("<f4")
    if not np.isfinite(narrow).all():
        raise MeshError(f"coordinates beyond the range of float32 cannot be stored as {what}; use .obj, .ply or .off")
    wide = vertices.astype(np.float64)
    moved, extent = float(np.abs(narrow - wide).max()), float(np.ptp(wide, axis=0).max())
    if moved > LARGEST_ROUNDING * extent:
        raise MeshError(
            f"{what} stores float32, which would move vertices by up to {moved:.2g} in a shape of size {extent:.2g}; "
            "use .obj, .ply or .off, or bring the shape nearer to the origin"
        )
    return narrow


def _bytes(colors: Array) -> Array:
    return np.round(colors * 255).astype(np.uint8)


def write_glb(mesh: Mesh, file: BinaryIO) -> None:
    """glTF 2.0 binary with one mesh; float32 positions, double-sided where the winding carries no meaning.

    Materials of the mesh go with their textures, see :mod:`.textured_glb`; colours of vertices where there are none.
    """
    vertices, faces, colors = _arrays(mesh)
    positions = _single(vertices, "GLB")
    if len(vertices) >= 2**32 - 1:
        raise MeshError("GLB indices end at 2^32 - 2; use .ply")
    if mesh.appearance is not None:
        write_textured_glb(mesh, file, positions, write_glb_chunks)
        return
    blobs = [positions.tobytes(), faces.astype("<u4").tobytes()]
    accessors: list[dict[str, Any]] = [
        {
            "bufferView": 0,
            "componentType": 5126,
            "count": len(positions),
            "type": "VEC3",
            "min": positions.min(axis=0).tolist(),
            "max": positions.max(axis=0).tolist(),
        },
        {"bufferView": 1, "componentType": 5125, "count": faces.size, "type": "SCALAR"},
    ]
    attributes = {"POSITION": 0}
    if colors is not None:
        rgba = np.ones((len(colors), 4))
        rgba[:, : colors.shape[1]] = colors
        rgba[:, :3] = to_linear(rgba[:, :3])  # linear in this format, and 16 bits so that dark colours keep their steps
        blobs.append(np.round(rgba * 65535).astype("<u2").tobytes())
        accessors.append(
            {"bufferView": 2, "componentType": 5123, "normalized": True, "count": len(rgba), "type": "VEC4"}
        )
        attributes["COLOR_0"] = 2
    starts = np.cumsum([0, *map(len, blobs)]).tolist()
    targets = [34962, 34963, 34962]
    document = {
        "asset": {"version": "2.0", "generator": "shapewright"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0}],
        "meshes": [{"primitives": [{"attributes": attributes, "indices": 1, "material": 0, "mode": 4}]}],
        "materials": [
            {"doubleSided": not mesh.oriented, "pbrMetallicRoughness": {"metallicFactor": 0.0, "roughnessFactor": 0.9}}
        ],
        "accessors": accessors,
        "bufferViews": [
            {"buffer": 0, "byteOffset": start, "byteLength": len(blob), "target": target}
            for start, blob, target in zip(starts, blobs, targets, strict=False)
        ],
        "buffers": [{"byteLength": starts[-1]}],
    }
    write_glb_chunks(file, document, b"".join(blobs))


def write_glb_chunks(file: BinaryIO, document: dict[str, Any], binary: bytes) -> None:
    """The container of glTF 2.0: header, JSON chunk, binary chunk, each padded to four bytes."""
    text = json.dumps(document, separators=(",", ":"), allow_nan=False).encode()
    text += b" " * (-len(text) % 4)
    binary += b"\0" * (-len(binary) % 4)
    total = 12 + 8 + len(text) + 8 + len(binary)
    if total >= 2**32:
        raise MeshError("GLB files end at 4 GiB; use .ply")
    file.write(b"glTF" + np.array([2, total, len(text)], "<u4").tobytes() + b"JSON" + text)
    file.write(np.array([len(binary)], "<u4").tobytes() + b"BIN\0" + binary)


def _text_rows(file: BinaryIO, rows: Array, prefix: str = "", *, extra: Array | None = None) -> None:
    """Rows of numbers as the shortest text that reads back to the same float64."""
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        block = rows[start : start + _ROWS_AT_ONCE].tolist()
        if extra is not None:
            block = [row + more for row, more in zip(block, extra[start : start + _ROWS_AT_ONCE].tolist(), strict=True)]
        file.write("".join(f"{prefix}{' '.join(map(repr, row))}\n" for row in block).encode())


def write_obj(mesh: Mesh, file: BinaryIO) -> None:
    """Wavefront OBJ, exact float64 text; vertex colours as three more numbers a vertex."""
    vertices, faces, colors = _arrays(mesh)
    _text_rows(file, vertices.astype(np.float64), "v ", extra=None if colors is None else colors[:, :3])
    _text_rows(file, faces + 1, "f ")


def write_off(mesh: Mesh, file: BinaryIO) -> None:
    """Object File Format, exact float64 text; the format has no common form for colours, they are left out."""
    vertices, faces, _ = _arrays(mesh)
    file.write(f"OFF\n{len(vertices)} {len(faces)} 0\n".encode())
    _text_rows(file, vertices.astype(np.float64))
    _text_rows(file, faces, "3 ")


def write_ply(mesh: Mesh, file: BinaryIO) -> None:
    """Binary little-endian PLY in the precision of the mesh, colours as bytes."""
    vertices, faces, colors = _arrays(mesh)
    if len(vertices) >= 2**31:
        raise MeshError("PLY indices are written as int32 and end at 2^31 - 1 vertices")
    wide = vertices.dtype == np.float64
    kind, name = ("<f8", "double") if wide else ("<f4", "float")
    fields: list[tuple[str, str]] = [(axis, kind) for axis in "xyz"]
    header = [f"property {name} {axis}" for axis in "xyz"]
    channels = ["red", "green", "blue", "alpha"][: 0 if colors is None else colors.shape[1]]
    fields += [(channel, "u1") for channel in channels]
    header += [f"property uchar {channel}" for channel in channels]
    rows = np.empty(len(vertices), fields)
    for index, axis in enumerate("xyz"):
        rows[axis] = vertices[:, index]
    if colors is not None:
        quantised = _bytes(colors)
        for index, channel in enumerate(channels):
            rows[channel] = quantised[:, index]
    triangles = np.empty(len(faces), [("count", "u1"), ("corners", "<i4", (3,))])
    triangles["count"], triangles["corners"] = 3, faces
    lines = ["ply", "format binary_little_endian 1.0", f"element vertex {len(rows)}", *header]
    lines += [f"element face {len(faces)}", "property list uchar int vertex_indices", "end_header", ""]
    file.write("\n".join(lines).encode())
    file.write(rows.tobytes())
    file.write(triangles.tobytes())


def write_stl(mesh: Mesh, file: BinaryIO) -> None:
    """Binary STL, float32; normals from the winding, zero where a face has none."""
    vertices, faces, _ = _arrays(mesh)
    corners = _single(vertices, "STL")[faces]
    wide = vertices.astype(np.float64)[faces]
    normals = np.cross(wide[:, 1] - wide[:, 0], wide[:, 2] - wide[:, 0])
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    rows = np.zeros(len(faces), [("normal", "<f4", (3,)), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])
    rows["normal"] = np.where(length > 0, normals / np.where(length > 0, length, 1.0), 0.0)
    rows["corners"] = corners
    file.write(b"binary STL written by shapewright".ljust(80))  # must not begin with "solid"
    file.write(np.array([len(faces)], "<u4").tobytes())
    file.write(rows.tobytes())


WRITERS: dict[str, Writer] = {
    ".glb": write_glb,
    ".obj": write_obj,
    ".ply": write_ply,
    ".stl": write_stl,
    ".off": write_off,
}
