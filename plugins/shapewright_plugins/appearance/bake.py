"""``transform/bake-pbr``: a mesh with textures, from attributes of voxels or from another mesh."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from shapewright.errors import ConfigError, MeshError, StateError
from shapewright.interfaces import Transform
from shapewright.materials import Appearance, Material, Texture
from shapewright.states import PBR_LAYOUT, Frame, Mesh, VoxelAttributes
from shapewright_kernels.arrays import Bools, Floats, Ints
from shapewright_kernels.barycentric import barycentrics
from shapewright_kernels.cameras import look_at, orthographic
from shapewright_kernels.closest_point import ClosestPointIndex
from shapewright_kernels.coordinate_index import CoordinateIndex
from shapewright_kernels.rasterise import rasterise
from shapewright_kernels.texel_lookup import nearest_voxels, texel_bytes, texel_points
from shapewright_kernels.texture_bake import fill_between, sparse_trilinear
from shapewright_kernels.threads import run_chunks, spans
from shapewright_kernels.topology import duplicate_faces, flat_faces, merge_vertices

from .lookup import CHANNELS, Surface
from .unwrap import METHODS, unwrapped

WIDTH = sum(CHANNELS.values())
SOLID = 0.99
"""Alpha from which nothing shows through."""
LOOKS = 1 << 16
"""Texels that are looked up at once."""
ALPHA_MODES = ("auto", "opaque", "mask", "blend")


@dataclass(frozen=True)
class Config:
    """``texture_size``: texels along the square textures. ``padding``: texels around each chart that continue it.
    ``keep_uvs``: the mesh's own first UV set where it has one, instead of new charts.

    ``alpha_mode``: ``opaque`` hides what is transparent; ``auto`` says ``opaque`` where nothing is, ``mask`` where next
    to all is clear or solid, else ``blend``, and leaves solid faces opaque.

    ``unwrap``: ``charts`` are faces whose normals lie within ``chart_angle`` degrees of a direction, projected along
    it; ``xatlas`` leaves charts to that library, which takes ten times as long and more."""

    texture_size: int = 2048
    padding: int = 4
    keep_uvs: bool = False
    alpha_mode: str = "auto"
    unwrap: str = "charts"
    chart_angle: float = 75.0

    def __post_init__(self) -> None:
        if not 16 <= self.texture_size <= 16384:
            raise ConfigError(f"texture_size lies between 16 and 16384, not {self.texture_size}")
        if not 0 <= self.padding <= 64:
            raise ConfigError(f"padding lies between 0 and 64, not {self.padding}")
        if self.alpha_mode not in ALPHA_MODES:
            raise ConfigError(f"alpha_mode is one of {', '.join(ALPHA_MODES)}, not {self.alpha_mode!r}")
        if self.unwrap not in METHODS:
            raise ConfigError(f"unwrap is one of {', '.join(METHODS)}, not {self.unwrap!r}")
        if not 10 <= self.chart_angle <= 85:
            raise ConfigError(f"chart_angle lies between 10 and 85 degrees, not {self.chart_angle}")


class BakePbr(Transform[Config]):
    """Base colour with alpha, and metallic with roughness, as two textures of one material.

    Merges vertices, drops flat faces and copies, unwraps, and asks for every texel what is at the closest point of the
    source. Fewer faces, filled holes and one winding are steps of their own before it (``transform/simplify``,
    ``transform/fill-holes``, ``transform/fix-winding``).
    """

    Config = Config

    def apply(self, *, mesh: Mesh, source: VoxelAttributes | Mesh | None = None, surface: Mesh | None = None) -> Mesh:
        """``mesh`` with textures.

        Args:
            source: voxels of the published layout and of one sample, or a mesh, in the units of ``mesh``.
                ``None`` for what ``mesh`` itself has. Faces and meshes without any material have the default one.
            surface: where the voxels are: each texel asks for the closest point of it. For a ``mesh`` that was
                simplified or remeshed, what it was before.
        Raises:
            MeshError: nothing with an area. StateError: voxels of another layout.
        """
        source = mesh if source is None else source
        own = mesh.appearance.uvs if mesh.appearance is not None and self.config.keep_uvs else ()
        vertices, faces, rows = _clean(mesh)
        size = self.config.texture_size
        if own:
            uvs: Floats = own[0].numpy(force=True).astype(np.float64)[rows]
            if uvs.min() < 0 or uvs.max() > 1:
                raise MeshError("keep_uvs needs coordinates within [0, 1]; bake with keep_uvs=false for new charts")
        else:
            uvs = unwrapped(
                vertices,
                faces,
                size=size,
                padding=self.config.padding,
                method=self.config.unwrap,
                degrees=self.config.chart_angle,
            )
        known, owners, weights = _texels(faces, uvs, size)
        values = np.zeros((size, size, WIDTH), np.float32)
        if source is mesh:
            values[known] = _looks(mesh, rows[owners[known]], weights[known].astype(np.float64))
        else:
            points = texel_points(vertices, faces, known, owners, weights)
            if isinstance(source, Mesh):
                values[known] = _values(source, points)
            else:
                if surface is not None:
                    _, _, points = ClosestPointIndex(*_arrays(surface)).query(points)
                values[known] = _voxel_values(source, points)
        mode = _alpha_mode(values[known][:, -1]) if self.config.alpha_mode == "auto" else self.config.alpha_mode
        fill_between(values, known, rings=max(self.config.padding, 1))
        clear = None
        if self.config.alpha_mode == "auto" and mode != "opaque":
            clear = _clear_faces(values[:, :, -1], known, owners, uvs)
        return Mesh(
            torch.from_numpy(vertices).to(mesh.vertices.dtype),
            torch.from_numpy(faces),
            mesh.frame,
            mesh.oriented,
            appearance=_appearance(values, uvs, mode, not mesh.oriented, clear),
        )


def _clean(mesh: Mesh) -> tuple[Floats, Ints, Ints]:
    """Vertices merged by position, faces with an area and without copies, and which faces of ``mesh`` these are."""
    if not len(mesh.faces):
        raise MeshError("a mesh without faces cannot be textured")
    points = mesh.vertices.numpy(force=True).astype(np.float64)
    faces = mesh.faces.numpy(force=True)
    if not 0 <= faces.min() <= faces.max() < len(points) or not np.isfinite(points).all():
        raise MeshError("the mesh has faces without vertices, or vertices that are not finite; load it with repair")
    merged, group = merge_vertices(points)
    corners = group[faces]
    rows = np.flatnonzero(~(flat_faces(merged, corners) | duplicate_faces(corners)))
    if not len(rows):
        raise MeshError("no face of the mesh has an area")
    used, renumbered = np.unique(corners[rows], return_inverse=True)
    return np.ascontiguousarray(merged[used]), renumbered.reshape(-1, 3).astype(np.int64), rows


def _texels(faces: Ints, uvs: Floats, size: int) -> tuple[Bools, NDArray[np.int32], NDArray[np.float32]]:
    """Which texels have their centre on a face ``(S, S)``, from the top row, which one, and the weights of its corners.

    A face without any texel centre has the texel at its middle, if no other face has that.
    """
    flat = np.concatenate([uvs.reshape(-1, 2), np.zeros((3 * len(faces), 1))], axis=1)
    camera = orthographic(look_at((0.5, 0.5, 1.0), (0.5, 0.5, 0.0)), extent=1.0)
    images = rasterise(flat, np.arange(3 * len(faces)).reshape(-1, 3), camera, size, size)
    known, owners, weights = images.mask, images.face_ids, images.barycentrics
    unseen = np.ones(len(faces), np.bool_)
    unseen[owners[known]] = False
    small = np.flatnonzero(unseen)
    column, row = _texel_at(uvs[small].mean(axis=1), size)
    free = ~known[row, column]
    known[row[free], column[free]] = True
    owners[row[free], column[free]] = small[free]
    weights[row[free], column[free]] = 1 / 3
    return known, owners, weights


def _arrays(mesh: Mesh) -> tuple[Floats, Ints]:
    return mesh.vertices.numpy(force=True).astype(np.float64), mesh.faces.numpy(force=True)


def _values(source: Mesh, points: Floats) -> NDArray[np.float32]:
    """``(N, 6)`` at the closest points of a mesh."""
    vertices, faces = _arrays(source)
    _, rows, closest = ClosestPointIndex(vertices, faces).query(points)
    return _looks(source, rows, barycentrics(closest, vertices[faces[rows]]))


def _looks(source: Mesh, rows: Ints, weights: Floats) -> NDArray[np.float32]:
    """``(N, 6)`` at points of the faces ``rows`` with the corner ``weights`` ``(N, 3)``."""
    surface = Surface(source)
    values = np.empty((len(rows), WIDTH), np.float32)

    def look(span: tuple[int, int]) -> None:
        part = slice(*span)
        found = surface.at(rows[part], weights[part])
        values[part] = np.concatenate([getattr(found, name) for name in CHANNELS], axis=1)

    run_chunks(look, spans(len(rows), LOOKS))
    return values


def _voxel_values(source: VoxelAttributes, points: Floats) -> NDArray[np.float32]:
    """``(N, 6)`` between the centres of voxels; of the nearest voxel where none is around."""
    missing = [name for name in PBR_LAYOUT if name not in source.layout]
    if missing or source.values.batch_size != 1 or not len(source.values.coords):
        what = f"{', '.join(missing)} are missing" if missing else "not one sample with voxels"
        raise StateError(f"baking needs voxels with {', '.join(PBR_LAYOUT)}; {what}")
    feats = torch.cat([source[name] for name in PBR_LAYOUT], dim=1).float().clamp(0, 1).numpy(force=True)
    coords = source.values.coords.numpy(force=True)
    places = _voxel_units(source.frame, source.values.resolution, points)
    index = CoordinateIndex(coords)
    values, there = sparse_trilinear(index, feats, places)
    if not there.all():
        alone = places[~there]
        rows = nearest_voxels(index, alone)
        if (rows < 0).any():
            rows[rows < 0] = _nearest(coords[:, 1:] + 0.5, alone[rows < 0])
        values[~there] = feats[rows]
    return values


def _voxel_units(frame: Frame, resolution: int, points: Floats) -> Floats:
    """``points`` themselves in voxels; they are changed in place."""
    points -= np.asarray(frame.lower)
    points *= resolution / np.asarray(frame.extent)
    return points


def _nearest(centres: Floats, places: Floats) -> Ints:
    """Rows of the centres nearest to places: those of triangles without area, so the search of meshes finds them."""
    rows = np.repeat(np.arange(len(centres)), 3).reshape(-1, 3)
    _, found, _ = ClosestPointIndex(centres, rows).query(places)
    return found


def _alpha_mode(alpha: NDArray[np.float32]) -> str:
    if not len(alpha) or float((alpha < SOLID).mean()) < 1e-4:
        return "opaque"
    between = (alpha > 0.05) & (alpha < 0.95)
    return "mask" if float(between.mean()) < 0.05 * float((alpha <= 0.95).mean()) else "blend"


def _clear_faces(alpha: NDArray[np.float32], known: Bools, owners: NDArray[np.int32], uvs: Floats) -> Bools:
    """``(F,)``: faces with a texel that is not solid; where a face has none of its own, the texel at its middle."""
    least = np.full(len(uvs), np.inf, np.float32)
    np.minimum.at(least, owners[known], alpha[known])
    without = np.flatnonzero(np.isinf(least))
    column, row = _texel_at(uvs[without].mean(axis=1), len(alpha))
    least[without] = alpha[row, column]
    return np.asarray(least < SOLID, np.bool_)


def _texel_at(uvs: Floats, size: int) -> tuple[Ints, Ints]:
    """Columns and rows, from the top, of the texels that hold ``uvs`` ``(N, 2)``."""
    column, row = np.clip(np.floor(uvs * size), 0, size - 1).astype(np.int64).T
    return column, size - 1 - row


def _appearance(
    values: NDArray[np.float32], uvs: Floats, mode: str, double_sided: bool, clear: Bools | None
) -> Appearance:
    """One material; two with the same images where only some faces are ``clear``: viewers sort what they blend, and
    what is solid should not take part."""
    color = torch.from_numpy(texel_bytes(values, (0, 1, 2, 5)))
    packed = torch.from_numpy(texel_bytes(values, (-1, 4, 3)))
    material = Material(
        name="baked",
        base_color=(1.0, 1.0, 1.0),
        metallic=1.0,
        roughness=1.0,
        base_color_texture=Texture(color, (0, 1, 2), wrap=("clamp", "clamp"), name="base_color"),
        alpha_texture=None if mode == "opaque" else Texture(color, (3,), wrap=("clamp", "clamp"), name="alpha"),
        metallic_texture=Texture(packed, (2,), wrap=("clamp", "clamp"), name="metallic"),
        roughness_texture=Texture(packed, (1,), wrap=("clamp", "clamp"), name="roughness"),
        alpha_mode=mode,
        double_sided=double_sided,
    )
    corners = (torch.from_numpy(uvs.astype(np.float32)),)
    if clear is None or clear.all():
        return Appearance((material,), uvs=corners)
    solid = replace(material, name="baked solid", alpha_mode="opaque")
    return Appearance((solid, material), torch.from_numpy(clear.astype(np.int64)), corners)
