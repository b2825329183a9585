"""A mesh to SparseFlex features without a network: exact distances, sides, and weights fitted to the mesh's creases."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from shapewright import Frame, Mesh, Representation, SparseTensor
from shapewright.errors import ConfigError, MeshError, StateError
from shapewright_kernels.arrays import Floats, Ints
from shapewright_kernels.closest_point import ClosestPointIndex
from shapewright_kernels.flexicubes_features import feature_rows, neutral_weights
from shapewright_kernels.flexicubes_hits import lattice_hits
from shapewright_kernels.flexicubes_sheets import Sheets, oriented_sheets
from shapewright_kernels.flexicubes_signs import consistent_signs, corner_steps
from shapewright_kernels.flexicubes_trim import real_voxels
from shapewright_kernels.flexicubes_voxels import voxel_corners
from shapewright_kernels.pseudonormal import pseudonormal_signs
from shapewright_kernels.voxelise import surface_voxels
from shapewright_kernels.winding import winding_numbers

from .hermite import fitted_weights
from .state import SparseFlexState

SIGNS = ("auto", "pseudonormal", "winding", "shell")
_SHIFT = (0.0931, 0.1477, 0.0573)
"""Cells by which the lattice is moved along each axis. Meshes love the planes through the middle of their box and its
diagonals; a corner exactly on the surface has no side, so lattice planes keep off them."""
_NEAREST = 1e-5
"""Smallest distance of a corner from the surface in cells: float32 features keep its sign, and it moves nothing
visibly."""
_SHELL_LIMIT = 1.0
"""Voxels next to those the mesh touches hold a shell of at most one cell."""


@dataclass(frozen=True)
class Config:
    resolution: int = 128
    """Voxels an axis."""
    fit: str = "B"
    """``"A"``: distances only, all weights neutral. ``"B"``: weights as well, so that creases and corners are kept."""
    sign: str = "auto"
    """Which side of the surface a corner is on; see :class:`SparseFlex`."""
    margin: float = 1.25
    """Cells between the mesh's frame and the lattice's border, so that every touched voxel has neighbours."""
    trim: bool = True
    """Drop voxels that make no face the mesh really passes through: nothing real is lost, and a sheet does not run on
    behind its border."""
    shell: float = 1.0
    """Half thickness in cells of the doubled surface that ``sign: "shell"`` makes, 0.5 to 1."""

    def __post_init__(self) -> None:
        if self.fit not in ("A", "B"):
            raise ConfigError(f"fit must be 'A' (distances) or 'B' (distances and fitted weights), not {self.fit!r}")
        if self.sign not in SIGNS:
            raise ConfigError(f"sign must be one of {', '.join(SIGNS)}, not {self.sign!r}")
        if not 4 <= self.resolution <= 8192:
            raise ConfigError(f"resolution must lie between 4 and 8192, not {self.resolution}")
        if not 1.2 <= self.margin < self.resolution / 2 - 0.5:
            raise ConfigError(
                f"margin must lie between 1.2 cells and half of resolution {self.resolution}, not {self.margin:g}"
            )
        if not 0.5 <= self.shell <= _SHELL_LIMIT:
            raise ConfigError(f"shell must lie between 0.5 and {_SHELL_LIMIT:g} cells, not {self.shell:g}")
        if self.sign == "shell" and self.margin < self.shell + 0.2:
            raise ConfigError(f"a shell of {self.shell:g} cells needs a margin of at least {self.shell + 0.2:g}")


class SparseFlex(Representation[Config, SparseFlexState]):
    """SparseFlex features of a mesh on the voxels it touches; open sheets stay single, nested shells all stay.

    The lattice is a cube around the mesh's frame. ``sign`` decides the side of each voxel corner:

    * ``auto``: the side of the nearest sheet, after sheets are wound consistently; then, where two sheets contradict
      one another (crossing, or closer than about two cells), the signs that follow the parity of crossings instead, if
      that leaves fewer contradictions and loses no walls where parts touch. Nested and overlapping parts keep all
      their walls. Signs by parity are watertight for a mesh without boundary, but every second wall of nested or
      overlapping parts then faces the other way.
    * ``pseudonormal``: the side of the nearest sheet, nothing else.
    * ``winding``: inside where the generalised winding number exceeds 1/2, as a solid modeller would have it; walls
      inside other parts vanish. Only for input without boundary.
    * ``shell``: a closed surface at distance ``shell`` around everything; doubles the surface. Needs no sides at all,
      so it takes any soup. ``fit`` does not apply.

    Limits: a field has two sides. Along the seam of a sheet that cannot be oriented (Moebius strip), where three sheets
    meet, or where layers of one sheet lie within two cells, some wall or gap of up to two voxels is left; a part
    thinner than a voxel may pass between corners unseen; a slit narrower than a voxel may close.

    Source: voxels, values and weights as in He et al. 2025; targets of the weights from dual contouring (Ju 2002).
    """

    Config: ClassVar[type[Config]] = Config

    def from_mesh(self, mesh: Mesh, *, rng: torch.Generator) -> SparseFlexState:
        """Features of ``mesh``; ``rng`` is not used, everything is exact.

        Raises:
            MeshError: the mesh has no face with an area, or a vertex that is not finite.
            StateError: the mesh does not lie in its frame.
        """
        resolution = self.config.resolution
        frame = lattice_frame(mesh.frame, resolution, self.config.margin)
        vertices, faces = mesh.vertices.numpy(force=True).astype(np.float64), mesh.faces.numpy(force=True)
        if not np.isfinite(vertices[faces]).all():
            raise MeshError("the mesh has vertices that are not finite; drop their faces first")
        in_cells = (vertices - np.array(frame.lower)) * (resolution / frame.extent[0])
        used = in_cells[np.unique(faces)] if len(faces) else in_cells[:0]
        if len(used) and (used.min() < 0.5 or used.max() > resolution - 0.5):
            raise StateError("the mesh leaves its frame; normalise it into its frame before conversion")
        try:
            sheets = oriented_sheets(used_only(in_cells, faces), faces)
        except ValueError as error:
            raise MeshError(f"{error}; there is nothing to convert") from None
        coords, feats = self._features(sheets, in_cells, faces)
        batch = np.concatenate([np.zeros((len(coords), 1), np.int32), coords], axis=1)
        return SparseFlexState(SparseTensor(torch.from_numpy(batch), torch.from_numpy(feats), resolution), frame)

    def _features(self, sheets: Sheets, vertices: Floats, faces: Ints) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Voxels and their features; positions in cells."""
        shape = (self.config.resolution,) * 3
        voxels = surface_voxels(sheets.vertices, sheets.faces, 0.0, 1.0, self.config.resolution)
        if self.config.sign == "shell":
            voxels = _with_neighbours(voxels, self.config.resolution)
        corners, cubes = voxel_corners(voxels, shape)
        index = ClosestPointIndex(sheets.vertices, sheets.faces)
        points = corners.astype(np.float64)
        distances, nearest, closest = index.query(points)
        if self.config.sign == "shell":
            signed = distances - self.config.shell
            within = (signed < 0)[cubes].sum(axis=1)
            mixed = (within > 0) & (within < 8)
            return voxels[mixed], _encode(signed, cubes[mixed])
        hits = lattice_hits(sheets.vertices, sheets.faces, corners)
        steps = corner_steps(cubes, len(corners))
        if self.config.sign == "winding":
            inside = winding_numbers(points, vertices, faces) > 0.5
        else:
            inside = pseudonormal_signs(points, closest, nearest, sheets.normals) < 0
            if self.config.sign == "auto":
                inside = consistent_signs(steps, hits.parity(), hits.walls(), inside)
        if self.config.trim:
            real = real_voxels(cubes, inside, hits.any())
            voxels, cubes = voxels[real], cubes[real]
        magnitudes = np.maximum(distances, _NEAREST)
        signed = np.where(inside, -magnitudes, magnitudes)
        if self.config.fit == "A":
            return voxels, _encode(signed, cubes)
        fitted = fitted_weights(voxels, cubes, corners, magnitudes, inside, steps, hits, sheets, index)
        return voxels, feature_rows(cubes, (signed + 1) / 4, fitted)


def lattice_frame(frame: Frame, resolution: int, margin: float) -> Frame:
    """Cube around ``frame`` with ``margin`` cells to spare on the tightest side, moved off the planes of symmetry."""
    side = max(frame.extent)
    centre = [(low + high) / 2 for low, high in zip(frame.lower, frame.upper, strict=True)]
    cube = replace(
        frame,
        lower=(centre[0] - side / 2, centre[1] - side / 2, centre[2] - side / 2),
        upper=(centre[0] + side / 2, centre[1] + side / 2, centre[2] + side / 2),
    ).with_margin(resolution, margin)
    cell = cube.extent[0] / resolution
    x, y, z = (part * cell for part in _SHIFT)
    return replace(
        cube,
        lower=(cube.lower[0] - x, cube.lower[1] - y, cube.lower[2] - z),
        upper=(cube.upper[0] - x, cube.upper[1] - y, cube.upper[2] - z),
    )


def used_only(vertices: Floats, faces: Ints) -> Floats:
    """Vertices with those that no face uses moved onto one that is, so that they cannot matter."""
    used = np.zeros(len(vertices), bool)
    used[faces.reshape(-1)] = True
    return np.where(used[:, None], vertices, vertices[faces[0, 0]]) if len(faces) else vertices[:0]


def _with_neighbours(voxels: NDArray[np.int32], resolution: int) -> NDArray[np.int32]:
    """The voxels and their 26 neighbours: corners of corners, moved down by one."""
    corners, _ = voxel_corners(voxels, (resolution,) * 3)
    around, _ = voxel_corners(corners, (resolution + 1,) * 3)
    around = around - np.int32(1)
    kept: NDArray[np.int32] = around[((around >= 0) & (around < resolution)).all(axis=1)]
    return kept


def _encode(signed: Floats, cubes: Ints) -> NDArray[np.float32]:
    """Feature rows with neutral weights from signed corner distances in cells."""
    return feature_rows(cubes, (signed + 1) / 4, neutral_weights())
