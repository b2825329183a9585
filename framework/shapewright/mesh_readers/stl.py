"""STL, binary and text. A file shorter than it announces is refused: which part is missing cannot be known."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..errors import MeshError
from .polygons import Array, Polygons, floats, text_blocks

_TRIANGLE = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])
_HEADER_BYTES = 84


def announced_triangles(header: bytes) -> int:
    """The count that a binary STL states after its 80 free bytes."""
    return int.from_bytes(header[80:84], "little")


def binary_size(triangles: int) -> int:
    """Bytes of a binary STL with that many triangles."""
    return _HEADER_BYTES + _TRIANGLE.itemsize * triangles


def read_stl(path: Path) -> Polygons:
    """Triangles of an STL file, three positions each. ``solid`` at the start does not make a file text: its size
    tells."""
    size = path.stat().st_size
    with path.open("rb") as file:
        header = file.read(_HEADER_BYTES)
        looks_like_text = header.lstrip()[:5].lower() == b"solid" and b"\0" not in header
        if len(header) == _HEADER_BYTES and (size == binary_size(announced_triangles(header)) or not looks_like_text):
            count = announced_triangles(header)
            if size < binary_size(count):
                held = (size - _HEADER_BYTES) // _TRIANGLE.itemsize
                raise MeshError(f"truncated: announces {count} triangles and holds {held}")
            corners = np.fromfile(file, _TRIANGLE, count)["corners"].astype(np.float64)
            return _triangles(corners.reshape(-1, 3))
    if not looks_like_text:
        raise MeshError("neither a binary nor a text STL")
    return _triangles(_text_positions(path))


def _text_positions(path: Path) -> Array:
    positions = []
    facets, ended = 0, False
    with path.open("rb") as file:
        for block in text_blocks(file):
            lines = [line.split() for line in block.lower().splitlines()]
            facets += sum(line[:1] == [b"facet"] for line in lines)
            ended |= any(line[:1] == [b"endsolid"] for line in lines)
            rows = [line[1:4] for line in lines if line[:1] == [b"vertex"]]
            if any(len(row) < 3 for row in rows):
                raise MeshError("a vertex has fewer than three coordinates")
            positions.append(floats(token for row in rows for token in row).reshape(-1, 3))
    found = np.concatenate(positions) if positions else np.zeros((0, 3))
    if not ended or len(found) != 3 * facets:
        raise MeshError(f"truncated: {facets} facets begin and {len(found) // 3} are whole")
    return found


def _triangles(positions: Array) -> Polygons:
    count = len(positions) // 3
    return Polygons(positions, np.full(count, 3, np.int64), np.arange(3 * count, dtype=np.int64), indexed=False)
