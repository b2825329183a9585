"""Scalar fields: one contract, three storages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Protocol, runtime_checkable

import torch
from torch import Tensor

from ..errors import StateError
from .batches import require_same
from .frame import Frame
from .sparse import SparseTensor


@runtime_checkable
class ScalarField(Protocol):
    """Signed distance, negative inside, in units of ``frame``; every storage answers ``query``."""

    @property
    def frame(self) -> Frame: ...

    def query(self, points: Tensor) -> Tensor: ...


@dataclass(frozen=True, slots=True)
class FunctionField:
    """A field that is only known as a function ``(..., 3)`` to ``(...)``, e.g. a latent set decoded by attention."""

    tag: ClassVar[str] = "sdf.function"
    function: Callable[[Tensor], Tensor]
    frame: Frame = Frame()

    def query(self, points: Tensor) -> Tensor:
        """Values ``(...)`` at ``points`` ``(..., 3)``."""
        return self.function(points)


@dataclass(frozen=True, slots=True)
class GridField:
    """Values ``(X, Y, Z)`` at the lattice points that span the frame, its faces included.

    ``resolution`` cells an axis mean ``resolution + 1`` lattice points: point ``(i, j, k)`` lies at
    ``lower + (i, j, k) * spacing``.
    """

    tag: ClassVar[str] = "sdf.grid"
    values: Tensor
    frame: Frame = Frame()
    level: float = 0.0
    """The surface is where the field takes this value; 0 for a signed distance, the shell radius for an unsigned
    one."""
    gradients: Tensor | None = None
    """``(X, Y, Z, 3)`` exact gradients at the lattice points, where the maker of the field knows them (Hermite
    data)."""

    def __post_init__(self) -> None:
        if self.values.ndim != 3 or min(self.values.shape) < 2:
            raise StateError(
                f"a grid field needs (X, Y, Z) values with at least 2 an axis, not {tuple(self.values.shape)}"
            )

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Distance of neighbouring lattice points along each axis."""
        x, y, z = (size / (count - 1) for size, count in zip(self.frame.extent, self.values.shape, strict=True))
        return x, y, z

    def query(self, points: Tensor) -> Tensor:
        """Trilinear values ``(...)`` at ``points`` ``(..., 3)``; clamped to the border outside the frame."""
        low, high = (points.new_tensor(corner) for corner in (self.frame.lower, self.frame.upper))
        unit = (points - low) / (high - low) * 2 - 1
        grid = self.values.to(points.dtype).permute(2, 1, 0)[None, None]
        sampled = torch.nn.functional.grid_sample(
            grid, unit.reshape(1, -1, 1, 1, 3), align_corners=True, padding_mode="border"
        )
        return sampled.reshape(points.shape[:-1])


@dataclass(frozen=True, slots=True)
class SparseField:
    """Values at lattice points: ``values.coords`` are lattice indices ``0..resolution``, ``values.feats`` ``(N, 1)``.

    Lattice as in :class:`GridField`: ``values.resolution`` cells an axis. A cell is active when all its eight corners
    are present; an extractor sees active cells only, so that a missing cell is a hole and not an error.
    """

    tag: ClassVar[str] = "sdf.sparse"
    values: SparseTensor
    outside: float = 1.0
    """What ``query`` answers where no active cell lies."""
    frame: Frame = Frame()
    level: float = 0.0
    """As in :class:`GridField`."""
    gradients: Tensor | None = None
    """``(N, 3)``, as in :class:`GridField`."""

    def __post_init__(self) -> None:
        if self.values.feats.shape[1:] != (1,):
            raise StateError(f"a sparse field needs one value a lattice point, not {tuple(self.values.feats.shape)}")

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Distance of neighbouring lattice points along each axis."""
        x, y, z = (size / self.values.resolution for size in self.frame.extent)
        return x, y, z

    def query(self, points: Tensor) -> Tensor:
        """Trilinear values ``(...)`` at ``points`` ``(..., 3)``; ``outside`` where a corner is missing. One sample."""
        count = self.values.resolution + 1
        flat = points.reshape(-1, 3)
        low, spacing = flat.new_tensor(self.frame.lower), flat.new_tensor(self.spacing)
        position = ((flat - low) / spacing).clamp(0, self.values.resolution)
        base = position.floor().clamp(max=self.values.resolution - 1)
        offset = position - base
        keys = _lattice_keys(self.values.coords[:, 1:].long(), count)
        result, present = flat.new_zeros(len(flat)), torch.ones(len(flat), dtype=torch.bool, device=flat.device)
        for corner in range(8):
            step = torch.tensor([corner & 1, corner >> 1 & 1, corner >> 2 & 1], device=flat.device)
            wanted = _lattice_keys(base.long() + step, count)
            row = torch.searchsorted(keys, wanted).clamp(max=max(len(keys) - 1, 0))
            found = keys[row] == wanted if len(keys) else torch.zeros_like(present)
            weight = torch.where(step.bool(), offset, 1 - offset).prod(dim=1)
            result = result + weight * torch.where(
                found, self.values.feats[row, 0].to(flat.dtype), result.new_zeros(())
            )
            present &= found
        return torch.where(present, result, result.new_tensor(self.outside)).reshape(points.shape[:-1])

    @classmethod
    def stack(cls, items: Sequence[SparseField]) -> SparseField:
        """One batch of several."""
        require_same([(item.frame, item.outside, item.level) for item in items], "frame, outside value and level")
        gradients = [item.gradients for item in items if item.gradients is not None]
        if gradients and len(gradients) != len(items):
            raise StateError("fields with and without gradients cannot be stacked")
        return replace(
            items[0],
            values=SparseTensor.stack([item.values for item in items]),
            gradients=torch.cat(gradients) if gradients else None,
        )

    def unbind(self) -> list[SparseField]:
        """The samples of the batch."""
        values = self.values.unbind()
        counts = [len(item.coords) for item in values]
        gradients = [None] * len(values) if self.gradients is None else list(torch.split(self.gradients, counts))
        return [replace(self, values=v, gradients=g) for v, g in zip(values, gradients, strict=True)]


def _lattice_keys(coords: Tensor, count: int) -> Tensor:
    return (coords[:, 0] * count + coords[:, 1]) * count + coords[:, 2]
