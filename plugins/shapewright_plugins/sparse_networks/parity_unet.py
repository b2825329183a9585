"""Answer to the golden case of TRELLIS.2's residual blocks with pooling and copying, in a small autoencoder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shapewright.nn.gaussian import DiagonalGaussian
from shapewright.nn.norms import layer_norm32
from shapewright.nn.residual_blocks import (
    SparseConvNeXtBlock3d,
    SparseResBlock3d,
    SparseResBlockDownsample3d,
    SparseResBlockUpsample3d,
)
from shapewright.nn.structure import Structure
from shapewright.parity import Answer, GoldenCase
from shapewright.states import SparseTensor
from torch import Tensor, nn

from .parity import answer, loaded, sparse

BLOCKS = {"SparseResBlock3d": SparseResBlock3d, "SparseConvNeXtBlock3d": SparseConvNeXtBlock3d}
DOWN = {"SparseResBlockDownsample3d": SparseResBlockDownsample3d}
UP = {"SparseResBlockUpsample3d": SparseResBlockUpsample3d}


def _levels(config: Mapping[str, Any], moves: Mapping[str, Any], names: list[str]) -> nn.ModuleList:
    widths = config["model_channels"]
    levels = nn.ModuleList()
    for place, (width, count) in enumerate(zip(widths, config["num_blocks"], strict=True)):
        blocks = [BLOCKS[config["block_type"][place]](width) for _ in range(count)]
        if place + 1 < len(widths):
            blocks.append(moves[names[place]](width, widths[place + 1]))
        levels.append(nn.ModuleList(blocks))
    return levels


class Encoder(nn.Module):
    """Blocks and a move down, level by level; means and log variances at the end."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        widths = config["model_channels"]
        self.input_layer = nn.Linear(config["in_channels"], widths[0])
        self.blocks = _levels(config, DOWN, config["down_block_type"])
        self.to_latent = nn.Linear(widths[-1], 2 * config["latent_channels"])

    def forward(self, x: SparseTensor) -> SparseTensor:
        """Means of the posterior."""
        structure = Structure.of(x)
        h = x.replace(self.input_layer(x.feats))
        for level in self.blocks:
            assert isinstance(level, nn.ModuleList)
            for block in level:
                if type(block) in DOWN.values():
                    h, step = block(h, structure)
                    structure = step.structure
                else:
                    h = block(h, structure)
        return h.replace(DiagonalGaussian.split(self.to_latent(layer_norm32(h.feats))).mean)


class Decoder(nn.Module):
    """Blocks and a move up, level by level, onto the children that each level predicts."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        widths = config["model_channels"]
        self.from_latent = nn.Linear(config["latent_channels"], widths[0])
        self.blocks = _levels(config, UP, config["up_block_type"])
        self.output_layer = nn.Linear(widths[-1], config["out_channels"])

    def forward(self, x: SparseTensor) -> tuple[SparseTensor, list[Tensor]]:
        """Features on the finest level, and the logits of each subdivision."""
        structure = Structure.of(x)
        logits = []
        h = x.replace(self.from_latent(x.feats))
        for level in self.blocks:
            assert isinstance(level, nn.ModuleList)
            for block in level:
                if type(block) in UP.values():
                    h, structure, found = block(h)
                    logits.append(found.feats)
                else:
                    h = block(h, structure)
        return h.replace(self.output_layer(layer_norm32(h.feats))), logits


def nearest_resblocks(case: GoldenCase) -> Answer:
    """TRELLIS.2 ``SparseUnetVae nearest resblocks``."""
    latent = loaded(Encoder(case.config["encoder"]), case.params, "encoder.")(sparse(case))
    fine, logits = loaded(Decoder(case.config["decoder"]), case.params, "decoder.")(latent)
    values = {"latent": latent.feats, "latent_coords": latent.coords, "feats": fine.feats, "coords": fine.coords}
    return answer(case, values | {f"sub{level}": found for level, found in enumerate(logits)})
