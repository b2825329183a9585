"""A mesh as the page shows it, and its compressed form, which the page's script reads back."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..errors import ShapewrightError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

VERSION = 1
POSITION_BITS = 14
"""Positions are rounded to this share of the largest extent: 1/16,000, well below a pixel."""
FINEST_ERROR = 1e-6
ERROR_STEPS = 12
"""Errors are kept as one byte, in steps of 1/12 octave from the finest error: 6 % apart, up to 2.4."""
_HEADER = struct.Struct("<4s8I4f")
_MAGIC = b"SWDM"


class DisplayMeshError(ShapewrightError, ValueError):
    """Bytes are no display mesh, or only part of one."""


@dataclass(frozen=True)
class DisplayMesh:
    """Triangles for the screen, with what can be switched on.

    ``vertices`` ``(V, 3)``, ``faces`` ``(F, 3)``; ``boundary`` ``(B, 2)`` are edges of one face, ``junctions``
    ``(J, 2)`` edges of three or more, both found on the mesh before it was simplified; ``errors`` ``(V,)`` are
    distances to the reference, or ``None``; ``full_faces`` is the number of faces before it was simplified.
    """

    vertices: Floats
    faces: Ints
    boundary: Ints
    junctions: Ints
    errors: Floats | None
    oriented: bool
    full_faces: int

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
    lattice = lattice[order]
    header = _HEADER.pack(
        _MAGIC,
        VERSION,
        len(mesh.vertices),
        len(mesh.faces),
        len(mesh.boundary),
        len(mesh.junctions),
        int(mesh.oriented) | int(mesh.errors is not None) << 1,
        mesh.full_faces,
        POSITION_BITS,
        *map(float, lower),
        float(step),
    )
    planes = [_planes(_zigzag(np.diff(lattice[:, axis], prepend=0)), 2) for axis in range(3)]
    planes += [_indices(_turned(rank[mesh.faces])), _indices(np.sort(rank[mesh.boundary], axis=1))]
    planes.append(_indices(np.sort(rank[mesh.junctions], axis=1)))
    if mesh.errors is not None:
        planes.append(error_levels(mesh.errors[order]).tobytes())
    return zlib.compress(header + b"".join(planes), 9)


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
    if magic != _MAGIC or version != VERSION:
        raise DisplayMeshError("was written by another version")
    wanted = _HEADER.size + 6 * vertices + 9 * faces + 6 * (boundary + junctions) + vertices * (flags >> 1 & 1)
    if len(data) != wanted:
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
    levels = np.frombuffer(data, np.uint8, vertices, reader.at) if flags & 2 else None
    errors = None if levels is None else FINEST_ERROR * 2.0 ** (levels.astype(np.float64) / ERROR_STEPS)
    positions = lattice * place[3] + np.array(place[:3])
    return DisplayMesh(positions, triangles, open_edges, shared_edges, errors, bool(flags & 1), full)


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


def _indices(rows: Ints) -> bytes:
    """Rows whose first index is the smallest, sorted: differences of the first, and the others relative to it."""
    rows = rows[np.lexsort(rows.T[::-1])]
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

    def indices(self, count: int, columns: int) -> Ints:
        rows = np.stack([self.planes(count, 3) for _ in range(columns)], axis=1)
        rows[:, 0] = np.cumsum(rows[:, 0])
        rows[:, 1:] += rows[:, :1]
        return rows
