"""The toy's networks: small, but with everything that real ones have (buffers, key mapping, streams, functions as
results)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from shapewright.errors import StateError
from shapewright.interfaces import Conditioner, Encoder, Extractor, Generator, Transform
from shapewright.states import Condition, Decoded, Frame, FunctionField, LatentSpec, Mesh, TokenLatent
from torch import Tensor, nn

DIRECTIONS = torch.tensor([[1.0, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]], dtype=torch.float32)
FACES = torch.tensor(
    [[0, 2, 4], [2, 1, 4], [1, 3, 4], [3, 0, 4], [2, 0, 5], [1, 2, 5], [3, 1, 5], [0, 3, 5]], dtype=torch.int64
)


@dataclass(frozen=True)
class EyeConfig:
    channels: int = 8


class Eye(Conditioner[EyeConfig]):
    """Means of four quadrants through a linear layer; positions are a buffer that no file holds."""

    Config = EyeConfig
    positions: Tensor

    def __init__(self, config: EyeConfig) -> None:
        super().__init__(config)
        self.linear = nn.Linear(3, config.channels)
        table = torch.arange(4.0)[:, None] * torch.linspace(0.1, 1, config.channels)
        self.register_buffer("positions", table.sin(), persistent=False)

    def encode(self, image: Tensor, *, size: int | None = None) -> Condition:
        if image.shape[0] == 13:
            raise StateError("the toy is afraid of images of 13 rows")
        pixels = image[..., :3].to(self.linear.weight.dtype) / 255
        rows, columns = pixels.shape[0] // 2, pixels.shape[1] // 2
        halves = [half for piece in (pixels[:rows], pixels[rows:]) for half in piece.split(columns, 1)[:2]]
        means = torch.stack([half.mean(dim=(0, 1)) for half in halves])
        tokens = self.linear(means) + self.positions.to(pixels.dtype)
        return Condition(tokens[None], torch.zeros_like(tokens)[None])


@dataclass(frozen=True)
class FlowConfig:
    channels: int = 8
    width: int = 16
    tokens: int = 5
    mixer: str = "mean"
    statistics: str = "toy"


class Flow(Generator[FlowConfig]):
    """A few steps from noise; published files hold the rows of ``inner`` in reverse order and call it ``qkv``."""

    Config = FlowConfig
    float32_keys = ("norm.*",)

    def __init__(self, config: FlowConfig) -> None:
        super().__init__(config)
        self.inner = nn.Linear(config.channels, config.width)
        self.norm = nn.LayerNorm(config.width)
        self.outer = nn.Linear(config.width, config.channels)

    @property
    def latent_spec(self) -> LatentSpec:
        return LatentSpec(self.config.channels, statistics=self.config.statistics)

    def sample(  # type: ignore[override]
        self,
        condition: Condition,
        *,
        support: Any = None,
        noise: TokenLatent | None = None,
        steps: int = 3,
        guidance: float = 2.0,
        rng: torch.Generator | Sequence[torch.Generator] | None = None,
    ) -> TokenLatent:
        if self.config.tokens < 1:
            raise StateError(f"tokens must be at least 1, not {self.config.tokens}")
        streams = [rng] if isinstance(rng, torch.Generator) else list(rng or ())
        drawn = [torch.randn(self.config.tokens, self.config.channels, generator=each) for each in streams]
        x = torch.stack(drawn).to(self.outer.weight)
        context = condition.tokens.mean(dim=1, keepdim=True)
        null = condition.null.mean(dim=1, keepdim=True)
        for _ in range(steps):
            plain, guided = self._velocity(x + null), self._velocity(x + context)
            x = x + (plain + guidance * (guided - plain)) / steps
        return TokenLatent(x)

    def _velocity(self, x: Tensor) -> Tensor:
        hidden = self.inner(x)
        hidden = self.norm(hidden.to(self.norm.weight.dtype)).to(x.dtype)
        answer: Tensor = self.outer(hidden.tanh())
        return answer

    def load_published(self, state: Mapping[str, Tensor]) -> None:
        self.load_state_dict({_ours(key): _flipped(key, value) for key, value in state.items()}, assign=True)

    def published_state(self) -> dict[str, Tensor]:
        return {key.replace("inner.", "qkv."): _flipped(key, value) for key, value in self.state_dict().items()}


def _ours(key: str) -> str:
    return key.replace("qkv.", "inner.")


def _flipped(key: str, value: Tensor) -> Tensor:
    return value.flip(0) if key.startswith(("qkv.", "inner.")) else value


class LoneFlow(Flow):
    """Serves one sample a call: it takes a single stream."""

    def sample(  # type: ignore[override]
        self, condition: Condition, *, steps: int = 3, guidance: float = 2.0, rng: torch.Generator | None = None
    ) -> TokenLatent:
        assert len(condition.tokens) == 1
        return super().sample(condition, steps=steps, guidance=guidance, rng=rng)


@dataclass(frozen=True)
class VAEConfig:
    channels: int = 8


class VAE(Encoder[VAEConfig]):
    """Decodes into a function that asks the network at every query: whoever evaluates it needs the weights."""

    Config = VAEConfig

    def __init__(self, config: VAEConfig) -> None:
        super().__init__(config)
        self.radius = nn.Linear(config.channels + 3, 1)
        self.into = nn.Linear(3, config.channels)
        self.files: list[str] = []

    @property
    def latent_spec(self) -> LatentSpec:
        return LatentSpec(self.config.channels, statistics="toy")

    def use_files(self, folder: Path) -> None:
        self.files = sorted(path.name for path in folder.iterdir())

    def encode(self, source: Mesh, *, support: Any = None, rng: Any = None) -> TokenLatent:  # type: ignore[override]
        return TokenLatent(self.into(source.vertices.to(self.into.weight.dtype))[None])

    def decode(self, latent: TokenLatent, *, guides: Sequence[Any] = ()) -> Decoded:  # type: ignore[override]
        return Decoded(Fields.stack([Fields(_Query(self, values)) for values in latent.values]))


@dataclass(frozen=True, slots=True)
class _Query:
    vae: VAE
    tokens: Tensor

    def __call__(self, points: Tensor) -> Tensor:
        features = self.tokens.mean(dim=0).expand(len(points), -1)
        given = torch.cat([features, points.to(features)], dim=1)
        radius = 0.3 + 0.1 * self.vae.radius(given)[:, 0].float().tanh()
        return points.norm(dim=1) - radius.to(points)


@dataclass(frozen=True, slots=True)
class Fields(FunctionField):
    """One function, or several of a batch."""

    several: tuple[Fields, ...] = ()

    @classmethod
    def stack(cls, items: Sequence[Fields]) -> Fields:
        parts = tuple(part for item in items for part in item.unbind())
        return parts[0] if len(parts) == 1 else Fields(parts[0].function, Frame(), parts)

    def unbind(self) -> list[Fields]:
        return list(self.several) or [self]


@dataclass(frozen=True)
class NoConfig:
    pass


class Star(Extractor[NoConfig, FunctionField]):
    """An octahedron whose corners lie where the field says that the surface is."""

    Config = NoConfig

    def extract(self, state: FunctionField) -> Mesh:
        with torch.no_grad():
            radii = -state.query(DIRECTIONS * 1e-6)
        return Mesh(DIRECTIONS * radii[:, None].cpu(), FACES)


@dataclass(frozen=True)
class JudgeConfig:
    refuse: bool = False
    crash: bool = False


class Judge(Transform[JudgeConfig]):
    """Passes latents on, or fails on purpose."""

    Config = JudgeConfig

    def apply(self, *, latent: TokenLatent) -> TokenLatent:
        if self.config.refuse:
            raise StateError("the judge refuses")
        if self.config.crash:
            raise ZeroDivisionError("the judge fell ill")
        return latent
