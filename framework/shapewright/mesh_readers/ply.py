"""Polygon File Format (PLY): text and binary of either byte order, any properties in any order."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ..errors import MeshError
from .polygons import Array, Polygons, floats

_TYPES = {
    "char": "i1",
    "uchar": "u1",
    "short": "i2",
    "ushort": "u2",
    "int": "i4",
    "uint": "u4",
    "int8": "i1",
    "uint8": "u1",
    "int16": "i2",
    "uint16": "u2",
    "int32": "i4",
    "uint32": "u4",
    "float": "f4",
    "double": "f8",
    "float32": "f4",
    "float64": "f8",
}
_ROWS_AT_ONCE = 1 << 17


@dataclass(frozen=True, slots=True)
class _Property:
    name: str
    kind: str
    count_kind: str = ""
    """Type of the leading count where this is a list, else empty."""


@dataclass(frozen=True, slots=True)
class _Element:
    name: str
    count: int
    properties: list[_Property] = field(default_factory=list)

    @property
    def lists(self) -> list[_Property]:
        return [prop for prop in self.properties if prop.count_kind]


_Scalars = dict[str, Array]
_Lists = dict[str, tuple[Array, Array]]


def read_ply(path: Path) -> Polygons:
    """Polygons of a PLY file; colours when ``red``, ``green``, ``blue`` (and ``alpha``) stand at the vertices."""
    vertices, colors = np.zeros((0, 3)), None
    sizes, corners = np.zeros(0, np.int64), np.zeros(0, np.int64)
    with path.open("rb") as file:
        layout, elements = _header(file)
        for element in elements:
            if not element.count:
                continue
            if layout == "ascii":
                scalars, lists = _text_element(file, element)
            else:
                scalars, lists = _binary_element(file, element, "<" if layout == "binary_little_endian" else ">")
            if element.name == "vertex":
                if not {"x", "y", "z"} <= scalars.keys():
                    raise MeshError("the vertices have no x, y, z")
                vertices = np.stack([scalars[axis].astype(np.float64) for axis in "xyz"], axis=1)
                colors = _colors(scalars, element)
            elif element.name == "face":
                found = lists.get("vertex_indices") or lists.get("vertex_index")
                if found is None:
                    raise MeshError("the faces have no list vertex_indices")
                sizes, corners = (part.astype(np.int64) for part in found)
    return Polygons(vertices, sizes, corners, colors)


def _header(file: BinaryIO) -> tuple[str, list[_Element]]:
    if file.readline().strip() != b"ply":
        raise MeshError("the first line is not 'ply'")
    layout, elements = "", []
    for line in file:
        match line.decode("ascii", errors="replace").split():
            case ["end_header"]:
                break
            case ["format", layout, *_]:
                pass
            case ["element", name, count] if count.isdecimal():
                elements.append(_Element(name, int(count)))
            case ["property", "list", count_kind, kind, name] if elements and {count_kind, kind} <= _TYPES.keys():
                elements[-1].properties.append(_Property(name, _TYPES[kind], _TYPES[count_kind]))
            case ["property", kind, name] if elements and kind in _TYPES:
                elements[-1].properties.append(_Property(name, _TYPES[kind]))
            case ["comment" | "obj_info", *_] | []:
                pass
            case words:
                raise MeshError(f"the header has a line that is not PLY: {' '.join(words)[:60]!r}")
    else:
        raise MeshError("truncated: the header does not end")
    if layout not in ("ascii", "binary_little_endian", "binary_big_endian"):
        raise MeshError(f"the format {layout!r} is not PLY's ascii, binary_little_endian or binary_big_endian")
    return layout, elements


def _colors(scalars: _Scalars, element: _Element) -> Array | None:
    names = ["red", "green", "blue", "alpha"] if "alpha" in scalars else ["red", "green", "blue"]
    if not set(names) <= scalars.keys():
        return None
    kinds = {prop.name: np.dtype(prop.kind) for prop in element.properties}
    ranges = [float(np.iinfo(kinds[name]).max) if kinds[name].kind in "iu" else 1.0 for name in names]
    return np.stack([scalars[name].astype(np.float64) / top for name, top in zip(names, ranges, strict=True)], axis=1)


def _truncated(element: _Element, held: int) -> MeshError:
    return MeshError(f"truncated: announces {element.count} rows of {element.name!r} and holds {held}")


def _text_element(file: BinaryIO, element: _Element) -> tuple[_Scalars, _Lists]:
    columns: dict[str, list[Array]] = {prop.name: [] for prop in element.properties}
    counts: dict[str, list[Array]] = {prop.name: [] for prop in element.lists}
    held = 0
    while held < element.count:
        rows = [line.split() for line in islice(file, min(_ROWS_AT_ONCE, element.count - held))]
        if not rows:
            raise _truncated(element, held)
        held += len(rows)
        width = np.fromiter(map(len, rows), np.int64, len(rows))
        table = floats(token for row in rows for token in row)
        start = np.cumsum(width) - width
        position = start.copy()
        for prop in element.properties:
            if (position >= start + width).any():
                raise MeshError(f"a row of {element.name!r} has too few numbers")
            if prop.count_kind:
                if not np.isfinite(table[position]).all():
                    raise MeshError(f"a row of {element.name!r} has a length that is no number")
                length = table[position].astype(np.int64)
                if (length < 0).any() or (position + length >= start + width).any():
                    raise MeshError(f"a row of {element.name!r} has too few numbers")
                counts[prop.name].append(length)
                columns[prop.name].append(table[_ranges(position + 1, length)])
                position = position + 1 + length
            else:
                columns[prop.name].append(table[position])
                position = position + 1
    merged = {name: np.concatenate(parts) if parts else np.zeros(0) for name, parts in columns.items()}
    lengths = {name: np.concatenate(parts) if parts else np.zeros(0, np.int64) for name, parts in counts.items()}
    lists = {name: (length, merged.pop(name)) for name, length in lengths.items()}
    if any(not np.isfinite(values).all() for _, values in lists.values()):
        raise MeshError(f"a row of {element.name!r} refers to a vertex that is no number")
    return merged, lists


def _ranges(start: Array, length: Array) -> Array:
    """The integers ``start[i] .. start[i] + length[i] - 1`` of all rows, one after the other."""
    total = np.cumsum(length)
    offset = np.repeat(start - (total - length), length)
    return offset + np.arange(int(total[-1]) if len(total) else 0)


def _binary_element(file: BinaryIO, element: _Element, order: str) -> tuple[_Scalars, _Lists]:
    if not element.properties:
        return {}, {}
    begin = file.tell()
    remaining = os.fstat(file.fileno()).st_size - begin
    lengths = [int(count) for count in _row_lengths(file, element, order)]
    file.seek(begin)
    values = sum(length * int(prop.kind[1]) for prop, length in zip(element.lists, lengths, strict=True))
    # Rows as long as the first one must fit into the file, else their lengths differ (or the count is a lie).
    if values * element.count <= remaining:
        kind = _row_type(element, order, lengths)
        if kind.itemsize * element.count <= remaining:
            table = np.fromfile(file, kind, element.count)
            same = zip(element.lists, lengths, strict=True)
            if all((table[f"{prop.name} count"] == length).all() for prop, length in same):
                scalars = {prop.name: table[prop.name] for prop in element.properties if not prop.count_kind}
                return scalars, {
                    prop.name: (table[f"{prop.name} count"], table[prop.name].reshape(-1)) for prop in element.lists
                }
            file.seek(begin)
    return _mixed_rows(file, element, order)


def _row_type(element: _Element, order: str, lengths: list[int]) -> np.dtype[np.void]:
    fields: list[tuple[str, str] | tuple[str, str, tuple[int]]] = []
    remaining = iter(lengths)
    for prop in element.properties:
        if prop.count_kind:
            fields.append((f"{prop.name} count", order + prop.count_kind))
            fields.append((prop.name, order + prop.kind, (next(remaining),)))
        else:
            fields.append((prop.name, order + prop.kind))
    return np.dtype(fields)


def _row_lengths(file: BinaryIO, element: _Element, order: str) -> Array:
    """Lengths of the lists in the first row."""
    lengths = []
    for prop in element.properties:
        if prop.count_kind:
            count = np.fromfile(file, order + prop.count_kind, 1)
            if not len(count):
                raise _truncated(element, 0)
            lengths.append(int(count[0]))
            file.seek(max(lengths[-1], 0) * np.dtype(prop.kind).itemsize, 1)
        else:
            file.seek(np.dtype(prop.kind).itemsize, 1)
    return np.array([max(length, 0) for length in lengths], np.int64)


def _mixed_rows(file: BinaryIO, element: _Element, order: str) -> tuple[_Scalars, _Lists]:
    """Rows whose lists differ in length: found one by one, since each row's start depends on those before it."""
    begin = file.tell()
    data = np.frombuffer(file.read(), np.uint8)
    raw = data.tobytes()
    offsets: dict[str, list[int]] = {prop.name: [] for prop in element.properties}
    lengths: dict[str, list[int]] = {prop.name: [] for prop in element.lists}
    sign = "little" if order == "<" else "big"
    position = 0
    for row in range(element.count):
        for prop in element.properties:
            length = 1
            if prop.count_kind:
                width = np.dtype(prop.count_kind).itemsize
                length = int.from_bytes(raw[position : position + width], sign)  # type: ignore[arg-type]
                position += width
                lengths[prop.name].append(length)
            offsets[prop.name].append(position)
            position += length * int(prop.kind[1])
        if position > len(raw):
            raise _truncated(element, row)
    file.seek(begin + position)
    scalars: _Scalars = {}
    lists: _Lists = {}
    for prop in element.properties:
        width = int(prop.kind[1])
        starts = np.array(offsets[prop.name], np.int64)
        row_lengths = np.array(lengths[prop.name], np.int64) if prop.count_kind else np.ones(len(starts), np.int64)
        values = data[_ranges(starts, row_lengths * width)].view(order + prop.kind)
        if prop.count_kind:
            lists[prop.name] = (row_lengths, values)
        else:
            scalars[prop.name] = values
    return scalars, lists
