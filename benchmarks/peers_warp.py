"""Queries on a mesh by Warp, whose kernels must stand in a module of their own. Imports warp."""

# mypy: ignore-errors

import numpy as np
import warp as wp

wp.config.quiet = True
wp.config.log_level = wp.LOG_ERROR if hasattr(wp, "LOG_ERROR") else None
wp.init()
DEVICE = "cpu"


@wp.kernel
def _signed(mesh: wp.uint64, points: wp.array(dtype=wp.vec3), distances: wp.array(dtype=float)):
    row = wp.tid()
    hit = wp.mesh_query_point_sign_normal(mesh, points[row], 10.0)
    if hit.result:
        nearest = wp.mesh_eval_position(mesh, hit.face, hit.u, hit.v)
        distances[row] = hit.sign * wp.length(points[row] - nearest)


@wp.kernel
def _nearest(
    mesh: wp.uint64, points: wp.array(dtype=wp.vec3), distances: wp.array(dtype=float), faces: wp.array(dtype=int)
):
    row = wp.tid()
    hit = wp.mesh_query_point_no_sign(mesh, points[row], 10.0)
    if hit.result:
        distances[row] = wp.length(points[row] - wp.mesh_eval_position(mesh, hit.face, hit.u, hit.v))
        faces[row] = hit.face


@wp.kernel
def _cast(
    mesh: wp.uint64,
    origin: wp.vec3,
    directions: wp.array(dtype=wp.vec3),
    depths: wp.array(dtype=float),
    normals: wp.array(dtype=wp.vec3),
):
    row = wp.tid()
    hit = wp.mesh_query_ray(mesh, origin, directions[row], 100.0)
    depths[row] = wp.inf
    if hit.result:
        depths[row] = hit.t
        normals[row] = hit.normal


def build(vertices, faces):
    """Bounding volume hierarchy of a mesh."""
    points = wp.array(np.ascontiguousarray(vertices, np.float32), dtype=wp.vec3, device=DEVICE)
    return wp.Mesh(points, wp.array(faces.astype(np.int32).reshape(-1), dtype=wp.int32, device=DEVICE))


def signed_distance(mesh, points):
    """``(N,)`` float32, sign by pseudonormals."""
    distances = wp.zeros(len(points), dtype=float, device=DEVICE)
    queries = wp.array(np.ascontiguousarray(points, np.float32), dtype=wp.vec3, device=DEVICE)
    wp.launch(_signed, len(points), inputs=[mesh.id, queries, distances], device=DEVICE)
    return distances.numpy()


def nearest(mesh, points):
    """Distances ``(N,)`` and faces ``(N,)``."""
    distances = wp.zeros(len(points), dtype=float, device=DEVICE)
    faces = wp.zeros(len(points), dtype=int, device=DEVICE)
    queries = wp.array(np.ascontiguousarray(points, np.float32), dtype=wp.vec3, device=DEVICE)
    wp.launch(_nearest, len(points), inputs=[mesh.id, queries, distances, faces], device=DEVICE)
    return distances.numpy(), faces.numpy()


def cast(mesh, origin, directions):
    """Distance along each direction ``(N,)`` (infinite where nothing is hit) and unit face normal ``(N, 3)``."""
    count = len(directions)
    depths = wp.zeros(count, dtype=float, device=DEVICE)
    normals = wp.zeros(count, dtype=wp.vec3, device=DEVICE)
    rays = wp.array(np.ascontiguousarray(directions, np.float32), dtype=wp.vec3, device=DEVICE)
    wp.launch(_cast, count, inputs=[mesh.id, wp.vec3(*map(float, origin)), rays, depths, normals], device=DEVICE)
    return depths.numpy(), normals.numpy()
