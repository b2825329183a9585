"""What can be computed once for a set of voxels and shared by every layer that works on them.

A :class:`Structure` is made by a network for its input and handed to its layers beside the features. It keeps neighbour
maps by kernel and coarser levels by factor, each made at its first use; nothing is hidden in a tensor. Layers called
without one make their own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import torch
from shapewright_kernels.neighbour_map import downsample_map
from shapewright_kernels.sparse_convolution_pairs import Neighbours, strided_neighbours, submanifold_neighbours
from torch import Tensor

from shapewright.errors import StateError
from shapewright.states import SparseTensor

Kernel = int | tuple[int, int, int]
Function = TypeVar("Function", bound=Callable[..., Any])


def _uncompiled(function: Function) -> Function:
    """Left out by ``torch.compile``: maps are built by compiled kernels and kept, the rest of a network is traced."""
    return cast(Function, torch.compiler.disable(function))  # type: ignore[no-untyped-call]


class Structure:
    """Maps over voxels ``coords`` ``(N, 4)`` int32 ``[batch, x, y, z]``: samples in order, voxels of each in any order.

    Raises:
        StateError: not such coordinates; a batch index outside ``0..batch_size``; a negative coordinate.

    >>> structure = Structure(torch.tensor([[0, 0, 0, 0], [0, 0, 0, 1], [2, 5, 5, 5]], dtype=torch.int32), 3)
    >>> structure.counts.tolist(), structure.coarser(2).structure.coords.tolist()
    ([2, 0, 1], [[0, 0, 0, 0], [2, 2, 2, 2]])
    """

    def __init__(self, coords: Tensor, batch_size: int = 1) -> None:
        if coords.ndim != 2 or coords.shape[1] != 4 or coords.dtype != torch.int32:
            raise StateError(f"coords must be int32 (N, 4), not {coords.dtype} {tuple(coords.shape)}")
        if batch_size < 1:
            raise StateError(f"batch_size must be at least 1, not {batch_size}")
        self.reach = 0
        """Least resolution that the coordinates fit in."""
        if len(coords):
            batch = coords[:, 0]
            least, most = coords.amin(0).tolist(), coords.amax(0).tolist()
            self.reach = max(most[1:]) + 1
            if least[0] < 0 or most[0] >= batch_size:
                raise StateError(f"coords name samples {least[0]} to {most[0]} but batch_size is {batch_size}")
            if min(least[1:]) < 0:
                raise StateError(f"coords must not be negative, but reach down to {least[1:]}")
            if bool((batch[1:] < batch[:-1]).any()):
                raise StateError("rows of coords must be grouped by batch, in ascending order; sort them first")
        self.coords = coords
        self.batch_size = batch_size
        self.counts = torch.bincount(coords[:, 0].long(), minlength=batch_size)
        """``(B,)`` int64 voxels of each sample; zeros are allowed."""
        self._neighbours: dict[tuple[int, int, int], Neighbours] = {}
        self._strided: dict[tuple[int, int], Neighbours] = {}
        self._coarser: dict[int, Level] = {}

    @classmethod
    @_uncompiled
    def of(cls, x: SparseTensor, structure: Structure | None = None) -> Structure:
        """``structure`` where it is that of ``x``, a new one where it is ``None``.

        Raises:
            StateError: it belongs to other voxels; a coordinate is beyond the resolution.
        """
        if structure is None:
            structure = cls(x.coords, x.batch_size)
        if structure.reach > x.resolution:
            raise StateError(f"coords reach up to {structure.reach - 1} but the resolution is {x.resolution}")
        same = structure.coords is x.coords or torch.equal(structure.coords, x.coords)
        if not same or structure.batch_size != x.batch_size:
            raise StateError(
                f"structure was made for other voxels ({len(structure)} rows, {structure.batch_size} samples) than "
                f"x has ({len(x.coords)} rows, {x.batch_size} samples)"
            )
        return structure

    def __len__(self) -> int:
        return len(self.coords)

    @_uncompiled
    def neighbours(self, kernel: Kernel = 3) -> Neighbours:
        """Map of a submanifold convolution.

        Raises:
            StateError: a voxel stands twice; an even kernel.
        """
        sizes = (kernel,) * 3 if isinstance(kernel, int) else kernel
        if sizes not in self._neighbours:
            try:
                self._neighbours[sizes] = submanifold_neighbours(self.coords, sizes)
            except ValueError as error:
                raise StateError(str(error)) from None
        return self._neighbours[sizes]

    @_uncompiled
    def strided(self, kernel: int, stride: int) -> tuple[Neighbours, Level]:
        """Map of a strided convolution and the level it leads to; ``.transposed`` of the map leads back."""
        level = self.coarser(stride)
        if (kernel, stride) not in self._strided:
            try:
                found, _ = strided_neighbours(self.coords, kernel, stride)
            except ValueError as error:
                raise StateError(str(error)) from None
            self._strided[kernel, stride] = found
        return self._strided[kernel, stride], level

    @_uncompiled
    def coarser(self, factor: int = 2) -> Level:
        """The level of voxels ``factor`` times as large."""
        if factor not in self._coarser:
            if factor < 2:
                raise StateError(f"factor must be at least 2, not {factor}")
            found = downsample_map(self.coords.numpy(force=True), factor)
            rows, children = (torch.from_numpy(part).to(self.coords.device) for part in (found.rows, found.children))
            coords = torch.from_numpy(found.coords).to(self.coords.device)
            self._coarser[factor] = Level(self, Structure(coords, self.batch_size), rows, children, factor)
        return self._coarser[factor]


@dataclass(frozen=True)
class Level:
    """How fine voxels hang on coarser ones."""

    fine: Structure
    structure: Structure
    """Of the coarse voxels, sorted by batch, x, y, z."""
    rows: Tensor
    """``(N,)`` int64 coarse row of every fine row."""
    children: Tensor
    """``(N,)`` int64 place of the fine voxel in its parent, x fastest: ``dx + f dy + f^2 dz``."""
    factor: int

    @property
    def subdivision(self) -> Tensor:
        """``(M, f^3)`` bool: which children of each coarse voxel exist."""
        present = torch.zeros(len(self.structure), self.factor**3, dtype=torch.bool, device=self.rows.device)
        present[self.rows, self.children] = True
        return present


def samples(x: SparseTensor) -> Tensor:
    """``(N,)`` int64 batch index of every row."""
    return x.coords[:, 0].long()
