"""Rows of voxels: their canonical order, and features of the same voxels in another order."""

from __future__ import annotations

import torch
from shapewright.errors import StateError
from shapewright.states import SparseTensor
from torch import Tensor


def row_keys(coords: Tensor, resolution: int) -> Tensor:
    """``(N,)`` int64 that ascend by batch, x, y, z."""
    batch, x, y, z = coords.long().unbind(1)
    return ((batch * resolution + x) * resolution + y) * resolution + z


def canonical(x: SparseTensor) -> tuple[SparseTensor, Tensor]:
    """``x`` sorted by batch, x, y, z, and the permutation ``(N,)`` that sorted it."""
    order = torch.argsort(row_keys(x.coords, x.resolution))
    return SparseTensor(x.coords[order], x.feats[order], x.resolution, x.batch_size), order


def aligned(given: SparseTensor, x: SparseTensor) -> Tensor:
    """Features of ``given`` in the order of the rows of ``x``, which has the same voxels.

    Raises:
        StateError: the voxels are others.
    """
    if given.coords is x.coords:
        return given.feats
    if given.coords.shape == x.coords.shape:
        if torch.equal(given.coords, x.coords):
            return given.feats
        size = max(given.resolution, x.resolution)
        theirs, ours = (torch.argsort(row_keys(each.coords, size)) for each in (given, x))
        if torch.equal(given.coords[theirs], x.coords[ours]):
            found = torch.empty_like(given.feats)
            found[ours] = given.feats[theirs]
            return found
    raise StateError(
        f"values were given for {len(given.coords)} voxels of a grid of {given.resolution}, but they belong to "
        f"{len(x.coords)} other voxels of a grid of {x.resolution}; take both from one shape"
    )
