"""Readers of mesh files: each returns the polygons of a file as they are stored, and judges nothing but the format.

Own readers, because polygons have to reach the triangulation whole (a fan of a concave face covers what is not there),
because a damaged file has to end in one clear line, and for what :mod:`.gltf` says of glTF. One reader a format: what a
mesh looks like comes from the same pass over the file as its geometry.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import cast

from ..errors import MeshError
from .polygons import Polygons
from .textured import TexturedPolygons

READERS = {
    ".obj": "obj:read_obj",
    ".ply": "ply:read_ply",
    ".stl": "stl:read_stl",
    ".off": "off:read_off",
    ".glb": "gltf:read_gltf",
    ".gltf": "gltf:read_gltf",
}
TEXTURED = {
    ".obj": "obj:read_textured_obj",
    ".glb": "gltf:read_textured_gltf",
    ".gltf": "gltf:read_textured_gltf",
}
"""Formats that hold materials; the others give geometry and colours."""
_SIGNATURES = {b"ply\n": ".ply", b"ply\r": ".ply", b"glTF": ".glb", b"OFF": ".off", b"COFF": ".off", b"NOFF": ".off"}


def read_polygons(path: Path) -> Polygons:
    """The polygons of ``path``, by its extension. Raises :class:`MeshError` with a reason that does not name the
    file."""
    return cast(Polygons, _reader(path, READERS)(path))


def read_textured(path: Path) -> TexturedPolygons:
    """:func:`read_polygons` with what the file says about the looks of its polygons."""
    if path.suffix.lower() not in TEXTURED:
        return TexturedPolygons(read_polygons(path))
    return cast(TexturedPolygons, _reader(path, TEXTURED)(path))


def _reader(path: Path, readers: Mapping[str, str]) -> Callable[[Path], object]:
    """What reads a file of this extension, once its first bytes have been looked at."""
    extension = path.suffix.lower()
    if extension not in readers:
        what = f"extension {path.suffix!r} is unknown" if path.suffix else "the file name has no extension"
        raise MeshError(f"{what}; meshes are read from {', '.join(READERS)}")
    size = path.stat().st_size
    if size == 0:
        raise MeshError("the file is empty (0 bytes)")
    with path.open("rb") as file:
        start = file.read(4096)
    _check_signature(start, extension, size)
    module, _, function = readers[extension].partition(":")
    return cast("Callable[[Path], object]", getattr(import_module(f".{module}", __package__), function))


def _check_signature(start: bytes, extension: str, size: int) -> None:
    if extension == ".stl":
        from .stl import announced_triangles, binary_size

        if len(start) >= 84 and size == binary_size(announced_triangles(start)):
            return  # the free text at the start of a binary STL may say anything
    found = next((kind for mark, kind in _SIGNATURES.items() if start.startswith(mark)), extension)
    if found != extension:
        raise MeshError(f"the content is {found[1:].upper()}, not {extension[1:].upper()}; rename it to end in {found}")
    if extension in (".obj", ".off") and b"\0" in start:
        raise MeshError(f"the content is binary, not {extension[1:].upper()} text")
