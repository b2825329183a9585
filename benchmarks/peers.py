"""Other libraries behind small functions of numpy arrays. One that is not installed is told once and left out."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache
from importlib import import_module
from time import perf_counter
from typing import Any

import numpy as np
from harness import Scaled, Side, note
from shapewright_kernels.arrays import Floats, Ints

PACKAGES = {
    "open3d": "open3d",
    "igl": "libigl",
    "point_cloud_utils": "point-cloud-utils",
    "warp": "warp-lang",
    "skimage": "scikit-image",
    "vtk": "vtk",
    "trimesh": "trimesh",
    "scipy": "scipy",
    "napf": "napf",
    "embreex": "embreex",
    "spconv": "spconv",
    "torch": "torch",
}


@cache
def available(module: str) -> bool:
    """Whether a library can be imported; says so once where it cannot."""
    try:
        import_module(module)
    except ImportError as error:
        note(f"peer {PACKAGES[module]} is left out: {error}; python -m pip install -e '.[bench]'")
        return False
    return True


def installed(sides: Iterable[tuple[str, str, Callable[[], Any]]]) -> list[Side]:
    """Of ``(module, name, call)`` the sides whose module can be imported."""
    return [Side(name, call) for module, name, call in sides if available(module)]


class Part:
    """Queries of which a slow peer answers blocks of consecutive ones, spread evenly, so that its caches work as on
    all of them.

    Seconds of the queries are scaled to all of them, those of building a search structure are not.
    """

    BLOCK = 2048

    def __init__(self, count: int, most: int) -> None:
        blocks = max(1, most // self.BLOCK)
        if count <= blocks * self.BLOCK:
            self.rows = np.arange(count)
        else:
            starts = np.linspace(0, count - self.BLOCK, blocks).astype(np.int64)
            self.rows = np.unique((starts[:, None] + np.arange(self.BLOCK)).ravel())
        self.scale = count / max(len(self.rows), 1)

    def run(self, build: Callable[[], Any], query: Callable[[Any], Any]) -> Scaled:
        """``query(build())`` with its seconds as for all queries."""
        start = perf_counter()
        built = build()
        middle = perf_counter()
        found = query(built)
        return Scaled(found, middle - start + (perf_counter() - middle) * self.scale)


def open3d_scene(vertices: Floats, faces: Ints) -> Any:
    """Open3D's raycasting scene (Embree) of one mesh."""
    import open3d as o3d

    scene = o3d.t.geometry.RaycastingScene()
    scene.add_triangles(o3d.core.Tensor(vertices.astype(np.float32)), o3d.core.Tensor(faces.astype(np.uint32)))
    return scene


def open3d_tensor(array: Any) -> Any:
    """float32 tensor of Open3D."""
    import open3d as o3d

    return o3d.core.Tensor(np.ascontiguousarray(array, np.float32))


def vtk_flying_edges(values: Any) -> tuple[Floats, Ints]:
    """Level 0 of a dense grid by VTK's flying edges, in lattice units."""
    from vtkmodules.util.numpy_support import numpy_to_vtk, vtk_to_numpy
    from vtkmodules.vtkCommonDataModel import vtkImageData
    from vtkmodules.vtkFiltersCore import vtkFlyingEdges3D

    image = vtkImageData()
    image.SetDimensions(*values.shape[::-1])  # x runs fastest there: the image is the grid with its axes reversed
    image.GetPointData().SetScalars(numpy_to_vtk(values.reshape(-1), deep=False))
    surface = vtkFlyingEdges3D()
    surface.SetInputData(image)
    surface.SetValue(0, 0.0)
    surface.ComputeNormalsOff()
    surface.ComputeGradientsOff()
    surface.ComputeScalarsOff()
    surface.Update()
    mesh = surface.GetOutput()
    points = vtk_to_numpy(mesh.GetPoints().GetData())[:, ::-1]
    return points, vtk_to_numpy(mesh.GetPolys().GetConnectivityArray()).reshape(-1, 3)
