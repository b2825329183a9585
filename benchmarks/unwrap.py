"""Seconds and quality of new texture coordinates.

python benchmarks/unwrap.py [--faces N ...] [--xatlas] MESH ...
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
from shapewright import load_mesh
from shapewright_kernels.arrays import Floats, Ints
from shapewright_kernels.topology import duplicate_faces, flat_faces, merge_vertices
from shapewright_kernels.uv_quality import uv_quality
from shapewright_plugins.appearance.unwrap import unwrapped
from shapewright_plugins.mesh_transforms.simplify import Config, simplified


def main() -> None:
    """A line for each mesh, number of faces and method."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("meshes", nargs="+", type=Path, metavar="MESH")
    parser.add_argument("--faces", nargs="*", type=int, default=[], help="simplify to these numbers of faces first")
    parser.add_argument("--size", type=int, default=2048, help="texels along the texture")
    parser.add_argument("--xatlas", action="store_true", help="measure unwrap=xatlas, too (minutes for many faces)")
    given = parser.parse_args()
    methods = ["charts", "xatlas"] if given.xatlas else ["charts"]
    unwrapped(*_tetrahedron(), size=64, padding=1)  # compile
    print(f"{'mesh':24} {'faces':>8} {'method':8} {'seconds':>8} {'charts':>7} stretch spread  fill seams")
    for path in given.meshes:
        mesh = load_mesh(path)
        vertices, group = merge_vertices(mesh.vertices.numpy())
        whole = group[mesh.faces.numpy()]
        whole = whole[~(flat_faces(vertices, whole) | duplicate_faces(whole))]
        for faces in given.faces or [len(whole)]:
            points, triangles = vertices, whole
            if faces < len(whole):
                points, triangles = simplified(vertices, whole, Config(faces=faces))
            for method in methods:
                start = time.perf_counter()
                uvs = unwrapped(points, triangles, size=given.size, padding=4, method=method)
                seconds = time.perf_counter() - start
                found = uv_quality(points, triangles, uvs)
                figures = f"{found.stretch:7.3f} {found.spread:6.2f} {found.fill:5.2f} {found.seams:5.1f}"
                print(f"{path.name:24} {len(triangles):8} {method:8} {seconds:8.2f} {found.charts:7} {figures}")


def _tetrahedron() -> tuple[Floats, Ints]:
    points = np.concatenate([np.zeros((1, 3)), np.eye(3)])
    return points, np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])


if __name__ == "__main__":
    main()
