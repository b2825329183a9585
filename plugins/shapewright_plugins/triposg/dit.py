"""``generator/triposg-dit``: the rectified-flow transformer on a set of latent tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from shapewright.errors import ConfigError, StateError
from shapewright.interfaces import Generator, Sampler
from shapewright.nn.norms import LayerNorm32
from shapewright.nn.timesteps import timestep_frequencies
from shapewright.states import Condition, Latent, LatentSpec, Support, TokenLatent, Tokens
from torch import Tensor, nn

from .blocks import Context, TransformerBlock
from .dit_config import Config as DiTConfig
from .dit_config import ScribbleConfig
from .packed_attention import packed_attention
from .sampler import Config as SamplerConfig
from .sampler import RectifiedFlowEuler
from .schedule import TRAIN_TIMESTEPS
from .weights import load_published, to_published


class TimeProjection(nn.Module):
    """Sines, then cosines of ``t 10000^(-i / half)`` through Linear, exact GELU, Linear; ``t`` runs from 0 to 1000."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.linear_1 = nn.Linear(width, 4 * width)
        self.linear_2 = nn.Linear(4 * width, width)

    def forward(self, timestep: Tensor) -> Tensor:
        """``(B,)`` to ``(B, width)``: the sinusoid in float32, the layers in their own dtype."""
        sinusoid = timestep_frequencies(timestep, self.width, sine_first=True)
        hidden = nn.functional.gelu(self.linear_1(sinusoid.to(self.linear_1.weight.dtype)))
        result: Tensor = self.linear_2(hidden)
        return result


@dataclass(frozen=True, slots=True)
class Prepared:
    """A condition with keys and values of every block: constant over the steps of a sampler."""

    blocks: tuple[Context, ...]


class TripoSGDiT(Generator[DiTConfig]):
    """Transformer over latent tokens and one time token, with long skips and one or two conditions.

    Blocks of the first half hand their output to those of the second, last in, first out. Tokens have no positions.

    Source: TripoSG (arXiv 2502.06608) section 3.2.
    """

    Config = DiTConfig

    def __init__(self, config: DiTConfig) -> None:
        super().__init__(config)
        width, layers = config.width, config.num_layers
        self.time_proj = TimeProjection(width)
        self.proj_in = nn.Linear(config.in_channels, width)
        self.blocks = nn.ModuleList(
            TransformerBlock(
                width,
                config.num_attention_heads,
                context_channels=config.cross_attention_dim,
                second_context_channels=config.second_dim,
                qk_norm=True,
                skip=block > layers // 2,
                moe=config.moe(block),
                attn1=packed_attention(config.attention, width, config.num_attention_heads, block),
            )
            for block in range(layers)
        )
        self.norm_out = LayerNorm32(width)
        self.proj_out = nn.Linear(width, config.in_channels)
        self.sampler = _sampler(config.sampler)

    @property
    def latent_spec(self) -> LatentSpec:
        """The latents that this makes."""
        return LatentSpec(self.config.in_channels, statistics="triposg-vae")

    # --- the network ------------------------------------------------------------------------------------------------
    def prepare(self, context: Tensor, second: Tensor | None = None) -> Prepared:
        """Project conditions ``(B, M, C)`` for every block, once for all steps.

        Raises:
            StateError: a condition is missing, too many, or of other channels.
        """
        config = self.config
        if (second is None) == config.use_cross_attention_2:
            wanted = "a second condition" if second is None else "no second condition (use_cross_attention_2 is off)"
            raise StateError(f"generator/triposg-dit wants {wanted}")
        dtype = self.proj_in.weight.dtype
        given = Context(
            context.to(dtype),
            None if second is None else second.to(dtype),
            config.cross_attention_scale,
            config.cross_attention_2_scale,
        )
        return Prepared(tuple(block.project(given) for block in self._blocks()))

    def forward(
        self,
        hidden_states: Tensor,
        timestep: Tensor,
        encoder_hidden_states: Tensor | Prepared,
        encoder_hidden_states_2: Tensor | None = None,
    ) -> Tensor:
        """What the published network answers, ``x0 - noise`` ``(B, T, C)``.

        Args:
            hidden_states: noisy latents ``(B, T, C)``.
            timestep: ``(B,)`` on the scale 0 to 1000, or ``(1,)`` for all samples.
            encoder_hidden_states: the condition ``(B, M, C)``, or both from :meth:`prepare`.
        """
        if isinstance(encoder_hidden_states, Prepared):
            contexts = encoder_hidden_states
        else:
            contexts = self.prepare(encoder_hidden_states, encoder_hidden_states_2)
        time = self.time_proj(timestep)[:, None].expand(len(hidden_states), -1, -1)
        hidden = torch.cat([time, self.proj_in(hidden_states.to(self.proj_in.weight.dtype))], dim=1)
        middle = len(self.blocks) // 2
        stack: list[Tensor] = []
        for index, block in enumerate(self._blocks()):
            hidden = block(hidden, contexts.blocks[index], stack.pop() if index > middle else None)
            if index < middle:
                stack.append(hidden)
        result: Tensor = self.proj_out(self.norm_out(hidden)[:, 1:])
        return result

    def _blocks(self) -> list[TransformerBlock]:
        return [block for block in self.blocks if isinstance(block, TransformerBlock)]

    # --- sampling ---------------------------------------------------------------------------------------------------
    def sample(
        self,
        condition: Condition,
        *,
        condition_2: Condition | None = None,
        support: Support | None = None,
        concat: Latent | None = None,
        noise: Latent | None = None,
        steps: int = 50,
        guidance: float = 7.0,
        rng: torch.Generator | Sequence[torch.Generator] | None = None,
    ) -> TokenLatent:
        """Latents ``(B, T, C)``, float32 at least, under a condition ``(B, M, C)``.

        Args:
            condition_2: for networks with two conditions (scribbles: the prompt is the first, the image the second).
            support: :class:`Tokens`, to override the number of tokens.
            noise: used instead of a draw.
            steps, guidance: published: 50 and 7.0; 16 and 0 for scribbles. Guidance of 1 or less asks the conditional
                branch only.
            rng: draws the noise; one for all samples of the batch, one after the other, or one each.
        Raises:
            StateError: conditions, null conditions, noise or streams do not fit one another.
        """
        if concat is not None:
            raise StateError("generator/triposg-dit takes no latent to concatenate")
        pairs = [condition] + ([] if condition_2 is None else [condition_2])
        batch = len(condition.tokens)
        for each in pairs:
            _check_condition(each, batch, guidance)
        device = self.proj_in.weight.device
        start = self._noise(batch, support, noise, rng)
        if noise is None:  # drawn in single precision, whatever the types
            start = start.to(torch.promote_types(condition.tokens.dtype, torch.float32))
        with torch.no_grad():
            branches = {True: self.prepare(*(each.tokens.to(device) for each in pairs))}
            if guidance > 1:
                branches[False] = self.prepare(*(each.null.to(device) for each in pairs))

            def velocity(x: Tensor, t: float, *, conditional: bool) -> Tensor:
                # Schedules count in float32, and so did training.
                # One row for all samples: two rows are multiplied in another order than one.
                timestep = torch.tensor([t], dtype=torch.float32, device=x.device) * TRAIN_TIMESTEPS
                answer: Tensor = self(x, timestep, branches[conditional])
                return -answer.to(x.dtype)

            found = self.sampler.integrate(velocity, start.to(device), steps=steps, guidance=guidance)
        return TokenLatent(found)

    def _noise(
        self,
        batch: int,
        support: Support | None,
        noise: Latent | None,
        rng: torch.Generator | Sequence[torch.Generator] | None,
    ) -> Tensor:
        channels = self.config.in_channels
        if support is not None and not isinstance(support, Tokens):
            raise StateError(f"generator/triposg-dit works on tokens, not on {type(support).__name__}")
        count = self.config.tokens if support is None else support.count
        if count < 1:
            raise StateError(f"a support needs at least 1 token, not {count}")
        if noise is not None:
            if not isinstance(noise, TokenLatent) or noise.values.ndim != 3:
                raise StateError("noise must be a token latent (B, T, C)")
            found = tuple(noise.values.shape)
            if found[0] != batch or found[2] != channels or (support is not None and found[1] != count):
                wanted = f"({batch}, {count if support is not None else 'T'}, {channels})"
                raise StateError(f"noise must be {wanted}, not {found}")
            return noise.values
        if rng is None:
            raise StateError("generator/triposg-dit needs rng or noise; nothing here draws from the global generator")
        streams = [rng] * batch if isinstance(rng, torch.Generator) else list(rng)
        if len(streams) != batch:
            raise StateError(f"{len(streams)} random streams were given for {batch} samples")
        return torch.stack([torch.randn(count, channels, generator=s, device=s.device) for s in streams])

    # --- checkpoints ------------------------------------------------------------------------------------------------
    def load_published(self, state: Mapping[str, Tensor]) -> None:
        """Fill from ``transformer/diffusion_pytorch_model.safetensors`` of a published folder; see :mod:`.weights`."""
        load_published(self, state, what="weights of the flow transformer")

    def published_state(self) -> dict[str, Tensor]:
        """The state dict as published checkpoints have it."""
        return to_published(self)


class TripoSGScribbleDiT(TripoSGDiT):
    """The transformer of the scribble model: ``condition`` is the prompt, ``condition_2`` the image.

    Published: 16 steps without guidance (the model is distilled), 512 tokens, the image weighed by 0.4.
    """

    Config = ScribbleConfig


def _sampler(source: Any) -> Sampler[Any]:
    if source is None:
        return RectifiedFlowEuler(SamplerConfig())
    made = source() if callable(source) and not isinstance(source, Sampler) else source
    if not isinstance(made, Sampler):
        raise ConfigError(f"sampler must be {{use: sampler/...}}, not {source!r}")
    return made


def _check_condition(condition: Condition, batch: int, guidance: float) -> None:
    tokens, null = condition.tokens, condition.null
    if tokens.ndim != 3 or not tokens.shape[1]:
        raise StateError(f"a condition must hold tokens (B, M, C) with M > 0, not {tuple(tokens.shape)}")
    if len(tokens) != batch:
        raise StateError(f"the second condition has {len(tokens)} samples, the first {batch}")
    if condition.mask is not None and not bool(condition.mask.all()):
        raise StateError(
            "generator/triposg-dit attends to all tokens; drop those that the mask of a condition leaves out"
        )
    if guidance > 1 and (null is None or null.shape != tokens.shape):
        found = "none" if null is None else str(tuple(null.shape))
        raise StateError(
            f"guidance {guidance:g} needs a null condition of the shape of the tokens {tuple(tokens.shape)}, and there "
            f"is {found}; use guidance 1 or a conditioner that gives one"
        )
