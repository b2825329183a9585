"""Materials of a mesh on the voxels of its dual grid: base colour, metallic, roughness, alpha, emission, normal.

The voxels are those of :func:`.flexible_dual_grid.mesh_to_flexible_dual_grid`. Every triangle is sampled once at each
voxel around a grid edge it crosses, at the voxel's centre projected on the triangle's plane, and a voxel takes the
mean of its triangles, weighted by one minus the signed distance from the plane. Work is cut into slabs of x planes
that depend on the grid alone; within a slab triangles come by material, then in their order, so the result does not
depend on the number of threads.

Source: TRELLIS.2 (arXiv 2512.14692), o-voxel converter, spec section 2.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from .arrays import Floats
from .flexible_dual_grid_placement import PerAxis, place_grid
from .flexible_dual_grid_scan import Slab
from .flexible_dual_grid_slabs import checked_mesh, sort_into_slabs
from .flexible_dual_grid_voxels import find_voxels
from .lattice_index import lowest_bit
from .texture_sampling import Bytes, ImageTexture, mipmaps, texture_slot
from .threads import run_chunks
from .voxel_attributes_sums import BLEND, MASK, OPAQUE, SLOTS, WIDTHS, Gathered, Shading, add_samples

PBR = ("base_color", "metallic", "roughness", "alpha")
"""What the published files and networks hold."""


@dataclass(frozen=True, eq=False)
class SurfaceMaterial:
    """Factors, and the textures that they are multiplied with, by slot."""

    base_color: tuple[float, float, float] = (0.8, 0.8, 0.8)
    metallic: float = 0.0
    roughness: float = 0.5
    alpha: float = 1.0
    emissive: tuple[float, float, float] = (0.0, 0.0, 0.0)
    textures: Mapping[str, ImageTexture] = field(default_factory=dict)
    """By slot: ``base_color``, ``metallic``, ``roughness``, ``alpha``, ``emissive``, ``normal``."""
    alpha_mode: int = OPAQUE
    """``OPAQUE``, ``MASK`` or ``BLEND`` (0, 1, 2)."""
    alpha_cutoff: float = 0.5

    def factor(self, slot: str) -> tuple[float, ...]:
        """The numbers that the texture of ``slot`` is multiplied with."""
        value = getattr(self, slot, 1.0)
        return tuple(value) if isinstance(value, tuple) else (float(value),) * WIDTHS[SLOTS.index(slot)]


@dataclass(frozen=True, eq=False)
class SampledVoxels:
    """``N`` voxels in lexicographic order with what was sampled at them."""

    coords: NDArray[np.int32]
    values: NDArray[np.float32]
    """``(N, K)``: colours, factors and alpha in [0, 1] (normals in [-1, 1]) unless textures extrapolate a factor."""
    layout: dict[str, slice]
    """Columns of ``values`` by name."""

    def __getitem__(self, name: str) -> NDArray[np.float32]:
        return self.values[:, self.layout[name]]


def quantised(values: NDArray[np.floating[Any]], *, signed: bool = False) -> Bytes:
    """Bytes as the published files hold them: truncated, [0, 1] (``signed``: [-1, 1], for normals) to 0 .. 255.

    >>> quantised(np.array([0.0, 0.5, 1.2])).tolist()
    [0, 127, 255]
    """
    single = np.asarray(values, np.float32)
    if signed:
        single = single * np.float32(0.5) + np.float32(0.5)
    return np.clip(single * np.float32(255), 0, 255).astype(np.uint8)


@njit(nogil=True, cache=True, error_model="numpy")
def _write_means(
    slab: Slab, sums: Floats, weights: Floats, coords: NDArray[np.int32], values: NDArray[np.float32]
) -> None:
    row = 0
    for word in range(len(slab.mask)):
        bits = slab.mask[word]
        column = word // slab.words
        x, y = column // (slab.high[1] - slab.low[1]), column % (slab.high[1] - slab.low[1])
        z = (word - column * slab.words) << 6
        while bits != np.uint64(0):
            coords[row, 0], coords[row, 1] = slab.low[0] + x, slab.low[1] + y
            coords[row, 2] = slab.low[2] + z + lowest_bit(bits)
            bits &= bits - np.uint64(1)
            for k in range(values.shape[1]):
                values[row, k] = sums[row, k] / weights[row]
            row += 1


def _pyramids(materials: Sequence[SurfaceMaterial], wanted: Sequence[str], threads: int | None) -> dict[int, Any]:
    """Mipmaps of every image that is looked up with them, once for each."""
    images = {
        id(texture.pixels): texture.pixels
        for material in materials
        for slot, texture in material.textures.items()
        if slot in wanted and texture.linear
    }
    return {key: mipmaps(pixels, threads) for key, pixels in images.items()}


def _corners(values: Any, name: str, faces: int, tail: tuple[int, ...], dtype: Any = np.float32) -> NDArray[Any]:
    array = np.ascontiguousarray(values, dtype)
    if array.shape != (faces, *tail):
        raise ValueError(f"{name} must be {(faces, *tail)}, not {array.shape}")
    return array


def sample_materials(
    vertices: NDArray[np.floating[Any]],
    faces: NDArray[np.integer[Any]],
    materials: Sequence[SurfaceMaterial],
    *,
    face_materials: NDArray[np.integer[Any]] | None = None,
    uvs: NDArray[np.floating[Any]] | None = None,
    corner_colors: NDArray[np.floating[Any]] | None = None,
    corner_normals: NDArray[np.floating[Any]] | None = None,
    grid_size: PerAxis | None = None,
    voxel_size: PerAxis | None = None,
    aabb: ArrayLike | None = None,
    attributes: Sequence[str] = PBR,
    mip_level_offset: float = 0.0,
    distance_unit: float = 1.0,
    threads: int | None = None,
) -> SampledVoxels:
    """Sample materials on the voxels that the surface makes active.

    Args:
        vertices, faces, grid_size, voxel_size, aabb: as for ``mesh_to_flexible_dual_grid``, whose voxels these are.
        materials: at least one.
        face_materials: ``(F,)`` rows of ``materials``; -1 stands for :class:`SurfaceMaterial` as it is by default.
            ``None``: all 0.
        uvs: ``(F, S, 3, 2)`` texture coordinates of the corners in ``S`` sets, ``v`` upward. ``None``: all 0.
        corner_colors: ``(F, 3, 4)``, multiplied with base colour and alpha, cut to [0, 1] at each voxel.
        corner_normals: ``(F, 3, 3)`` for the attribute ``normal``; ``None``: those of the faces.
        attributes: which of the six slots, in the order of the result's columns.
        mip_level_offset: added to every mip level; positive blurs.
        distance_unit: length that counts as 1 in the weights; 1 is right in the published unit box.
        threads: never changes the result.
    Returns:
        :class:`SampledVoxels`. A triangle without area has next to no weight where others are.
    Raises:
        ValueError: something is out of range or does not fit together.

    >>> corners = np.array([[0.1, 0.1, 0.5], [1.0, 0.1, 0.5], [0.1, 1.0, 0.5]])
    >>> red = SurfaceMaterial(base_color=(1.0, 0.0, 0.0))
    >>> voxels = sample_materials(corners, np.array([[0, 1, 2]]), [red], grid_size=2, aabb=[[0, 0, 0], [1, 1, 1]])
    >>> voxels.coords.tolist(), voxels["base_color"][0].tolist()
    ([[0, 0, 1], [0, 1, 1], [1, 0, 1], [1, 1, 1]], [1.0, 0.0, 0.0])
    """
    if not attributes or len(set(attributes)) < len(attributes) or not set(attributes) <= set(SLOTS):
        raise ValueError(f"attributes are some of {', '.join(SLOTS)}, each once, not {attributes}")
    if not (np.isfinite(distance_unit) and distance_unit > 0 and np.isfinite(mip_level_offset)):
        raise ValueError("distance_unit must be positive and mip_level_offset finite")
    single, faces = checked_mesh(vertices, faces)
    count = len(faces)
    known = [*materials, SurfaceMaterial()]
    of_face = np.zeros(count, np.int64)
    if face_materials is not None:
        of_face = _corners(face_materials, "face_materials", count, (), np.int64)
    if count and not -1 <= of_face.min() <= of_face.max() < len(materials):
        raise ValueError(f"face_materials must be -1 .. {len(materials) - 1}, not {of_face.min()} .. {of_face.max()}")
    of_face = np.where(of_face < 0, len(materials), of_face)
    if uvs is None:
        uvs = np.zeros((count, 0, 3, 2), np.float32)
    sets = uvs.shape[1] if uvs.ndim == 4 else 0
    ends = np.cumsum([0, *(WIDTHS[SLOTS.index(name)] for name in attributes)]).tolist()
    layout = {name: slice(ends[k], ends[k + 1]) for k, name in enumerate(attributes)}
    origin, steps, counts = place_grid(single, voxel_size, grid_size, aabb)
    no_colors, no_normals = np.zeros((0, 3, 4), np.float32), np.zeros((0, 3, 3), np.float32)
    shading = Shading(
        _corners(uvs, "uvs", count, (sets, 3, 2)),
        no_colors if corner_colors is None else _corners(corner_colors, "corner_colors", count, (3, 4)),
        no_normals if corner_normals is None else _corners(corner_normals, "corner_normals", count, (3, 3)),
        np.array([layout[slot].start if slot in layout else -1 for slot in SLOTS], np.int64),
        float(steps.max()),
        float(mip_level_offset),
        float(distance_unit),
    )
    _, triangles, slabs = sort_into_slabs(single, faces, origin, steps, counts, threads)
    used = np.unique(of_face)
    pyramids = _pyramids([known[row] for row in used], attributes, threads)
    slots = {int(row): _slots(known[row], attributes, pyramids) for row in used}

    def sample_slab(number: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        inside = slabs.of(number)
        slab, total, longest = find_voxels(number, slabs.planes, inside, triangles, steps, counts)
        coords, values = np.empty((total, 3), np.int32), np.empty((total, ends[-1]), np.float32)
        if total == 0:
            return coords, values
        inside = inside[np.argsort(of_face[inside], kind="stable")]
        sums, weights, last = np.zeros((total, ends[-1])), np.zeros(total), np.full(total, -1, np.int32)
        room = max(longest, 1)
        scratch = Gathered(
            np.empty(room, np.int64),
            np.empty(room, np.int64),
            np.empty(room),
            *(np.empty((room, k)) for k in (3, 2, 3)),
        )
        rows, begins = np.unique(of_face[inside], return_index=True)
        for row, part in zip(rows.tolist(), np.split(inside, begins[1:]), strict=True):
            look, mode, cutoff = slots[row], known[row].alpha_mode, float(known[row].alpha_cutoff)
            add_samples(slab, triangles, part, steps, counts, shading, look, mode, cutoff, scratch, last, sums, weights)
        _write_means(slab, sums, weights, coords, values)
        return coords, values

    parts = run_chunks(sample_slab, slabs.occupied, threads)
    return SampledVoxels(
        np.concatenate([part[0] for part in parts]) if parts else np.empty((0, 3), np.int32),
        np.concatenate([part[1] for part in parts]) if parts else np.empty((0, ends[-1]), np.float32),
        layout,
    )


def _slots(material: SurfaceMaterial, wanted: Sequence[str], pyramids: Mapping[int, Any]) -> Any:
    """The six slots of a material; those that nobody wants are without their image."""
    if material.alpha_mode not in (OPAQUE, MASK, BLEND):
        raise ValueError(f"alpha_mode must be 0, 1 or 2, not {material.alpha_mode}")
    made = []
    for name in SLOTS:
        texture = material.textures.get(name) if name in wanted else None
        if name == "alpha" and material.alpha_mode == OPAQUE:
            texture = None
        factor = material.factor(name)
        if not np.isfinite(factor).all():
            raise ValueError(f"the factor of {name} must be finite, not {factor}")
        made.append(texture_slot(texture, factor, pyramids.get(id(texture.pixels)) if texture else None))
    return tuple(made)
