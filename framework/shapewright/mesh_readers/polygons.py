"""What every reader returns, and the reading of text files in pieces."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from ..errors import MeshError

Array = NDArray[Any]

BLOCK_BYTES = 1 << 24
"""Text is parsed in pieces of this size, so that the peak is the arrays plus one piece, not the file as Python
objects."""


@dataclass(frozen=True, slots=True)
class Polygons:
    """Faces of any size: polygon ``p`` owns ``sizes[p]`` consecutive entries of ``corners``.

    ``vertices`` ``(V, 3)`` float64, ``sizes`` ``(P,)`` int64, ``corners`` int64 and not yet checked against ``V``,
    ``colors`` ``(V, 3 or 4)`` float64 or ``None``. ``indexed`` is false where the format repeats positions instead of
    sharing vertices (STL). ``notes`` counts by name what a reader passed over.
    """

    vertices: Array
    sizes: Array
    corners: Array
    colors: Array | None = None
    indexed: bool = True
    notes: Counter[str] = field(default_factory=Counter)


def text_blocks(file: BinaryIO) -> Iterator[bytes]:
    """Pieces of ``file`` that end at a line end, with continued lines (a backslash last) joined."""
    rest = b""
    while piece := file.read(BLOCK_BYTES):
        rest += piece
        cut = rest.rfind(b"\n") + 1
        while cut >= 2 and rest[:cut].rstrip(b"\r\n").endswith(b"\\"):
            cut = rest.rfind(b"\n", 0, cut - 1) + 1
        yield _joined(rest[:cut])
        rest = rest[cut:]
    if rest:
        yield _joined(rest)


def _joined(block: bytes) -> bytes:
    if b"\\" not in block:
        return block
    return block.replace(b"\\\r\n", b" ").replace(b"\\\n", b" ")


def floats(tokens: Iterable[bytes]) -> Array:
    """``tokens`` as float64; ``nan`` and ``inf`` are numbers here."""
    try:
        return np.fromiter(map(float, tokens), np.float64)
    except ValueError as error:
        raise MeshError(f"not a number: {str(error).rpartition(': ')[2]}") from None


def integers(tokens: Iterable[bytes]) -> Array:
    """``tokens`` as int64."""
    try:
        return np.fromiter(map(int, tokens), np.int64)
    except (ValueError, OverflowError) as error:
        raise MeshError(f"not a vertex index: {str(error).rpartition(': ')[2]}") from None
