"""Wavefront OBJ: positions, vertex colours and faces. Groups, normals, texture coordinates and lines are passed
over."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from ..errors import MeshError
from .polygons import Array, Polygons, floats, integers, text_blocks

_BEYOND_POSITION = re.compile(rb"/\S*")


def read_obj(path: Path) -> Polygons:
    """Polygons of an OBJ file; negative indices count back from the last vertex before the face, as the format says."""
    positions: list[Array] = []
    colors: list[Array | None] = []
    sizes: list[Array] = []
    corners: list[Array] = []
    vertex_count = 0
    with path.open("rb") as file:
        for block in text_blocks(file):
            lines = [line.strip() for line in block.replace(b"\t", b" ").splitlines()]
            faces = [line[2:] for line in lines if line.startswith(b"f ")]
            if faces:
                indices = integers(_BEYOND_POSITION.sub(b"", b" ".join(faces)).split())
                counts = np.fromiter((len(face.split()) for face in faces), np.int64, len(faces))
                before: Array | int = vertex_count
                if (indices < 0).any():
                    seen = np.cumsum([line.startswith(b"v ") for line in lines])
                    before = vertex_count + np.repeat(seen[[line.startswith(b"f ") for line in lines]], counts)
                # Index 0 does not exist in OBJ; it becomes -1 and is reported with the others that are out of range.
                corners.append(np.where(indices < 0, before + indices, indices - 1))
                sizes.append(counts)
            rows = [line.split()[1:] for line in lines if line.startswith(b"v ")]
            if rows:
                vertex_count += len(rows)
                position, color = _vertices(rows)
                positions.append(position)
                colors.append(color)
    none = np.zeros(0, np.int64)
    kept = [color for color in colors if color is not None]
    whole = kept and len(kept) == len(colors) and len({color.shape[1] for color in kept}) == 1
    return Polygons(
        np.concatenate(positions) if positions else np.zeros((0, 3)),
        np.concatenate(sizes) if sizes else none,
        np.concatenate(corners) if corners else none,
        np.concatenate(kept) if whole else None,
    )


def _vertices(rows: list[list[bytes]]) -> tuple[Array, Array | None]:
    """Positions ``(N, 3)`` and colours ``(N, 3)`` of the numbers after ``v``: x y z, x y z w, x y z r g b, or both."""
    widths = {len(row) for row in rows}
    if min(widths) < 3:
        short = b" ".join(next(row for row in rows if len(row) < 3)).decode(errors="replace")
        raise MeshError(f"a vertex has fewer than three coordinates: 'v {short}'")
    if len(widths) > 1:
        rows = [row[:3] for row in rows]
    table = floats(token for row in rows for token in row).reshape(len(rows), -1)
    return table[:, :3], table[:, -3:] if table.shape[1] in (6, 7) else None
