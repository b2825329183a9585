"""Polygons with what is painted on them, as readers return them."""

from __future__ import annotations

from dataclasses import dataclass

from ..materials import Material
from .polygons import Array, Polygons


@dataclass(frozen=True, slots=True)
class TexturedPolygons:
    """Polygons, and for each of their corners and faces how they look."""

    polygons: Polygons
    materials: tuple[Material, ...] = ()
    polygon_materials: Array | None = None
    """``(P,)`` rows of ``materials``, -1 for none."""
    uvs: tuple[Array, ...] = ()
    """``(C, 2)`` each, ``v`` upward."""
    colors: Array | None = None
    """``(C, 4)`` in [0, 1]."""
    normals: Array | None = None
    """``(C, 3)``, of any length; three times infinity where the file has none."""
