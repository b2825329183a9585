"""What ``shapewright info`` says of a mesh file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ..materials import SLOTS, Appearance, Material
from ..states import Mesh
from .options import reported_warnings


def describe_mesh(path: Path) -> dict[str, Any]:
    """Counts, box, open and branching edges after cleaning, and what is painted on it. Raises MeshError."""
    from ..textured_meshes import load_textured_mesh

    with reported_warnings():
        mesh = load_textured_mesh(path)
    facts: dict[str, Any] = {
        "file": str(path),
        "vertices": len(mesh.vertices),
        "faces": len(mesh.faces),
        "lower": "; ".join(f"{value:.6g}" for value in mesh.frame.lower),
        "upper": "; ".join(f"{value:.6g}" for value in mesh.frame.upper),
        **_edges(mesh),
        "winding": "consistent" if mesh.oriented else "not consistent",
    }
    if mesh.attributes:
        facts["vertex attributes"] = {name: f"{value.shape[1]} numbers" for name, value in mesh.attributes.items()}
    if mesh.appearance is not None:
        facts["texture coordinates"] = f"{len(mesh.appearance.uvs)} sets"
        facts["materials"] = dict(_materials(mesh.appearance))
    return facts


def _edges(mesh: Mesh) -> dict[str, int]:
    faces = mesh.faces.numpy(force=True)
    sides = np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), axis=1)
    keys = np.sort(sides[:, 0] * len(mesh.vertices) + sides[:, 1])
    counts = np.diff(np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1], [True]])))
    return {"open edges": int((counts == 1).sum()), "edges of more than two faces": int((counts > 2).sum())}


def _materials(appearance: Appearance) -> Iterator[tuple[str, str]]:
    rows = appearance.face_materials
    for number, material in enumerate(appearance.materials):
        count = appearance.faces if rows is None else int((rows == number).sum())
        faces = "all" if count is None else f"{count:,}"
        yield f"{number} {material.name}".rstrip(), f"{faces} faces, {_words(material)}"


def _words(material: Material) -> str:
    parts = []
    for slot in SLOTS:
        texture = material.texture(slot)
        if texture is not None:
            parts.append(f"{slot} {texture.pixels.shape[1]}x{texture.pixels.shape[0]}")
    parts.append(material.alpha_mode)
    return ", ".join([*parts, "double-sided"] if material.double_sided else parts)
