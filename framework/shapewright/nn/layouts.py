"""Layouts of packed token sets: where each sample starts, and what all layers share about it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from shapewright.errors import StateError
from shapewright.states import Layout, SparseTensor


def layout_of(sparse: SparseTensor) -> Layout:
    """The layout of a batch of voxels; samples without a voxel are empty sequences.

    Make it once and pass it to every layer: windows, orders and rotary phases are kept with it.

    Raises:
        StateError: rows are not sorted by batch, or the batch index leaves ``0..batch_size - 1``.

    >>> coords = torch.tensor([[0, 1, 2, 3], [2, 0, 0, 0]], dtype=torch.int32)
    >>> layout_of(SparseTensor(coords, torch.zeros(2, 4), 8, batch_size=3)).offsets.tolist()
    [0, 1, 1, 2]
    """
    batch = sparse.coords[:, 0].long()
    if len(batch):
        if bool((batch[1:] < batch[:-1]).any()):
            raise StateError("coords must be sorted by batch, so that the rows of a sample are neighbours")
        if int(batch[0]) < 0 or int(batch[-1]) >= sparse.batch_size:
            raise StateError(
                f"coords hold batch {int(batch[0])}..{int(batch[-1])} but batch_size is {sparse.batch_size}"
            )
    counts = torch.bincount(batch, minlength=sparse.batch_size)
    offsets = torch.cat([counts.new_zeros(1), counts.cumsum(0)]).int()
    return Layout(offsets, sparse.coords[:, 1:].contiguous(), sparse.resolution)


def dense_layout(batch: int, length: int, device: torch.device | str = "cpu", coords: Tensor | None = None) -> Layout:
    """The layout of ``(B, N, C)`` tokens flattened to ``(B * N, C)``; ``coords`` ``(N, 3)`` are the same in every
    sample."""
    offsets = torch.arange(batch + 1, device=device, dtype=torch.int32) * length
    return Layout(offsets, None if coords is None else coords.to(device).repeat(batch, 1))


def pack(samples: Sequence[Tensor]) -> tuple[Tensor, Layout]:
    """Token sets of different lengths, ``(N_i, C)`` each, as one ``(sum N_i, C)`` with its layout."""
    if not samples or any(s.ndim != 2 or s.shape[1] != samples[0].shape[1] for s in samples):
        raise StateError(f"samples must be (N, C) tensors of one width, not {[tuple(s.shape) for s in samples]}")
    lengths = torch.tensor([0, *(len(sample) for sample in samples)], dtype=torch.int32)
    return torch.cat(list(samples)), Layout(torch.cumsum(lengths, 0, dtype=torch.int32).to(samples[0].device))


def sample_rows(layout: Layout) -> Tensor:
    """``(T,)`` int64: the sample that each token belongs to."""

    def compute() -> Tensor:
        lengths = layout.offsets.diff().long()
        return torch.repeat_interleave(torch.arange(len(lengths), device=lengths.device), lengths)

    return layout.shared("sample_rows", compute)


def batched_coords(layout: Layout) -> Tensor:
    """``(T, 4)`` int64 ``[batch, x, y, z]``.

    Raises:
        StateError: the tokens of the layout are no voxels.
    """
    if layout.coords is None:
        raise StateError("the layout has no coords; this attention needs tokens that are voxels")

    def compute() -> Tensor:
        assert layout.coords is not None
        return torch.cat([sample_rows(layout)[:, None], layout.coords.long()], dim=1)

    return layout.shared("batched_coords", compute)


def per_token(values: Tensor, layout: Layout) -> Tensor:
    """``(B, C)`` values of samples as values of their tokens: ``(T, C)``, or ``(1, C)`` for a single sample.

    Raises:
        StateError: ``values`` is not one row for each sample.
    """
    samples = len(layout.offsets) - 1
    if values.ndim != 2 or len(values) != samples:
        raise StateError(f"values must be (B, C) with one row for each of {samples} samples, not {tuple(values.shape)}")
    return values if samples == 1 else values.index_select(0, sample_rows(layout))
