"""What the extractors need of a field on lattice points: dense, sparse, or sampled from a function."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from shapewright.errors import StateError
from shapewright.states import Frame, FunctionField, GridField, SparseField
from torch import Tensor

from .refinement import BATCH, FunctionOptions, refine


@dataclass(frozen=True, slots=True)
class LatticeField:
    """One sample: values by row (flat index of a grid), and their lattice points where they are not a full grid."""

    values: Tensor
    """``(X, Y, Z)`` or ``(N,)``, float32 or float64, still attached to autograd."""
    coords: NDArray[np.int32] | None
    """``(N, 3)`` lattice indices of a sparse field."""
    gradients: Tensor | None
    level: float
    frame: Frame
    spacing: tuple[float, float, float]

    @property
    def array(self) -> NDArray[np.floating[Any]]:
        """``values`` for the kernels; no copy of a contiguous CPU tensor."""
        return self.values.numpy(force=True)

    def in_frame(self, vertices: Tensor) -> Tensor:
        """Lattice units to units of the frame."""
        return vertices * vertices.new_tensor(self.spacing) + vertices.new_tensor(self.frame.lower)


def lattice_field(
    state: GridField | SparseField | FunctionField, level: float | None, options: FunctionOptions, component: str
) -> LatticeField:
    """View of ``state``, or samples near its surface if it is a function; ``level=None`` takes the field's own.

    Raises:
        StateError: a batch of several samples, or lattice points outside the lattice.
    """
    if isinstance(state, FunctionField):
        level = 0.0 if level is None else level
        found = refine(
            state.query, state.frame, options.coarse, options.resolution, level=level, lipschitz=options.lipschitz
        )
        x, y, z = (size / options.resolution for size in state.frame.extent)
        return LatticeField(found.values, found.coords, None, level, state.frame, (x, y, z))
    level = state.level if level is None else level
    if isinstance(state, GridField):
        return LatticeField(_float(state.values), None, state.gradients, level, state.frame, state.spacing)
    sparse = state.values
    if sparse.batch_size != 1:
        raise StateError(
            f"{component} extracts one sample but the field holds {sparse.batch_size}; call it for each of `unbind()`"
        )
    coords = sparse.coords[:, 1:].numpy(force=True)
    if len(coords):
        least, most = (int(bound) for bound in sparse.coords.aminmax())  # batch indices are 0
        if least < 0 or most > sparse.resolution:
            raise StateError(
                f"{component}: lattice points of a field of resolution {sparse.resolution} lie in "
                f"0..{sparse.resolution}, not {least}..{most}"
            )
    return LatticeField(_float(sparse.feats[:, 0]), coords, state.gradients, level, state.frame, state.spacing)


def carries_gradients(state: GridField | SparseField | FunctionField, field: LatticeField) -> bool:
    """Whether autograd is on and would reach something through the values; a function is asked for one of them."""
    if not torch.is_grad_enabled():
        return False
    if isinstance(state, FunctionField) and field.coords is not None and len(field.coords):
        return bool(state.query(_places(field, field.coords[:1])).requires_grad)
    return field.values.requires_grad


def attached(state: FunctionField, field: LatticeField, rows: Tensor) -> Tensor:
    """``field.values[rows]``, to the bit, with the gradients of the function at those lattice points."""
    assert field.coords is not None
    used, where = torch.unique(rows, return_inverse=True)
    points = _places(field, field.coords[used.numpy()])
    again = torch.cat([state.query(part) for part in torch.split(points, BATCH)]).to(field.values)
    # A function may round differently in another batch; the edges cross by the values that were found first.
    return (field.values[used] + (again - again.detach()))[where]


def _places(field: LatticeField, coords: NDArray[np.int32]) -> Tensor:
    """``(N, 3)`` float32 positions of lattice points, as :func:`.refinement.refine` rounds them."""
    count = np.rint(np.array(field.frame.extent) / field.spacing)
    steps = coords.astype(np.float64) / count
    return torch.from_numpy((np.array(field.frame.lower) + steps * np.array(field.frame.extent)).astype(np.float32))


def _float(values: Tensor) -> Tensor:
    return values if values.dtype in (torch.float32, torch.float64) else values.float()
