"""Meshes with their materials: :func:`shapewright.mesh_io.load_mesh` that keeps what is painted on the faces."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from .errors import MeshWarning
from .materials import SLOTS, Appearance, Material
from .mesh_cleaning import Array, consistent_winding
from .mesh_io import CleanedTriangles, cleaned, errors_name
from .mesh_readers import read_textured
from .mesh_readers.polygons import Polygons
from .mesh_readers.textured import TexturedPolygons
from .normalise import bounding_frame
from .states import Mesh


def load_textured_mesh(path: str | os.PathLike[str]) -> Mesh:
    """Read a mesh file with its materials; the geometry is that of :func:`~shapewright.mesh_io.load_mesh`, exactly.

    A texture that is missing or cannot be read, texture coordinates that are not finite (they become 0), normals that
    point nowhere (those of their faces count) and vertex colours outside [0, 1] (they are cut) are told by the
    :class:`MeshWarning` that also counts the repairs.

    Returns:
        A mesh whose ``appearance`` is set where the file has materials, normals, or colours of corners; colours of
        vertices are in ``attributes["color"]``, as always.
    Raises:
        MeshError: as ``load_mesh``.
    """
    source = Path(path)
    with errors_name(source):
        mesh, counts = cleaned_mesh(read_textured(source))
    if counts:
        warnings.warn(MeshWarning(str(source), counts), stacklevel=2)
    return mesh


def cleaned_mesh(textured: TexturedPolygons) -> tuple[Mesh, dict[str, int]]:
    """The mesh of what a reader found, and what was dropped on the way. Raises MeshError where nothing is left."""
    polygons = textured.polygons
    cut = cleaned(polygons)
    attributes, given_up = _vertex_colors(polygons, cut.stay)
    if textured.colors is None:
        cut.counts["vertex colours"] = given_up
    mesh = Mesh(
        torch.from_numpy(np.ascontiguousarray(polygons.vertices[cut.stay])),
        torch.from_numpy(np.ascontiguousarray(cut.faces)),
        oriented=consistent_winding(cut.faces),
        attributes=attributes,
    )
    look = _appearance(textured, mesh, cut)
    mesh = replace(mesh, frame=bounding_frame(mesh), appearance=look)
    return mesh, {what: count for what, count in cut.counts.items() if count}


def _vertex_colors(polygons: Polygons, stay: Array) -> tuple[dict[str, torch.Tensor], int]:
    colors = polygons.colors
    if colors is None:
        return {}, 0
    if not ((colors >= 0) & (colors <= 1)).all():
        return {}, len(colors)
    return {"color": torch.from_numpy(np.ascontiguousarray(colors[stay], np.float32))}, 0


def _appearance(textured: TexturedPolygons, mesh: Mesh, cut: CleanedTriangles) -> Appearance | None:
    """What the faces of ``mesh`` look like; ``None`` where nothing is said."""
    triangles, counts = cut.corners, cut.counts
    normals = _normals(textured.normals, mesh, triangles, counts)
    lost = any(note.startswith("texture ") for note in textured.polygons.notes)
    if len(textured.materials) == 1 and not lost and _plain(textured.materials[0]):
        textured = replace(textured, materials=(), polygon_materials=None, uvs=())
    if not textured.materials and textured.colors is None and normals is None:
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
    elif "color" in mesh.attributes and not textured.materials:
        colors = mesh.attributes["color"][mesh.faces]  # a writer of appearances looks nowhere else
    rows = None
    if textured.polygon_materials is not None and textured.materials:
        sizes = textured.polygons.sizes
        owner = np.repeat(np.arange(len(sizes)), sizes)
        rows = torch.from_numpy(np.ascontiguousarray(textured.polygon_materials[owner[triangles[:, 0]]]))
    return Appearance(textured.materials, rows, tuple(uvs), colors, normals)


def _plain(material: Material) -> bool:
    """Whether it only fills a place: white, no metal, opaque, without a picture. Writers add such a material where the
    mesh has none, to say that it is seen from both sides."""
    painted = any(material.texture(slot) is not None for slot in SLOTS) or any(material.emissive)
    white = material.base_color == (1.0, 1.0, 1.0) and material.metallic == 0.0
    return white and not painted and (material.alpha_mode == "opaque" or material.alpha == 1.0)


def _normals(stored: Array | None, mesh: Mesh, triangles: Array, counts: Counter[str]) -> torch.Tensor | None:
    """``(F, 3, 3)`` unit normals of corners; that of the face where the file has none or one that points nowhere."""
    if stored is None:
        return None
    found = stored[triangles]
    with np.errstate(all="ignore"):
        found = found / np.abs(found).max(axis=2, keepdims=True)
        found = found / np.linalg.norm(found, axis=2, keepdims=True)
    usable: Array = np.isfinite(found).all(axis=2)
    if not usable.any():
        return None
    if not usable.all():
        absent = np.asarray(np.isposinf(stored).all(axis=1))[triangles]
        counts["normals that point nowhere"] += int((~usable & ~absent).sum())
        corners = mesh.corners.numpy()
        flat = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        flat /= np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-300)
        found = np.where(usable[:, :, None], found, flat[:, None])
    return _single(found)


def _single(values: Array) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(np.clip(values, -3e38, 3e38), np.float32))
