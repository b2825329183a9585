"""``.vxz``: voxels in chunks, each an octree with its attributes, written and read as the published toolkit does.

``VXZ\\0``, a big-endian uint32 (where the binary part begins), JSON, binary part. The JSON says for each chunk where
its streams lie, so that a part of a file is read without the rest. Our own files add the key ``shapewright`` to the
JSON, which other readers pass over. Every size in a file is checked against the file before room is made for it.

Source: TRELLIS.2 (arXiv 2512.14692), o-voxel, spec section 3.2.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from shapewright_kernels import voxel_octree as octree
from shapewright_kernels.threads import run_chunks

from .voxel_table import Bytes, VoxelFileError, VoxelTable
from .vxz_codecs import DEFAULT_LEVELS, check_codec, compress, decompress

MAGIC = b"VXZ\0"
FILTERS = ("none", "parent", "neighbor")
INTERLEAVES = ("as_is", "none", "all")
LARGEST_CHUNK = 1024
LARGEST_HEADER = 1 << 28
LARGEST_INDEX = 1 << 20
LARGEST_CHANNELS = 4096
MOST_VOXELS = 1 << 28
SCHEMA = 1
"""Version of what we add under the key ``shapewright``."""
_RESERVED = ("idx", "svo", "ptr", "attr")


# --- writing ----------------------------------------------------------------------------------------------------------
def vxz_bytes(
    table: VoxelTable,
    *,
    chunk_size: int = 256,
    filter: str = "none",
    compression: str = "lzma",
    compression_level: int | None = None,
    attr_interleave: str = "as_is",
    threads: int | None = None,
) -> bytes:
    """The file of ``table``; options and defaults are the published ones.

    Raises:
        VoxelFileError: an option is unknown, a coordinate is negative or there twice, an attribute's name is taken.
    """
    level = DEFAULT_LEVELS.get(compression, 0) if compression_level is None else compression_level
    check_codec(compression, level)
    _check_layout(chunk_size, filter, attr_interleave)
    attributes = [[name, values.shape[1]] for name, values in table.attributes.items()]
    streams = _streams(attributes, attr_interleave)
    coords = table.coords
    if len(coords) and (coords.min() < 0 or coords.max() >= LARGEST_INDEX):
        raise VoxelFileError(f"coordinates must lie between 0 and {LARGEST_INDEX - 1}")
    depth = chunk_size.bit_length() - 1
    index = coords // chunk_size
    codes = octree.morton_codes(coords - index * chunk_size)
    order = np.lexsort((codes, index[:, 2], index[:, 1], index[:, 0]))
    index, codes = index[order], codes[order]
    changes = (np.diff(index, axis=0) != 0).any(axis=1)
    if ((np.diff(codes) == 0) & ~changes).any():
        raise VoxelFileError("a voxel is there twice")
    ends = np.concatenate([np.flatnonzero(changes) + 1, [len(codes)]]) if len(codes) else np.zeros(0, np.int64)
    starts = np.concatenate([[0], ends[:-1]]).astype(np.int64) if len(codes) else ends

    def packed(part: tuple[int, int]) -> list[bytes]:
        inside = codes[part[0] : part[1]]
        rows = order[part[0] : part[1]]
        values = {name: _filtered(inside, depth, data[rows], filter) for name, data in table.attributes.items()}
        raw = [octree.encode_octree(inside, depth).tobytes()]
        raw += [_columns(values, source).tobytes() for _, source in streams]
        return [compress(data, compression, level) for data in raw]

    parts = run_chunks(packed, list(zip(starts.tolist(), ends.tolist(), strict=True)), threads)
    chunks, blobs, place = [], [], 0
    for number, part in enumerate(parts):
        lengths = [len(data) for data in part]
        offsets = np.cumsum([0, *lengths]).tolist()
        entry: dict[str, Any] = {"idx": index[starts[number]].tolist()}
        for (name, _), offset, length in zip([("svo", ()), *streams], offsets, lengths, strict=False):
            entry[name] = [offset, length]
        entry["ptr"] = [place, offsets[-1]]
        chunks.append(entry)
        blobs += part
        place += offsets[-1]
    raw_size = len(coords) * (12 + sum(channels for _, channels in attributes))
    header: dict[str, Any] = {
        "num_voxel": len(coords),
        "chunk_size": chunk_size,
        "filter": filter,
        "compression": compression,
        "compression_level": level,
        "raw_size": raw_size,
        "compressed_size": place,
        "compress_ratio": raw_size / place if place else 1.0,
        "attr_interleave": attr_interleave,
        "attr": attributes,
        "chunks": chunks,
    }
    if table.metadata:
        header["shapewright"] = {"schema": SCHEMA, **table.metadata}
    text = json.dumps(header).encode()
    return b"".join([MAGIC, (8 + len(text)).to_bytes(4, "big"), text, *blobs])


def _check_layout(chunk_size: object, filter: object, interleave: object) -> None:
    whole = isinstance(chunk_size, int) and not isinstance(chunk_size, bool)
    if not whole or not 2 <= chunk_size <= LARGEST_CHUNK or chunk_size & (chunk_size - 1):  # type: ignore[operator]
        raise VoxelFileError(f"chunk_size must be a power of two between 2 and {LARGEST_CHUNK}, not {chunk_size!r}")
    if filter not in FILTERS:
        raise VoxelFileError(f"filter must be one of {', '.join(FILTERS)}, not {filter!r}")
    if interleave not in INTERLEAVES:
        raise VoxelFileError(f"attr_interleave must be one of {', '.join(INTERLEAVES)}, not {interleave!r}")


Source = tuple[tuple[str, int, int], ...]
"""Attributes of one stream: name, first channel, one past the last."""


def _streams(attributes: Sequence[Sequence[Any]], interleave: str) -> list[tuple[str, Source]]:
    if interleave == "all":
        whole = tuple((name, 0, channels) for name, channels in attributes)
        found: list[tuple[str, Source]] = [("attr", whole)] if whole else []
    elif interleave == "none":
        found = [(f"{n}_{i}", ((n, i, i + 1),)) for n, channels in attributes for i in range(channels)]
    else:
        found = [(name, ((name, 0, channels),)) for name, channels in attributes]
    names = [name for name, _ in found]
    taken = [name for name, _ in attributes if name in _RESERVED]
    if (
        taken
        or len(set(names) | set(_RESERVED[:3])) < len(names) + 3
        or len({a[0] for a in attributes}) < len(attributes)
    ):
        raise VoxelFileError(f"attributes cannot be named {[name for name, _ in attributes]}: names of streams collide")
    return found


def _columns(values: Mapping[str, Bytes], source: Source) -> Bytes:
    return np.concatenate([values[name][:, start:stop] for name, start, stop in source], axis=1)


def _filtered(codes: NDArray[np.int64], depth: int, values: Bytes, filter: str) -> Bytes:
    if filter == "parent":
        return octree.encode_parent(codes, depth, values)
    return octree.encode_neighbor(codes, depth, values) if filter == "neighbor" else values


# --- reading ----------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class VxzChunk:
    """One cube of ``chunk_size`` voxels an axis."""

    index: tuple[int, int, int]
    streams: Mapping[str, tuple[int, int]]
    """Where each stream begins in the file, and its length."""


@dataclass(frozen=True)
class VxzHeader:
    """What a file says about itself, checked."""

    voxels: int
    chunk_size: int
    filter: str
    compression: str
    level: int
    interleave: str
    attributes: tuple[tuple[str, int], ...]
    chunks: tuple[VxzChunk, ...]
    metadata: Mapping[str, Any]
    file_size: int

    @property
    def raw_size(self) -> int:
        """Bytes of the voxels as int32 coordinates and plain attributes."""
        return self.voxels * (12 + sum(channels for _, channels in self.attributes))


def read_vxz_header(file: BinaryIO) -> VxzHeader:
    """The header of an open file, with nothing of the voxels read.

    Raises:
        VoxelFileError: not a .vxz file, of a newer version, damaged, or with sizes that the file cannot have.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    start = file.read(8)
    if len(start) < 8 or start[:3] != MAGIC[:3]:
        raise VoxelFileError("not a .vxz file")
    if start[:4] != MAGIC:
        raise VoxelFileError(f"the file has version {start[3]} of .vxz, this reads version 0; update shapewright")
    begin = int.from_bytes(start[4:], "big")
    if not 8 < begin <= size or begin > LARGEST_HEADER:
        raise VoxelFileError(f"the header ends at byte {begin} of {size}: the file is truncated or damaged")
    try:
        header = json.loads(file.read(begin - 8))
    except (ValueError, RecursionError):
        raise VoxelFileError("the JSON of the header is damaged") from None
    try:
        return _checked_header(header, begin, size)
    except VoxelFileError:
        raise
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise VoxelFileError(f"the header lacks a part or has a wrong one ({error})") from None


def _whole(value: object, what: str, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
        raise VoxelFileError(f"{what} must be a whole number up to {most}, not {str(value)[:40]}")
    return value


def _checked_header(header: Mapping[str, Any], begin: int, size: int) -> VxzHeader:
    own = header.get("shapewright", {})
    if own and _whole(own["schema"], "the schema", 1 << 30) > SCHEMA:
        raise VoxelFileError(
            f"the file was written by a newer shapewright (schema {own['schema']}); update shapewright"
        )
    _check_layout(header["chunk_size"], header["filter"], header["attr_interleave"])
    check_codec(header["compression"], header["compression_level"])
    chunk_size, voxels = header["chunk_size"], _whole(header["num_voxel"], "num_voxel", MOST_VOXELS)
    attributes = []
    for name, channels in header["attr"]:
        if not isinstance(name, str) or not name or _whole(channels, "channels", LARGEST_CHANNELS) == 0:
            raise VoxelFileError(f"attribute {name!r} with {channels!r} channels is none")
        attributes.append((name, channels))
    names = ["svo", *(name for name, _ in _streams(attributes, header["attr_interleave"]))]
    chunks = []
    for entry in header["chunks"]:
        x, y, z = (_whole(value, "a chunk index", LARGEST_INDEX // chunk_size) for value in entry["idx"])
        offset, length = (_whole(value, "a chunk's place", size) for value in entry["ptr"])
        if begin + offset + length > size:
            raise VoxelFileError("a chunk lies beyond the end of the file: it is truncated")
        streams = {}
        for name in names:
            at, long = (_whole(value, f"the place of {name}", length) for value in entry[name])
            if at + long > length:
                raise VoxelFileError(f"stream {name} leaves its chunk")
            streams[name] = (begin + offset + at, long)
        chunks.append(VxzChunk((x, y, z), streams))
    if len({chunk.index for chunk in chunks}) < len(chunks) or len(chunks) > voxels:
        raise VoxelFileError("a chunk is there twice, or there are more chunks than voxels")
    return VxzHeader(
        voxels,
        chunk_size,
        header["filter"],
        header["compression"],
        header["compression_level"],
        header["attr_interleave"],
        tuple(attributes),
        tuple(chunks),
        {key: value for key, value in own.items() if key != "schema"},
        size,
    )


def read_vxz(
    file: BinaryIO,
    *,
    box: tuple[Sequence[int], Sequence[int]] | None = None,
    attributes: Sequence[str] | None = None,
    threads: int | None = None,
) -> VoxelTable:
    """The voxels of an open file, in the file's order.

    Args:
        box: ``(lower, upper)`` voxel coordinates, upper excluded: only what lies inside, reading only the chunks that
            touch it.
        attributes: only these, reading only their streams where the file keeps them apart; ``None``: all.
    Raises:
        VoxelFileError: as :func:`read_vxz_header`, or a stream is damaged or not as long as announced.
    """
    header = read_vxz_header(file)
    wanted = [name for name, _ in header.attributes] if attributes is None else list(attributes)
    missing = sorted(set(wanted) - {name for name, _ in header.attributes})
    if missing:
        there = ", ".join(name for name, _ in header.attributes)
        raise VoxelFileError(f"the file has no attribute {', '.join(missing)}; there is {there or 'none'}")
    side = header.chunk_size
    chosen = [c for c in header.chunks if box is None or _touches(c.index, side, box)]
    streams = [s for s in _streams(header.attributes, header.interleave) if {part[0] for part in s[1]} & set(wanted)]
    loaded = []
    for chunk in chosen:  # one thread reads, all unpack
        data = {}
        for name in ("svo", *(name for name, _ in streams)):
            at, length = chunk.streams[name]
            file.seek(at)
            data[name] = file.read(length)
        loaded.append((chunk, data))
    parts = run_chunks(lambda item: _unpack(header, streams, *item), loaded, threads)
    total = sum(len(coords) for coords, _ in parts)
    if total > header.voxels or (box is None and total != header.voxels):
        raise VoxelFileError(f"the chunks hold {total} voxels, the header announces {header.voxels}")
    widths = dict(header.attributes)
    table = VoxelTable(
        np.concatenate([np.zeros((0, 3), np.int32), *(coords for coords, _ in parts)]),
        {
            name: np.concatenate([np.zeros((0, widths[name]), np.uint8), *(values[name] for _, values in parts)])
            for name in wanted
        },
        header.metadata,
    )
    if box is None:
        return table
    lower, upper = (np.asarray(corner) for corner in box)
    inside = (table.coords >= lower) & (table.coords < upper)
    return table.select(np.asarray(inside.all(axis=1)))


def _touches(index: tuple[int, int, int], side: int, box: tuple[Sequence[int], Sequence[int]]) -> bool:
    return all(low < (i + 1) * side and high > i * side for i, low, high in zip(index, *box, strict=True))


def _unpack(
    header: VxzHeader, streams: list[tuple[str, Source]], chunk: VxzChunk, data: Mapping[str, bytes]
) -> tuple[NDArray[np.int32], dict[str, Bytes]]:
    depth = header.chunk_size.bit_length() - 1
    nodes = min((8**depth - 1) // 7, header.voxels * depth)
    tree = np.frombuffer(decompress(data["svo"], header.compression, header.level, nodes), np.uint8)
    try:
        codes = octree.decode_octree(tree, depth, header.voxels)
    except ValueError as error:
        raise VoxelFileError(str(error)) from None
    if len(codes) == 0:
        raise VoxelFileError("a chunk has no voxel")
    coords = octree.morton_coords(codes) + np.asarray(chunk.index, np.int32) * np.int32(header.chunk_size)
    columns: dict[str, list[Bytes]] = {}
    for name, source in streams:
        channels = sum(stop - start for _, start, stop in source)
        raw = decompress(data[name], header.compression, header.level, len(codes) * channels)
        if len(raw) != len(codes) * channels:
            raise VoxelFileError(
                f"stream {name} has {len(raw)} bytes, {len(codes)} voxels need {len(codes) * channels}"
            )
        values, at = np.frombuffer(raw, np.uint8).reshape(len(codes), channels), 0
        for attribute, start, stop in source:
            columns.setdefault(attribute, []).append(values[:, at : at + stop - start])
            at += stop - start
    restored = {}
    for attribute, pieces in columns.items():
        values = np.ascontiguousarray(np.concatenate(pieces, axis=1))
        if header.filter == "parent":
            values = octree.decode_parent(codes, depth, values)
        elif header.filter == "neighbor":
            values = octree.decode_neighbor(codes, depth, values)
        restored[attribute] = values
    return coords, restored


# --- files ------------------------------------------------------------------------------------------------------------
def load_vxz(path: str | os.PathLike[str], **options: Any) -> VoxelTable:
    """:func:`read_vxz` of a file by name; errors name it."""
    table: VoxelTable = _named(path, lambda file: read_vxz(file, **options))
    return table


def load_vxz_header(path: str | os.PathLike[str]) -> VxzHeader:
    """:func:`read_vxz_header` of a file by name; errors name it."""
    header: VxzHeader = _named(path, read_vxz_header)
    return header


def _named(path: str | os.PathLike[str], read: Any) -> Any:
    try:
        with Path(path).open("rb") as file:
            return read(file)
    except VoxelFileError as error:
        raise VoxelFileError(f"{path}: {error}") from None
    except OSError as error:
        raise VoxelFileError(f"{path}: cannot be read: {error.strerror or error}") from None
