"""``encoder/trellis2-shape-vae``: dual grids to latents on voxels sixteen times as large, and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from shapewright.errors import ConfigError, StateError
from shapewright.states import Decoded, FlexibleDualGrid, Latent, SparseLatent, SparseTensor, State, Support, Voxels

from .dual_grid_values import MARGIN, dual_grid_features, split_channels
from .sparse_vae import SparseVAE, SparseVAEConfig
from .voxel_rows import canonical


@dataclass(frozen=True)
class ShapeVAEConfig(SparseVAEConfig):
    """``margin``: how far decoded vertices may leave their voxel, in voxels."""

    margin: float = MARGIN

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.margin <= 10:
            raise ConfigError(f"margin must lie between 0 and 10 voxels, not be {self.margin}; published: {MARGIN}")


class Subdivided(NamedTuple):
    """Result of :meth:`ShapeVAE.subdivide`; field names are the port names."""

    guides: tuple[SparseTensor, ...]
    support: Voxels


class ShapeVAE(SparseVAE[ShapeVAEConfig]):
    """The decoder predicts at every level which children exist and makes no others; those predictions are the
    ``guides`` of the texture decoder.

    Source: TRELLIS.2 (arXiv 2512.14692) section 3.2.
    """

    Config = ShapeVAEConfig
    out_channels = 7
    pred_subdiv = True
    statistics = "trellis2-shape"

    def encode(
        self,
        source: State,
        *,
        support: Support | None = None,
        rng: torch.Generator | Sequence[torch.Generator] | None = None,
    ) -> SparseLatent:
        """Latent of a :class:`FlexibleDualGrid`, on the voxels that hold any of its own.

        Raises:
            StateError: another state, an empty one, a resolution that 16 does not divide, or an own support.
        """
        if not isinstance(source, FlexibleDualGrid):
            raise StateError(f"encoder/trellis2-shape-vae encodes flexible dual grids, not {type(source).__name__}")
        if support is not None:
            raise StateError("encoder/trellis2-shape-vae makes its own support; leave support out")
        return self._encoded(_voxels_of(source), source.frame, rng)

    def decode(self, latent: Latent, *, guides: Sequence[Any] = ()) -> Decoded:
        """A :class:`FlexibleDualGrid` with split weights, and the logits of all subdivisions.

        Raises:
            StateError: not such a latent, or no voxel survives in a sample.
        """
        if guides:
            raise StateError("encoder/trellis2-shape-vae predicts its own structure; it takes no guides")
        fine, logits = self.decoder(self._decodable(latent))
        self._refuse_vanished(fine)
        fine, _ = canonical(fine)
        vertices, flags, weights = split_channels(fine.feats, self.config.margin)
        grid = FlexibleDualGrid(
            fine.coords, vertices, flags > 0, weights, fine.resolution, fine.batch_size, latent.frame
        )
        return Decoded(grid, tuple(canonical(found)[0] for found in logits))

    def upsample(self, latent: Latent, *, times: int | None = None) -> Voxels:
        """The voxels that the decoder makes of a latent after ``times`` subdivisions (all of them by default)."""
        x = self._decodable(latent)
        with torch.no_grad():
            fine = self.decoder.upsample(x, self.decoder.config.moves if times is None else times)
        self._refuse_vanished(fine)
        fine, _ = canonical(fine)
        return Voxels(fine.coords, fine.resolution, fine.batch_size, latent.frame)

    def subdivide(self, source: State) -> Subdivided:
        """Guides of a given dual grid, in the place of predicted ones: which children of each level exist; and the
        voxels of its latent. Needs no weights."""
        if not isinstance(source, FlexibleDualGrid):
            raise StateError(f"subdivisions are those of a flexible dual grid, not of {type(source).__name__}")
        guides = self._subdivisions(_voxels_of(source))
        top = guides[0]
        return Subdivided(guides, Voxels(top.coords, top.resolution, top.batch_size, source.frame))

    def _refuse_vanished(self, fine: SparseTensor) -> None:
        counts = torch.bincount(fine.coords[:, 0].long(), minlength=fine.batch_size)
        if bool((counts == 0).any()):
            which = int((counts == 0).nonzero()[0])
            raise StateError(f"no voxel of the shape survives (sample {which} of {fine.batch_size}); try another seed")


def _voxels_of(grid: FlexibleDualGrid) -> SparseTensor:
    feats = dual_grid_features(grid.dual_vertices, grid.intersected)
    return canonical(SparseTensor(grid.coords, feats, grid.resolution, grid.batch_size))[0]
