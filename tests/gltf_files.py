"""Small GLB files for tests: a document is written as a dictionary, arrays and images are put into its buffer."""

from __future__ import annotations

import io
import json
import struct
from dataclasses import dataclass, field
from typing import Any

import numpy as np

_KINDS = {"int8": 5120, "uint8": 5121, "int16": 5122, "uint16": 5123, "uint32": 5125, "float32": 5126}
_TYPES = {1: "SCALAR", 2: "VEC2", 3: "VEC3", 4: "VEC4", 16: "MAT4"}


@dataclass
class Glb:
    """A GLB file while it is put together; ``document`` may be changed at will."""

    document: dict[str, Any] = field(
        default_factory=lambda: {"asset": {"version": "2.0"}, "accessors": [], "bufferViews": []}
    )
    binary: bytes = b""

    def view(self, data: bytes) -> int:
        """Index of a buffer view over ``data``."""
        views = self.document["bufferViews"]
        views.append({"buffer": 0, "byteOffset": len(self.binary), "byteLength": len(data)})
        self.binary += data + b"\0" * (-len(data) % 4)
        return len(views) - 1

    def accessor(self, values: np.ndarray, **more: Any) -> int:
        """Index of an accessor over ``values`` ``(N,)`` or ``(N, width)``."""
        width = 1 if values.ndim == 1 else values.shape[1]
        entry = {"bufferView": self.view(values.tobytes()), "componentType": _KINDS[values.dtype.name]}
        self.document["accessors"].append({**entry, "type": _TYPES[width], "count": len(values), **more})
        return len(self.document["accessors"]) - 1

    def image(self, data: bytes, name: str = "image", mime: str = "image/png") -> int:
        """Index of a texture of a new image."""
        images = self.document.setdefault("images", [])
        images.append({"bufferView": self.view(data), "mimeType": mime, "name": name})
        self.document.setdefault("textures", []).append({"source": len(images) - 1})
        return len(self.document["textures"]) - 1

    def bytes(self) -> bytes:
        """The file. Without scenes and nodes each mesh is placed once."""
        document = dict(self.document)
        document.setdefault("nodes", [{"mesh": number} for number in range(len(document.get("meshes", [])))])
        children = {child for node in document["nodes"] for child in node.get("children", [])}
        document.setdefault("scenes", [{"nodes": [n for n in range(len(document["nodes"])) if n not in children]}])
        document["buffers"] = [{"byteLength": len(self.binary)}]
        text = json.dumps(document).encode()
        text += b" " * (-len(text) % 4)
        chunks = struct.pack("<I", len(text)) + b"JSON" + text
        chunks += struct.pack("<I", len(self.binary)) + b"BIN\0" + self.binary
        return b"glTF" + struct.pack("<II", 2, 12 + len(chunks)) + chunks


def png(pixels: np.ndarray, format: str = "png", **options: Any) -> bytes:
    """An image file of ``pixels``."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format, **options)
    return file.getvalue()


TETRAHEDRON = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], np.float32)
SIDES = np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]], np.uint32)


def tetrahedron(glb: Glb, material: dict[str, Any] | None = None, **attributes: np.ndarray) -> dict[str, Any]:
    """A primitive of a new mesh, with more attributes at its four vertices."""
    found = {"POSITION": glb.accessor(TETRAHEDRON)}
    found |= {name: glb.accessor(values) for name, values in attributes.items()}
    primitive: dict[str, Any] = {"attributes": found, "indices": glb.accessor(SIDES.reshape(-1))}
    if material is not None:
        materials = glb.document.setdefault("materials", [])
        materials.append(material)
        primitive["material"] = len(materials) - 1
    glb.document.setdefault("meshes", []).append({"primitives": [primitive]})
    return primitive
