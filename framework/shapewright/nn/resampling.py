"""Between voxels of two sizes: pooling, copying, subdivision, and moving channels into space and back.

Children of a voxel are numbered x fastest, ``dx + f dy + f^2 dz``, as TRELLIS.2 does, or z fastest, ``f^2 dx + f dy +
dz``, as TripoSF and Direct3D-S2 do; functions say which. Resolutions follow: a level ``f`` times as coarse has
``ceil(resolution / f)`` voxels an axis.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from shapewright.errors import ConfigError, StateError
from shapewright.states import SparseTensor

from .structure import Level, Structure

Mode = Literal["mean", "mean-with-zero", "sum", "max"]
MODES = ("mean", "mean-with-zero", "sum", "max")


def downsample(
    x: SparseTensor, factor: int = 2, mode: Mode = "mean", structure: Structure | None = None
) -> tuple[SparseTensor, Level]:
    """Pool the voxels of each occupied voxel ``factor`` times as large.

    Args:
        mode: ``mean`` over present voxels (sums in float64 are cast back), ``sum``, ``max``, or ``mean-with-zero``: the
            sum over the number of voxels plus one, which the torchsparse pooling of Direct3D-S2 computes and its
            weights were trained with.
    Returns:
        Rows sorted by batch, x, y, z; and the level that leads back, see :func:`upsample`.
    Raises:
        ConfigError: an unknown mode.
        StateError: ``structure`` belongs to other voxels.
    """
    if mode not in MODES:
        raise ConfigError(f"mode must be one of {', '.join(MODES)}, not {mode!r}")
    level = Structure.of(x, structure).coarser(factor)
    coarse = SparseTensor(level.structure.coords, pool_rows(x.feats, level, mode), -(-x.resolution // factor),
                          x.batch_size)  # fmt: skip
    return coarse, level


def pool_rows(feats: Tensor, level: Level, mode: Mode = "mean") -> Tensor:
    """:func:`downsample` on rows ``(N, C)``: ``(M, C)``."""
    size = len(level.structure)
    index = level.rows[:, None].expand(-1, feats.shape[1])
    if mode == "max":
        start = feats.new_full((size, feats.shape[1]), -torch.inf)
        return start.scatter_reduce(0, index, feats, "amax", include_self=False)
    summed = feats.new_zeros(size, feats.shape[1], dtype=torch.float64).index_add(0, level.rows, feats.double())
    if mode != "sum":
        members = torch.bincount(level.rows, minlength=size)
        summed = summed / (members + (mode == "mean-with-zero"))[:, None]
    return summed.to(feats.dtype)


def upsample(x: SparseTensor, level: Level) -> SparseTensor:
    """Copy each coarse voxel to the fine ones that ``level`` remembers, in their rows.

    Raises:
        StateError: ``x`` does not live on the coarse voxels of ``level``.
    """
    Structure.of(x, level.structure)
    return SparseTensor(level.fine.coords, x.feats[level.rows], x.resolution * level.factor, x.batch_size)


def upsample_where(x: SparseTensor, present: Tensor) -> SparseTensor:
    """Copy each voxel to those of its children that ``present`` ``(N, f^3)`` bool names, x fastest; parent-major."""
    parents, children, factor = _chosen(x, present)
    return SparseTensor(_child_coords(x.coords, parents, children, factor), x.feats[parents],
                        x.resolution * factor, x.batch_size)  # fmt: skip


def spatial_to_channel(
    x: SparseTensor, factor: int = 2, structure: Structure | None = None
) -> tuple[SparseTensor, Level]:
    """Features of the children of each coarse voxel beside each other: ``(M, f^3 C)``, child x fastest, zero where a
    child is missing; and the level that leads back, see :func:`channel_to_spatial`."""
    level = Structure.of(x, structure).coarser(factor)
    volume, channels = factor**3, x.feats.shape[1]
    slots = x.feats.new_zeros(len(level.structure) * volume, channels)
    slots = slots.index_copy(0, level.rows * volume + level.children, x.feats)
    feats = slots.reshape(len(level.structure), volume * channels)
    return SparseTensor(level.structure.coords, feats, -(-x.resolution // factor), x.batch_size), level


def channel_to_spatial(x: SparseTensor, level: Level) -> SparseTensor:
    """The inverse of :func:`spatial_to_channel`: rows of the fine voxels that ``level`` remembers, ``C / f^3``
    channels.

    Raises:
        StateError: channels not divisible by ``f^3``; ``x`` does not live on the coarse voxels of ``level``.
    """
    Structure.of(x, level.structure)
    slots = _slots(x, level.factor)
    feats = slots[level.rows * level.factor**3 + level.children]
    return SparseTensor(level.fine.coords, feats, x.resolution * level.factor, x.batch_size)


def channel_to_spatial_where(x: SparseTensor, present: Tensor) -> SparseTensor:
    """The same for children that ``present`` ``(N, f^3)`` bool names, x fastest; rows are parent-major."""
    parents, children, factor = _chosen(x, present)
    feats = _slots(x, factor)[parents * factor**3 + children]
    return SparseTensor(_child_coords(x.coords, parents, children, factor), feats, x.resolution * factor, x.batch_size)


def subdivide(x: SparseTensor, factor: int = 2) -> SparseTensor:
    """All children of each voxel with its features: row ``r`` becomes rows ``f^3 r ...``, z fastest."""
    volume = factor**3
    steps = torch.arange(factor, dtype=torch.int32, device=x.coords.device)
    zeros = torch.zeros(1, dtype=torch.int32, device=x.coords.device)
    offsets = torch.cartesian_prod(zeros, steps, steps, steps)
    scale = x.coords.new_tensor([1, factor, factor, factor])
    coords = ((x.coords * scale)[:, None] + offsets).reshape(-1, 4)
    return SparseTensor(coords, x.feats.repeat_interleave(volume, 0), x.resolution * factor, x.batch_size)


def keep(x: SparseTensor, mask: Tensor) -> SparseTensor:
    """The rows of ``x`` where ``mask`` ``(N,)`` is true.

    Raises:
        StateError: mask is no bool tensor of as many rows.
    """
    if mask.dtype != torch.bool or mask.shape != x.coords.shape[:1]:
        raise StateError(f"mask must be bool ({len(x.coords)},), not {mask.dtype} {tuple(mask.shape)}")
    return SparseTensor(x.coords[mask], x.feats[mask], x.resolution, x.batch_size)


def sort_rows(x: SparseTensor) -> tuple[SparseTensor, Tensor]:
    """``x`` sorted by batch, x, y, z, and the permutation ``(N,)`` that sorted it."""
    order = torch.arange(len(x.coords), device=x.coords.device)
    for axis in (3, 2, 1, 0):
        order = order[torch.argsort(x.coords[order, axis], stable=True)]
    return SparseTensor(x.coords[order], x.feats[order], x.resolution, x.batch_size), order


def _slots(x: SparseTensor, factor: int) -> Tensor:
    volume = factor**3
    if x.feats.shape[1] % volume:
        raise StateError(f"feats has {x.feats.shape[1]} channels, not divisible by {volume} children")
    return x.feats.reshape(len(x.feats) * volume, x.feats.shape[1] // volume)


def _chosen(x: SparseTensor, present: Tensor) -> tuple[Tensor, Tensor, int]:
    volume = present.shape[1] if present.ndim == 2 else 0
    factor = round(volume ** (1 / 3))
    if present.dtype != torch.bool or len(present) != len(x.coords) or factor < 2 or factor**3 != volume:
        raise StateError(
            f"present must be bool ({len(x.coords)}, factor^3), not {present.dtype} {tuple(present.shape)}"
        )
    parents, children = torch.nonzero(present, as_tuple=True)
    return parents, children, factor


def _child_coords(coords: Tensor, parents: Tensor, children: Tensor, factor: int) -> Tensor:
    offsets = torch.stack(
        [torch.zeros_like(children), children % factor, children // factor % factor, children // factor**2], 1
    )
    return coords[parents] * coords.new_tensor([1, factor, factor, factor]) + offsets.int()
