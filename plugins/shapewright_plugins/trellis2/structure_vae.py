"""``encoder/trellis2-structure-vae``: which cells of a coarse grid are occupied, as a dense latent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from shapewright.errors import ConfigError, StateError
from shapewright.interfaces import Encoder
from shapewright.states import (
    Decoded,
    GridLatent,
    Latent,
    LatentSpec,
    OccupancyGrid,
    OccupancyVoxels,
    State,
    Support,
    Voxels,
)
from torch import Tensor

from .sparse_vae import PARTS, POSTERIORS
from .structure_networks import StructureConfig, StructureDecoder, StructureEncoder


@dataclass(frozen=True)
class StructureVAEConfig:
    """Published sizes: 64 cells an axis, latent of 16 with 8 channels. ``channels`` from the grid to the middle;
    ``parts`` and ``posterior`` as of the sparse autoencoders."""

    latent_channels: int = 8
    channels: tuple[int, ...] = (32, 128, 512)
    num_res_blocks: int = 2
    num_res_blocks_middle: int = 2
    norm_type: str = "layer"
    parts: str = "both"
    posterior: str = "mode"

    def __post_init__(self) -> None:
        for name, known in (("parts", PARTS), ("posterior", POSTERIORS)):
            if getattr(self, name) not in known:
                raise ConfigError(f"{name} must be one of {', '.join(known)}, not {getattr(self, name)!r}")
        self.network("encoder")

    def network(self, part: str) -> StructureConfig:
        """Of one half."""
        channels = tuple(self.channels) if part == "encoder" else tuple(self.channels)[::-1]
        return StructureConfig(
            1, self.latent_channels, channels, self.num_res_blocks, self.num_res_blocks_middle, self.norm_type
        )


class StructureVAE(Encoder[StructureVAEConfig]):
    """Dense convolutions; published weights are those of TRELLIS.

    Source: TRELLIS (arXiv 2412.01506), TRELLIS.2 specification section 7.
    """

    Config = StructureVAEConfig
    float32_keys = ("*input_layer.*", "*out_layer.*", "*norm*")

    def __init__(self, config: StructureVAEConfig) -> None:
        super().__init__(config)
        if config.parts != "decoder":
            self.encoder = StructureEncoder(config.network("encoder"))
        if config.parts != "encoder":
            self.decoder = StructureDecoder(config.network("decoder"))

    @property
    def latent_spec(self) -> LatentSpec:
        """The latents that this takes and makes."""
        stride = self.config.network("encoder").stride
        return LatentSpec(self.config.latent_channels, stride, "trellis-structure")

    def encode(
        self,
        source: State,
        *,
        support: Support | None = None,
        rng: torch.Generator | Sequence[torch.Generator] | None = None,
    ) -> GridLatent:
        """Latent of the occupied cells (:class:`OccupancyVoxels`, :class:`Voxels`, or a grid of 0 and 1).

        Raises:
            StateError: another state, or a resolution that the strides do not divide.
        """
        self._wants("encoder", "encode")
        if support is not None:
            raise StateError("encoder/trellis2-structure-vae works on its whole grid; leave support out")
        posterior = self.encoder(_dense(source).to(next(self.parameters())))
        if self.config.posterior == "mode":
            return GridLatent(posterior.mode, source.frame)
        if rng is None:
            raise StateError("posterior is 'sample', which needs rng")
        return GridLatent(
            posterior.sample(noise=dense_noise(posterior.mean.shape, rng).to(posterior.mean)), source.frame
        )

    def decode(self, latent: Latent, *, guides: Sequence[Any] = ()) -> Decoded:
        """Logits of occupancy ``(R, R, R)``, or ``(B, R, R, R)`` of a batch; positive cells are occupied."""
        self._wants("decoder", "decode")
        if guides or not isinstance(latent, GridLatent):
            what = "no guides" if guides else f"grid latents, not {type(latent).__name__}"
            raise StateError(f"encoder/trellis2-structure-vae takes {what}")
        values = latent.values.to(next(self.parameters()).device)
        logits = self.decoder(values)[:, 0]
        return Decoded(OccupancyGrid(logits[0] if len(logits) == 1 else logits, latent.frame))

    def _wants(self, part: str, verb: str) -> None:
        if self.config.parts not in ("both", part):
            raise StateError(
                f"{verb} needs the {part}, and parts is {self.config.parts!r}; set parts to {part} or both"
            )

    def load_published(self, state: Mapping[str, Tensor]) -> None:
        """Fill from the file of the network that ``parts`` names."""
        target = self if self.config.parts == "both" else getattr(self, self.config.parts)
        target.load_state_dict(dict(state), assign=True)

    def published_state(self) -> dict[str, Tensor]:
        """The state dict as the published file has it."""
        target = self if self.config.parts == "both" else getattr(self, self.config.parts)
        state: dict[str, Tensor] = target.state_dict()
        return state


def _dense(source: State) -> Tensor:
    """``(B, 1, R, R, R)`` float of 0 and 1."""
    if isinstance(source, OccupancyGrid):
        values = source.values if source.values.ndim == 4 else source.values[None]
        return values[:, None].float()
    voxels = source.voxels if isinstance(source, OccupancyVoxels) else source
    if not isinstance(voxels, Voxels):
        raise StateError(f"encoder/trellis2-structure-vae encodes occupied cells, not {type(source).__name__}")
    grid = torch.zeros(voxels.batch_size, *(voxels.resolution,) * 3, device=voxels.coords.device)
    grid[tuple(voxels.coords.long().unbind(1))] = 1
    return grid[:, None]


def dense_noise(shape: Sequence[int], rng: torch.Generator | Sequence[torch.Generator]) -> Tensor:
    """Standard normal ``(B, ...)``, each sample from its own stream (or all from one, one after the other).

    Raises:
        StateError: not as many streams as samples.
    """
    streams = [rng] * shape[0] if isinstance(rng, torch.Generator) else list(rng)
    if len(streams) != shape[0]:
        raise StateError(f"{len(streams)} random streams were given for {shape[0]} samples")
    return torch.stack([torch.randn(*shape[1:], generator=s, device=s.device) for s in streams])
