"""Texture coordinates for meshes that have none."""

from __future__ import annotations

from typing import Any

import numpy as np
from shapewright.errors import MissingExtraError
from shapewright_kernels.arrays import Floats, Ints


def unwrapped(vertices: Floats, faces: Ints, *, size: int, padding: int) -> Floats:
    """UVs ``(F, 3, 2)`` in [0, 1], charts apart by ``padding`` texels of a texture of ``size``; xatlas makes them.

    Raises:
        MissingExtraError: without the extra ``texture``.
    """
    try:
        import xatlas
    except ImportError:
        raise MissingExtraError("xatlas", "texture", "transform/bake-pbr") from None
    low, extent = vertices.min(axis=0), float(np.ptp(vertices, axis=0).max()) or 1.0
    atlas: Any = xatlas.Atlas()
    atlas.add_mesh(((vertices - low) / extent).astype(np.float32), faces.astype(np.uint32))
    charts, pack = xatlas.ChartOptions(), xatlas.PackOptions()
    charts.max_iterations = 1
    pack.resolution = size
    pack.padding = padding
    pack.create_image = False
    pack.rotate_charts = True
    pack.bruteForce = False
    atlas.generate(charts, pack, False)
    _, corners, uvs = atlas[0]
    return np.clip(np.asarray(uvs, np.float64)[np.asarray(corners, np.int64)], 0.0, 1.0)
