"""Blocks that halve or double the resolution with group norms or none: TripoSF's decoder, Direct3D-S2's autoencoder.

Parameter names are those of the published checkpoints (``act_layers``, ``out_layers``, ``skip_connection``), which
leave gaps in the numbers where activations stand. Children are z fastest.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from shapewright.errors import ConfigError
from shapewright.states import SparseTensor

from .convolution import SpconvConv3d, TorchsparseConv3d
from .feed_forward import FeedForward
from .linear import SparseSiLU, zero_parameters
from .norms import SparseGroupNorm32
from .resampling import Mode, downsample, keep, subdivide
from .structure import Level, Structure

Layout = Literal["spconv", "torchsparse"]
LAYOUTS: dict[str, type[SpconvConv3d] | type[TorchsparseConv3d]] = {
    "spconv": SpconvConv3d,
    "torchsparse": TorchsparseConv3d,
}


def _layout(layout: str) -> type[SpconvConv3d] | type[TorchsparseConv3d]:
    if layout not in LAYOUTS:
        raise ConfigError(f"layout must be one of {', '.join(LAYOUTS)}, not {layout!r}")
    return LAYOUTS[layout]


def _apply(layers: nn.Sequential, x: SparseTensor, structure: Structure) -> SparseTensor:
    for layer in layers:
        x = layer(x, structure) if isinstance(layer, (SpconvConv3d, TorchsparseConv3d)) else layer(x)
    return x


class _GroupNormBlock(nn.Module):
    """Norm and SiLU before the level changes; convolution, norm, SiLU, convolution and a skip after it."""

    def __init__(self, channels: int, out_channels: int | None, groups: int, layout: Layout) -> None:
        super().__init__()
        out_channels, conv = out_channels or channels, _layout(layout)
        self.act_layers = nn.Sequential(SparseGroupNorm32(groups, channels), SparseSiLU())
        self.out_layers = nn.Sequential(
            conv(channels, out_channels),
            SparseGroupNorm32(groups, out_channels),
            SparseSiLU(),
            zero_parameters(conv(out_channels, out_channels)),
        )
        self.skip_connection = nn.Identity() if channels == out_channels else conv(channels, out_channels, 1)

    def _out(self, h: SparseTensor, x: SparseTensor, structure: Structure) -> SparseTensor:
        """``h`` and the input ``x`` lie on the same voxels by now."""
        h = _apply(self.out_layers, h, structure)
        skip = x if isinstance(self.skip_connection, nn.Identity) else self.skip_connection(x, structure)
        return h.replace(h.feats + skip.feats)


class DownsampleGroupNormBlock3d(_GroupNormBlock):
    """Norm, SiLU, pooling, convolution, norm, SiLU, convolution; plus a kernel-1 skip of the pooled input where the
    widths differ.

    Direct3D-S2's ``SparseDownBlock3d`` (factor 2, 32 groups, pooling that counts a zero element); its version 1.0
    compresses keys and values of Spatial Sparse Attention by the same block.
    """

    def __init__(
        self, channels: int, out_channels: int | None = None, *, groups: int = 32, factor: int = 2,
        pooling: Mode = "mean-with-zero", layout: Layout = "torchsparse",
    ) -> None:  # fmt: skip
        super().__init__(channels, out_channels, groups, layout)
        self.factor, self.pooling = factor, pooling

    def forward(self, x: SparseTensor, structure: Structure | None = None) -> tuple[SparseTensor, Level]:
        """The coarser voxels, and the level that leads back."""
        structure = Structure.of(x, structure)
        h, level = downsample(self.act_layers(x), self.factor, self.pooling, structure)
        x, _ = downsample(x, self.factor, self.pooling, structure)
        return self._out(h, x, level.structure), level


class SubdivideConvBlock3d(nn.Module):
    """Convolution, SiLU, subdivision, convolution, SiLU; no norm, no skip. Direct3D-S2's ``SparseSubdivideBlock3d``."""

    def __init__(self, channels: int, out_channels: int | None = None, *, layout: Layout = "torchsparse") -> None:
        super().__init__()
        out_channels, conv = out_channels or channels, _layout(layout)
        self.act_layers = nn.Sequential(conv(channels, out_channels), SparseSiLU())
        self.out_layers = nn.Sequential(conv(out_channels, out_channels), SparseSiLU())

    def forward(self, x: SparseTensor, structure: Structure | None = None) -> tuple[SparseTensor, Structure]:
        """All children of every voxel, parent-major, and their structure."""
        h = subdivide(_apply(self.act_layers, x, Structure.of(x, structure)))
        fine = Structure.of(h)
        return _apply(self.out_layers, h, fine), fine


class SubdivideGroupNormBlock3d(_GroupNormBlock):
    """Norm and SiLU, subdivision, convolution, norm, SiLU, convolution, plus the subdivided input; and an occupancy
    head that prunes children. TripoSF's ``SparseSubdivideBlock3d``.

    Keys besides those of the layers: ``pruning_head.mlp.{0,2}`` where ``pruning``.
    """

    def __init__(
        self, channels: int, out_channels: int | None = None, *, groups: int = 32, pruning: bool = False,
        layout: Layout = "spconv",
    ) -> None:  # fmt: skip
        super().__init__(channels, out_channels, groups, layout)
        self.pruning_head = FeedForward(out_channels or channels, 4.0, out_channels=1) if pruning else None
        if self.pruning_head is not None:
            zero_parameters(self.pruning_head.mlp[2])

    def forward(
        self, x: SparseTensor, structure: Structure | None = None
    ) -> tuple[SparseTensor, Structure, Tensor | None]:
        """All children of every voxel, parent-major; their structure; and the occupancy logits ``(8 N, 1)`` where the
        block has a head. :func:`prune` drops children by them."""
        Structure.of(x, structure)
        h = subdivide(self.act_layers(x))
        x = subdivide(x)
        fine = Structure.of(h)
        h = self._out(h, x, fine)
        logits = None if self.pruning_head is None else self.pruning_head(h.feats)
        return h, fine, logits


def prune(x: SparseTensor, logits: Tensor) -> SparseTensor:
    """The rows whose occupancy logit ``(N, 1)`` is not negative; may be none."""
    return keep(x, logits.reshape(-1).detach() >= torch.zeros((), dtype=logits.dtype, device=logits.device))
