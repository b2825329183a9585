"""Neighbour maps prepared for products: pairs of rows grouped by weight, in blocks of output rows.

A product over one block gathers the inputs of all its pairs, multiplies those of each weight by it, and adds up the
results of each output row. So nothing but the pairs themselves grows with the number of voxels, no two blocks write
the same row, and sums run in one order whatever the threads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray
from torch import Tensor

from .coordinate_index import CoordinateIndex
from .lattice_index import Integer
from .neighbour_map import DownsampleMap, Rows, downsample_map, neighbour_map, strided_map
from .threads import run_chunks, spans

BLOCK_ROWS = 2048
"""Output rows of a block: small enough that its buffers stay near the processor, large enough for matrix products."""
DEVICE_BLOCKS = 32
"""A block on a GPU is so many times larger: a launch costs more there than memory far away."""


@dataclass(frozen=True, slots=True)
class Block:
    """The pairs of output rows ``start..stop``, those of weight 0 first."""

    start: int
    stop: int
    counts: Sequence[int]
    """``(K,)`` pairs of each weight."""
    sources: Tensor
    """``(P,)`` int32 input row of each pair."""
    targets: Tensor
    """``(P,)`` int32 output row of each pair, less ``start``."""
    places: Tensor
    """``(P,)`` int32 numbers of the pairs sorted by output row."""
    offsets: Tensor
    """``(stop - start + 1,)`` int32 where each output row begins in ``places``."""


@dataclass
class Neighbours:
    """Which input row each weight of a sparse convolution reads for each output row, and what follows from it.

    ``rows`` is ``(M, K)`` int32 on the device of the features, -1 where there is no voxel; ``inputs`` is the number of
    input rows. Everything derived is made at its first use and kept, so pass one object to all convolutions that share
    coordinates and kernel.
    """

    rows: Tensor
    inputs: int
    kernel: tuple[int, int, int]
    symmetric: bool = False
    """Whether input ``rows[i, k]`` reads ``i`` by weight ``K - 1 - k``: true of submanifold maps of odd kernels."""
    _blocks: list[Block] | None = field(default=None, repr=False)
    _transposed: Neighbours | None = field(default=None, repr=False)
    _order: Tensor | None = field(default=None, repr=False)
    _pairs: tuple[Tensor, Tensor, Tensor] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.rows.ndim != 2 or self.rows.dtype != torch.int32:
            raise ValueError(f"neighbours must be int32 (M, K), not {self.rows.dtype} {tuple(self.rows.shape)}")
        weights = self.kernel[0] * self.kernel[1] * self.kernel[2]
        if self.rows.shape[1] != weights:
            raise ValueError(f"neighbours have {self.rows.shape[1]} columns but the kernel {self.kernel} has {weights}")

    @property
    def outputs(self) -> int:
        """Number of output rows."""
        return len(self.rows)

    @property
    def blocks(self) -> list[Block]:
        """Pairs in blocks of output rows."""
        if self._blocks is None:
            made = _blocks_numba(self.rows) if self.rows.device.type == "cpu" else _blocks_torch(self.rows)
            self._blocks = made
        return self._blocks

    @property
    def transposed(self) -> Neighbours:
        """The map of the opposite direction: what the inverse convolution and gradients of features read."""
        if self._transposed is None:
            if self.symmetric:
                rows = self.rows.flip(1)
            else:
                rows = self.rows.new_full((self.inputs, self.rows.shape[1]), -1)
                outputs, weights = torch.nonzero(self.rows >= 0, as_tuple=True)
                rows[self.rows[outputs, weights].long(), weights] = outputs.int()
            self._transposed = Neighbours(rows, self.outputs, self.kernel, self.symmetric, _transposed=self)
        return self._transposed

    @property
    def order(self) -> Tensor:
        """``(M,)`` int32: output rows so that those with the same neighbours follow one another. Tiles of a product on
        a GPU then skip weights that none of their rows has."""
        if self._order is None:
            keys = torch.zeros(self.outputs, dtype=torch.int64, device=self.rows.device)
            for column in range(min(self.rows.shape[1], 62)):
                keys |= (self.rows[:, column] >= 0).long() << column
            self._order = torch.argsort(keys, stable=True).int()
        return self._order

    @property
    def pairs(self) -> tuple[Tensor, Tensor, Tensor]:
        """``(P,)`` input rows and ``(P,)`` output rows of all pairs, int32, grouped by weight, and where each weight
        begins, ``(K + 1,)`` int64."""
        if self._pairs is None:
            columns = self.rows.t()
            weights, outputs = torch.nonzero(columns >= 0, as_tuple=True)
            starts = torch.zeros(len(columns) + 1, dtype=torch.int64, device=columns.device)
            starts[1:] = torch.cumsum(torch.bincount(weights, minlength=len(columns)), 0)
            self._pairs = (columns[weights, outputs].contiguous(), outputs.int(), starts)
        return self._pairs


def _triple(kernel: int | tuple[int, int, int], name: str) -> tuple[int, int, int]:
    sizes = (kernel,) * 3 if isinstance(kernel, int) else tuple(kernel)
    if len(sizes) != 3 or any(size < 1 for size in sizes):
        raise ValueError(f"{name} must be a positive whole number or three of them, not {kernel}")
    return sizes[0], sizes[1], sizes[2]


def submanifold_neighbours(
    coords: Tensor, kernel: int | tuple[int, int, int] = 3, *, threads: int | None = None
) -> Neighbours:
    """Neighbours of every voxel among the voxels themselves.

    Args:
        coords: ``(N, 4)`` integer rows ``[batch, x, y, z]``, any order, no row twice.
        kernel: odd sizes along x, y, z; weight ``(i, j, l)`` reads the voxel at the offset ``(i, j, l) - kernel // 2``.
    Raises:
        ValueError: bad coords (a repeated row is named); an even kernel.
    """
    sizes = _triple(kernel, "kernel")
    if any(size % 2 == 0 for size in sizes):
        raise ValueError(f"kernel sizes of a submanifold convolution must be odd, not {sizes}; use a strided one")
    if sizes == (1, 1, 1):
        rows = torch.arange(len(coords), dtype=torch.int32, device=coords.device)[:, None]
        return Neighbours(rows, len(coords), sizes, symmetric=True)
    found = neighbour_map(coords.numpy(force=True), sizes, threads=threads)
    return Neighbours(torch.from_numpy(found).to(coords.device), len(coords), sizes, symmetric=True)


def strided_neighbours(
    coords: Tensor, kernel: int | tuple[int, int, int] = 2, stride: int = 2, *, padding: int | None = None,
    level: DownsampleMap | None = None, threads: int | None = None,
) -> tuple[Neighbours, Tensor]:  # fmt: skip
    """Neighbours of the occupied voxels of a level ``stride`` times as coarse, and their coordinates ``(M, 4)``.

    Args:
        coords: ``(N, 4)`` integer rows ``[batch, x, y, z]``, any order, no row twice.
        kernel, stride: weight ``k`` of output ``p`` reads the voxel ``stride * p - padding + k``.
        padding: default 0 where kernel and stride are equal (each output reads its children), else ``kernel // 2``.
        level: ``downsample_map(coords, stride)`` where it is at hand.
    """
    sizes = _triple(kernel, "kernel")
    found = coords.numpy(force=True)
    if level is None:
        level = downsample_map(found, stride, threads=threads)
    if padding is None and all(size == stride for size in sizes):
        padding = 0
    index = CoordinateIndex(found, threads=threads)
    rows = strided_map(index, level.coords, sizes, stride=stride, padding=padding, threads=threads)
    outputs = torch.from_numpy(level.coords).to(coords)
    return Neighbours(torch.from_numpy(rows).to(coords.device), len(coords), sizes), outputs


def _blocks_numba(rows: Tensor) -> list[Block]:
    array: Rows = rows.numpy()

    def work(span: tuple[int, int]) -> Block:
        start, stop = span
        counts = np.zeros(array.shape[1], np.int64)
        _count(array, start, stop, counts)
        total = int(counts.sum())
        sources, targets = np.empty(total, np.int32), np.empty(total, np.int32)
        places, offsets = np.empty(total, np.int32), np.empty(stop - start + 1, np.int32)
        _fill(array, start, stop, np.cumsum(counts) - counts, sources, targets, places, offsets)
        made = (torch.from_numpy(part) for part in (sources, targets, places, offsets))
        return Block(start, stop, counts.tolist(), *made)

    return run_chunks(work, spans(len(array), BLOCK_ROWS))


def _blocks_torch(rows: Tensor) -> list[Block]:
    blocks = []
    size = BLOCK_ROWS if rows.device.type == "cpu" else BLOCK_ROWS * DEVICE_BLOCKS
    for start, stop in spans(len(rows), size):
        columns = rows[start:stop].t()
        weights, targets = torch.nonzero(columns >= 0, as_tuple=True)
        counts = torch.bincount(weights, minlength=len(columns))
        offsets = torch.zeros(stop - start + 1, dtype=torch.int32, device=rows.device)
        offsets[1:] = torch.cumsum(torch.bincount(targets, minlength=stop - start), 0)
        places = torch.argsort(targets, stable=True).int()
        blocks.append(Block(start, stop, counts.tolist(), columns[weights, targets], targets.int(), places, offsets))
    return blocks


@njit(nogil=True, cache=True, error_model="numpy")
def _count(rows: Rows, start: Integer, stop: Integer, counts: NDArray[np.int64]) -> None:
    for row in range(start, stop):
        for weight in range(rows.shape[1]):
            counts[weight] += rows[row, weight] >= 0


@njit(nogil=True, cache=True, error_model="numpy")
def _fill(
    rows: Rows, start: Integer, stop: Integer, heads: NDArray[np.int64], sources: Rows, targets: Rows, places: Rows,
    offsets: Rows,
) -> None:  # fmt: skip
    listed = 0
    for row in range(start, stop):
        offsets[row - start] = listed
        for weight in range(rows.shape[1]):
            source = rows[row, weight]
            if source >= 0:
                place = heads[weight]
                heads[weight] = place + 1
                sources[place] = source
                targets[place] = row - start
                places[listed] = place
                listed += 1
    offsets[stop - start] = listed
