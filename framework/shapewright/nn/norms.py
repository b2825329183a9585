"""Normalisation in float32 whatever the type of the input, cast back at the end."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from shapewright.errors import ConfigError, StateError
from shapewright.states import SparseTensor

from .linear import check_channels


def _wide(x: Tensor) -> Tensor:
    """At least float32: half types become wider, float64 stays for gradient checks."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def _like(parameter: Tensor | None, x: Tensor) -> Tensor | None:
    return None if parameter is None else parameter.to(x.dtype)


def layer_norm32(x: Tensor, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5) -> Tensor:
    """Layer norm over the last dimension in float32; dtype of ``x``."""
    wide = _wide(x)
    return functional.layer_norm(wide, wide.shape[-1:], _like(weight, wide), _like(bias, wide), eps).to(x.dtype)


class LayerNorm32(nn.LayerNorm):
    """``torch.nn.LayerNorm`` over the last dimension, in float32; keys ``weight``, ``bias`` where affine."""

    def __init__(self, channels: int, *, elementwise_affine: bool = True, eps: float = 1e-5) -> None:
        super().__init__(channels, elementwise_affine=elementwise_affine, eps=eps)

    def forward(self, x: Tensor) -> Tensor:
        check_channels(x, self.normalized_shape[0], "x")
        return layer_norm32(x, self.weight, self.bias, self.eps)


class ChannelLayerNorm32(LayerNorm32):
    """Layer norm over dimension 1 of dense ``(B, C, ...)``."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.movedim(1, -1)).movedim(-1, 1).contiguous()


class GroupNorm32(nn.GroupNorm):
    """``torch.nn.GroupNorm`` of dense ``(B, C, ...)`` in float32.

    Raises:
        ConfigError: ``channels`` is not divisible by ``groups``.
    """

    def __init__(self, groups: int, channels: int, *, eps: float = 1e-5, affine: bool = True) -> None:
        _check_groups(groups, channels)
        super().__init__(groups, channels, eps=eps, affine=affine)

    def forward(self, x: Tensor) -> Tensor:
        wide = _wide(x)
        weight, bias = _like(self.weight, wide), _like(self.bias, wide)
        return functional.group_norm(wide, self.num_groups, weight, bias, self.eps).to(x.dtype)


class SparseLayerNorm32(LayerNorm32):
    """Layer norm of each row of a sparse tensor, in float32."""

    def forward(self, x: SparseTensor) -> SparseTensor:  # type: ignore[override]
        return x.replace(super().forward(x.feats))


class SparseGroupNorm32(nn.GroupNorm):
    """Group norm of sparse tensors in float32: statistics over the channels of a group and all voxels of a sample.

    Biased variance; keys ``weight``, ``bias``. An empty sample stays empty and changes nothing of the others.

    Raises:
        ConfigError: ``channels`` is not divisible by ``groups``.
    """

    def __init__(self, groups: int, channels: int, *, eps: float = 1e-5, affine: bool = True) -> None:
        _check_groups(groups, channels)
        super().__init__(groups, channels, eps=eps, affine=affine)

    def forward(self, x: SparseTensor) -> SparseTensor:  # type: ignore[override]
        check_channels(x.feats, self.num_channels)
        feats = sparse_group_norm(
            x.feats, x.coords[:, 0].long(), x.batch_size, self.num_groups, self.weight, self.bias, self.eps
        )
        return x.replace(feats)


def sparse_group_norm(
    feats: Tensor, samples: Tensor, batch_size: int, groups: int, weight: Tensor | None = None,
    bias: Tensor | None = None, eps: float = 1e-5,
) -> Tensor:  # fmt: skip
    """Group norm of rows ``(N, C)`` with statistics per sample.

    Args:
        samples: ``(N,)`` int64 batch index of each row, ascending.
        weight, bias: ``(C,)``.
    Returns:
        ``(N, C)``, dtype of ``feats``.
    """
    if feats.shape[1] % groups:
        raise StateError(f"feats has {feats.shape[1]} channels, not divisible by {groups} groups")
    if len(feats) == 0:
        return feats
    wide = _wide(feats)
    if batch_size == 1:  # one sample is an ordinary group norm of (1, C, N); no statistics by index
        dense = wide.t().unsqueeze(0)
        normed = functional.group_norm(dense, groups, _like(weight, wide), _like(bias, wide), eps)
        return normed.squeeze(0).t().contiguous().to(feats.dtype)
    split = torch.bincount(samples, minlength=batch_size).tolist()
    parts = [sparse_group_norm(part, samples[:0], 1, groups, weight, bias, eps) for part in torch.split(wide, split)]
    return torch.cat(parts).to(feats.dtype)


class MultiHeadRMSNorm(nn.Module):
    """``x / max(|x|, 1e-12) * gamma * sqrt(d)`` of ``(..., heads, d)`` in float32; key ``gamma`` ``(heads, d)``."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.scale = dim**0.5
        self.gamma = nn.Parameter(torch.ones(heads, dim))

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[-2:] != self.gamma.shape:
            raise StateError(f"x ends in {tuple(x.shape[-2:])} but gamma is {tuple(self.gamma.shape)}")
        wide = _wide(x)
        unit: Tensor = functional.normalize(wide, dim=-1, eps=1e-12)
        scaled: Tensor = unit * self.gamma.to(wide.dtype) * self.scale
        return scaled.to(x.dtype)


def _check_groups(groups: int, channels: int) -> None:
    if groups < 1 or channels % groups:
        raise ConfigError(f"channels ({channels}) must be divisible by groups ({groups})")
