"""Object File Format: ``OFF``, and ``COFF`` with vertex colours, as text."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..errors import MeshError
from .polygons import Polygons, floats, integers, text_blocks


def read_off(path: Path) -> Polygons:
    """Polygons of an OFF file; face colours are passed over."""
    lines: list[bytes] = []
    with path.open("rb") as file:
        for block in text_blocks(file):
            lines += [text for line in block.splitlines() if (text := line.partition(b"#")[0].strip())]
    keyword, *counts = lines[0].split() if lines else [b""]
    if keyword not in (b"OFF", b"COFF", b"NOFF", b"CNOFF"):
        raise MeshError("the first word is not OFF")
    body = 1
    if not counts and len(lines) > 1:
        counts, body = lines[1].split(), 2
    if counts[:1] == [b"BINARY"]:
        raise MeshError("binary OFF is not read; save it as text")
    sizes = integers(counts[:2])
    if len(sizes) < 2 or (sizes < 0).any():
        raise MeshError("the line with the numbers of vertices and faces is missing")
    vertex_count, face_count = int(sizes[0]), int(sizes[1])
    vertex_rows = [line.split() for line in lines[body : body + vertex_count]]
    face_rows = [line.split() for line in lines[body + vertex_count : body + vertex_count + face_count]]
    if len(vertex_rows) < vertex_count or len(face_rows) < face_count:
        raise MeshError(
            f"truncated: announces {vertex_count} vertices and {face_count} faces, "
            f"holds {len(vertex_rows)} and {len(face_rows)}"
        )
    if any(len(row) < 3 for row in vertex_rows):
        raise MeshError("a vertex has fewer than three coordinates")
    corner_counts = integers(row[0] for row in face_rows)
    if any(len(row) <= count for row, count in zip(face_rows, corner_counts, strict=True)):
        raise MeshError("a face has fewer corners than it announces")
    pairs = zip(face_rows, corner_counts.tolist(), strict=True)
    colors = None
    if keyword == b"COFF" and vertex_rows and {len(row) for row in vertex_rows} <= {6, 7}:
        colors = floats(token for row in vertex_rows for token in row[3:6]).reshape(-1, 3)
        if any(b"." not in token for token in vertex_rows[0][3:6]) and colors.max() > 1:
            colors = colors / 255.0
    return Polygons(
        floats(token for row in vertex_rows for token in row[:3]).reshape(-1, 3),
        np.maximum(corner_counts, 0),
        integers(token for row, count in pairs for token in row[1 : 1 + max(count, 0)]),
        colors,
    )
