"""Dense 3D convolutions of the structure autoencoder, with the published keys (the weights are TRELLIS's).

Convolutions are ``torch.nn.Conv3d``; only the norm of the output layer follows ``norm_type``.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from shapewright.errors import ConfigError, StateError
from shapewright.nn.gaussian import DiagonalGaussian
from shapewright.nn.linear import zero_parameters
from shapewright.nn.norms import ChannelLayerNorm32, GroupNorm32
from torch import Tensor, nn

EPS = 1e-5


@dataclass(frozen=True)
class StructureConfig:
    """One half; ``channels`` run from the input to the middle in the encoder, from the middle out in the decoder."""

    grid_channels: int = 1
    latent_channels: int = 8
    channels: tuple[int, ...] = (32, 128, 512)
    num_res_blocks: int = 2
    num_res_blocks_middle: int = 2
    norm_type: str = "layer"

    def __post_init__(self) -> None:
        if not self.channels or min(self.channels) < 1 or min(self.grid_channels, self.latent_channels) < 1:
            raise ConfigError("channels must hold numbers of at least 1")
        if min(self.num_res_blocks, self.num_res_blocks_middle) < 0:
            raise ConfigError("num_res_blocks and num_res_blocks_middle must not be negative")
        if self.norm_type not in ("layer", "group"):
            raise ConfigError(f"norm_type must be layer or group, not {self.norm_type!r}")

    @property
    def stride(self) -> int:
        """Cells of the grid along one cell of the latent."""
        return int(2 ** (len(self.channels) - 1))


def _norm(kind: str, channels: int) -> nn.Module:
    return ChannelLayerNorm32(channels, eps=EPS) if kind == "layer" else GroupNorm32(32, channels)


def _conv(channels: int, out_channels: int, kernel: int = 3, stride: int = 1) -> nn.Conv3d:
    return nn.Conv3d(channels, out_channels, kernel, stride, padding=kernel // 2 if stride == 1 else 0)


class ResBlock3d(nn.Module):
    """Norm, SiLU, convolution, twice, plus the input. Keys ``norm1``, ``conv1``, ``norm2``, ``conv2``,
    ``skip_connection``."""

    def __init__(self, channels: int, out_channels: int | None = None) -> None:
        super().__init__()
        out_channels = out_channels or channels
        self.norm1, self.norm2 = _norm("layer", channels), _norm("layer", out_channels)
        self.conv1 = _conv(channels, out_channels)
        self.conv2 = zero_parameters(_conv(out_channels, out_channels))
        self.skip_connection = nn.Identity() if channels == out_channels else nn.Conv3d(channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(nn.functional.silu(self.norm1(x)))
        h = self.conv2(nn.functional.silu(self.norm2(h)))
        result: Tensor = h + self.skip_connection(x)
        return result


class Downsample3d(nn.Module):
    """Convolution of kernel and stride 2; key ``conv``."""

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = _conv(channels, out_channels, 2, 2)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.conv(x)
        return result


class Upsample3d(nn.Module):
    """Convolution to eight times the channels, which become the eight children of a cell; key ``conv``."""

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = _conv(channels, out_channels * 8)

    def forward(self, x: Tensor) -> Tensor:
        return children_of_channels(self.conv(x))


def children_of_channels(x: Tensor) -> Tensor:
    """``(B, 8 C, X, Y, Z)`` to ``(B, C, 2 X, 2 Y, 2 Z)``: channel ``8 c + 4 i + 2 j + k`` goes to child ``(i, j,
    k)``."""
    batch, channels, *size = x.shape
    split = x.reshape(batch, channels // 8, 2, 2, 2, *size)
    return split.permute(0, 1, 5, 2, 6, 3, 7, 4).reshape(batch, channels // 8, *(2 * side for side in size))


class _Torso(nn.Module):
    input_layer: nn.Conv3d
    blocks: nn.ModuleList
    middle_block: nn.Sequential

    def _torso(self, first: nn.Module, then: nn.Module, x: Tensor) -> Tensor:
        """The blocks in the type of their weights, which may be a half type; input and output in that of ``x``."""
        weight = self.middle_type
        h = x.to(weight)
        for part in (first, then):
            if isinstance(part, nn.ModuleList):
                for block in part:
                    h = block(h)
            else:
                h = part(h)
        return h.to(x.dtype)

    @property
    def middle_type(self) -> torch.dtype:
        """Type of the products in the blocks."""
        for part in (*self.blocks.modules(), *self.middle_block.modules()):
            if isinstance(part, nn.Conv3d):
                return part.weight.dtype
        return torch.float32


class StructureEncoder(_Torso):
    """Occupancy ``(B, 1, R, R, R)`` to a Gaussian ``(B, L, R / stride, ...)``."""

    def __init__(self, config: StructureConfig) -> None:
        super().__init__()
        self.config = config
        channels = config.channels
        self.input_layer = _conv(config.grid_channels, channels[0])
        self.blocks = nn.ModuleList()
        for place, width in enumerate(channels):
            self.blocks.extend(ResBlock3d(width) for _ in range(config.num_res_blocks))
            if place + 1 < len(channels):
                self.blocks.append(Downsample3d(width, channels[place + 1]))
        self.middle_block = nn.Sequential(*(ResBlock3d(channels[-1]) for _ in range(config.num_res_blocks_middle)))
        self.out_layer = nn.Sequential(
            _norm(config.norm_type, channels[-1]), nn.SiLU(), _conv(channels[-1], 2 * config.latent_channels)
        )

    def forward(self, x: Tensor) -> DiagonalGaussian:
        """Raises: StateError: other channels, or a grid that the strides do not divide."""
        stride = self.config.stride
        if x.ndim != 5 or x.shape[1] != self.config.grid_channels or any(side % stride for side in x.shape[2:]):
            wanted = f"(B, {self.config.grid_channels}, X, Y, Z) with sides divisible by {stride}"
            raise StateError(f"the grid must be {wanted}, not {tuple(x.shape)}")
        h = self.input_layer(x.to(self.input_layer.weight.dtype))
        h = self._torso(self.blocks, self.middle_block, h)
        return DiagonalGaussian.split(self.out_layer(h), dim=1)


class StructureDecoder(_Torso):
    """Latent ``(B, L, r, r, r)`` to logits of occupancy ``(B, 1, r * stride, ...)``."""

    def __init__(self, config: StructureConfig) -> None:
        super().__init__()
        self.config = config
        channels = config.channels
        self.input_layer = _conv(config.latent_channels, channels[0])
        self.middle_block = nn.Sequential(*(ResBlock3d(channels[0]) for _ in range(config.num_res_blocks_middle)))
        self.blocks = nn.ModuleList()
        for place, width in enumerate(channels):
            self.blocks.extend(ResBlock3d(width) for _ in range(config.num_res_blocks))
            if place + 1 < len(channels):
                self.blocks.append(Upsample3d(width, channels[place + 1]))
        self.out_layer = nn.Sequential(
            _norm(config.norm_type, channels[-1]), nn.SiLU(), _conv(channels[-1], config.grid_channels)
        )

    def forward(self, z: Tensor) -> Tensor:
        """Raises: StateError: other channels."""
        if z.ndim != 5 or z.shape[1] != self.config.latent_channels:
            raise StateError(f"the latent must be (B, {self.config.latent_channels}, X, Y, Z), not {tuple(z.shape)}")
        h = self.input_layer(z.to(self.input_layer.weight.dtype))
        result: Tensor = self.out_layer(self._torso(self.middle_block, self.blocks, h))
        return result
