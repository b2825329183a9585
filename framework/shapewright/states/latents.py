"""What generators make and decoders take, and what generators attend to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..errors import StateError
from .batches import require_same
from .frame import Frame
from .sparse import SparseTensor


@dataclass(frozen=True, slots=True)
class LatentSpec:
    """What must match before one component's latent may enter another: compared when a pipeline is built."""

    channels: int
    stride: int = 1
    statistics: str = ""
    """Names the normalisation and the training run; latents with different names never mix."""


@dataclass(frozen=True, slots=True)
class TokenLatent:
    """``(B, N, C)`` unordered latent set."""

    tag: ClassVar[str] = "latent.tokens"
    values: Tensor
    frame: Frame = Frame()

    @classmethod
    def stack(cls, items: Sequence[TokenLatent]) -> TokenLatent:
        """One batch of several."""
        require_same([item.frame for item in items], "frame")
        return cls(torch.cat([item.values for item in items]), items[0].frame)

    def unbind(self) -> list[TokenLatent]:
        """The samples of the batch."""
        return [TokenLatent(values, self.frame) for values in torch.split(self.values, 1)]


@dataclass(frozen=True, slots=True)
class GridLatent:
    """``(B, C, D, H, W)`` with D, H, W along x, y, z."""

    tag: ClassVar[str] = "latent.grid"
    values: Tensor
    frame: Frame = Frame()

    @classmethod
    def stack(cls, items: Sequence[GridLatent]) -> GridLatent:
        """One batch of several."""
        require_same([item.frame for item in items], "frame")
        return cls(torch.cat([item.values for item in items]), items[0].frame)

    def unbind(self) -> list[GridLatent]:
        """The samples of the batch."""
        return [GridLatent(values, self.frame) for values in torch.split(self.values, 1)]


@dataclass(frozen=True, slots=True)
class SparseLatent:
    """Features on the voxels of a :class:`SparseTensor`."""

    tag: ClassVar[str] = "latent.sparse"
    values: SparseTensor
    frame: Frame = Frame()

    @classmethod
    def stack(cls, items: Sequence[SparseLatent]) -> SparseLatent:
        """One batch of several."""
        require_same([item.frame for item in items], "frame")
        return cls(SparseTensor.stack([item.values for item in items]), items[0].frame)

    def unbind(self) -> list[SparseLatent]:
        """The samples of the batch."""
        return [SparseLatent(values, self.frame) for values in self.values.unbind()]


Latent = TokenLatent | GridLatent | SparseLatent


@dataclass(frozen=True, slots=True)
class Condition:
    """Tokens ``(B, T, C)`` that a generator attends to, their null counterpart for guidance, and a mask ``(B, T)``
    bool."""

    tag: ClassVar[str] = "condition"
    tokens: Tensor
    null: Tensor
    mask: Tensor | None = None
    frame: Frame = Frame()

    @classmethod
    def stack(cls, items: Sequence[Condition]) -> Condition:
        """One batch of several."""
        masks = [item.mask for item in items if item.mask is not None]
        if masks and len(masks) != len(items):
            raise StateError("conditions with and without a mask cannot be stacked")
        return cls(
            torch.cat([item.tokens for item in items]),
            torch.cat([item.null for item in items]),
            torch.cat(masks) if masks else None,
            items[0].frame,
        )

    def unbind(self) -> list[Condition]:
        """The samples of the batch."""
        masks = [None] * len(self.tokens) if self.mask is None else list(torch.split(self.mask, 1))
        pairs = zip(torch.split(self.tokens, 1), torch.split(self.null, 1), masks, strict=True)
        return [Condition(tokens, null, mask, self.frame) for tokens, null, mask in pairs]
