"""What the shape and the texture autoencoder share: two networks, of which a pipeline may want one, and their files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Generic, TypeVar

import torch
from shapewright.errors import ConfigError, StateError
from shapewright.interfaces import Encoder
from shapewright.states import Frame, Latent, LatentSpec, SparseLatent, SparseTensor
from torch import Tensor

from .sparse_unet import SparseUnetDecoder, SparseUnetEncoder, UnetConfig
from .subdivisions import levels_of, subdivisions_of
from .voxel_rows import canonical

PARTS = ("both", "encoder", "decoder")
POSTERIORS = ("mode", "sample")
KEPT_IN_FLOAT32 = ("*input_layer.*", "*to_latent.*", "*from_latent.*", "*output_layer.*", "*norm*")
"""What stays in float32 where a half type is asked for, as published."""


@dataclass(frozen=True)
class SparseVAEConfig:
    """Published sizes. ``parts``: which network to build: ``encoder``, ``decoder`` (each then has the keys of its
    published file) or ``both`` (with that prefix). ``posterior``: ``mode`` or ``sample``."""

    latent_channels: int = 32
    encoder_channels: tuple[int, ...] = (64, 128, 256, 512, 1024)
    encoder_blocks: tuple[int, ...] = (0, 4, 8, 16, 4)
    decoder_channels: tuple[int, ...] = (1024, 512, 256, 128, 64)
    decoder_blocks: tuple[int, ...] = (4, 16, 8, 4, 0)
    parts: str = "both"
    posterior: str = "mode"
    use_checkpoint: bool = False

    def __post_init__(self) -> None:
        if self.parts not in PARTS:
            raise ConfigError(f"parts must be one of {', '.join(PARTS)}, not {self.parts!r}")
        if self.posterior not in POSTERIORS:
            raise ConfigError(f"posterior must be one of {', '.join(POSTERIORS)}, not {self.posterior!r}")
        if len(self.encoder_channels) != len(self.decoder_channels) or len(self.encoder_channels) < 2:
            raise ConfigError("encoder_channels and decoder_channels must have as many levels, and at least two")

    @property
    def stride(self) -> int:
        """Fine voxels along a latent one."""
        return int(2 ** (len(self.decoder_channels) - 1))

    def encoder_config(self, channels: int) -> UnetConfig:
        """Of the encoder, for ``channels`` a voxel."""
        return UnetConfig(
            channels,
            self.latent_channels,
            tuple(self.encoder_channels),
            tuple(self.encoder_blocks),
            use_checkpoint=self.use_checkpoint,
        )

    def decoder_config(self, channels: int, *, pred_subdiv: bool) -> UnetConfig:
        """Of the decoder."""
        return UnetConfig(
            channels,
            self.latent_channels,
            tuple(self.decoder_channels),
            tuple(self.decoder_blocks),
            pred_subdiv=pred_subdiv,
            use_checkpoint=self.use_checkpoint,
        )


ConfigT = TypeVar("ConfigT", bound=SparseVAEConfig)


class SparseVAE(Encoder[ConfigT], Generic[ConfigT]):
    """Autoencoder on voxels. A subclass says what a voxel holds."""

    in_channels: ClassVar[int] = 6
    out_channels: ClassVar[int] = 6
    pred_subdiv: ClassVar[bool] = False
    statistics: ClassVar[str] = ""
    float32_keys = KEPT_IN_FLOAT32

    def __init__(self, config: ConfigT) -> None:
        super().__init__(config)
        if config.parts != "decoder":
            self.encoder = SparseUnetEncoder(config.encoder_config(self.in_channels))
        if config.parts != "encoder":
            decoder = config.decoder_config(self.out_channels, pred_subdiv=self.pred_subdiv)
            self.decoder = SparseUnetDecoder(decoder)

    @property
    def latent_spec(self) -> LatentSpec:
        """The latents that this takes and makes."""
        return LatentSpec(self.config.latent_channels, self.config.stride, self.statistics)

    def _encoded(
        self, x: SparseTensor, frame: Frame, rng: torch.Generator | Sequence[torch.Generator] | None
    ) -> SparseLatent:
        """Latent of voxels in canonical order."""
        self._wants("encoder", "encode")
        if x.resolution % self.config.stride:
            raise StateError(f"the resolution must be divisible by {self.config.stride}, not {x.resolution}")
        _refuse_empty(x, "there is no voxel to encode")
        x = SparseTensor(x.coords.to(self._device), x.feats.to(self._device, torch.float32), x.resolution, x.batch_size)
        found = self.encoder(x)
        feats = found.posterior.mode
        if self.config.posterior == "sample":
            if rng is None:
                raise StateError("posterior is 'sample', which needs rng")
            feats = found.posterior.sample(noise=noise_rows(found.voxels, feats.shape[1], rng).to(feats))
        return SparseLatent(found.voxels.replace(feats), frame)

    def _decodable(self, latent: Latent) -> SparseTensor:
        """The voxels of a latent, in canonical order.

        Raises:
            StateError: another kind of latent, or of other channels, or empty.
        """
        self._wants("decoder", "decode")
        if not isinstance(latent, SparseLatent):
            raise StateError(f"{type(self).__name__} decodes sparse latents, not {type(latent).__name__}")
        x = latent.values
        if x.feats.ndim != 2 or x.feats.shape[1] != self.config.latent_channels:
            raise StateError(f"a latent must be (N, {self.config.latent_channels}), not {tuple(x.feats.shape)}")
        _refuse_empty(x, "the latent has no voxel")
        ordered, _ = canonical(x)
        return SparseTensor(ordered.coords.to(self._device), ordered.feats.to(self._device), x.resolution, x.batch_size)

    def _subdivisions(self, x: SparseTensor) -> tuple[SparseTensor, ...]:
        return subdivisions_of(levels_of(x, len(self.config.decoder_channels) - 1), x)

    @property
    def _device(self) -> torch.device:
        return next(self.parameters()).device

    def _wants(self, part: str, verb: str) -> None:
        if self.config.parts not in ("both", part):
            raise StateError(
                f"{verb} needs the {part}, and parts is {self.config.parts!r}; set parts to {part} or both"
            )

    # --- checkpoints ------------------------------------------------------------------------------------------------
    def load_published(self, state: Mapping[str, Tensor]) -> None:
        """Fill from the file of the network that ``parts`` names; tensors become the parameters."""
        target = self if self.config.parts == "both" else getattr(self, self.config.parts)
        target.load_state_dict(dict(state), assign=True)

    def published_state(self) -> dict[str, Tensor]:
        """The state dict as the published file has it."""
        target = self if self.config.parts == "both" else getattr(self, self.config.parts)
        state: dict[str, Tensor] = target.state_dict()
        return state


def noise_rows(x: SparseTensor, channels: int, rng: torch.Generator | Sequence[torch.Generator]) -> Tensor:
    """Standard normal ``(N, channels)``, each sample from its own stream (or all from one, one after the other).

    Raises:
        StateError: not as many streams as samples.
    """
    counts = torch.bincount(x.coords[:, 0].long(), minlength=x.batch_size).tolist()
    streams = [rng] * len(counts) if isinstance(rng, torch.Generator) else list(rng)
    if len(streams) != len(counts):
        raise StateError(f"{len(streams)} random streams were given for {len(counts)} samples")
    drawn = [
        torch.randn(count, channels, generator=stream, device=stream.device).to(x.coords.device)
        for count, stream in zip(counts, streams, strict=True)
    ]
    return torch.cat(drawn)


def _refuse_empty(x: SparseTensor, reason: str) -> None:
    counts = torch.bincount(x.coords[:, 0].long(), minlength=x.batch_size)
    if bool((counts == 0).any()):
        raise StateError(f"{reason} (sample {int((counts == 0).nonzero()[0])} of {x.batch_size})")
