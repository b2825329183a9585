"""Texture coordinates for meshes that have none."""

from __future__ import annotations

from typing import Any

import numpy as np
from shapewright.errors import ConfigError, MissingExtraError
from shapewright_kernels.arrays import Floats, Ints
from shapewright_kernels.chart_packing import pack_charts
from shapewright_kernels.charts import cone_charts

METHODS = ("charts", "xatlas")


def unwrapped(
    vertices: Floats, faces: Ints, *, size: int, padding: int, method: str = "charts", degrees: float = 75.0
) -> Floats:
    """UVs ``(F, 3, 2)`` in [0, 1], charts apart by ``padding`` texels of a texture of ``size``.

    Args:
        vertices: ``(V, 3)`` float64. faces: ``(F, 3)`` over merged vertices, each with an area.
        method: ``charts`` cuts where normals leave a cone of half angle ``degrees`` and projects; ``xatlas`` has that
            library do all of it: fewer seams, ten times slower and more.
    Raises:
        ConfigError: the charts have no room on the texture. MissingExtraError: ``xatlas`` without the extra
        ``texture``.
    """
    low, extent = vertices.min(axis=0), float(np.ptp(vertices, axis=0).max()) or 1.0
    unit = (vertices - low) / extent
    if method == "xatlas":
        return _by_xatlas(unit, faces, size=size, padding=padding)
    labels, flat = cone_charts(unit, faces, degrees=degrees)
    try:
        return pack_charts(labels, flat, size=size, padding=padding).uvs
    except ValueError as error:
        raise ConfigError(f"{error}; raise texture_size, or simplify the mesh first") from None


def _by_xatlas(unit: Floats, faces: Ints, *, size: int, padding: int) -> Floats:
    try:
        import xatlas
    except ImportError:
        raise MissingExtraError("xatlas", "texture", "transform/bake-pbr with unwrap=xatlas") from None
    atlas: Any = xatlas.Atlas()
    atlas.add_mesh(unit.astype(np.float32), faces.astype(np.uint32))
    charts, pack = xatlas.ChartOptions(), xatlas.PackOptions()
    charts.max_iterations = 1
    pack.resolution = size
    pack.padding = padding
    pack.create_image = False
    pack.rotate_charts = True
    pack.bruteForce = False
    atlas.generate(charts, pack, False)
    _, corners, uvs = atlas[0]
    # its sides differ by some texels, and the texture is square
    square = np.array([atlas.width, atlas.height]) / max(atlas.width, atlas.height)
    found: Floats = np.asarray(uvs, np.float64)[np.asarray(corners, np.int64)] * square
    return np.clip(found, 0.0, 1.0)
