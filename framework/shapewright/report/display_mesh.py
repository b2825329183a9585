"""A mesh as the page shows it, and its compressed form, which the page's script reads back."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..errors import ShapewrightError
from .paint import Bytes, Ints, Paint, Singles, describe, read_description

Floats = NDArray[np.float64]

VERSION = 2
"""Of painted meshes; those without paint are written as version 1, as they always were."""
POSITION_BITS = 14
"""Positions are rounded to this share of the largest extent: 1/16,000, well below a pixel."""
FINEST_ERROR = 1e-6
ERROR_STEPS = 12
"""Errors are kept as one byte, in steps of 1/12 octave from the finest error: 6 % apart, up to 2.4."""
_HEADER = struct.Struct("<4s8I4f")
_MAGIC = b"SWDM"
_UV_STEP = 1 / 8192
"""Texture coordinates are rounded to this share of a picture, coarser where they reach far."""
_ORIENTED, _ERRORS, _PAINT, _UVS, _COLORS = (1 << bit for bit in range(5))


class DisplayMeshError(ShapewrightError, ValueError):
    """Bytes are no display mesh, or only part of one."""


@dataclass(frozen=True)
class DisplayMesh:
    """Triangles for the screen, with what can be switched on.

    ``vertices`` ``(V, 3)``, ``faces`` ``(F, 3)``; ``boundary`` ``(B, 2)`` are edges of one face, ``junctions``
    ``(J, 2)`` edges of three or more, both found on the mesh before it was simplified; ``errors`` ``(V,)`` are
    distances to the reference, or ``None``; ``full_faces`` is the number of faces before it was simplified. Vertices
    may share a position, as they do after reading where the paint of faces that meet differs.
    """

    vertices: Floats
    faces: Ints
    boundary: Ints
    junctions: Ints
    errors: Floats | None
    oriented: bool
    full_faces: int
    paint: Paint | None = None

    def moved(self, offset: Floats) -> DisplayMesh:
        """The same mesh elsewhere; ``offset`` ``(3,)``."""
        return replace(self, vertices=self.vertices + offset)


def encode(mesh: DisplayMesh) -> bytes:
    """Compress: positions rounded and in Morton order, indices as differences, all in byte planes, deflated."""
    lower = mesh.vertices.min(axis=0) if len(mesh.vertices) else np.zeros(3)
    extent = float(np.ptp(mesh.vertices, axis=0).max()) if len(mesh.vertices) else 0.0
    # The header keeps float32, and the reader must find the same lattice.
    lower, step = lower.astype(np.float32), np.float32(extent / (2**POSITION_BITS - 1) or 1.0)
    lattice = np.rint((mesh.vertices - lower) / float(step)).clip(0, 2**POSITION_BITS - 1).astype(np.int64)
    order = np.argsort(_morton(lattice), kind="stable")
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    split = _split(rank, mesh.faces, mesh.paint)
    order, rank = order[split.vertices], split.rows[rank]
    faces = _turned(split.faces)
    header = _HEADER.pack(
        _MAGIC,
        1 if mesh.paint is None else VERSION,
        len(order),
        len(mesh.faces),
        len(mesh.boundary),
        len(mesh.junctions),
        _flags(mesh),
        mesh.full_faces,
        POSITION_BITS,
        *map(float, lower),
        float(step),
    )
    planes = [_planes(_zigzag(np.diff(lattice[order, axis], prepend=0)), 2) for axis in range(3)]
    planes += [_indices(faces), _indices(np.sort(rank[mesh.boundary], axis=1))]
    planes.append(_indices(np.sort(rank[mesh.junctions], axis=1)))
    if mesh.errors is not None:
        planes.append(error_levels(mesh.errors[order]).tobytes())
    if mesh.paint is not None:
        planes += split.planes
        planes.append(_planes(mesh.paint.face_materials[_sorted(faces)], 2))
        description = describe(mesh.paint, split.uv_place)
        planes += [struct.pack("<I", len(description)), description, *mesh.paint.images]
    return zlib.compress(header + b"".join(planes), 9)


def _flags(mesh: DisplayMesh) -> int:
    flags = _ORIENTED * mesh.oriented | _ERRORS * (mesh.errors is not None)
    if mesh.paint is not None:
        flags |= _PAINT | _UVS * (mesh.paint.uvs is not None) | _COLORS * (mesh.paint.colors is not None)
    return flags


@dataclass(frozen=True)
class _Split:
    """Vertices as they are written: one for each paint that meets at it."""

    vertices: Ints
    """``(W,)`` ranks of the vertices that were."""
    faces: Ints
    """``(F, 3)`` rows of ``vertices``."""
    rows: Ints
    """``(V,)`` a row of ``vertices`` for each rank."""
    planes: list[bytes]
    uv_place: tuple[float, float, float] = (0.0, 0.0, 1.0)


def _split(rank: Ints, faces: Ints, paint: Paint | None) -> _Split:
    every = np.arange(len(rank))
    corners = rank[faces].reshape(-1)
    if paint is None or (paint.uvs is None and paint.colors is None):
        return _Split(every, corners.reshape(-1, 3), every, [])
    columns: list[Ints] = []
    u = v = 0.0
    step = 1.0
    if paint.uvs is not None:
        uvs = paint.uvs.reshape(-1, 2).astype(np.float64)
        if len(uvs):
            u, v = map(float, uvs.min(axis=0))
        step = max(float(np.ptp(uvs, axis=0).max()) / 32767 if len(uvs) else 0.0, _UV_STEP)
        columns += list(np.rint((uvs - [u, v]) / step).astype(np.int64).T)
    if paint.colors is not None:
        columns += list(paint.colors.reshape(-1, 4).astype(np.int64).T)
    alone = np.ones(len(rank), bool)
    alone[corners] = False
    lonely = np.flatnonzero(alone)  # ends of edges whose faces are gone
    table = np.stack([np.concatenate([corners, lonely]), *(np.append(c, 0 * lonely) for c in columns)])
    order = np.lexsort(table[::-1])
    new = np.ones(len(order), bool)
    new[1:] = (table[:, order[1:]] != table[:, order[:-1]]).any(axis=0)
    row = np.empty(len(order), np.int64)
    row[order] = np.cumsum(new) - 1
    kept = table[:, order[new]]
    planes = []
    if paint.uvs is not None:
        planes += [_planes(_zigzag(np.diff(column, prepend=0)), 2) for column in kept[1:3]]
    if paint.colors is not None:
        planes += [_planes(np.diff(column, prepend=0), 1) for column in kept[-4:]]
    rows = np.searchsorted(kept[0], every)
    return _Split(kept[0], row[: len(corners)].reshape(-1, 3), rows, planes, (u, v, step))


def decode(blob: bytes) -> DisplayMesh:
    """Read :func:`encode`'s bytes. Positions come back rounded, vertices and faces in the order of the file.

    Raises:
        DisplayMeshError: the bytes are torn or something else.
    """
    try:
        data = zlib.decompress(blob)
        magic, version, vertices, faces, boundary, junctions, flags, full, _, *place = _HEADER.unpack_from(data)
    except (zlib.error, struct.error):
        raise DisplayMeshError("is torn or no display mesh") from None
    if magic != _MAGIC or version not in (1, VERSION):
        raise DisplayMeshError("was written by another version")
    wanted = _HEADER.size + 6 * vertices + 9 * faces + 6 * (boundary + junctions)
    wanted += vertices * bool(flags & _ERRORS)
    if version == 1:
        flags &= _ORIENTED | _ERRORS
    painted = bool(flags & _PAINT)
    if painted:
        wanted += 4 * vertices * (bool(flags & _UVS) + bool(flags & _COLORS)) + 2 * faces + 4
    if len(data) < wanted or (len(data) > wanted and not painted):
        raise DisplayMeshError(f"has {len(data)} bytes where {wanted} belong")
    reader = _Reader(data)
    steps = [_unzigzag(reader.planes(vertices, 2)) for _ in range(3)]
    lattice = np.cumsum(np.stack(steps, axis=1), axis=0) if vertices else np.zeros((0, 3), np.int64)
    triangles, open_edges, shared_edges = (
        reader.indices(faces, 3),
        reader.indices(boundary, 2),
        reader.indices(junctions, 2),
    )
    for rows in (triangles, open_edges, shared_edges):
        if len(rows) and (int(rows.min()) < 0 or int(rows.max()) >= vertices):
            raise DisplayMeshError("names vertices that it does not have")
    errors = None
    if flags & _ERRORS:
        levels = reader.planes(vertices, 1).astype(np.float64)
        errors = FINEST_ERROR * 2.0 ** (levels / ERROR_STEPS)
    paint = _paint(reader, flags, vertices, triangles) if painted else None
    positions = lattice * place[3] + np.array(place[:3])
    return DisplayMesh(positions, triangles, open_edges, shared_edges, errors, bool(flags & _ORIENTED), full, paint)


def _paint(reader: _Reader, flags: int, vertices: int, faces: Ints) -> Paint:
    uvs: Singles | None = None
    colors: Bytes | None = None
    if flags & _UVS:
        uv_steps = np.stack([_unzigzag(reader.planes(vertices, 2)) for _ in range(2)], axis=1)
        corners = np.cumsum(uv_steps, axis=0)[faces]
    if flags & _COLORS:
        channels = [np.cumsum(reader.planes(vertices, 1)) & 255 for _ in range(4)]
        colors = np.stack(channels, axis=1).astype(np.uint8)[faces]
    rows = reader.planes(len(faces), 2)
    try:
        description = read_description(reader.bytes(int.from_bytes(reader.bytes(4), "little")))
    except ValueError as error:
        raise DisplayMeshError(f"has no readable paint ({error})") from None
    images = tuple(reader.bytes(length) for length in description.image_bytes)
    if reader.at != len(reader.data) or (len(rows) and int(rows.max()) >= len(description.materials)):
        raise DisplayMeshError("has paint that does not fit it")
    if flags & _UVS:
        u, v, step = description.uv_place
        uvs = (corners * step + np.array([u, v])).astype(np.float32)
    return Paint(description.materials, rows, images, uvs, colors)


def error_levels(errors: Floats) -> NDArray[np.uint8]:
    """Distances as bytes, on a logarithmic scale."""
    octaves = np.log2(np.maximum(errors, FINEST_ERROR) / FINEST_ERROR)
    levels: NDArray[np.uint8] = np.rint(octaves * ERROR_STEPS).clip(0, 255).astype(np.uint8)
    return levels


def _morton(lattice: Ints) -> Ints:
    code = np.zeros(len(lattice), np.int64)
    for bit in range(POSITION_BITS):
        for axis in range(3):
            code |= (lattice[:, axis] >> bit & 1) << (3 * bit + axis)
    return code


def _zigzag(values: Ints) -> Ints:
    zigzag: Ints = (values << 1) ^ (values >> 63)
    return zigzag


def _unzigzag(values: Ints) -> Ints:
    back: Ints = (values >> 1) ^ -(values & 1)
    return back


def _turned(faces: Ints) -> Ints:
    """Faces turned, winding kept, so that the smallest index comes first."""
    first = faces.argmin(axis=1)[:, None]
    turned: Ints = np.take_along_axis(faces, (first + np.arange(3)) % 3, axis=1)
    return turned


def _planes(values: Ints, count: int) -> bytes:
    """Low bytes, then the next ones: each plane compresses better alone."""
    return b"".join((values >> 8 * plane & 255).astype(np.uint8).tobytes() for plane in range(count))


def _sorted(rows: Ints) -> Ints:
    return np.lexsort(rows.T[::-1])


def _indices(rows: Ints) -> bytes:
    """Rows whose first index is the smallest, sorted: differences of the first, and the others relative to it."""
    rows = rows[_sorted(rows)]
    columns = [np.diff(rows[:, 0], prepend=0)] + [rows[:, k] - rows[:, 0] for k in range(1, rows.shape[1])]
    return b"".join(_planes(column, 3) for column in columns)


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = _HEADER.size

    def planes(self, count: int, planes: int) -> Ints:
        values = np.zeros(count, np.int64)
        for plane in range(planes):
            values |= np.frombuffer(self.data, np.uint8, count, self.at).astype(np.int64) << 8 * plane
            self.at += count
        return values

    def bytes(self, count: int) -> bytes:
        if self.at + count > len(self.data):
            raise DisplayMeshError("ends before its paint does")
        self.at += count
        return self.data[self.at - count : self.at]

    def indices(self, count: int, columns: int) -> Ints:
        rows = np.stack([self.planes(count, 3) for _ in range(columns)], axis=1)
        rows[:, 0] = np.cumsum(rows[:, 0])
        rows[:, 1:] += rows[:, :1]
        return rows
