"""Compression of the streams of a .vxz file; reading never makes more bytes than were announced."""

from __future__ import annotations

import lzma
import zlib
from collections.abc import Mapping
from typing import Any

from shapewright.errors import MissingExtraError

from .voxel_table import VoxelFileError

DEFAULT_LEVELS: Mapping[str, int] = {"none": 0, "deflate": 9, "lzma": 9, "zstd": 22}
"""Codecs, and the level of each that the published writer takes."""
LEVELS = {"none": range(1), "deflate": range(10), "lzma": range(10), "zstd": range(1, 23)}


def check_codec(codec: object, level: object) -> None:
    """Raise :class:`VoxelFileError` for a codec or level that there is not."""
    if not isinstance(codec, str) or codec not in LEVELS:
        raise VoxelFileError(f"compression must be one of {', '.join(LEVELS)}, not {codec!r}")
    if isinstance(level, bool) or not isinstance(level, int) or level not in LEVELS[codec]:
        known = LEVELS[codec]
        raise VoxelFileError(f"the level of {codec} must lie between {known[0]} and {known[-1]}, not {level!r}")


def _lzma_filters(level: int) -> list[dict[str, Any]]:
    return [{"id": lzma.FILTER_LZMA2, "preset": level}]


def _zstandard() -> Any:
    try:
        import zstandard
    except ImportError:
        raise MissingExtraError("zstandard", "zstd", "a .vxz file with zstd compression") from None
    return zstandard


def compress(data: bytes, codec: str, level: int) -> bytes:
    """``data`` in the published form of ``codec``."""
    if codec == "deflate":
        packer = zlib.compressobj(level, wbits=-15)
        return packer.compress(data) + packer.flush()
    if codec == "lzma":
        return lzma.compress(data, lzma.FORMAT_RAW, filters=_lzma_filters(level))
    if codec == "zstd":
        packed: bytes = _zstandard().ZstdCompressor(level=level).compress(data)
        return packed
    return data


def decompress(data: bytes, codec: str, level: int, most: int) -> bytes:
    """The inverse of :func:`compress`, of at most ``most`` bytes.

    Raises:
        VoxelFileError: damaged, truncated, or longer than ``most``.
    """
    try:
        result = _unpacked(data, codec, level, most)
    except (zlib.error, lzma.LZMAError, EOFError) as error:
        raise VoxelFileError(f"a {codec} stream is damaged ({error})") from None
    if len(result) > most:
        raise VoxelFileError(f"a {codec} stream holds more than the {most} bytes it can have")
    return result


def _unpacked(data: bytes, codec: str, level: int, most: int) -> bytes:
    if codec == "deflate":
        inflater = zlib.decompressobj(-15)
        result = inflater.decompress(data, most + 1)
        if not inflater.eof and len(result) <= most:
            raise VoxelFileError("a deflate stream is truncated")
        return result
    if codec == "lzma":
        return lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=_lzma_filters(level)).decompress(data, most + 1)
    if codec == "zstd":
        zstandard = _zstandard()
        try:
            if zstandard.frame_content_size(data) > most:
                raise VoxelFileError(f"a zstd stream announces more than the {most} bytes it can have")
            unpacker = zstandard.ZstdDecompressor(max_window_size=1 << 27).stream_reader(data)
            result = bytes(unpacker.read(most + 1))
        except zstandard.ZstdError as error:
            raise VoxelFileError(f"a zstd stream is damaged ({error})") from None
        return result
    return data
