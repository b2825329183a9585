"""Flow transformers of TRELLIS.2: one over the cells of a dense grid, one over the voxels of a sparse latent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from shapewright.errors import StateError
from shapewright.nn.flow_transformer import FlowTransformer, FlowTransformerConfig, as_context, grid_coords
from shapewright.nn.layouts import dense_layout, layout_of
from shapewright.nn.positions import AbsolutePositionEmbedding
from shapewright.states import Layout, SparseTensor
from torch import Tensor


class StructureFlow(FlowTransformer):
    """Velocity of a dense structure latent; tokens are the cells of the grid, x slowest.

    Checkpoints carry a position code (``rope_phases`` or ``pos_emb``), which follows from the config and is made again;
    ``rope_freq`` has no effect on it, as published.
    """

    recomputed = ("rope_phases", "pos_emb")

    def __init__(self, config: FlowTransformerConfig) -> None:
        super().__init__(replace(config, rope_freq=FlowTransformerConfig.rope_freq))
        self.embed = AbsolutePositionEmbedding(config.model_channels) if config.pe_mode == "ape" else None

    def layout(self, batch: int, device: torch.device | str = "cpu") -> Layout:
        """Of ``batch`` grids; make it once for all sampling steps."""
        return dense_layout(batch, self.config.resolution**3, device, grid_coords(self.config.resolution, device))

    def forward(self, x: Tensor, t: Tensor, cond: Tensor | Sequence[Tensor], *, layout: Layout | None = None) -> Tensor:
        """``x (B, Cin, R, R, R)``, ``t (B,)`` flow time times 1000, ``cond (B, L, Cc)`` or one ``(L_i, Cc)`` a
        sample, to ``(B, Cout, R, R, R)``."""
        size = self.config.resolution
        if x.ndim != 5 or tuple(x.shape[1:]) != (self.config.in_channels, size, size, size):
            raise StateError(f"x must be (B, {self.config.in_channels}, {size}, {size}, {size}), not {tuple(x.shape)}")
        layout = layout or self.layout(len(x), x.device)
        assert layout.coords is not None
        tokens = x.flatten(2).transpose(1, 2).flatten(0, 1)
        found = self.run(
            tokens, None if self.embed is None else self.embed(layout.coords), t, layout, *as_context(cond)
        )
        return found.reshape(len(x), size**3, -1).transpose(1, 2).reshape(len(x), -1, size, size, size)


class LatentFlow(FlowTransformer):
    """Velocity of a sparse latent (``SLatFlowModel``); rows keep their order.

    For textures the shape latent is appended to the channels (``concat``). ``resolution`` has no effect.
    """

    def __init__(self, config: FlowTransformerConfig) -> None:
        super().__init__(config)
        self.embed = AbsolutePositionEmbedding(config.model_channels) if config.pe_mode == "ape" else None

    def forward(
        self, x: SparseTensor, t: Tensor, cond: Tensor | Sequence[Tensor], *, concat: SparseTensor | None = None,
        layout: Layout | None = None,
    ) -> SparseTensor:  # fmt: skip
        """``x`` with ``t (B,)`` flow time times 1000 and ``cond (B, L, Cc)`` or one ``(L_i, Cc)`` a sample.

        ``layout`` is :func:`~shapewright.nn.layout_of` of ``x``; make it once for all sampling steps.

        Raises:
            StateError: ``concat`` lies on other voxels, or channels do not fit.
        """
        layout = layout or layout_of(x)
        assert layout.coords is not None
        tokens = x.feats
        if concat is not None:
            if concat.coords is not x.coords and not torch.equal(concat.coords, x.coords):
                raise StateError("concat must lie on the voxels of x, in the same order")
            tokens = torch.cat([tokens, concat.feats.to(tokens.dtype)], dim=1)
        positions = None if self.embed is None else self.embed(layout.coords)
        return x.replace(self.run(tokens, positions, t, layout, *as_context(cond)))
