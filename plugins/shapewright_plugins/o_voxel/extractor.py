"""``extractor/flexible-dual-grid``: one quad a crossed grid edge whose four voxels are all there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from shapewright.errors import ConfigError, StateError
from shapewright.interfaces import Extractor
from shapewright.states import Mesh
from shapewright_kernels.flexible_dual_grid_quads import flexible_dual_grid_quads
from shapewright_kernels.flexible_dual_grid_triangles import drop_unused
from torch import Tensor

from .state import FlexibleDualGrid
from .triangulation import DIAGONALS, cut_by_shape, cut_by_weight, fan_around_middle

MODES = ("eval", "train")


@dataclass(frozen=True)
class Config:
    """Options of ``extractor/flexible-dual-grid``.

    Raises:
        ConfigError: an option has an unknown value.
    """

    mode: str = "eval"
    """``eval``: two triangles a quad. ``train``: four around a weighted middle, whose gradients reach split weights."""
    diagonal: str = "reference"
    """How ``eval`` cuts quads without split weights: ``reference`` (0-2, as published) or ``min-angle`` (flatter)."""
    drop_unreferenced: bool = True
    """Leave out the vertices of voxels that no quad uses."""

    def __post_init__(self) -> None:
        for name, known in (("mode", MODES), ("diagonal", DIAGONALS)):
            if getattr(self, name) not in known:
                raise ConfigError(f"{name} must be one of {', '.join(known)}, not {getattr(self, name)!r}")


class FlexibleDualGridMesh(Extractor[Config, FlexibleDualGrid]):
    """Mesh of a dual grid; gradients reach ``dual_vertices`` and, in mode ``train``, ``split_weights``.

    All quads of one axis wind alike whatever the surface does, so the mesh has no orientation and says so. Every vertex
    has the attributes of its voxel.
    """

    Config: ClassVar[type[Config]] = Config

    def extract(self, state: FlexibleDualGrid) -> Mesh:
        """Raises: StateError: the state holds a batch, or coordinates outside its grid or twice."""
        if state.batch_size != 1:
            raise StateError(f"a mesh is made of one sample, not of a batch of {state.batch_size}; unbind it first")
        try:
            quads = quads_of(state)
        except ValueError as error:
            raise StateError(str(error)) from error
        vertices, weights, attributes = positions(state), state.split_weights, dict(state.attributes)
        if self.config.drop_unreferenced:
            rows, quads = referenced(quads, len(vertices))
            if len(rows) < len(vertices):
                vertices = vertices.index_select(0, rows)
                weights = None if weights is None else weights.index_select(0, rows)
                attributes = {name: values.index_select(0, rows) for name, values in attributes.items()}
        vertices, faces = triangulate(vertices, quads, weights, mode=self.config.mode, diagonal=self.config.diagonal)
        if attributes and self.config.mode == "train":  # a middle takes the mean of its quad
            attributes = {name: torch.cat([v, v[quads].mean(dim=1)]) for name, v in attributes.items()}
        return Mesh(vertices, faces, state.frame, oriented=False, attributes=attributes)


def quads_of(state: FlexibleDualGrid) -> Tensor:
    """``(Q, 4)`` int64 rows of ``state`` around each crossed grid edge, in row-major order of (row, axis)."""
    size = (state.resolution, state.resolution, state.resolution)
    quads = flexible_dual_grid_quads(
        state.coords.numpy(force=True), state.intersected.numpy(force=True), grid_size=size
    )
    return torch.from_numpy(quads).to(state.coords.device)


def positions(state: FlexibleDualGrid) -> Tensor:
    """``(N, 3)`` dual vertices in frame units, at least float32; differentiable in ``state.dual_vertices``."""
    relative = state.dual_vertices.to(torch.promote_types(state.dual_vertices.dtype, torch.float32))
    cells = state.coords[:, 1:].to(relative.dtype).add_(relative)  # in place: the copies of a large grid are slow
    return cells.mul_(relative.new_tensor(state.voxel_size)).add_(relative.new_tensor(state.frame.lower))


def triangulate(
    vertices: Tensor, quads: Tensor, split_weights: Tensor | None, *, mode: str = "eval", diagonal: str = "reference"
) -> tuple[Tensor, Tensor]:
    """Vertices and triangles of quads ``(Q, 4)``; ``split_weights`` ``(V, 1)`` or ``None``. Keeps unused vertices."""
    weights = None if split_weights is None else split_weights[:, 0]
    if mode == "train":
        return fan_around_middle(quads, vertices, weights)
    if weights is not None:
        return vertices, cut_by_weight(quads, weights)
    return vertices, cut_by_shape(quads, vertices, diagonal)


def referenced(quads: Tensor, vertices: int) -> tuple[Tensor, Tensor]:
    """Rows ``(U,)`` of the ``vertices`` that quads ``(Q, 4)`` int64 use, ascending, and the quads in terms of them.

    The quads given are overwritten where that saves a copy.
    """
    if quads.device.type == "cpu":
        return torch.from_numpy(drop_unused(quads.numpy(), vertices)), quads
    used = torch.zeros(vertices, dtype=torch.bool, device=quads.device)
    used[quads.reshape(-1)] = True
    return used.nonzero()[:, 0], (used.cumsum(0) - 1)[quads]
