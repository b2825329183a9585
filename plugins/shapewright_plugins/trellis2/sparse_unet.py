"""Networks of the sparse-compression autoencoder (SC-VAE): levels of blocks with a move down or up after each.

State dicts have the published keys. Structures are values: the encoder returns the levels it went through, and the
decoder is told which voxels to make: those levels, masks of somebody else, or its own predictions (early pruning: only
children with a positive logit come into being, so memory follows the surface).

Source: TRELLIS.2 (arXiv 2512.14692) section 3.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from shapewright.errors import ConfigError, StateError
from shapewright.nn.checkpointing import checkpoint
from shapewright.nn.gaussian import DiagonalGaussian
from shapewright.nn.linear import check_channels
from shapewright.nn.norms import layer_norm32
from shapewright.nn.residual_blocks import (
    SparseConvNeXtBlock3d,
    SparseResBlock3d,
    SparseResBlockC2S3d,
    SparseResBlockDownsample3d,
    SparseResBlockS2C3d,
    SparseResBlockUpsample3d,
)
from shapewright.nn.structure import Level, Structure
from shapewright.states import SparseTensor
from torch import Tensor, nn

from .voxel_rows import aligned

BLOCKS: dict[str, Any] = {
    "SparseConvNeXtBlock3d": SparseConvNeXtBlock3d,
    "SparseResBlock3d": SparseResBlock3d,
}
DOWN: dict[str, Any] = {
    "SparseResBlockS2C3d": SparseResBlockS2C3d,
    "SparseResBlockDownsample3d": SparseResBlockDownsample3d,
}
UP: dict[str, Any] = {
    "SparseResBlockC2S3d": SparseResBlockC2S3d,
    "SparseResBlockUpsample3d": SparseResBlockUpsample3d,
}


@dataclass(frozen=True)
class UnetConfig:
    """One half of an autoencoder. ``channels`` are those of its voxels (6 in; 7 or 6 out)."""

    channels: int = 6
    latent_channels: int = 32
    model_channels: tuple[int, ...] = (64, 128, 256, 512, 1024)
    num_blocks: tuple[int, ...] = (0, 4, 8, 16, 4)
    block_type: tuple[str, ...] = ()
    """One name a level; ConvNeXt blocks by default."""
    move_type: tuple[str, ...] = ()
    """How to get from a level to the next, one name less; space to channel (or back) by default."""
    pred_subdiv: bool = True
    """Whether a decoder predicts which children exist."""
    use_checkpoint: bool = False

    def __post_init__(self) -> None:
        levels = len(self.model_channels)
        if levels < 1 or len(self.num_blocks) != levels:
            raise ConfigError(
                f"num_blocks must name as many levels as model_channels ({levels}), not {len(self.num_blocks)}"
            )
        if min(self.model_channels) < 1 or min(self.num_blocks) < 0 or min(self.channels, self.latent_channels) < 1:
            raise ConfigError("channels and model_channels must be at least 1, and num_blocks not negative")
        for name, count in (("block_type", levels), ("move_type", levels - 1)):
            if getattr(self, name) and len(getattr(self, name)) != count:
                raise ConfigError(f"{name} must hold {count} names, not {len(getattr(self, name))}")

    @property
    def moves(self) -> int:
        """How often the resolution halves (or doubles)."""
        return len(self.model_channels) - 1


class _Levels(nn.Module):
    """``blocks.i.j``: the blocks of level ``i``, and its move as the last of them."""

    blocks: nn.ModuleList

    def __init__(self, config: UnetConfig) -> None:
        super().__init__()
        self.config = config

    def _build(self, moves: dict[str, Any], default: str, **move_options: Any) -> None:
        config = self.config
        widths = config.model_channels
        types = config.block_type or ("SparseConvNeXtBlock3d",) * len(widths)
        move_types = config.move_type or (default,) * config.moves
        for known, named in ((BLOCKS, types), (moves, move_types)):
            for name in named:
                if name not in known:
                    raise ConfigError(f"a block must be one of {', '.join(known)}, not {name!r}")
        self.blocks = nn.ModuleList()
        for level, (width, count) in enumerate(zip(widths, config.num_blocks, strict=True)):
            made: list[nn.Module] = [BLOCKS[types[level]](width) for _ in range(count)]
            if level < config.moves:
                made.append(moves[move_types[level]](width, widths[level + 1], **move_options))
            self.blocks.append(nn.ModuleList(made))

    @property
    def torso_type(self) -> torch.dtype:
        """Type that the blocks compute in: that of their products."""
        for part in self.blocks.modules():
            if isinstance(part, nn.Linear):
                return part.weight.dtype
            if isinstance(getattr(part, "weight", None), nn.Parameter) and not isinstance(part, nn.LayerNorm):
                weight: Tensor = part.weight  # type: ignore[assignment]
                return weight.dtype
        return torch.float32

    def _plain(self, level: int) -> list[nn.Module]:
        blocks = self.blocks[level]
        assert isinstance(blocks, nn.ModuleList)
        return list(blocks)[: self.config.num_blocks[level]]

    def _move(self, level: int) -> nn.Module:
        found: nn.Module = self.blocks[level][-1]  # type: ignore[index]
        return found

    def _run(self, block: nn.Module, *arguments: Any) -> Any:
        enabled = self.config.use_checkpoint and self.training and torch.is_grad_enabled()
        return checkpoint(block, *arguments, enabled=enabled)


class Encoded(NamedTuple):
    """Posterior of the latent, where it lives, and the levels gone through, finest first."""

    posterior: DiagonalGaussian
    voxels: SparseTensor
    levels: tuple[Level, ...]


class SparseUnetEncoder(_Levels):
    """Fine voxels to a Gaussian on voxels ``2^moves`` times as large. Keys ``input_layer``, ``blocks.i.j``,
    ``to_latent``."""

    def __init__(self, config: UnetConfig) -> None:
        super().__init__(config)
        self.input_layer = nn.Linear(config.channels, config.model_channels[0])
        self._build(DOWN, "SparseResBlockS2C3d")
        self.to_latent = nn.Linear(config.model_channels[-1], 2 * config.latent_channels)
        initialise(self)

    def forward(self, x: SparseTensor) -> Encoded:
        """``x`` with ``config.channels`` features; ``Encoded.voxels`` carries the means.

        Raises:
            StateError: other channels, rows out of order, a voxel twice.
        """
        check_channels(x.feats, self.config.channels)
        structure = Structure.of(x)
        wide = self.input_layer.weight.dtype
        h = x.replace(self.input_layer(x.feats.to(wide)).to(self.torso_type))
        levels = []
        for place in range(len(self.blocks)):
            for block in self._plain(place):
                h = self._run(block, h, structure)
            if place < self.config.moves:
                h, level = self._run(self._move(place), h, structure)
                levels.append(level)
                structure = level.structure
        posterior = DiagonalGaussian.split(self.to_latent(layer_norm32(h.feats.to(wide))))
        return Encoded(posterior, h.replace(posterior.mean), tuple(levels))


class DecodedVoxels(NamedTuple):
    """Fine voxels, and the logits ``(N, 8)`` of each subdivision on its coarse voxels, coarsest first (empty where
    the network predicts none). Rows follow the levels, or are parent-major."""

    voxels: SparseTensor
    logits: tuple[SparseTensor, ...]


class SparseUnetDecoder(_Levels):
    """Latent voxels to fine ones. Keys ``from_latent``, ``blocks.i.j``, ``output_layer``."""

    def __init__(self, config: UnetConfig) -> None:
        super().__init__(config)
        self.from_latent = nn.Linear(config.latent_channels, config.model_channels[0])
        self._build(UP, "SparseResBlockC2S3d", pred_subdiv=config.pred_subdiv)
        self.output_layer = nn.Linear(config.model_channels[-1], config.channels)
        initialise(self)

    def forward(
        self, x: SparseTensor, *, levels: Sequence[Level] = (), guides: Sequence[SparseTensor] = ()
    ) -> DecodedVoxels:
        """
        Args:
            levels: of the voxels to return to, finest first, as the encoder gave them (teacher forcing).
            guides: ``(N, 8)`` bool or logits for each subdivision, coarsest first, on the voxels they divide, in any
                order of rows; for networks that predict none.
        Raises:
            StateError: too few or too many levels or guides, or such of other voxels.
        """
        h, structure, logits = self._ascended(x, self.config.moves, levels, guides)
        for block in self._plain(len(self.blocks) - 1):
            h = self._run(block, h, structure)
        wide = self.output_layer.weight.dtype
        values = self.output_layer(layer_norm32(h.feats.to(wide)))
        return DecodedVoxels(h.replace(values), logits)

    def upsample(self, x: SparseTensor, times: int) -> SparseTensor:
        """The voxels that ``times`` predicted subdivisions lead to; their features are those of the blocks.

        Raises:
            StateError: the network predicts nothing, or has fewer subdivisions.
        """
        if not self.config.pred_subdiv:
            raise StateError("this decoder predicts no subdivision; upsample with the one of the shape")
        if not 1 <= times <= self.config.moves:
            raise StateError(f"times must lie between 1 and {self.config.moves}, not be {times}")
        return self._ascended(x, times, (), ())[0]

    def _ascended(
        self, x: SparseTensor, moves: int, levels: Sequence[Level], guides: Sequence[SparseTensor]
    ) -> tuple[SparseTensor, Structure, tuple[SparseTensor, ...]]:
        config = self.config
        check_channels(x.feats, config.latent_channels)
        for name, given in (("levels", levels), ("guides", guides)):
            if given and len(given) != config.moves:
                raise StateError(f"{name} must be {config.moves}, one for each subdivision, not {len(given)}")
        if guides and (config.pred_subdiv or levels):
            raise StateError("guides are for decoders that predict no subdivision and are given no levels")
        if not (config.pred_subdiv or levels or guides):
            raise StateError("this decoder predicts no subdivision; give guides (of the shape) or levels")
        structure = Structure.of(x, levels[-1].structure if levels else None)
        h = x.replace(self.from_latent(x.feats.to(self.from_latent.weight.dtype)).to(self.torso_type))
        logits = []
        for place in range(moves):
            for block in self._plain(place):
                h = self._run(block, h, structure)
            level = levels[config.moves - 1 - place] if levels else None
            present = aligned(guides[place], h) > 0 if guides else None
            coarse = h
            h, structure, found = self._up(self._move(place), h, structure, level, present)
            if found is not None:
                logits.append(coarse.replace(found.feats.to(torch.promote_types(found.feats.dtype, torch.float32))))
        return h, structure, tuple(logits)

    def _up(
        self, move: nn.Module, h: SparseTensor, structure: Structure, level: Level | None, given: Tensor | None
    ) -> tuple[SparseTensor, Structure, SparseTensor | None]:
        if isinstance(move, SparseResBlockC2S3d):
            found = self._run(move, h, structure, level, given)
        else:
            found = self._run(move, h, level, given)
        result: tuple[SparseTensor, Structure, SparseTensor | None] = found
        return result


@torch.no_grad()
def initialise(network: nn.Module) -> None:
    """Linear layers Xavier uniform with zero bias, as published; convolutions keep what their blocks chose."""
    for part in network.modules():
        if isinstance(part, nn.Linear):
            nn.init.xavier_uniform_(part.weight)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
