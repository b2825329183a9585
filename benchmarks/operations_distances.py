"""Distances, winding numbers, samples and the metrics made of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np
import torch
from harness import Case, Side
from peers import Part, installed, open3d_scene, open3d_tensor
from shapes import Shape, lattice
from shapewright.host import discover
from shapewright.interfaces import MeshPair
from shapewright.run import build
from shapewright.states import Mesh
from shapewright_kernels.arrays import Floats, Ints
from shapewright_kernels.closest_point import ClosestPointIndex
from shapewright_kernels.marching_cubes import marching_cubes_sparse
from shapewright_kernels.narrow_band import Lattice, NarrowBand, narrow_band
from shapewright_kernels.nearest_neighbour import NearestNeighbourIndex
from shapewright_kernels.rows import dot_rows
from shapewright_kernels.sampling import sample_triangles
from shapewright_kernels.solid_signs import INSIDE, SolidSigns
from shapewright_kernels.triangles import face_normals
from shapewright_kernels.winding import winding_numbers

BAND = 3.0
"""Cells on each side of the surface: the band of the issue's goal."""
RECONSTRUCTION = 256
"""Resolution of the result that metrics compare with its original."""
THRESHOLD = 0.005


@dataclass(frozen=True)
class Request:
    """What a run asks every operation for."""

    shapes: Sequence[Shape]
    resolutions: Sequence[int]
    quick: bool


def signed_band(shape: Shape, grid: Lattice, band: float) -> tuple[NarrowBand, Floats]:
    """Lattice points near the mesh and their signed distance, float64."""
    near = narrow_band(shape.vertices, shape.faces, grid, band)
    signs = SolidSigns(shape.vertices, shape.faces)
    inside = signs.sides(near.coords, near.distances, grid) & INSIDE
    return near, np.negative(near.distances, out=near.distances.copy(), where=inside.view(bool))


def same_distances(ours: Floats, theirs: Floats, tolerance: float = 1e-4) -> bool:
    """Magnitudes within ``tolerance`` at 99.99 % of the points, signs equal at 99.9 % of those farther than that."""
    near = np.abs(np.abs(ours) - np.abs(theirs)) <= tolerance
    away = np.abs(ours) > tolerance
    sides = (ours[away] < 0) == (theirs[away] < 0)
    return bool(near.mean() >= 0.9999 and (not away.any() or sides.mean() >= 0.999))


def _same_part(rows: Ints, ours: tuple[NarrowBand, Floats], theirs: Floats) -> bool:
    return same_distances(ours[1][rows], theirs)


def narrow_band_cases(request: Request) -> Iterator[Case]:
    """Signed distance at all lattice points of a band; peers are given the points and answer a part of them."""
    for shape in request.shapes:
        if not shape.closed:
            continue
        for resolution in request.resolutions:
            grid = lattice(resolution)
            near, signed = signed_band(shape, grid, BAND)
            part = Part(len(near.coords), 10_000 if request.quick else 100_000)
            points = grid.points(near.coords[part.rows])
            count, expected = len(near.coords), signed[part.rows]
            del near, signed
            yield Case(
                "narrow-band-signed-distance", shape.name, resolution,
                partial(signed_band, shape, grid, BAND), _signed_peers(shape, points, part),
                partial(_same_part, part.rows),
                "distances within 1e-4 of the box at 99.99 % of points, signs at 99.9 % of those farther off",
                {"*": 10.0} if resolution >= 512 else {},
                units=lambda ours: len(ours[1]), unit="points",
                extra={"faces": len(shape.faces), "peer_points": len(expected), "points": count},
            )  # fmt: skip


def _signed_peers(shape: Shape, points: Floats, part: Part) -> list[Side]:
    vertices, faces = shape.vertices, shape.faces

    def open3d() -> Any:
        return part.run(
            lambda: open3d_scene(vertices, faces),
            lambda scene: scene.compute_signed_distance(open3d_tensor(points)).numpy(),
        )

    def libigl() -> Any:
        import igl

        sign = igl.SignedDistanceType.SIGNED_DISTANCE_TYPE_PSEUDONORMAL
        return part.run(lambda: None, lambda _: igl.signed_distance(points, vertices, faces, sign_type=sign)[0])

    def point_cloud_utils() -> Any:
        import point_cloud_utils as pcu

        return part.run(lambda: None, lambda _: np.asarray(pcu.signed_distance_to_mesh(points, vertices, faces)[0]))

    def warp() -> Any:
        peers_warp: Any = import_module("peers_warp")

        return part.run(
            lambda: peers_warp.build(vertices, faces), lambda mesh: peers_warp.signed_distance(mesh, points)
        )

    return installed(
        [
            ("open3d", "open3d", open3d),
            ("igl", "libigl", libigl),
            ("point_cloud_utils", "point-cloud-utils", point_cloud_utils),
            ("warp", "warp", warp),
        ]
    )


def winding_cases(request: Request) -> Iterator[Case]:
    """Generalised winding numbers at random points of the box."""
    count = 10_000 if request.quick else 200_000
    for shape in request.shapes:
        points = np.random.default_rng(1).uniform(-0.55, 0.55, (count, 3))

        def libigl(shape: Shape = shape, points: Floats = points) -> Any:
            import igl

            return igl.fast_winding_number(shape.vertices, shape.faces, points)

        def point_cloud_utils(shape: Shape = shape, points: Floats = points) -> Any:
            import point_cloud_utils as pcu

            return np.asarray(pcu.triangle_soup_fast_winding_number(shape.vertices, shape.faces, points))

        yield Case(
            "winding-numbers", shape.name, None,
            partial(winding_numbers, points, shape.vertices, shape.faces),
            installed([("igl", "libigl", libigl), ("point_cloud_utils", "point-cloud-utils", point_cloud_utils)]),
            lambda ours, theirs: bool(np.quantile(np.abs(ours - theirs), 0.999) <= 0.05),
            "within 0.05 at 99.9 % of points (both sides are approximations)",
            extra={"faces": len(shape.faces), "points": count},
        )  # fmt: skip


def metric_cases(request: Request) -> Iterator[Case]:
    """Chamfer, F-score and normal consistency of a mesh and its reconstruction, sampling included."""
    count = 20_000 if request.quick else 1_000_000
    catalog = discover()
    for shape in request.shapes:
        if not shape.closed:
            continue
        grid = lattice(64 if request.quick else RECONSTRUCTION)
        near, signed = signed_band(shape, grid, 1.75)
        where, faces = marching_cubes_sparse(near.coords, signed)
        result = Shape(shape.name, grid.lower + where * grid.spacing, faces)
        pair = [Mesh(torch.from_numpy(s.vertices), torch.from_numpy(s.faces)) for s in (result, shape)]
        metrics = [
            build(catalog, f"metric/{name}", {"samples": count})
            for name in ("chamfer", "f-score", "normal-consistency")
        ]

        def ours(pair: list[Mesh] = pair, metrics: list[Any] = metrics) -> tuple[float, float, float]:
            fresh = MeshPair(pair[0], pair[1], sample="bench")
            values: dict[str, float] = {}
            for metric in metrics:
                values |= {key.partition("/")[0]: value for key, value in metric.measure(fresh).items()}
            return values["chamfer-l1"], values[f"f-score@{THRESHOLD:g}"], values["normal-consistency"]

        yield Case(
            "metrics", shape.name, None, ours, _metric_peers(result, shape, count),
            lambda ours, theirs: bool(
                abs(theirs[0] / ours[0] - 1) <= 0.01 and np.abs(np.subtract(ours, theirs))[1:].max() <= 0.005
            ),
            "Chamfer within 1 %, F-score and normal consistency within 0.005 (each side draws its own samples)",
            {"*": 3.0} if count == 1_000_000 else {},
            extra={"faces": len(shape.faces), "result_faces": len(faces), "samples": count},
        )  # fmt: skip


def _figures(found: Sequence[tuple[Floats, Floats]]) -> tuple[float, float, float]:
    """Chamfer L1, F-score and normal consistency of (distances, cosines) both ways."""
    shares = [float((distances < THRESHOLD).mean()) for distances, _ in found]
    score = 2 * shares[0] * shares[1] / max(sum(shares), 1e-300)
    return (
        sum(float(distances.mean()) for distances, _ in found) / 2,
        score,
        sum(float(np.abs(cosines).mean()) for _, cosines in found) / 2,
    )


def _metric_peers(result: Shape, reference: Shape, count: int) -> list[Side]:
    normals = {id(shape): face_normals(shape.vertices, shape.faces)[0] for shape in (result, reference)}

    def both_ways(sample: Any, nearest: Any) -> tuple[float, float, float]:
        found = []
        for source, target in ((reference, result), (result, reference)):
            points, source_faces = sample(source)
            distances, target_faces = nearest(target, points)
            cosines = dot_rows(normals[id(source)][source_faces], normals[id(target)][target_faces])
            found.append((distances, cosines))
        return _figures(found)

    def libigl_samples(shape: Shape) -> tuple[Floats, Ints]:
        import igl

        _, faces, points = igl.random_points_on_mesh(count, shape.vertices, shape.faces)
        return points, faces

    def pcu_samples(shape: Shape) -> tuple[Floats, Ints]:
        import point_cloud_utils as pcu

        faces, weights = pcu.sample_mesh_random(shape.vertices, shape.faces, count, random_seed=1)
        return pcu.interpolate_barycentric_coords(shape.faces, faces, weights, shape.vertices), np.asarray(faces)

    def own_samples(shape: Shape) -> tuple[Floats, Ints]:
        """Ours: Open3D and Warp have no sampler that tells the face."""
        return sample_area(shape, count)

    def open3d(shape: Shape, points: Floats) -> tuple[Floats, Ints]:
        found = open3d_scene(shape.vertices, shape.faces).compute_closest_points(open3d_tensor(points))
        offset = found["points"].numpy() - points
        return np.sqrt(np.einsum("ij,ij->i", offset, offset)), found["primitive_ids"].numpy().astype(np.int64)

    def libigl(shape: Shape, points: Floats) -> tuple[Floats, Ints]:
        import igl

        squared, faces, _ = igl.point_mesh_squared_distance(points, shape.vertices, shape.faces)
        return np.sqrt(squared), faces

    def point_cloud_utils(shape: Shape, points: Floats) -> tuple[Floats, Ints]:
        import point_cloud_utils as pcu

        distances, faces, _ = pcu.closest_points_on_mesh(points, shape.vertices, shape.faces)
        return np.asarray(distances), np.asarray(faces)

    def warp(shape: Shape, points: Floats) -> tuple[Floats, Ints]:
        peers_warp: Any = import_module("peers_warp")

        distances, faces = peers_warp.nearest(peers_warp.build(shape.vertices, shape.faces), points)
        return distances, faces

    return installed(
        [
            ("open3d", "open3d", lambda: both_ways(own_samples, open3d)),
            ("igl", "libigl", lambda: both_ways(libigl_samples, libigl)),
            ("point_cloud_utils", "point-cloud-utils", lambda: both_ways(pcu_samples, point_cloud_utils)),
            ("warp", "warp", lambda: both_ways(own_samples, warp)),
        ]
    )


def sample_area(shape: Shape, count: int, seed: int = 0) -> tuple[Floats, Ints]:
    """``count`` area-uniform points and their faces, random numbers included."""
    corners = shape.corners
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    uniforms = np.random.default_rng(seed).random((count, 3))
    return sample_triangles(corners, np.sqrt(np.einsum("ij,ij->i", normals, normals)) / 2, uniforms)


def _nearest(points: Floats, queries: Floats) -> Floats:
    return NearestNeighbourIndex(points).query(queries)[0]


def nearest_cases(request: Request) -> Iterator[Case]:
    """Nearest point of one set of surface samples for each of another, building included."""
    count = 20_000 if request.quick else 1_000_000
    for shape in request.shapes:
        points, queries = sample_area(shape, count, 1)[0], sample_area(shape, count, 2)[0]
        order = np.random.default_rng(3).permutation(count)  # samples come grouped by face; no library is to gain by it
        points, queries = points[order], queries[order]

        def scipy(points: Floats = points, queries: Floats = queries) -> Any:
            from scipy.spatial import cKDTree

            return cKDTree(points).query(queries, workers=-1)[0]

        def napf(points: Floats = points, queries: Floats = queries) -> Any:
            import napf
            from shapewright_kernels.threads import thread_count

            squared = napf.KDT(points, metric=2, nthread=thread_count()).knn_search(queries, 1)[0]
            return np.sqrt(np.asarray(squared)[:, 0])

        def open3d(points: Floats = points, queries: Floats = queries) -> Any:
            import open3d as o3d

            search = o3d.core.nns.NearestNeighborSearch(o3d.core.Tensor(points))
            search.knn_index()
            return np.sqrt(search.knn_search(o3d.core.Tensor(queries), 1)[1].numpy()[:, 0])

        def point_cloud_utils(points: Floats = points, queries: Floats = queries) -> Any:
            import point_cloud_utils as pcu

            return np.asarray(pcu.k_nearest_neighbors(queries, points, 1)[0]).reshape(-1)

        yield Case(
            "nearest-points", shape.name, None,
            partial(_nearest, points, queries),
            installed(
                [
                    ("napf", "napf", napf),
                    ("scipy", "scipy", scipy),
                    ("open3d", "open3d", open3d),
                    ("point_cloud_utils", "point-cloud-utils", point_cloud_utils),
                ]
            ),
            lambda ours, theirs: bool(np.abs(ours - theirs).max() <= 1e-6),
            "all distances within 1e-6 of the box",
            extra={"points": count},
        )  # fmt: skip


def _sampled(shape: Shape, count: int) -> Floats:
    return sample_area(shape, count)[0]


def sampling_cases(request: Request) -> Iterator[Case]:
    """Area-uniform samples, random numbers included."""
    count = 100_000 if request.quick else 1_000_000
    for shape in request.shapes:
        index = ClosestPointIndex(shape.vertices, shape.faces)
        corners = shape.corners
        areas = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
        mean = np.average(corners.mean(axis=1), axis=0, weights=areas)

        def uniform(
            ours: Floats, theirs: Floats, index: ClosestPointIndex = index, mean: Floats = mean, n: int = count
        ) -> bool:
            on_surface = index.query(theirs[:: max(1, n // 10_000)])[0].max() <= 1e-6
            error = theirs.std(axis=0) / np.sqrt(n)
            return bool(on_surface and len(theirs) == n and (np.abs(theirs.mean(axis=0) - mean) <= 6 * error).all())

        yield Case(
            "area-sampling", shape.name, None,
            partial(_sampled, shape, count), _sampling_peers(shape, count), uniform,
            "on the surface to 1e-6 of the box, mean position within 6 standard errors of the centroid",
            extra={"faces": len(shape.faces), "samples": count},
        )  # fmt: skip


def _sampling_peers(shape: Shape, count: int) -> list[Side]:
    def trimesh() -> Any:
        import trimesh

        mesh = trimesh.Trimesh(shape.vertices, shape.faces, process=False)
        return np.asarray(trimesh.sample.sample_surface(mesh, count, seed=0)[0])

    def open3d() -> Any:
        import open3d as o3d

        vector = o3d.utility.Vector3dVector
        mesh = o3d.geometry.TriangleMesh(vector(shape.vertices), o3d.utility.Vector3iVector(shape.faces))
        return np.asarray(mesh.sample_points_uniformly(count).points)

    def libigl() -> Any:
        import igl

        return igl.random_points_on_mesh(count, shape.vertices, shape.faces)[2]

    def point_cloud_utils() -> Any:
        import point_cloud_utils as pcu

        faces, weights = pcu.sample_mesh_random(shape.vertices, shape.faces, count, random_seed=1)
        return pcu.interpolate_barycentric_coords(shape.faces, faces, weights, shape.vertices)

    return installed(
        [
            ("point_cloud_utils", "point-cloud-utils", point_cloud_utils),
            ("igl", "libigl", libigl),
            ("open3d", "open3d", open3d),
            ("trimesh", "trimesh", trimesh),
        ]
    )
