"""``encoder/triposg-vae``: surface samples to a set of latent tokens, and tokens to a signed field."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from shapewright.errors import StateError
from shapewright.interfaces import Encoder
from shapewright.nn.gaussian import DiagonalGaussian
from shapewright.states import (
    Decoded,
    Latent,
    LatentSpec,
    State,
    Support,
    SurfaceSamples,
    TokenLatent,
    Tokens,
)
from shapewright_kernels.farthest_point_sampling_tensors import farthest_rows
from torch import Tensor, nn

from .field import decoded_field
from .vae_config import Config as VAEConfig
from .vae_networks import DecodedTokens, FieldDecoder, SurfaceEncoder
from .weights import load_published, to_published

OVERSAMPLING = 4
"""Farthest point sampling chooses one of this many random points for each token."""


class TripoSGVAE(Encoder[VAEConfig]):
    """A set of latent tokens without positions, each of which was a point on the surface.

    Decoding runs the self-attention blocks once a shape; a query point then costs one cross-attention. Gradients of any
    order flow through points and latents. The frame is the published one: shapes fill ``[-1, 1]``.

    Source: TripoSG (arXiv 2502.06608) section 3.1; 3DShape2VecSet.
    """

    Config = VAEConfig

    def __init__(self, config: VAEConfig) -> None:
        super().__init__(config)
        self.encoder = SurfaceEncoder(config)
        self.quant = nn.Linear(config.width_encoder, 2 * config.latent_channels)
        self.post_quant = nn.Linear(config.latent_channels, config.width_decoder)
        self.decoder = FieldDecoder(config)

    @property
    def latent_spec(self) -> LatentSpec:
        """The latents that this takes and makes."""
        return LatentSpec(self.config.latent_channels, statistics="triposg-vae")

    # --- encoding ---------------------------------------------------------------------------------------------------
    def encode(
        self,
        source: State,
        *,
        support: Support | None = None,
        rng: torch.Generator | Sequence[torch.Generator] | None = None,
    ) -> Latent:
        """Latent of surface points with normals.

        Args:
            source: :class:`SurfaceSamples` with ``(N, 3)`` points, or ``(B, N, 3)`` for a batch. Published: 20,480
                points in training, 204,800 in reconstruction.
            support: :class:`Tokens`, to override the number of tokens.
            rng: chooses the points that become tokens, then draws from the posterior; one for all samples, or one each.
        Raises:
            StateError: no rng, no points, points without normals, or another kind of support.
        """
        if not isinstance(source, SurfaceSamples):
            raise StateError(f"encoder/triposg-vae encodes surface samples, not {type(source).__name__}")
        count = self._token_count(support)
        if rng is None:
            raise StateError("encoder/triposg-vae needs rng: it chooses the points that become tokens")
        surface = self._surface(source)
        streams = [rng] * len(surface) if isinstance(rng, torch.Generator) else list(rng)
        if len(streams) != len(surface):
            raise StateError(f"{len(streams)} random streams were given for {len(surface)} samples")
        rows, noise = [], []
        for points, stream in zip(surface, streams, strict=True):
            seed = int(torch.randint(2**62, (), generator=stream, device=stream.device))
            rows.append(token_rows(points, choose_points(len(points), count, seed), count))
            noise.append(torch.randn(count, self.config.latent_channels, generator=stream, device=stream.device))
        posterior = self.posterior(surface, torch.stack(rows))
        if self.config.posterior == "mode":
            return TokenLatent(posterior.mode, source.frame)
        return TokenLatent(posterior.sample(noise=torch.stack(noise).to(posterior.mean)), source.frame)

    def posterior(self, surface: Tensor, chosen: Tensor) -> DiagonalGaussian:
        """Gaussian of the tokens at the rows ``chosen`` ``(B, T)`` of ``surface`` ``(B, N, 6)``."""
        return DiagonalGaussian.split(self.quant(self.encoder(surface, chosen)))

    def _token_count(self, support: Support | None) -> int:
        if support is None:
            return self.config.tokens
        if not isinstance(support, Tokens):
            raise StateError(f"encoder/triposg-vae works on tokens, not on {type(support).__name__}")
        if support.count < 1:
            raise StateError(f"a support needs at least 1 token, not {support.count}")
        return support.count

    def _surface(self, source: SurfaceSamples) -> Tensor:
        points, normals = source.points, source.normals
        if points.shape != normals.shape or points.ndim not in (2, 3) or points.shape[-1] != 3:
            raise StateError(
                f"surface samples need (N, 3) points and as many normals, not {tuple(points.shape)} and "
                f"{tuple(normals.shape)}"
            )
        surface = torch.cat([points, normals], dim=-1)
        surface = surface[None] if surface.ndim == 2 else surface
        if not surface.shape[1]:
            raise StateError("surface samples are empty; the mesh has no surface to sample")
        if not bool(torch.isfinite(surface).all()):
            raise StateError("surface samples hold values that are not finite")
        return surface.to(self.quant.weight.device)

    # --- decoding ---------------------------------------------------------------------------------------------------
    def decode(self, latent: Latent, *, guides: Sequence[Any] = ()) -> Decoded:
        """The signed field of a latent, negative inside: a :class:`.LatentField` in the box of ``bounds``.

        Raises:
            StateError: not a token latent, or of other channels.
        """
        if not isinstance(latent, TokenLatent):
            raise StateError(f"encoder/triposg-vae decodes token latents, not {type(latent).__name__}")
        return Decoded(decoded_field(self, self.prepare(latent.values)))

    def prepare(self, values: Tensor) -> DecodedTokens:
        """Everything about latents ``(B, T, C)`` that does not depend on query points."""
        channels = self.config.latent_channels
        if values.ndim != 3 or values.shape[-1] != channels or not values.shape[1]:
            raise StateError(f"a latent must be (B, T, {channels}) with T > 0, not {tuple(values.shape)}")
        return self.decoder.prepare(self.post_quant(values.to(self.post_quant.weight)))

    # --- checkpoints ------------------------------------------------------------------------------------------------
    def load_published(self, state: Mapping[str, Tensor]) -> None:
        """Fill from ``vae/diffusion_pytorch_model.safetensors`` of a published folder; see :mod:`.weights`."""
        load_published(self, state, what="weights of the autoencoder")

    def published_state(self) -> dict[str, Tensor]:
        """The state dict as published checkpoints have it."""
        return to_published(self)


def choose_points(points: int, tokens: int, seed: int) -> Tensor:
    """Rows of ``4 tokens`` random points, with repeats only where there are fewer points; as the published encoder."""
    wanted = OVERSAMPLING * tokens
    return torch.from_numpy(np.random.default_rng(seed).choice(points, wanted, replace=wanted > points))


def token_rows(surface: Tensor, subset: Tensor, count: int) -> Tensor:
    """``(count,)`` rows of ``surface`` ``(N, 6)``: farthest point sampling of the rows in ``subset``, first of them
    first."""
    subset = subset.to(surface.device)
    return subset[farthest_rows(surface[subset, :3], count)]
