"""Wavefront OBJ: positions, vertex colours, faces and what they look like. Groups, curves and lines are passed over."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..errors import MeshError
from .polygons import Array, Polygons, floats, integers, text_blocks
from .textured import TexturedPolygons

_BEYOND_POSITION = re.compile(rb"/\S*")
_NOTHING = np.zeros(0, np.int64)


class _Block(NamedTuple):
    """A piece of the file: its lines, and the corners of its faces as they are written."""

    lines: list[bytes]
    corners: list[bytes]
    counts: Array
    """``(P,)`` corners of each face."""
    face_lines: Array
    """``(P,)`` the line that each face stands in."""


def read_obj(path: Path) -> Polygons:
    """Polygons of an OBJ file; negative indices count back from the last vertex before the face, as the format says."""
    return _read(path, None).polygons


def read_textured_obj(path: Path) -> TexturedPolygons:
    """Those polygons with texture coordinates, normals and the materials of the ``.mtl`` files beside the file."""
    return _read(path, _Look())


def _read(path: Path, look: _Look | None) -> TexturedPolygons:
    positions: list[Array] = []
    colors: list[Array | None] = []
    sizes: list[Array] = []
    corners: list[Array] = []
    vertex_count = 0
    with path.open("rb") as file:
        for block in map(_taken_apart, text_blocks(file)):
            if len(block.counts):
                # One piece of text with a space after each corner: faster than a look at each.
                indices = integers(_BEYOND_POSITION.sub(b"", b" ".join(block.corners)).split())
                if len(indices) != len(block.corners):
                    bad = next(corner for corner in block.corners if corner.startswith(b"/"))
                    raise MeshError(f"not a vertex index: {bad[:40]!r}")
                corners.append(_absolute(block, b"v ", indices, vertex_count))
                sizes.append(block.counts)
            rows = _rows(block, b"v ")
            if rows:
                vertex_count += len(rows)
                position, color = _vertices(rows)
                positions.append(position)
                colors.append(color)
            if look is not None:
                look.add(block)
    kept = [color for color in colors if color is not None]
    whole = kept and len(kept) == len(colors) and len({color.shape[1] for color in kept}) == 1
    polygons = Polygons(
        np.concatenate(positions) if positions else np.zeros((0, 3)),
        np.concatenate(sizes) if sizes else _NOTHING,
        np.concatenate(corners) if corners else _NOTHING,
        np.concatenate(kept) if whole else None,
    )
    return TexturedPolygons(polygons) if look is None else look.of(polygons, path.parent)


class _Look:
    """Texture coordinates, normals and materials, collected block by block."""

    def __init__(self) -> None:
        self._places: list[Array] = []
        self._normals: list[Array] = []
        self._corner_places: list[Array] = []
        self._corner_normals: list[Array] = []
        self._names: list[str] = []
        self._name_rows: list[Array] = []
        self._libraries: list[str] = []
        self._name = ""
        self._counts = [0, 0]

    def add(self, block: _Block) -> None:
        """Take what a block says."""
        if len(block.counts):
            place, normal = _second_and_third(block.corners)
            self._corner_places.append(_absolute(block, b"vt ", place, self._counts[0]))
            self._corner_normals.append(_absolute(block, b"vn ", normal, self._counts[1]))
        for number, (mark, into, width) in enumerate(((b"vt ", self._places, 2), (b"vn ", self._normals, 3))):
            rows = _rows(block, mark)
            if rows:
                self._counts[number] += len(rows)
                into.append(_numbers(rows, width))
        self._add_names(block)

    def _add_names(self, block: _Block) -> None:
        names, since = [self._name], [-1]
        for number, line in enumerate(block.lines):
            if line.startswith(b"usemtl"):
                names.append(line[6:].strip().decode("utf-8", "replace"))
                since.append(number)
            elif line.startswith(b"mtllib"):
                self._libraries.append(line[6:].strip().decode("utf-8", "replace"))
        self._name = names[-1]
        used = np.searchsorted(since, block.face_lines, "right") - 1
        self._name_rows.append(used + len(self._names))
        self._names += names

    def of(self, polygons: Polygons, folder: Path) -> TexturedPolygons:
        """The polygons with what was collected."""
        from .obj_materials import read_libraries

        materials = read_libraries(folder, self._libraries, polygons.notes)
        order = {key: row for row, key in enumerate(materials)}
        known = np.array([*(order.get(name, -1) for name in self._names), -1], np.int64)
        rows = known[np.concatenate(self._name_rows)] if self._name_rows else _NOTHING
        for name in sorted({name for name in self._names if materials and name and name not in order}):
            polygons.notes[f"material {name[:60]} (not in the material library)"] += 1
        places = _looked_up(self._places, self._corner_places, 2, 0.0)
        return TexturedPolygons(
            polygons,
            tuple(materials.values()),
            rows,
            () if places is None else (places,),
            normals=_looked_up(self._normals, self._corner_normals, 3, np.inf),
        )


def _taken_apart(block: bytes) -> _Block:
    lines = [line.strip() for line in block.replace(b"\t", b" ").splitlines()]
    face_lines = np.flatnonzero(np.fromiter((line.startswith(b"f ") for line in lines), bool, len(lines)))
    faces = [lines[number][2:].split() for number in face_lines.tolist()]
    counts = np.fromiter(map(len, faces), np.int64, len(faces))
    return _Block(lines, [corner for face in faces for corner in face], counts, face_lines)


def _rows(block: _Block, mark: bytes) -> list[list[bytes]]:
    return [line.split()[1:] for line in block.lines if line.startswith(mark)]


def _absolute(block: _Block, mark: bytes, indices: Array, before: int) -> Array:
    """Rows from 0 of the indices of a block's corners; ``before`` rows of this kind stood in earlier blocks.

    Index 0 does not exist in OBJ; it becomes -1 and is reported with the others that are out of range.
    """
    if not (indices < 0).any():
        return indices - 1
    seen = np.cumsum(np.fromiter((line.startswith(mark) for line in block.lines), bool, len(block.lines)))
    last = before + np.repeat(seen[block.face_lines], block.counts)
    return np.where(indices < 0, last + indices, indices - 1)


def _second_and_third(corners: Sequence[bytes]) -> tuple[Array, Array]:
    """Indices of texture coordinates and normals of corners ``v``, ``v/vt``, ``v//vn``, ``v/vt/vn``; 0 for none."""
    text = b" ".join(corners)
    count, slashes, double = len(corners), text.count(b"/"), text.count(b"//")
    none = np.zeros(count, np.int64)
    try:  # alike all through the file, as nearly every file is
        if slashes == 0:
            return none, none
        numbers = integers(text.replace(b"/", b" ").split())
        if double == count and slashes == 2 * count and len(numbers) == 2 * count:
            return none, numbers[1::2]
        if not double and slashes == count and len(numbers) == 2 * count and _regular(corners, 1):
            return numbers[1::2], none
        if not double and slashes == 2 * count and len(numbers) == 3 * count and _regular(corners, 2):
            return numbers[1::3], numbers[2::3]
    except MeshError:
        pass
    second, third = none.copy(), none.copy()
    for row, corner in enumerate(corners):
        parts = corner.split(b"/")
        for into, part in ((second, parts[1:2]), (third, parts[2:3])):
            if part and re.fullmatch(rb"-?\d{1,12}", part[0]):
                into[row] = int(part[0])
    return second, third


def _regular(corners: Sequence[bytes], slashes: int) -> bool:
    return all(corner.count(b"/") == slashes for corner in corners)


def _numbers(rows: list[list[bytes]], width: int) -> Array:
    """``(N, width)`` of the numbers after ``vt`` or ``vn``; what is missing or no number is 0."""
    if min(map(len, rows)) >= width:
        try:
            return floats(token for row in rows for token in row[:width]).reshape(len(rows), width)
        except MeshError:
            pass
    table = np.zeros((len(rows), width))
    for number, row in enumerate(rows):
        for column, token in enumerate(row[:width]):
            try:
                table[number, column] = float(token)
            except ValueError:
                continue
    return table


def _looked_up(tables: list[Array], corners: list[Array], width: int, missing: float) -> Array | None:
    """``(C, width)`` rows of the table at the corners, ``missing`` where there is none; ``None`` without a table."""
    if not tables:
        return None
    table = np.concatenate([*tables, np.full((1, width), missing)])
    chosen = np.concatenate(corners) if corners else _NOTHING
    return np.asarray(table[np.where((chosen >= 0) & (chosen < len(table) - 1), chosen, len(table) - 1)])


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
