"""Meshes, and points on them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from ..errors import StateError
from ..materials import Appearance
from .frame import Frame


@dataclass(frozen=True, slots=True)
class Mesh:
    """Triangle mesh; ``vertices`` ``(V, 3)`` float32 or float64, ``faces`` ``(F, 3)`` int64.

    ``oriented`` is honest: ``False`` where the winding carries no meaning (two-sided results, triangle soups).
    ``attributes`` are per-vertex tensors by name: ``color`` ``(V, 3 or 4)``, or what a material consists of,
    ``base_color`` ``(V, 3)``, ``metallic``, ``roughness`` and ``alpha`` ``(V, 1)``, all float in [0, 1].
    ``appearance`` are materials with textures, where they were asked for and there are any.
    """

    tag: ClassVar[str] = "mesh"
    vertices: Tensor
    faces: Tensor
    frame: Frame = Frame()
    oriented: bool = True
    attributes: dict[str, Tensor] = field(default_factory=dict)
    appearance: Appearance | None = None

    def __post_init__(self) -> None:
        for name, value in (("vertices", self.vertices), ("faces", self.faces)):
            if value.ndim != 2 or value.shape[1] != 3:
                raise StateError(f"mesh {name} must be (N, 3), not {tuple(value.shape)}")
        if self.faces.dtype != torch.int64:
            raise StateError(f"mesh faces must be int64, not {self.faces.dtype}")
        if self.appearance is not None and self.appearance.faces not in (None, len(self.faces)):
            raise StateError(f"the appearance is that of {self.appearance.faces} faces, the mesh has {len(self.faces)}")

    @property
    def corners(self) -> Tensor:
        """``(F, 3, 3)`` positions of the three corners of every face."""
        return self.vertices[self.faces]

    def _repr_html_(self) -> str:
        """A view to turn, for notebooks."""
        from ..report.notebook import mesh_html

        return mesh_html(self)


@dataclass(frozen=True, slots=True)
class SurfaceSamples:
    """Points ``(N, 3)`` on a surface with unit normals ``(N, 3)``."""

    tag: ClassVar[str] = "surface"
    points: Tensor
    normals: Tensor
    frame: Frame = Frame()
