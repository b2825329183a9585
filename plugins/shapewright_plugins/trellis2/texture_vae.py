"""``encoder/trellis2-texture-vae``: material attributes on voxels to latents, and back on the voxels of a shape."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from shapewright.errors import StateError
from shapewright.states import (
    PBR_LAYOUT,
    Decoded,
    Latent,
    SparseLatent,
    SparseTensor,
    State,
    Support,
    VoxelAttributes,
)

from .sparse_vae import SparseVAE, SparseVAEConfig
from .voxel_rows import canonical


class TextureVAE(SparseVAE[SparseVAEConfig]):
    """Base colour, metallic, roughness and alpha; the decoder makes the voxels that the ``guides`` of a shape name.

    Source: TRELLIS.2 (arXiv 2512.14692) section 3.3.
    """

    Config = SparseVAEConfig
    statistics = "trellis2-texture"

    def encode(
        self,
        source: State,
        *,
        support: Support | None = None,
        rng: torch.Generator | Sequence[torch.Generator] | None = None,
    ) -> SparseLatent:
        """Latent of :class:`VoxelAttributes` in the published layout, values in [0, 1].

        Raises:
            StateError: another state or layout, an empty one, a resolution that 16 does not divide, or an own support.
        """
        if not isinstance(source, VoxelAttributes):
            raise StateError(f"encoder/trellis2-texture-vae encodes voxel attributes, not {type(source).__name__}")
        if support is not None:
            raise StateError("encoder/trellis2-texture-vae makes its own support; leave support out")
        missing = [name for name in PBR_LAYOUT if name not in source.layout]
        if missing:
            raise StateError(f"the attributes lack {', '.join(missing)}; all of {', '.join(PBR_LAYOUT)} are needed")
        feats = torch.cat([source[name] for name in PBR_LAYOUT], dim=1) * 2 - 1
        if feats.shape[1] != self.in_channels:
            raise StateError(f"the attributes must have {self.in_channels} columns, not {feats.shape[1]}")
        return self._encoded(canonical(source.values.replace(feats))[0], source.frame, rng)

    def decode(self, latent: Latent, *, guides: Sequence[Any] = ()) -> Decoded:
        """:class:`VoxelAttributes` on the voxels that ``guides`` lead to; values may leave [0, 1] a little.

        Args:
            guides: of ``encoder/trellis2-shape-vae``, predicted (``decode``) or given (``subdivide``).
        Raises:
            StateError: not such a latent, or guides that are missing or belong to another shape.
        """
        x = self._decodable(latent)
        if not guides:
            raise StateError("encoder/trellis2-texture-vae needs guides: the subdivisions of the shape that it colours")
        if not all(isinstance(guide, SparseTensor) and guide.feats.shape[1:] == (8,) for guide in guides):
            raise StateError("guides must be sparse tensors with one value for each of 8 children")
        there = [
            SparseTensor(g.coords.to(x.coords.device), g.feats.to(x.coords.device), g.resolution, g.batch_size)
            for g in guides
        ]
        fine, _ = canonical(self.decoder(x, guides=there).voxels)
        return Decoded(VoxelAttributes(fine.replace(fine.feats * 0.5 + 0.5), dict(PBR_LAYOUT), latent.frame))
