"""Images of a mesh without a display."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import Any

import numpy as np
from harness import Case, Side, note
from operations_distances import Request, signed_band
from peers import installed, open3d_scene, open3d_tensor
from shapes import Shape, lattice
from shapewright_kernels.arrays import Floats
from shapewright_kernels.marching_cubes import marching_cubes_sparse
from shapewright_kernels.triangles import face_normals

PIXELS = 512
EYE = (0.9, 0.7, 1.4)
FOV = 45.0
FACES = 200_000

Picture = tuple[Any, Any]
"""Depth along the viewing axis ``(H, W)``, infinite where nothing is seen, and unit face normals ``(H, W, 3)``."""


def remeshed(shape: Shape, faces: int) -> Shape:
    """The shape by marching cubes at the resolution that gives about as many faces."""
    resolution = 64
    while True:
        grid = lattice(resolution)
        near, signed = signed_band(shape, grid, 1.75)
        where, found = marching_cubes_sparse(near.coords, signed)
        if len(found) >= 0.9 * faces or resolution >= 1024:
            return Shape(shape.name, grid.lower + where * grid.spacing, found)
        resolution = max(resolution + 8, int(resolution * (faces / len(found)) ** 0.5))  # faces grow with its square


def image_cases(request: Request) -> Iterator[Case]:
    """Depth and normal of meshes of 200k faces in one picture of 512 x 512; search structures are part of the time."""
    try:
        from shapewright_kernels.cameras import look_at, perspective
        from shapewright_kernels.rasterise import rasterise
    except ImportError as error:
        note(f"depth-normal-image is left out: {error}")
        return
    camera = perspective(look_at(EYE, (0, 0, 0)), fov=FOV)
    for shape in request.shapes:
        if not shape.closed:
            continue
        mesh = remeshed(shape, FACES // 10 if request.quick else FACES)

        def ours(mesh: Shape = mesh) -> Picture:
            images = rasterise(mesh.vertices, mesh.faces, camera, PIXELS, PIXELS)
            return images.depth, images.normal

        yield Case(
            "depth-normal-image", shape.name, PIXELS, ours, _peers(mesh, _rays(camera)), same_picture,
            "seen at the same pixels to 0.2 %; there depth within 1e-4 at 99.9 %, normals within 2.6 degrees at 99 %",
            {} if request.quick else {"*": 1.0}, extra={"faces": len(mesh.faces)},
        )  # fmt: skip


def same_picture(ours: Picture, theirs: Picture) -> bool:
    """What :func:`image_cases` says as its tolerance; at outlines and edges a ray may take the neighbouring face."""
    seen = np.isfinite(ours[0]) & np.isfinite(theirs[0])
    if (np.isfinite(ours[0]) != np.isfinite(theirs[0])).mean() > 0.002 or not seen.any():
        return False
    depth = np.abs(ours[0][seen] - theirs[0][seen]) <= 1e-4
    cosine = np.einsum("ij,ij->i", ours[1][seen], theirs[1][seen]) >= 0.999
    return bool(depth.mean() >= 0.999 and cosine.mean() >= 0.99)


def _rays(camera: Any) -> Floats:
    """Directions ``(H * W, 3)`` through pixel centres, one unit deep along the viewing axis, so that the length along
    a ray is depth."""
    centres = (np.arange(PIXELS) + 0.5) / PIXELS - 0.5
    y, x = np.meshgrid(centres, centres, indexing="ij")
    local = np.stack([x / camera.focal[0], -y / camera.focal[1], -np.ones_like(x)], axis=-1).reshape(-1, 3)
    directions: Floats = local @ camera.world_to_camera[:3, :3]
    return directions


def _picture(depths: Any, normals: Any) -> Picture:
    return np.asarray(depths).reshape(PIXELS, PIXELS), np.asarray(normals).reshape(PIXELS, PIXELS, 3)


def _peers(mesh: Shape, directions: Floats) -> list[Side]:
    eye = np.array(EYE)
    origins = np.broadcast_to(eye, directions.shape)

    def open3d() -> Picture:
        rays = open3d_tensor(np.concatenate([origins, directions], axis=1))
        found = open3d_scene(mesh.vertices, mesh.faces).cast_rays(rays)
        return _picture(found["t_hit"].numpy(), found["primitive_normals"].numpy())

    def embreex() -> Picture:
        from embreex.mesh_construction import TriangleMesh
        from embreex.rtcore_scene import EmbreeScene

        scene = EmbreeScene()
        built = TriangleMesh(scene, np.ascontiguousarray(mesh.vertices[mesh.faces], np.float32))
        start, along = np.ascontiguousarray(origins, np.float32), np.ascontiguousarray(directions, np.float32)
        found = scene.run(start, along, query="INTERSECT", output=True)
        faces = found["primID"]
        hit = faces >= 0
        depths = np.where(hit, found["tfar"], np.inf)
        normals = np.zeros((len(faces), 3))
        used, rows = np.unique(faces[hit], return_inverse=True)
        normals[hit] = face_normals(mesh.vertices, mesh.faces[used])[0][rows]
        del built
        return _picture(depths, normals)

    def warp() -> Picture:
        peers_warp: Any = import_module("peers_warp")

        return _picture(*peers_warp.cast(peers_warp.build(mesh.vertices, mesh.faces), eye, directions))

    return installed([("open3d", "open3d", open3d), ("embreex", "embreex", embreex), ("warp", "warp", warp)])
