"""Meshes with their materials: :func:`shapewright.mesh_io.load_mesh` that keeps what is painted on the faces."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from .errors import MeshError, MeshWarning
from .materials import Appearance
from .mesh_cleaning import INDEXED_TOLERANCE, Array, clean_triangles_rows, consistent_winding
from .mesh_io import load_mesh, usable_polygons
from .mesh_readers.textured import TexturedPolygons, read_textured_gltf, read_textured_obj
from .normalise import bounding_frame
from .states import Mesh
from .triangulation import triangulate

_READERS = {".glb": read_textured_gltf, ".gltf": read_textured_gltf, ".obj": read_textured_obj}


def load_textured_mesh(path: str | os.PathLike[str]) -> Mesh:
    """Read a mesh file with its materials; geometry is cleaned as :func:`~shapewright.mesh_io.load_mesh` does it.

    A texture that is missing or cannot be read, texture coordinates that are not finite (they become 0) and vertex
    colours outside [0, 1] (they are cut) are told by the :class:`MeshWarning` that also counts the repairs.

    Returns:
        A mesh whose ``appearance`` is set where the file has materials; vertex colours of the other formats are in
        ``attributes["color"]``, as always.
    Raises:
        MeshError: as ``load_mesh``.
    """
    source = Path(path)
    reader = _READERS.get(source.suffix.lower())
    if reader is None or not source.is_file() or source.stat().st_size == 0:
        return load_mesh(path)
    try:
        mesh, counts = _cleaned(reader(source))
    except MeshError as error:
        raise MeshError(f"{source}: {error}") from None
    except OSError as error:
        raise MeshError(f"{source}: cannot be read: {error.strerror or error}") from None
    if counts:
        warnings.warn(MeshWarning(str(source), counts), stacklevel=2)
    return mesh


def _cleaned(textured: TexturedPolygons) -> tuple[Mesh, dict[str, int]]:
    polygons = textured.polygons
    keep, counts = usable_polygons(polygons)
    owner = np.repeat(np.arange(len(keep)), polygons.sizes)
    corners = np.flatnonzero(keep[owner])  # of the polygons that stay
    # Cut with corners in the place of vertices, so that every corner of a triangle knows which one it was.
    points = polygons.vertices[polygons.corners[corners]]
    triangles = corners[triangulate(points, polygons.sizes[keep], np.arange(len(corners)))]
    stay, faces, rows, dropped = clean_triangles_rows(
        polygons.vertices, polygons.corners[triangles], tolerance=INDEXED_TOLERANCE
    )
    if not len(faces):
        raise MeshError(f"no face has an area ({dropped['zero-area faces']} without one were dropped)")
    counts.update(dropped)
    triangles = triangles[rows]
    mesh = Mesh(
        torch.from_numpy(np.ascontiguousarray(polygons.vertices[stay])),
        torch.from_numpy(np.ascontiguousarray(faces)),
        oriented=consistent_winding(faces),
        attributes=_vertex_colors(textured, stay),
        appearance=_appearance(textured, triangles, owner, counts),
    )
    counts.update(textured.problems)
    return replace(mesh, frame=bounding_frame(mesh)), {what: count for what, count in counts.items() if count}


def _vertex_colors(textured: TexturedPolygons, stay: Array) -> dict[str, torch.Tensor]:
    colors = textured.polygons.colors
    if colors is None or not ((colors >= 0) & (colors <= 1)).all():
        return {}
    return {"color": torch.from_numpy(np.ascontiguousarray(colors[stay], np.float32))}


def _appearance(textured: TexturedPolygons, triangles: Array, owner: Array, counts: Counter[str]) -> Appearance | None:
    """What the faces ``triangles`` ``(F, 3)`` (numbers of corners) look like; ``None`` where nothing is said."""
    if not textured.materials and textured.colors is None:
        return None
    uvs = []
    for stored in textured.uvs:
        finite = np.asarray(np.isfinite(stored).all(axis=1))
        counts["texture coordinates that are not finite"] += int((~finite).sum())
        uvs.append(_single(np.where(finite[:, None], stored, 0.0)[triangles]))
    colors = None
    if textured.colors is not None:
        valid = np.nan_to_num(np.clip(textured.colors, 0.0, 1.0), nan=1.0)
        counts["vertex colours outside 0 to 1"] += int((valid != textured.colors).any(axis=1).sum())
        colors = _single(valid[triangles])
    materials = textured.polygon_materials
    rows = None if materials is None else torch.from_numpy(np.ascontiguousarray(materials[owner[triangles[:, 0]]]))
    return Appearance(textured.materials, rows, tuple(uvs), colors)


def _single(values: Array) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(np.clip(values, -3e38, 3e38), np.float32))
