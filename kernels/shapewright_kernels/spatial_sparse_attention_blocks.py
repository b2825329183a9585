"""Which voxels share a block: the orders and tables that Spatial Sparse Attention reads, made once a coordinate set.

Blocks are numbered in ascending order of (batch, block x, block y, block z), over the whole batch. Everything here is
plain torch on the device of the coordinates; values depend on coordinates only, so one structure serves all layers,
all steps and both passes of guidance.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

KEY_LIMIT = 1 << 62


@dataclass(frozen=True, slots=True)
class BlockPartition:
    """Tokens grouped by the cubes of ``size`` voxels that hold them; a cube without tokens has no number."""

    size: int
    shift: int
    order: Tensor | None
    """``(N,)`` int64 rows in block order, lexicographic inside a block; ``None`` where the rows are in that order."""
    rows: Tensor
    """``(N,)`` int64 block of every row of the caller."""
    coords: Tensor
    """``(M, 4)`` int32 ``[batch, x, y, z]`` of the blocks, in units of ``size``."""
    offsets: Tensor
    """``(M + 1,)`` int32: block ``i`` owns places ``offsets[i] .. offsets[i + 1]`` of the block order."""
    sample_offsets: Tensor
    """``(B + 1,)`` int32: sample ``b`` owns blocks ``sample_offsets[b] .. sample_offsets[b + 1]``."""
    largest: int
    """Most tokens in one block."""
    most_blocks: int
    """Most blocks in one sample."""

    def __len__(self) -> int:
        return self.coords.shape[0]


@dataclass(frozen=True, slots=True)
class SpatialStructure:
    """A coordinate set as Spatial Sparse Attention sees it. Its tables are over tokens in selection-block order."""

    order: Tensor | None
    """``(N,)`` int64 rows of the caller in selection-block order; ``None`` where they are in that order."""
    inverse: Tensor | None
    """``(N,)`` int64 place of every row of the caller in that order."""
    coords: Tensor
    """``(N, 4)`` int32, in selection-block order."""
    token_offsets: Tensor
    """``(B + 1,)`` int32."""
    compression: BlockPartition
    selection: BlockPartition
    windows: BlockPartition
    parents: Tensor
    """``(M,)`` int64 selection block of every compression block."""

    @property
    def batch_size(self) -> int:
        return self.token_offsets.shape[0] - 1

    def __len__(self) -> int:
        return self.coords.shape[0]

    def with_window(self, size: int, shift: int) -> SpatialStructure:
        """The same structure with other windows, for layers that alternate the shift."""
        if (size, shift) == (self.windows.size, self.windows.shift):
            return self
        windows = partition_blocks(self.coords, size, shift=shift, batch_size=self.batch_size)
        return replace(self, windows=windows)


def partition_blocks(
    coords: Tensor, size: int, *, shift: int = 0, batch_size: int | None = None, name: str = "size"
) -> BlockPartition:
    """Group tokens by ``(coords + shift) // size``.

    Args:
        coords: ``(N, 4)`` integer rows ``[batch, x, y, z]``, none negative, none twice, any order.
        size: edge of a block in voxels.
        shift: added to x, y and z before the division (shifted windows).
        batch_size: default is the largest batch number plus one; samples may be empty.
        name: what messages call ``size``.
    Raises:
        TypeError: coords are not integers.
        ValueError: coords have another shape, are negative, repeat a voxel, or name a sample of ``batch_size`` or more;
            size below 1; shift negative.

    >>> made = partition_blocks(torch.tensor([[0, 0, 0, 5], [0, 0, 0, 1], [0, 3, 0, 0]]), 2)
    >>> made.order.tolist(), made.rows.tolist(), made.offsets.tolist(), made.coords[:, 1:].tolist()
    ([1, 0, 2], [1, 0, 2], [0, 1, 2, 3], [[0, 0, 0], [0, 0, 2], [1, 0, 0]])
    """
    check_coords(coords)
    if size < 1:
        raise ValueError(f"{name} must be at least 1, not {size}")
    if shift < 0:
        raise ValueError(f"shift must not be negative, not {shift}")
    device = coords.device
    if len(coords) == 0:
        batch = 0 if batch_size is None else batch_size
        nothing = torch.zeros(0, dtype=torch.int64, device=device)
        none = torch.zeros(batch + 1, dtype=torch.int32, device=device)
        empty = torch.zeros((0, 4), dtype=torch.int32, device=device)
        return BlockPartition(size, shift, None, nothing, empty, none[:1], none, 0, 0)
    key, block, batch, extent = _keys(coords, size, shift)
    if batch_size is not None and batch > batch_size:
        raise ValueError(f"coords name sample {batch - 1}, but batch_size is {batch_size}")
    batch = batch if batch_size is None else batch_size
    order: Tensor | None = None
    if bool((key[1:] <= key[:-1]).any()):
        key, order = key.sort()
        if bool((key[1:] == key[:-1]).any()):
            at = int((key[1:] == key[:-1]).nonzero()[0])
            first, second = sorted(order[at : at + 2].tolist())
            raise ValueError(f"coords hold voxel {coords[first].tolist()} twice, in rows {first} and {second}")
        block = block[order]
    numbers, ranks, counts = torch.unique_consecutive(block, return_inverse=True, return_counts=True)
    rows = ranks if order is None else torch.empty_like(ranks).scatter_(0, order, ranks)
    plane, z = numbers // extent[2], numbers % extent[2]
    plane, y = plane // extent[1], plane % extent[1]
    sample, x = plane // extent[0], plane % extent[0]
    blocks = torch.bincount(sample, minlength=batch)
    largest, most = torch.stack([counts.max(), blocks.max()]).tolist()
    where = torch.stack([sample, x, y, z], dim=1).int()
    return BlockPartition(size, shift, order, rows, where, _offsets(counts), _offsets(blocks), largest, most)


def sort_block(coords: Tensor, size: int) -> Tensor:
    """Permutation ``(N,)`` int64 that puts tokens in block order: by batch, by block, then inside the block, each
    lexicographic. Equal rows keep their order.

    Raises:
        TypeError, ValueError: as :func:`partition_blocks`, but rows may repeat.

    >>> sort_block(torch.tensor([[0, 0, 0, 5], [0, 1, 0, 0], [0, 0, 0, 1]]), 2).tolist()
    [2, 1, 0]
    """
    check_coords(coords)
    if size < 1:
        raise ValueError(f"size must be at least 1, not {size}")
    if len(coords) == 0:
        return torch.zeros(0, dtype=torch.int64, device=coords.device)
    return _keys(coords, size, 0)[0].argsort(stable=True)


def spatial_structure(
    coords: Tensor,
    *,
    compression: int,
    selection: int,
    window: int,
    shift: int = 0,
    resolution: int | None = None,
    batch_size: int | None = None,
) -> SpatialStructure:
    """Everything that Spatial Sparse Attention needs to know about a coordinate set.

    Args:
        coords: ``(N, 4)`` integer rows ``[batch, x, y, z]``, any order.
        compression, selection, window: edges of the three kinds of blocks in voxels; the first divides the second.
        shift: of the windows, in voxels.
        resolution: edge of the grid, if known: then coordinates must lie in it, and blocks must divide it.
        batch_size: as in :func:`partition_blocks`.
    Raises:
        TypeError, ValueError: bad coords or sizes; the message names the argument.
    """
    check_coords(coords, resolution)
    for name, size in (("compression", compression), ("selection", selection), ("window", window)):
        if size < 1:
            raise ValueError(f"{name} must be at least 1, not {size}")
    if selection % compression:
        raise ValueError(f"compression {compression} must divide selection {selection}")
    if resolution is not None and resolution % selection:
        raise ValueError(f"resolution {resolution} is not divisible by the selection block {selection}")
    chosen = partition_blocks(coords, selection, batch_size=batch_size, name="selection")
    batch_size = chosen.sample_offsets.shape[0] - 1
    order, inverse = chosen.order, None
    sorted_coords = coords.int()
    if order is not None:
        sorted_coords = sorted_coords[order]
        inverse = torch.empty_like(order).scatter_(0, order, torch.arange(len(order), device=order.device))
        chosen = replace(chosen, order=None, rows=chosen.rows[order])
    if compression == selection:
        compressed = chosen
        parents = torch.arange(len(chosen), device=coords.device)
    else:
        compressed = partition_blocks(sorted_coords, compression, batch_size=batch_size, name="compression")
        parents = torch.empty(len(compressed), dtype=torch.int64, device=coords.device)
        parents[compressed.rows] = chosen.rows  # every token of a compression block has the same parent
    if (window, shift) == (selection, 0):
        windows = chosen
    else:
        windows = partition_blocks(sorted_coords, window, shift=shift, batch_size=batch_size, name="window")
    offsets = _offsets(torch.bincount(sorted_coords[:, 0].long(), minlength=batch_size))
    return SpatialStructure(order, inverse, sorted_coords, offsets, compressed, chosen, windows, parents)


def check_coords(coords: Tensor, resolution: int | None = None) -> None:
    """Raise TypeError or ValueError unless ``coords`` is ``(N, 4)`` of integers, none negative, inside the grid."""
    if coords.dtype not in (torch.int8, torch.int16, torch.int32, torch.int64, torch.uint8):
        raise TypeError(f"coords must be integers, not {coords.dtype}")
    if coords.ndim != 2 or coords.shape[1] != 4:
        raise ValueError(f"coords must be (N, 4) rows [batch, x, y, z], not {tuple(coords.shape)}")
    if len(coords) == 0:
        return
    low, high = (int(v) for v in torch.stack([coords.min(), coords[:, 1:].max()]).tolist())
    if low < 0:
        row = int((coords < 0).any(1).nonzero()[0])
        raise ValueError(f"coords must not be negative, but row {row} is {coords[row].tolist()}")
    if resolution is not None and high >= resolution:
        row = int((coords[:, 1:] >= resolution).any(1).nonzero()[0])
        raise ValueError(f"coords must lie below resolution {resolution}, but row {row} is {coords[row].tolist()}")


def _keys(coords: Tensor, size: int, shift: int) -> tuple[Tensor, Tensor, int, list[int]]:
    """Keys ``(N,)`` int64 that ascend in block order; those of the blocks; samples; and blocks along each axis."""
    moved = coords[:, 1:].long() + shift
    cells, inside = moved // size, moved % size
    batch, *extent = (int(v) + 1 for v in torch.cat([coords[:, :1].long(), cells], dim=1).amax(0).tolist())
    if batch * extent[0] * extent[1] * extent[2] * size**3 >= KEY_LIMIT:
        raise ValueError(f"coords span {extent} blocks of {size} voxels, too many for 64-bit keys")
    block = ((coords[:, 0].long() * extent[0] + cells[:, 0]) * extent[1] + cells[:, 1]) * extent[2] + cells[:, 2]
    return block * size**3 + (inside[:, 0] * size + inside[:, 1]) * size + inside[:, 2], block, batch, extent


def _offsets(counts: Tensor) -> Tensor:
    return torch.cat([counts.new_zeros(1), counts.cumsum(0)]).int()
