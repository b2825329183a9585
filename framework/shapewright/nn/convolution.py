"""Sparse convolutions as modules, in the three weight layouts that published checkpoints use."""

from __future__ import annotations

import math

import torch
from shapewright_kernels.sparse_convolution import Backend
from shapewright_kernels.sparse_convolution import sparse_conv3d as _sparse_conv3d
from shapewright_kernels.sparse_convolution_pairs import Neighbours
from torch import Tensor, nn

from shapewright.errors import ConfigError, StateError
from shapewright.states import SparseTensor

from .linear import check_channels
from .precision import autocast_type
from .structure import Level, Structure


def sparse_conv3d(
    feats: Tensor, coords: Tensor | None, weight: Tensor, bias: Tensor | None = None, *,
    neighbours: Neighbours | Tensor | None = None, backend: Backend = "auto",
) -> Tensor:  # fmt: skip
    """Convolution over present voxels; see :func:`shapewright_kernels.sparse_convolution.sparse_conv3d`.

    Raises:
        StateError: an argument does not fit; the message names it.
    """
    try:
        result: Tensor = _convolve(feats, coords, weight, bias, neighbours, backend)
    except ValueError as error:
        raise StateError(str(error)) from None
    return result


@torch.compiler.disable  # type: ignore[untyped-decorator]  # maps are objects: a compiled graph pauses here
def _convolve(
    feats: Tensor, coords: Tensor | None, weight: Tensor, bias: Tensor | None, neighbours: Neighbours | Tensor | None,
    backend: Backend,
) -> Tensor:  # fmt: skip
    return _sparse_conv3d(feats, coords, weight, bias, neighbours=neighbours, backend=backend)


class SparseConv3d(nn.Module):
    """Submanifold convolution of stride 1, or strided onto the occupied coarse voxels.

    Keys ``weight`` ``(Co, k, k, k, Ci)`` and ``bias`` ``(Co,)``; initialised as ``torch.nn.Conv3d``. Under autocast
    the products run in its dtype.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int = 3, *, stride: int = 1, bias: bool = True,
        backend: Backend = "auto",
    ) -> None:  # fmt: skip
        super().__init__()
        _check(in_channels, out_channels, kernel_size, stride)
        self.in_channels, self.out_channels = in_channels, out_channels
        self.kernel_size, self.stride, self.backend = kernel_size, stride, backend
        k = kernel_size
        self.weight = nn.Parameter(torch.empty(out_channels, k, k, k, in_channels))
        self.bias = nn.Parameter(torch.empty(out_channels)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Uniform within ``1 / sqrt(fan in)``, as kaiming with ``a = sqrt(5)`` gives."""
        _uniform(self.weight, self.bias, self.in_channels * self.kernel_size**3)

    def taps(self) -> Tensor:
        """``(Co, k, k, k, Ci)`` weight as the kernel takes it."""
        return self.weight

    def forward(self, x: SparseTensor, structure: Structure | None = None) -> SparseTensor:
        """Output rows are the input rows where the stride is 1, else the coarse voxels, sorted."""
        check_channels(x.feats, self.in_channels)
        structure = Structure.of(x, structure)
        if self.stride == 1:
            return x.replace(self.convolve(x.feats, structure.neighbours(self.kernel_size)))
        found, level = structure.strided(self.kernel_size, self.stride)
        feats = self.convolve(x.feats, found)
        return SparseTensor(level.structure.coords, feats, -(-x.resolution // self.stride), x.batch_size)

    def convolve(self, feats: Tensor, neighbours: Neighbours) -> Tensor:
        """The same on rows, with a map."""
        weight: Tensor = self.taps()
        bias: Tensor | None = self.bias
        wanted = autocast_type(feats)
        if wanted is not None:
            feats, weight = feats.to(wanted), weight.to(wanted)
            bias = None if bias is None else bias.to(wanted)
        return sparse_conv3d(feats, None, weight, bias, neighbours=neighbours, backend=self.backend)

    def extra_repr(self) -> str:
        return f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"


class SparseInverseConv3d(SparseConv3d):
    """From the coarse voxels of a strided convolution back to the fine ones that it read."""

    def forward(self, x: SparseTensor, level: Level) -> SparseTensor:  # type: ignore[override]
        """
        Args:
            x: features on the coarse voxels of ``level``.
            level: as ``Structure.coarser(stride)`` of the fine voxels gave it.
        """
        check_channels(x.feats, self.in_channels)
        Structure.of(x, level.structure)
        if level.factor != self.stride:
            raise StateError(f"level is {level.factor} times coarser but the stride is {self.stride}")
        found, _ = level.fine.strided(self.kernel_size, self.stride)
        feats = self.convolve(x.feats, found.transposed)
        return SparseTensor(level.fine.coords, feats, x.resolution * self.stride, x.batch_size)


class _SpconvWeights(SparseConv3d):
    """spconv 2 reads a weight of kernel 1 as the bare buffer of an ``(in, out)`` matrix, not as ``(out, in)``
    transposed; checkpoints were trained with it."""

    def taps(self) -> Tensor:
        if self.kernel_size > 1:
            return self.weight
        plain = self.weight.reshape(self.in_channels, self.out_channels)
        return plain.t().reshape(self.out_channels, 1, 1, 1, self.in_channels)


class SpconvConv3d(nn.Module):
    """Submanifold convolution with the keys and the layout of spconv 2: ``conv.weight`` ``(Co, k, k, k, Ci)``,
    ``conv.bias``."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int = 3, *, bias: bool = True, backend: Backend = "auto"
    ) -> None:
        super().__init__()
        self.conv = _SpconvWeights(in_channels, out_channels, kernel_size, bias=bias, backend=backend)

    def forward(self, x: SparseTensor, structure: Structure | None = None) -> SparseTensor:
        found: SparseTensor = self.conv(x, structure)
        return found


class _TorchsparseWeights(SparseConv3d):
    """``kernel`` ``(k^3, Ci, Co)``, x fastest; of kernel 1 ``(Ci, Co)``."""

    kernel: nn.Parameter

    def reset_parameters(self) -> None:
        del self.weight
        volume = self.kernel_size**3
        shape = (self.in_channels, self.out_channels) if volume == 1 else (volume, self.in_channels, self.out_channels)
        self.kernel = nn.Parameter(torch.empty(shape))
        _uniform(self.kernel, self.bias, self.in_channels * volume)

    def taps(self) -> Tensor:
        k = self.kernel_size
        return self.kernel.reshape(k, k, k, self.in_channels, self.out_channels).permute(4, 2, 1, 0, 3)


class TorchsparseConv3d(nn.Module):
    """Submanifold convolution with the keys and the layout of torchsparse: ``conv.kernel`` ``(k^3, Ci, Co)`` with x
    fastest, of kernel 1 ``(Ci, Co)``; ``conv.bias``."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int = 3, *, bias: bool = True, backend: Backend = "auto"
    ) -> None:
        super().__init__()
        self.conv = _TorchsparseWeights(in_channels, out_channels, kernel_size, bias=bias, backend=backend)

    def forward(self, x: SparseTensor, structure: Structure | None = None) -> SparseTensor:
        found: SparseTensor = self.conv(x, structure)
        return found


def _check(in_channels: int, out_channels: int, kernel_size: int, stride: int) -> None:
    for name, value in (("in_channels", in_channels), ("out_channels", out_channels), ("stride", stride)):
        if value < 1:
            raise ConfigError(f"{name} must be at least 1, not {value}")
    if kernel_size < 1 or (stride == 1 and kernel_size % 2 == 0):
        raise ConfigError(f"kernel_size must be odd and positive where the stride is 1, not {kernel_size}")


def _uniform(weight: Tensor, bias: Tensor | None, fan_in: int) -> None:
    bound = 1 / math.sqrt(fan_in)
    nn.init.uniform_(weight, -bound, bound)
    if bias is not None:
        nn.init.uniform_(bias, -bound, bound)
