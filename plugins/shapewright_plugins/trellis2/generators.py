"""``generator/trellis2-structure-flow`` and ``generator/trellis2-slat-flow``: sampling with the flow transformers.

The defaults are the published image models. Latents cross the seams un-normalised; each model normalises by its own
statistics.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Generic, TypeVar

import torch
from shapewright.errors import ConfigError, StateError
from shapewright.interfaces import Generator
from shapewright.nn.flow_transformer import FlowTransformer, FlowTransformerConfig
from shapewright.nn.layouts import layout_of
from shapewright.states import (
    Condition,
    Frame,
    Grid,
    GridLatent,
    Latent,
    LatentSpec,
    SparseLatent,
    SparseTensor,
    Support,
    Voxels,
)
from torch import Tensor

from .flow import LatentFlow, StructureFlow
from .flow_matching import TIMESTEP_SCALE
from .sampler import SamplerConfig, Trellis2Euler
from .sparse_vae import noise_rows
from .statistics import Statistics, statistics_of
from .structure_vae import dense_noise
from .voxel_rows import aligned

Streams = torch.Generator | Sequence[torch.Generator] | None
FRAME = Frame(up="z")
KEPT_IN_FLOAT32 = (
    "input_layer.*", "out_layer.*", "t_embedder.*", "adaLN_modulation.*", "*norm*", "*.modulation",
    "network.input_layer.*", "network.out_layer.*", "network.t_embedder.*", "network.adaLN_modulation.*",
)  # fmt: skip


@dataclass(frozen=True)
class FlowConfig(FlowTransformerConfig):
    """Sizes of the published 1.3B models. ``sampler``: ``{use: sampler/trellis2-euler, with: ...}``."""

    model_channels: int = 1536
    num_blocks: int = 30
    num_heads: int | None = 12
    mlp_ratio: float = 5.3334
    pe_mode: str = "rope"
    share_mod: bool = True
    qk_rms_norm: bool = True
    qk_rms_norm_cross: bool = True
    initialization: str = "scaled"
    sampler: Any = None

    @property
    def network(self) -> FlowTransformerConfig:
        """Options of the network alone."""
        names = [field.name for field in fields(FlowTransformerConfig)]
        return FlowTransformerConfig(**{name: getattr(self, name) for name in names})


@dataclass(frozen=True)
class StructureFlowConfig(FlowConfig):
    """A grid of 16 cells with 8 channels, ``stride`` of its occupancy grid 4."""

    stride: int = 4


@dataclass(frozen=True)
class SlatFlowConfig(FlowConfig):
    """``latent``: which latent is made. ``concat_channels``: channels of another latent beside the noise (textures: 32,
    the shape); they count among ``in_channels``. ``mean``, ``std``, ``concat_mean``, ``concat_std``: statistics where
    they are not the published ones. ``stride``: fine voxels along a latent one."""

    resolution: int = 32
    in_channels: int = 32
    out_channels: int = 32
    latent: str = "trellis2-shape"
    concat: str = "trellis2-shape"
    concat_channels: int = 0
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    concat_mean: tuple[float, ...] = ()
    concat_std: tuple[float, ...] = ()
    stride: int = 16

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.in_channels != self.out_channels + self.concat_channels:
            raise ConfigError(
                f"in_channels ({self.in_channels}) must be out_channels ({self.out_channels}) and concat_channels "
                f"({self.concat_channels}) together"
            )
        self.statistics()
        self.concat_statistics()

    def statistics(self) -> Statistics:
        """Of the latent that is made."""
        return statistics_of(self.latent, self.out_channels, self.mean, self.std)

    def concat_statistics(self) -> Statistics | None:
        """Of the latent beside it."""
        if not self.concat_channels:
            return None
        return statistics_of(self.concat, self.concat_channels, self.concat_mean, self.concat_std)


ConfigT = TypeVar("ConfigT", bound=FlowConfig)


class _Flow(Generator[ConfigT], Generic[ConfigT]):
    network: FlowTransformer
    float32_keys = KEPT_IN_FLOAT32

    def _sampler(self, default: SamplerConfig) -> Trellis2Euler:
        source = self.config.sampler
        made = Trellis2Euler(default) if source is None else source() if hasattr(source, "component") else source
        if not isinstance(made, Trellis2Euler):
            raise ConfigError(f"sampler must be {{use: sampler/trellis2-euler}} or build on it, not {source!r}")
        return made

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return self.network.out_layer.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """Type of what is sampled: at least float32."""
        return torch.promote_types(self.network.out_layer.weight.dtype, torch.float32)

    def load_published(self, state: Mapping[str, Tensor]) -> None:
        """Fill from the published file; tensors become the parameters."""
        self.network.load_state_dict(dict(state), assign=True)

    def published_state(self) -> dict[str, Tensor]:
        """The state dict as the published file has it (without the table of position codes)."""
        state: dict[str, Tensor] = self.network.state_dict()
        return state

    def _branches(self, condition: Condition, guidance: float) -> dict[bool, Tensor | list[Tensor]]:
        """Conditions of both branches; the second only where guidance asks for it.

        Raises:
            StateError: no tokens, of another width, or no null condition that guidance needs.
        """
        wanted = self.config.cond_channels
        found: dict[bool, Tensor | list[Tensor]] = {}
        for branch, tokens in ((True, condition.tokens), (False, condition.null)):
            if not branch and guidance == 1:
                continue
            if tokens is None or tokens.ndim != 3 or not tokens.shape[1] or tokens.shape[2] != wanted:
                what = "a condition" if branch else f"guidance {guidance:g} needs a null condition, which"
                shape = "none" if tokens is None else tuple(tokens.shape)
                raise StateError(f"{what} must be (B, T, {wanted}) with T > 0, not {shape}")
            if len(tokens) != len(condition.tokens):
                raise StateError(f"the null condition has {len(tokens)} samples, the condition {len(condition.tokens)}")
            tokens = tokens.to(self.device)
            mask = condition.mask
            if mask is not None and mask.shape == tokens.shape[:2]:
                if bool((~mask).all(dim=1).any()):
                    raise StateError("the mask of the condition leaves no token in a sample")
                found[branch] = [rows[kept] for rows, kept in zip(tokens, mask.to(tokens.device), strict=True)]
            else:
                found[branch] = tokens
        return found


class StructureFlowGenerator(_Flow[StructureFlowConfig]):
    """Latents ``(B, 8, 16, 16, 16)`` of coarse occupancy.

    Source: TRELLIS.2 (arXiv 2512.14692) section 4.
    """

    Config = StructureFlowConfig

    def __init__(self, config: StructureFlowConfig) -> None:
        super().__init__(config)
        if config.in_channels != config.out_channels:
            raise ConfigError(f"in_channels ({config.in_channels}) must be out_channels ({config.out_channels})")
        self.network: StructureFlow = StructureFlow(config.network)
        self.sampler = self._sampler(SamplerConfig(0.7, (0.6, 1.0), 5.0))

    @property
    def latent_spec(self) -> LatentSpec:
        """The latents that this makes."""
        return LatentSpec(self.config.out_channels, self.config.stride, "trellis-structure")

    def sample(
        self,
        condition: Condition,
        *,
        support: Support | None = None,
        concat: Latent | None = None,
        noise: Latent | None = None,
        steps: int = 12,
        guidance: float = 7.5,
        rng: Streams = None,
    ) -> GridLatent:
        """One latent for each sample of the condition ``(B, T, C)``.

        Args:
            noise: used instead of a draw. rng: one stream for all samples of the batch, one after the other, or one
                each.
        Raises:
            StateError: condition, noise or streams do not fit, or another support than the model's grid.
        """
        config = self.config
        if concat is not None:
            raise StateError("generator/trellis2-structure-flow takes no latent to concatenate")
        if support is not None and not (isinstance(support, Grid) and support.resolution == config.resolution):
            raise StateError(f"generator/trellis2-structure-flow works on the grid of {config.resolution} cells only")
        shape = (len(condition.tokens), config.in_channels, *(config.resolution,) * 3)
        start = self._noise(shape, noise, rng).to(self.device, self.dtype)
        with torch.no_grad():
            branches = self._branches(condition, guidance)
            layout = self.network.layout(shape[0], self.device)

            def velocity(x: Tensor, t: float, *, conditional: bool) -> Tensor:
                times = torch.full((len(x),), t * TIMESTEP_SCALE, device=x.device)
                return self.network(x, times, branches[conditional], layout=layout)  # type: ignore[no-any-return]

            found = self.sampler.integrate(velocity, start, steps=steps, guidance=guidance)
        return GridLatent(found, FRAME)

    def _noise(self, shape: tuple[int, ...], noise: Latent | None, rng: Streams) -> Tensor:
        if noise is not None:
            if not isinstance(noise, GridLatent) or tuple(noise.values.shape) != shape:
                found = tuple(noise.values.shape) if isinstance(noise, GridLatent) else type(noise).__name__
                raise StateError(f"noise must be a grid latent {shape}, not {found}")
            return noise.values
        if rng is None:
            raise StateError("generator/trellis2-structure-flow needs rng or noise; it draws from no global generator")
        return dense_noise(shape, rng)


class SlatFlowGenerator(_Flow[SlatFlowConfig]):
    """Latents on given voxels: of a shape, or of its texture beside the latent of the shape (``concat``).

    Source: TRELLIS.2 (arXiv 2512.14692) section 4.
    """

    Config = SlatFlowConfig

    def __init__(self, config: SlatFlowConfig) -> None:
        super().__init__(config)
        self.network: LatentFlow = LatentFlow(config.network)
        shape = SamplerConfig(0.5, (0.6, 1.0), 3.0)
        texture = SamplerConfig(0.0, (0.6, 0.9), 3.0)
        self.sampler = self._sampler(texture if config.latent == "trellis2-texture" else shape)

    @property
    def latent_spec(self) -> LatentSpec:
        """The latents that this makes."""
        return LatentSpec(self.config.out_channels, self.config.stride, self.config.latent)

    @property
    def latent_specs(self) -> dict[str, LatentSpec]:
        """The latents that this takes, by port."""
        if not self.config.concat_channels:
            return {}
        return {"concat": LatentSpec(self.config.concat_channels, self.config.stride, self.config.concat)}

    def sample(
        self,
        condition: Condition,
        *,
        support: Support | None = None,
        concat: Latent | None = None,
        noise: Latent | None = None,
        steps: int = 12,
        guidance: float = 7.5,
        rng: Streams = None,
    ) -> SparseLatent:
        """A latent on the voxels of ``support`` (of ``concat`` where that is left out), one sample for each of the
        condition.

        Args:
            guidance: published: 7.5 for shapes, 1.0 for textures.
            noise: used instead of a draw, normalised. rng: one stream for all samples, one after the other, or one
                each.
        Raises:
            StateError: condition, support, concat, noise or streams do not fit one another.
        """
        config = self.config
        beside = self._concat(concat)
        place = self._place(support, beside, len(condition.tokens))
        if beside is not None and config.concat_channels:
            statistics = config.concat_statistics()
            assert statistics is not None
            rows = aligned(beside, place).to(self.device, self.dtype)
            beside = place.replace(statistics.normalised(rows))
        start = self._noise(place, noise, rng).to(self.device, self.dtype)
        layout = layout_of(place)
        with torch.no_grad():
            branches = self._branches(condition, guidance)

            def velocity(x: Tensor, t: float, *, conditional: bool) -> Tensor:
                times = torch.full((place.batch_size,), t * TIMESTEP_SCALE, device=x.device)
                voxels = place.replace(x)
                found: SparseTensor = self.network(voxels, times, branches[conditional], concat=beside, layout=layout)
                return found.feats

            found = self.sampler.integrate(velocity, start, steps=steps, guidance=guidance, layout=layout)
        frame = concat.frame if concat is not None else support.frame if support is not None else FRAME
        return SparseLatent(place.replace(config.statistics().restored(found)), frame)

    def _concat(self, concat: Latent | None) -> SparseTensor | None:
        channels = self.config.concat_channels
        if (concat is not None) != bool(channels):
            wanted = f"a latent of {channels} channels as concat" if channels else "no concat: it makes shapes"
            raise StateError(f"generator/trellis2-slat-flow wants {wanted}")
        if concat is None:
            return None
        if not isinstance(concat, SparseLatent) or concat.values.feats.shape[1] != channels:
            raise StateError(f"concat must be a sparse latent of {channels} channels")
        return replace(concat.values, coords=concat.values.coords.to(self.device))

    def _place(self, support: Support | None, beside: SparseTensor | None, samples: int) -> SparseTensor:
        """The voxels, without features."""
        if support is None:
            if beside is None:
                raise StateError("generator/trellis2-slat-flow needs support: the voxels that the latent lives on")
            coords, resolution, batch = beside.coords, beside.resolution, beside.batch_size
        elif isinstance(support, Voxels):
            coords, resolution, batch = support.coords, support.resolution, support.batch_size
        else:
            raise StateError(f"generator/trellis2-slat-flow works on voxels, not on {type(support).__name__}")
        if batch != samples:
            raise StateError(f"the support has {batch} samples, the condition {samples}")
        counts = torch.bincount(coords[:, 0].long(), minlength=batch)
        if bool((counts == 0).any()):
            raise StateError(f"the support of sample {int((counts == 0).nonzero()[0])} has no voxel")
        coords = coords.to(self.device)
        return SparseTensor(coords, coords[:, :0].float(), resolution, batch)

    def _noise(self, place: SparseTensor, noise: Latent | None, rng: Streams) -> Tensor:
        channels = self.config.out_channels
        if noise is not None:
            rows = (len(place.coords), channels)
            if not isinstance(noise, SparseLatent) or tuple(noise.values.feats.shape) != rows:
                raise StateError(f"noise must be a sparse latent of {rows[0]} voxels and {rows[1]} channels")
            values = replace(noise.values, coords=noise.values.coords.to(self.device))
            return aligned(values, place)
        if rng is None:
            raise StateError("generator/trellis2-slat-flow needs rng or noise; it draws from no global generator")
        return noise_rows(place, channels, rng)
