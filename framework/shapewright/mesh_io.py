"""Mesh files: loading with every repair counted, saving whole or not at all."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from .atomic import atomic_file
from .errors import MeshError, MeshWarning, OutputExistsError
from .mesh_cleaning import INDEXED_TOLERANCE, SOUP_TOLERANCE, Array, clean_triangles_rows, consistent_winding
from .mesh_readers import READERS, read_polygons
from .mesh_readers.polygons import Polygons
from .mesh_writers import WRITERS
from .normalise import Placement, bounding_frame, content_hash, normalise
from .states import Mesh
from .triangulation import triangulate

__all__ = [
    "READABLE",
    "WRITABLE",
    "Placement",
    "check_mesh_suffix",
    "content_hash",
    "load_mesh",
    "load_mesh_with_counts",
    "normalise",
    "save_mesh",
]

READABLE = tuple(READERS)
"""Extensions that :func:`load_mesh` reads."""
WRITABLE = tuple(WRITERS)
"""Extensions that :func:`save_mesh` writes."""


def load_mesh(path: str | os.PathLike[str], *, repair: bool = True) -> Mesh:
    """Read a mesh file: all parts of a scene in one mesh, polygons cut into triangles, cleaned.

    Cleaning happens in float64 and by tolerances relative to the shape: faces that are not finite, have no area or
    repeat another (whichever way round) go, vertices at one position become one, vertices of no face go. What was
    dropped is told by one :class:`MeshWarning` with its ``counts``.

    Args:
        path: an ``.obj``, ``.ply``, ``.stl``, ``.off``, ``.glb`` or ``.gltf`` file.
        repair: ``False`` keeps faces and vertices as they are stored; only what no mesh can hold raises.
    Returns:
        ``vertices`` ``(V, 3)`` float64, ``faces`` ``(F, 3)`` int64, ``frame`` the bounding box, ``oriented`` whether
        neighbouring faces agree about their sides, ``attributes["color"]`` ``(V, 3 or 4)`` float32 in [0, 1] if valid.
    Raises:
        MeshError: no file, not readable, not a mesh, damaged, or without usable geometry. One line that names the file.
    """
    mesh, counts = load_mesh_with_counts(path, repair=repair)
    if counts:
        warnings.warn(MeshWarning(str(path), counts), stacklevel=2)
    return mesh


def load_mesh_with_counts(path: str | os.PathLike[str], *, repair: bool = True) -> tuple[Mesh, dict[str, int]]:
    """:func:`load_mesh` that returns the counts of its repairs instead of warning (for logs, cards, worker threads)."""
    source = Path(path)
    with errors_name(source):
        polygons = read_polygons(source)
        return _cleaned(polygons) if repair else (_as_stored(polygons), dict(polygons.notes))


@contextmanager
def errors_name(source: Path) -> Iterator[None]:
    """Whatever goes wrong while a mesh file is read becomes a :class:`MeshError`, one line that begins with its
    name."""
    try:
        if source.is_dir():
            raise MeshError("is a folder, not a mesh file")
        yield
    except FileNotFoundError:
        raise MeshError(f"{source}: no such file") from None
    except MeshError as error:
        raise MeshError(f"{source}: {error}") from None
    except OSError as error:
        raise MeshError(f"{source}: cannot be read: {error.strerror or error}") from None


def _as_stored(polygons: Polygons) -> Mesh:
    if not len(polygons.sizes):
        raise _no_faces(polygons)
    if (polygons.sizes < 3).any() or _out_of_range(polygons).any():
        raise MeshError("a face has fewer than three corners or refers to a vertex that is not there; load with repair")
    with np.errstate(all="ignore"):  # a polygon with a non-finite corner is cut like any other
        faces = triangulate(polygons.vertices, polygons.sizes, polygons.corners)
    colors, _ = _valid_colors(polygons)
    return _mesh(polygons.vertices, faces, colors)


def _cleaned(polygons: Polygons) -> tuple[Mesh, dict[str, int]]:
    cut = cleaned(polygons)
    colors, given_up = _valid_colors(polygons)
    cut.counts["vertex colours"] = given_up
    mesh = _mesh(polygons.vertices[cut.stay], cut.faces, None if colors is None else colors[cut.stay])
    return mesh, {what: count for what, count in cut.counts.items() if count}


@dataclass(frozen=True, slots=True)
class CleanedTriangles:
    """What cleaning leaves of polygons."""

    stay: Array
    """``(K,)`` vertices that stay, in their order."""
    faces: Array
    """``(F, 3)`` int64 into those."""
    corners: Array
    """``(F, 3)`` int64: which entry of ``Polygons.corners`` each corner was."""
    counts: Counter[str]
    """What was dropped, and what the reader passed over."""


def cleaned(polygons: Polygons) -> CleanedTriangles:
    """Polygons as clean triangles; every way to read a mesh comes through here.

    Raises:
        MeshError: no usable geometry is left.
    """
    keep, counts = usable_polygons(polygons)
    sizes = polygons.sizes[keep]
    corners = np.flatnonzero(np.repeat(keep, polygons.sizes))
    if (sizes == 3).all():
        triangles = corners.reshape(-1, 3)
    else:  # cut with corners in the place of vertices, so that every corner of a triangle knows which one it was
        points = polygons.vertices[polygons.corners[corners]]
        triangles = corners[triangulate(points, sizes, np.arange(len(corners)))]
    tolerance = INDEXED_TOLERANCE if polygons.indexed else SOUP_TOLERANCE
    stay, faces, rows, dropped = clean_triangles_rows(
        polygons.vertices, polygons.corners[triangles], tolerance=tolerance
    )
    if not len(faces):
        raise MeshError(f"no face has an area ({dropped['zero-area faces']} without one were dropped)")
    counts.update(dropped)
    counts.update(polygons.notes)
    return CleanedTriangles(stay, faces, triangles[rows], counts)


def usable_polygons(polygons: Polygons) -> tuple[Array, Counter[str]]:
    """Which polygons have three corners or more, all of them there and finite; counts of what is wrong with the
    rest."""
    if not len(polygons.sizes):
        raise _no_faces(polygons)
    counts: Counter[str] = Counter()
    vertices, sizes = polygons.vertices, polygons.sizes
    owner = np.repeat(np.arange(len(sizes)), sizes)
    missing = _out_of_range(polygons)
    finite = np.asarray(np.isfinite(vertices).all(axis=1))
    broken = ~missing
    broken[broken] = ~finite[polygons.corners[broken]]
    short = sizes < 3
    absent = _any(missing, owner, len(sizes)) & ~short
    infinite = _any(broken, owner, len(sizes)) & ~short & ~absent
    counts["faces with fewer than three corners"] = int(short.sum())
    counts["faces that refer to a vertex that is not there"] = int(absent.sum())
    counts["faces with non-finite vertices"] = int(infinite.sum())
    referenced = np.zeros(len(vertices), bool)
    referenced[polygons.corners[~missing]] = True
    counts["unreferenced vertices"] = int((~referenced).sum())
    keep = ~(short | absent | infinite)
    if not keep.any():
        reasons = ", ".join(f"{count} {what}" for what, count in counts.items() if count and what.startswith("faces"))
        raise MeshError(f"no usable face is left: dropped {reasons}")
    return keep, counts


def _no_faces(polygons: Polygons) -> MeshError:
    if len(polygons.vertices):
        return MeshError(f"no faces: the file is a point cloud of {len(polygons.vertices)} points")
    return MeshError("empty: the file holds no vertices and no faces")


def _out_of_range(polygons: Polygons) -> Array:
    corners = polygons.corners
    return np.asarray((corners < 0) | (corners >= len(polygons.vertices)))


def _any(flags: Array, owner: Array, count: int) -> Array:
    return np.bincount(owner[flags], minlength=count) > 0


def _valid_colors(polygons: Polygons) -> tuple[Array | None, int]:
    """Colours if every one of them is a number in [0, 1]; else none of them, and how many that gave up."""
    if polygons.colors is None:
        return None, 0
    valid = ((polygons.colors >= 0) & (polygons.colors <= 1)).all()
    return (polygons.colors, 0) if valid else (None, len(polygons.colors))


def _mesh(vertices: Array, faces: Array, colors: Array | None) -> Mesh:
    attributes = {} if colors is None else {"color": torch.from_numpy(np.ascontiguousarray(colors, np.float32))}
    mesh = Mesh(
        torch.from_numpy(np.ascontiguousarray(vertices)),
        torch.from_numpy(np.ascontiguousarray(faces)),
        oriented=consistent_winding(faces),
        attributes=attributes,
    )
    return replace(mesh, frame=bounding_frame(mesh)) if np.isfinite(vertices[faces.reshape(-1)]).all() else mesh


def save_mesh(mesh: Mesh, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Write ``mesh`` to a ``.glb``, ``.obj``, ``.ply``, ``.stl`` or ``.off`` file, whole or not at all.

    Winding and order are kept. GLB and STL hold float32; OBJ, OFF and PLY keep the precision of the mesh. Vertex
    colours (``attributes["color"]``) go into GLB, PLY and OBJ. GLB marks a mesh that is not oriented as double-sided.
    Materials go into GLB; elsewhere a :class:`MeshWarning` counts those that are left out.

    Raises:
        MeshError: unknown extension, no faces, non-finite vertices, indices out of range.
        OutputExistsError: the file exists and ``overwrite`` is false.
        ShapewrightError: the disk is full, the folder is missing, permission is denied; nothing is left behind.
    """
    target = Path(path)
    writer = WRITERS[check_mesh_suffix(target)]
    try:
        _check_writable(mesh)
        refuse_existing(target, overwrite)
        with atomic_file(target) as temporary:
            with temporary.open("wb") as file:
                writer(mesh, file)
            refuse_existing(target, overwrite)  # another process may have finished first
    except MeshError as error:
        raise MeshError(f"{target}: {error}") from None
    lost = 0 if mesh.appearance is None or target.suffix.lower() == ".glb" else len(mesh.appearance.materials)
    if lost:
        warnings.warn(MeshWarning(str(target), {"materials (a .glb keeps them)": lost}), stacklevel=2)


def check_mesh_suffix(path: str | os.PathLike[str]) -> str:
    """The extension of ``path``, lower case, if :func:`save_mesh` knows it; raises :class:`MeshError` otherwise."""
    suffix = Path(path).suffix
    if suffix.lower() not in WRITERS:
        what = f"extension {suffix!r} is unknown" if suffix else "the file name has no extension"
        raise MeshError(f"{path}: {what}; meshes are written as {', '.join(WRITERS)}")
    return suffix.lower()


def refuse_existing(path: Path, overwrite: bool) -> None:
    if path.is_dir():
        raise MeshError("is a folder; name a file in it")
    if path.exists() and not overwrite:
        raise OutputExistsError(f"{path} exists; choose another name, or replace it (--overwrite)")


def _check_writable(mesh: Mesh) -> None:
    if not len(mesh.faces):
        raise MeshError("a mesh without faces is not written")
    if not bool(mesh.vertices.isfinite().all()):
        bad = int((~mesh.vertices.isfinite().all(dim=1)).sum())
        raise MeshError(f"{bad} of {len(mesh.vertices)} vertices are not finite; nothing was written")
    if int(mesh.faces.min()) < 0 or int(mesh.faces.max()) >= len(mesh.vertices):
        raise MeshError(f"a face refers to a vertex outside 0 .. {len(mesh.vertices) - 1}; nothing was written")
    color = mesh.attributes.get("color")
    if color is not None and (color.ndim != 2 or len(color) != len(mesh.vertices) or color.shape[1] not in (3, 4)):
        raise MeshError(f"colours must be (V, 3) or (V, 4), not {tuple(color.shape)}; nothing was written")
