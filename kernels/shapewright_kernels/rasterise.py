"""Depth, normals, faces and barycentric coordinates of a mesh as a camera sees it, on the CPU and without a display.

Faces are sorted into square tiles, tiles are drawn by threads, each into its own small buffer. What is drawn depends on
no order: at every sample the nearest face wins, of equally near ones the one that is stored first. For one picture this
is faster than building a hierarchy for rays; for many pictures of one mesh the hierarchy may win.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .arrays import Bools, Floats, Ints
from .cameras import Camera
from .rasterise_setup import Faces, TileLists, fill_tiles, list_tiles, make_view, project
from .rasterise_tiles import draw_tile, resolve_tile
from .threads import run_chunks
from .vertex_normals import vertex_normals

TILE = 64
"""Samples along a tile, about: a multiple of the samples along a pixel."""
MEMBERS = 1 << 26
"""Entries in the lists of faces by tile that are held at once (256 MB); beyond, tiles are drawn in groups."""
LARGEST = 1 << 20
"""Samples along a picture are fewer."""

Image = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class MeshImages:
    """What a camera sees of a mesh, row 0 at the top."""

    depth: Image
    """``(H, W)``: distance along the viewing axis in units of camera space; inf where nothing is seen."""
    face_ids: NDArray[np.int32]
    """``(H, W)``: row of ``faces``, -1 where nothing is seen."""
    barycentrics: Image
    """``(H, W, 3)``: weights of the face's corners at the point that is seen, perspective undone; 0 if none is."""
    normal: Image
    """``(H, W, 3)``: unit normals in world space; 0 where nothing is seen. For normals in camera space multiply by the
    rotation: ``normal @ camera.world_to_camera[:3, :3].T``."""
    mask: Bools
    """``(H, W)``: whether something is seen."""
    coverage: Image
    """``(H, W)``: share of the pixel's samples at which something is seen."""
    skipped_faces: int
    """Faces that were left out: without area, or with a corner that is not finite."""


def rasterise(
    vertices: ArrayLike,
    faces: ArrayLike,
    camera: Camera,
    height: int,
    width: int,
    *,
    normals: Literal["flat", "smooth"] | Floats = "flat",
    facing: bool = False,
    supersample: int = 1,
    threads: int | None = None,
) -> MeshImages:
    """Draw both sides of all faces of a mesh.

    A pixel shows what is at its centre. Faces that share an edge or a vertex and do not overlap on the screen cover
    every sample exactly once, see :mod:`.rasterise_tiles`. Faces that cross the near plane are cut there.

    Args:
        vertices: ``(V, 3)`` floats, any units; they are computed with in float64.
        faces: ``(F, 3)`` integers below ``V``.
        camera: see :mod:`.cameras`. Its image is stretched to the pixels, so make its aspect ``width / height``.
        normals: ``flat`` for those of faces as they are wound, ``smooth`` for those of
            :func:`~shapewright_kernels.vertex_normals.vertex_normals` interpolated, or ``(V, 3)`` own ones to
            interpolate. Where interpolated normals cancel, the face's is taken.
        facing: turn normals that point away from the viewer, for meshes whose winding means nothing.
        supersample: samples along a pixel. With several, depth, face and barycentric coordinates are those of the
            nearest sample of a pixel, the normal is averaged, and ``coverage`` smooths outlines.
        threads: the result does not depend on it.
    Raises:
        ValueError: wrong shapes, indices outside ``vertices``, a size out of range, 2^30 faces or more.

    >>> from shapewright_kernels.cameras import look_at, orthographic
    >>> camera = orthographic(look_at((0, 0, 5), (0, 0, 0)), extent=2)
    >>> images = rasterise([[-1, -1, 0], [1, -1, 0], [1, 1, 0]], [[0, 1, 2]], camera, 2, 2)
    >>> images.depth.tolist(), images.normal[1, 1].tolist()
    ([[inf, 5.0], [5.0, 5.0]], [0.0, 0.0, 1.0])
    """
    points = np.ascontiguousarray(vertices, dtype=np.float64).reshape(-1, 3)
    triangles = _checked_faces(faces, len(points))
    if supersample < 1 or height < 1 or width < 1 or max(height, width) * supersample >= LARGEST:
        raise ValueError(f"no picture of {height} x {width} pixels of {supersample} x {supersample} samples")
    if isinstance(normals, str):
        if normals not in ("flat", "smooth"):
            raise ValueError(f"normals must be 'flat', 'smooth' or an array, not {normals!r}")
        at_vertices = vertex_normals(points, triangles) if normals == "smooth" else np.empty((0, 3))
    else:
        at_vertices = np.ascontiguousarray(normals, dtype=np.float64)
        if at_vertices.shape != points.shape:
            raise ValueError(f"normals have shape {at_vertices.shape}, vertices {points.shape}")

    view = make_view(camera, height * supersample, width * supersample)
    tile = max(TILE // supersample, 1) * supersample
    across = -(-view.width // tile)
    screen = project(points, view, threads)
    lists = list_tiles(points, triangles, screen, view, tile, threads)
    images = MeshImages(
        depth=np.empty((height, width), np.float32),
        face_ids=np.empty((height, width), np.int32),
        barycentrics=np.empty((height, width, 3), np.float32),
        normal=np.empty((height, width, 3), np.float32),
        mask=np.empty((height, width), np.bool_),
        coverage=np.empty((height, width), np.float32),
        skipped_faces=lists.skipped,
    )

    def draw(job: tuple[int, NDArray[np.int32]]) -> None:
        number, members = job
        top, left = number // across * tile, number % across * tile
        keys, ids = np.empty((tile, tile)), np.empty((tile, tile), np.int64)
        draw_tile(members, triangles, screen, lists.cut, lists.cut_faces, view, top, left, keys, ids)
        resolve_tile(
            keys, ids, points, triangles, at_vertices, view, supersample, facing, top, left, images.depth,
            images.face_ids, images.barycentrics, images.normal, images.mask, images.coverage,
        )  # fmt: skip

    for first, last in _groups(lists):
        starts, members = fill_tiles(lists, across, first, last, threads)
        jobs = [(first + i, members[starts[i] : starts[i + 1]]) for i in range(last - first)]
        run_chunks(draw, jobs, threads)
    return images


def interpolate(images: MeshImages, faces: ArrayLike, attributes: ArrayLike) -> Floats:
    """Attributes of vertices at the points that are seen.

    Args:
        faces: as drawn. attributes: ``(V, C)``.
    Returns:
        ``(H, W, C)`` float64; 0 where nothing is seen.
    """
    values = np.asarray(attributes, dtype=np.float64)
    result = np.zeros((*images.mask.shape, values.shape[1]))
    corners = np.asarray(faces)[images.face_ids[images.mask]]
    weights = images.barycentrics[images.mask].astype(np.float64)
    result[images.mask] = np.einsum("pk,pkc->pc", weights, values[corners])
    return result


def _checked_faces(faces: ArrayLike, vertices: int) -> Faces:
    triangles: NDArray[Any] = np.asarray(faces)
    if triangles.size == 0:
        return np.empty((0, 3), np.int64)
    if triangles.ndim != 2 or triangles.shape[1] != 3 or not np.issubdtype(triangles.dtype, np.integer):
        raise ValueError(f"faces must be (F, 3) integers, not {triangles.shape} {triangles.dtype}")
    if len(triangles) >= 1 << 30:
        raise ValueError(f"{len(triangles)} faces are too many for one picture; draw parts and keep the nearest")
    if triangles.min() < 0 or triangles.max() >= vertices:
        raise ValueError(f"faces name vertices {triangles.min()} to {triangles.max()}, but there are {vertices}")
    return np.ascontiguousarray(triangles, triangles.dtype if triangles.dtype in (np.int32, np.int64) else np.int64)


def _groups(lists: TileLists) -> Iterator[tuple[int, int]]:
    """Runs of tiles whose lists together have at most :data:`MEMBERS` entries, or that are one tile."""
    sizes: Ints = lists.counts.sum(axis=0)
    first = held = 0
    tiles = lists.counts.shape[1]
    for tile in range(tiles):
        if tile > first and held + sizes[tile] > MEMBERS:
            yield first, tile
            first, held = tile, 0
        held += int(sizes[tile])
    yield first, tiles
