"""Residual blocks of sparse U-Nets: parameter names and arithmetic of TRELLIS.2's sparse-compression autoencoder.

Norms are layer norms over channels with eps 1e-6; the first of a block has weights, the second has none. Blocks that
change the level return where they went: a :class:`.Level` down, the voxels and the predicted subdivision up.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from shapewright.errors import ConfigError, StateError
from shapewright.states import SparseTensor

from .convolution import SparseConv3d
from .linear import SparseLinear, zero_parameters
from .norms import LayerNorm32, layer_norm32
from .resampling import (
    channel_to_spatial,
    channel_to_spatial_where,
    downsample,
    spatial_to_channel,
    upsample,
    upsample_where,
)
from .structure import Level, Structure

EPS = 1e-6


class SparseConvNeXtBlock3d(nn.Module):
    """``x + mlp(norm(conv(x)))``; keys ``conv``, ``norm``, ``mlp.0``, ``mlp.2``."""

    def __init__(self, channels: int, mlp_ratio: float = 4.0) -> None:
        super().__init__()
        hidden = int(channels * mlp_ratio)
        self.conv = SparseConv3d(channels, channels)
        self.norm = LayerNorm32(channels, eps=EPS)
        self.mlp = nn.Sequential(nn.Linear(channels, hidden), nn.SiLU(), nn.Linear(hidden, channels))
        zero_parameters(self.mlp[2])

    def forward(self, x: SparseTensor, structure: Structure | None = None) -> SparseTensor:
        """Same voxels."""
        h = self.conv(x, structure).feats
        return x.replace(x.feats + self.mlp(self.norm(h)))


class _Residual(nn.Module):
    """``conv2(SiLU(norm2(conv1(move(SiLU(norm1(x)))))))``: what all residual blocks share."""

    def __init__(self, channels: int, between: int, moved: int, out_channels: int) -> None:
        super().__init__()
        self.channels, self.out_channels = channels, out_channels
        self.norm1 = LayerNorm32(channels, eps=EPS)
        self.conv1 = SparseConv3d(channels, between)
        self.conv2 = SparseConv3d(moved, out_channels)
        zero_parameters(self.conv2)

    def _first(self, x: SparseTensor) -> SparseTensor:
        return x.replace(functional.silu(self.norm1(x.feats)))

    def _second(self, h: SparseTensor, skip: Tensor, structure: Structure) -> SparseTensor:
        normed = h.replace(functional.silu(layer_norm32(h.feats, eps=EPS)))
        result: SparseTensor = self.conv2(normed, structure)
        return result.replace(result.feats + skip)


def _skip(channels: int, out_channels: int) -> nn.Module:
    return nn.Identity() if channels == out_channels else SparseLinear(channels, out_channels)


class SparseResBlock3d(_Residual):
    """Two convolutions on one level; keys ``norm1``, ``conv1``, ``conv2``, and ``skip_connection`` where the widths
    differ."""

    def __init__(self, channels: int, out_channels: int | None = None) -> None:
        out_channels = out_channels or channels
        super().__init__(channels, out_channels, out_channels, out_channels)
        self.skip_connection = _skip(channels, out_channels)

    def forward(self, x: SparseTensor, structure: Structure | None = None) -> SparseTensor:
        """Same voxels."""
        structure = Structure.of(x, structure)
        h = self.conv1(self._first(x), structure)
        return self._second(h, self.skip_connection(x).feats, structure)


class SparseResBlockDownsample3d(_Residual):
    """Mean pooling before the first convolution."""

    def __init__(self, channels: int, out_channels: int | None = None, factor: int = 2) -> None:
        out_channels = out_channels or channels
        super().__init__(channels, out_channels, out_channels, out_channels)
        self.factor = factor
        self.skip_connection = _skip(channels, out_channels)

    def forward(self, x: SparseTensor, structure: Structure | None = None) -> tuple[SparseTensor, Level]:
        """The coarser voxels, and the level that leads back."""
        structure = Structure.of(x, structure)
        h, level = downsample(self._first(x), self.factor, structure=structure)
        x, _ = downsample(x, self.factor, structure=structure)
        h = self.conv1(h, level.structure)
        return self._second(h, self.skip_connection(x).feats, level.structure), level


class SparseResBlockS2C3d(_Residual):
    """Space to channels between the convolutions; the skip averages groups of channels and has no parameters.

    Raises:
        ConfigError: widths that cannot be divided so.
    """

    def __init__(self, channels: int, out_channels: int | None = None) -> None:
        out_channels = out_channels or channels
        if out_channels % 8 or channels * 8 % out_channels:
            raise ConfigError(f"out_channels ({out_channels}) must be a multiple of 8 that divides 8 x {channels}")
        super().__init__(channels, out_channels // 8, out_channels, out_channels)

    def forward(self, x: SparseTensor, structure: Structure | None = None) -> tuple[SparseTensor, Level]:
        """The coarser voxels, and the level that leads back."""
        structure = Structure.of(x, structure)
        h, level = spatial_to_channel(self.conv1(self._first(x), structure), 2, structure)
        x, _ = spatial_to_channel(x, 2, structure)
        skip = x.feats.reshape(len(x.feats), self.out_channels, -1).mean(-1)
        return self._second(h, skip, level.structure), level


class _Upward(_Residual):
    """A block that goes to finer voxels: those a level remembers, those a caller names, or those it predicts."""

    to_subdiv: SparseLinear | None

    def _predict(self, x: SparseTensor, level: Level | None, subdivision: Tensor | None) -> tuple[
        SparseTensor | None, Tensor | None
    ]:  # fmt: skip
        logits = None if self.to_subdiv is None else self.to_subdiv(x)
        if level is not None:
            return logits, None
        if logits is not None:
            return logits, logits.feats > 0
        if subdivision is None:
            raise StateError("a block that predicts no subdivision needs level or subdivision")
        return None, subdivision if subdivision.dtype == torch.bool else subdivision > 0


class SparseResBlockUpsample3d(_Upward):
    """Copies each voxel to its children before the first convolution; keys as :class:`SparseResBlock3d` and
    ``to_subdiv``."""

    def __init__(self, channels: int, out_channels: int | None = None, *, pred_subdiv: bool = True) -> None:
        out_channels = out_channels or channels
        super().__init__(channels, out_channels, out_channels, out_channels)
        self.skip_connection = _skip(channels, out_channels)
        self.to_subdiv = SparseLinear(channels, 8) if pred_subdiv else None

    def forward(
        self, x: SparseTensor, level: Level | None = None, subdivision: Tensor | None = None
    ) -> tuple[SparseTensor, Structure, SparseTensor | None]:
        """
        Args:
            level: fine voxels to return to; goes before what is predicted or given.
            subdivision: ``(N, 8)`` bool or logits, x fastest; only where the block predicts none.
        Returns:
            Fine voxels, their structure, and the predicted logits ``(N, 8)`` on the coarse ones.
        """
        logits, present = self._predict(x, level, subdivision)
        h = self._first(x)
        if level is not None:
            h, x, structure = upsample(h, level), upsample(x, level), level.fine
        else:
            assert present is not None
            h, x = upsample_where(h, present), upsample_where(x, present)
            structure = Structure.of(h)
        h = self.conv1(h, structure)
        return self._second(h, self.skip_connection(x).feats, structure), structure, logits


class SparseResBlockC2S3d(_Upward):
    """Channels to space between the convolutions; the skip repeats channels and has no parameters.

    Raises:
        ConfigError: widths that cannot be divided so.
    """

    def __init__(self, channels: int, out_channels: int | None = None, *, pred_subdiv: bool = True) -> None:
        out_channels = out_channels or channels
        if channels % 8 or out_channels * 8 % channels:
            raise ConfigError(f"channels ({channels}) must be a multiple of 8 that divides 8 x {out_channels}")
        super().__init__(channels, out_channels * 8, out_channels, out_channels)
        self.to_subdiv = SparseLinear(channels, 8) if pred_subdiv else None

    def forward(
        self, x: SparseTensor, structure: Structure | None = None, level: Level | None = None,
        subdivision: Tensor | None = None,
    ) -> tuple[SparseTensor, Structure, SparseTensor | None]:  # fmt: skip
        """As :meth:`SparseResBlockUpsample3d.forward`; ``structure`` is that of ``x``."""
        structure = Structure.of(x, level.structure if structure is None and level is not None else structure)
        logits, present = self._predict(x, level, subdivision)
        h = self.conv1(self._first(x), structure)
        if level is not None:
            h, x, fine = channel_to_spatial(h, level), channel_to_spatial(x, level), level.fine
        else:
            assert present is not None
            h, x = channel_to_spatial_where(h, present), channel_to_spatial_where(x, present)
            fine = Structure.of(h)
        skip = x.feats.repeat_interleave(self.out_channels // x.feats.shape[1], 1)
        return self._second(h, skip, fine), fine, logits
