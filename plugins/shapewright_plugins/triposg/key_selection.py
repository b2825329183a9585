"""Attention of field queries to a few keys only: the adaptive selection of the published flash decoder, off by default.

A group of neighbouring queries looks at the same part of the shape. Every ``stride``-th query of the group is compared
with all keys, and the group attends to the keys that are most alike on average, chosen for each head.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from shapewright.errors import ConfigError, StateError
from torch import Tensor, nn

STRIDE_CHUNK, STRIDE_GROUPS = 100, 50
"""Published strides for one group of all queries, and for a list of groups."""


@dataclass(frozen=True, slots=True)
class KeySelection:
    """``counts``: lengths of consecutive groups of queries; ``None`` for one group of all of them. ``stride``: one
    query of so many is compared with the keys. ``keys``: how many each head keeps; ``None`` for
    :func:`published_count`."""

    counts: tuple[int, ...] | None = None
    stride: int = STRIDE_CHUNK
    keys: int | None = None

    def __post_init__(self) -> None:
        if self.stride < 1:
            raise ConfigError(f"stride must be at least 1, not {self.stride}")
        if self.keys is not None and self.keys < 1:
            raise ConfigError(f"keys must be at least 1, not {self.keys}")


def published_count(keys: int) -> int:
    """How many of ``keys`` the published decoder keeps.

    >>> published_count(3072), published_count(512), published_count(2048)
    (1024, 256, 682)
    """
    return {3072: 1024, 512: 256}.get(keys, max(keys // 3, 1))


def selected_attention(queries: Tensor, keys: Tensor, values: Tensor, selection: KeySelection) -> Tensor:
    """Attention ``(B, heads, N, d)`` to the selected keys of each group of queries.

    Raises:
        StateError: the groups do not add up to the queries.
    """
    total = queries.shape[2]
    counts = (total,) if selection.counts is None else selection.counts
    if sum(counts) != total or min(counts, default=0) < 0:
        raise StateError(f"groups of {sum(counts)} queries in all were given for {total} queries")
    kept = min(selection.keys or published_count(keys.shape[2]), keys.shape[2])
    mixed = []
    for group in torch.split(queries, list(counts), dim=2):
        if not group.shape[2]:
            continue
        # The mean of the products is the product with the mean: the scores never need a row a query.
        scores = (group[:, :, :: selection.stride] @ keys.transpose(-1, -2)).mean(dim=2)
        chosen = scores.topk(kept, dim=-1).indices[..., None].expand(-1, -1, -1, keys.shape[-1])
        pair = torch.gather(keys, 2, chosen), torch.gather(values, 2, chosen)
        mixed.append(nn.functional.scaled_dot_product_attention(group, *pair))
    return torch.cat(mixed, dim=2) if mixed else queries
