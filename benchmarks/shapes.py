"""The meshes to measure on: shapes of the stress suite and files of a folder, each with largest extent 1 about 0."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from shapewright.errors import MeshWarning
from shapewright.host import Catalog, discover
from shapewright.materials import Appearance
from shapewright.normalise import normalise
from shapewright.run import build
from shapewright_kernels.arrays import Floats, Ints
from shapewright_kernels.narrow_band import Lattice
from shapewright_kernels.solid_signs import SolidSigns

SUITE = ("s01-leaf", "s09-trefoil-knot", "s13-cubic-lattice")
SUITE_QUICK = ("s09-trefoil-knot",)
FILES = ("bunny", "cycloidal_gearbox", "nefertiti", "spot")
"""Files of the folder that are measured when they are there; all of them where none is."""
MARGIN = 1.25
"""Cells between a mesh and the border of its lattice."""


@dataclass(frozen=True)
class Shape:
    """A mesh: vertices ``(V, 3)`` float64 within ±0.5, faces ``(F, 3)`` int64."""

    name: str
    vertices: Floats
    faces: Ints
    appearance: Appearance | None = None
    """Materials of the file, if it has any."""

    @cached_property
    def closed(self) -> bool:
        """Whether inside is well defined, so that libraries can agree on the sign of a distance."""
        report = SolidSigns(self.vertices, self.faces).report
        return report.open_edges == 0 and report.flipped_faces == 0 and report.unorientable_edges == 0

    @property
    def corners(self) -> Floats:
        """``(F, 3, 3)``."""
        return np.ascontiguousarray(self.vertices[self.faces])


def lattice(resolution: int) -> Lattice:
    """Lattice of ``resolution`` cells an axis around the box ±0.5."""
    spacing = 1.0 / (resolution - 2 * MARGIN)
    return Lattice(-0.5 - MARGIN * spacing, spacing, resolution)


def _load(catalog: Catalog, key: str, options: dict[str, str], names: Sequence[str], prefix: str) -> list[Shape]:
    dataset = build(catalog, key, options)
    shapes = []
    for name in names:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", MeshWarning)
            mesh, _ = normalise(dataset.load(name).mesh)
        vertices = mesh.vertices.numpy(force=True).astype(np.float64)
        shapes.append(Shape(prefix + name, vertices, mesh.faces.numpy(force=True), mesh.appearance))
    return shapes


def load_shapes(folder: Path | None, quick: bool, wanted: Sequence[str] = ()) -> list[Shape]:
    """Shapes of the stress suite and, where a folder is given, of its files; ``wanted`` names others than the usual."""
    catalog = discover()
    suite = tuple(build(catalog, "dataset/stress-suite", {}).ids())
    usual = wanted or (SUITE_QUICK if quick else SUITE)
    shapes = _load(catalog, "dataset/stress-suite", {}, [name for name in usual if name in suite], "")
    if folder is not None:
        options = {"path": str(folder)}
        files = tuple(build(catalog, "dataset/folder", options).ids())
        usual = [name for name in wanted or FILES[: 1 if quick else None] if name in files]
        if not wanted and not usual:
            usual = list(files)
        shapes += _load(catalog, "dataset/folder", options, usual, "")
    return shapes
