"""One small component of each kind that keeps its whole contract: what the broken ones of the tests are made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from shapewright import (
    Attention,
    Condition,
    Conditioner,
    ConfigError,
    Dataset,
    Decoded,
    Encoder,
    Extractor,
    Frame,
    Generator,
    Layout,
    Mesh,
    MeshError,
    MeshPair,
    Metric,
    MetricDefinition,
    Renderer,
    Representation,
    Sample,
    Sampler,
    TokenLatent,
    Transform,
)
from torch import Tensor, nn


@dataclass(frozen=True)
class Plain:
    """No options."""


# --- representation and extractor: the triangles themselves -----------------------------------------------------------
@dataclass(frozen=True)
class Soup:
    tag: ClassVar[str] = "toy.soup"
    vertices: Tensor
    faces: Tensor
    frame: Frame = field(default_factory=Frame)
    colours: Tensor | None = None


class Keep(Representation[Plain, Soup]):
    Config = Plain

    def from_mesh(self, mesh: Mesh, *, rng: torch.Generator) -> Soup:
        return Soup(mesh.vertices, mesh.faces, mesh.frame, mesh.attributes.get("base_color"))


class Give(Extractor[Plain, Soup]):
    Config = Plain

    def extract(self, state: Soup) -> Mesh:
        colours = {} if state.colours is None else {"base_color": state.colours}
        return Mesh(state.vertices, state.faces, state.frame, attributes=colours)


# --- learned kinds ----------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Sizes:
    channels: int = 8
    context_channels: int = 6
    latent_channels: int = 4
    tokens: int = 5


class Mixer(Attention[Sizes]):
    """Softmax attention within each sequence, or to its context."""

    Config = Sizes

    def __init__(self, config: Sizes) -> None:
        super().__init__(config)
        self.query, self.out = nn.Linear(config.channels, 6), nn.Linear(6, config.channels)
        self.key = nn.Linear(config.context_channels, 6)

    def forward(
        self, hidden: Tensor, layout: Layout, *, context: Tensor | None = None, context_layout: Layout | None = None
    ) -> Tensor:
        assert context is not None
        assert context_layout is not None
        rows, others = layout.offsets.diff().tolist(), context_layout.offsets.diff().tolist()
        pairs = zip(torch.split(hidden, rows), torch.split(context, others), strict=True)
        return torch.cat([self.mix(mine, theirs) for mine, theirs in pairs])

    def mix(self, hidden: Tensor, context: Tensor) -> Tensor:
        keys = self.key(context)
        return self.out((self.query(hidden) @ keys.T).softmax(dim=1) @ keys)


class Painter(Generator[Sizes]):
    """Noise pulled towards a value that the condition chooses."""

    Config = Sizes

    def __init__(self, config: Sizes) -> None:
        super().__init__(config)
        self.aim = nn.Linear(config.context_channels, config.latent_channels)

    def sample(
        self,
        condition: Condition,
        *,
        noise: TokenLatent | None = None,
        steps: int = 25,
        guidance: float = 5.0,
        rng: torch.Generator | None = None,
    ) -> TokenLatent:
        tokens = condition.tokens
        shape = (len(tokens), self.config.tokens, self.config.latent_channels)
        x = self.start(noise, shape, rng, tokens.dtype)
        for _ in range(steps):
            wanted, unguided = self.aim(tokens).mean(1, keepdim=True), self.aim(condition.null).mean(1, keepdim=True)
            x = x + (unguided + guidance * (wanted - unguided) - x) / (2 * steps)
        return TokenLatent(x)

    def start(
        self, noise: TokenLatent | None, shape: tuple[int, ...], rng: torch.Generator | None, dtype: torch.dtype
    ) -> Tensor:
        return torch.randn(shape, generator=rng, dtype=dtype) if noise is None else noise.values


@dataclass(frozen=True)
class Rows:
    """A state that can be a batch."""

    tag: ClassVar[str] = "toy.rows"
    values: Tensor
    frame: Frame = field(default_factory=Frame)

    @classmethod
    def stack(cls, items: Sequence[Rows]) -> Rows:
        return cls(torch.cat([item.values for item in items]))

    def unbind(self) -> list[Rows]:
        return [Rows(values) for values in torch.split(self.values, 1)]


class Squeeze(Encoder[Sizes]):
    """Rows to tokens and back, by two linear maps."""

    Config = Sizes

    def __init__(self, config: Sizes) -> None:
        super().__init__(config)
        self.down = nn.Linear(config.channels, config.latent_channels)
        self.up = nn.Linear(config.latent_channels, config.channels)

    def encode(self, source: Rows, *, support: None = None, rng: torch.Generator | None = None) -> TokenLatent:
        return TokenLatent(self.down(source.values), source.frame)

    def decode(self, latent: TokenLatent, *, guides: Sequence[object] = ()) -> Decoded:
        return Decoded(Rows(self.up(latent.values), latent.frame))


def rows() -> list[Rows]:
    draws = torch.Generator().manual_seed(3)
    return [Rows(torch.randn(1, 7, 8, generator=draws)) for _ in range(2)]


class Patches(Conditioner[Sizes]):
    """Mean colours of sixteen patches."""

    Config = Sizes

    def __init__(self, config: Sizes) -> None:
        super().__init__(config)
        self.lift = nn.Linear(3, config.context_channels)

    def encode(self, image: Tensor, *, size: int | None = None) -> Condition:
        picture = self.composed(self.in_unit(image))
        patches = torch.stack([part.mean(dim=(0, 1)) for row in picture.chunk(4) for part in row.chunk(4, dim=1)])
        tokens = self.lift(patches)[None]
        return Condition(tokens, torch.zeros_like(tokens))

    def in_unit(self, image: Tensor) -> Tensor:
        return image.float() / 255 if image.dtype == torch.uint8 else image

    def composed(self, image: Tensor) -> Tensor:
        return image if image.shape[2] == 3 else image[..., :3] * image[..., 3:] + (1 - image[..., 3:])


class Euler(Sampler[Plain]):
    Config = Plain

    def integrate(self, model, noise: Tensor, *, steps: int, guidance: float) -> Tensor:  # type: ignore[no-untyped-def]
        x = noise
        for step in range(steps):
            t = self.time(step, steps)
            plain, wanted = (model(x, t, conditional=conditional) for conditional in (False, True))
            x = x - (plain + guidance * (wanted - plain)) / steps
        return x

    def time(self, step: int, steps: int) -> float:
        return 1 - step / steps


# --- the rest ---------------------------------------------------------------------------------------------------------
class Halve(Transform[Plain]):
    Config = Plain

    def apply(self, mesh: Mesh) -> Mesh:
        return replace(mesh, vertices=mesh.vertices * 0.5)


class Splat(Renderer[Plain]):
    """Corners of faces on an 8 x 8 image along z: which pixels they hit, and how high."""

    Config = Plain

    def render(self, mesh: Mesh, cameras: Tensor) -> Mapping[str, Tensor]:
        points = mesh.vertices[mesh.faces].reshape(-1, 3)
        pixels = ((points[:, :2] / cameras[0] + 0.5) * 8).long().clamp(0, 7)
        height = mesh.vertices.new_full((64,), -1.0)
        height = height.scatter_reduce(0, pixels[:, 0] * 8 + pixels[:, 1], points[:, 2], "amax")
        return {"mask": (height > -1).float().reshape(1, 8, 8, 1), "depth": height.reshape(1, 8, 8, 1)}


class Tetrahedra(Dataset[Plain]):
    Config = Plain
    sizes: ClassVar[dict[str, float]] = {"small": 1.0, "middle": 2.0, "large": 3.0}

    def ids(self) -> Sequence[str]:
        return list(self.sizes)

    def load(self, id: str) -> Sample:
        if id not in self.sizes:
            raise ConfigError(f"there is no sample {id!r}; there is {', '.join(self.sizes)}")
        corners = torch.tensor([[1.0, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]) * self.sizes[id]
        faces = torch.tensor([[0, 1, 2], [0, 2, 3], [0, 3, 1], [1, 3, 2]])
        return Sample(id, Mesh(corners, faces), frozenset({"closed"}), content=f"tetrahedron {self.sizes[id]}")


class Nearest(Metric[Plain]):
    """Mean distance of vertices to the nearest vertex, both ways."""

    Config = Plain
    protocols: ClassVar[Mapping[str, MetricDefinition]] = {
        "toy-nearest/v1": MetricDefinition("mean of both directions", False, "box1", failure=0.5, symmetric=True)
    }

    def measure(self, pair: MeshPair) -> Mapping[str, float]:
        if not len(pair.predicted.faces):
            raise MeshError("the result has no faces")
        return {"toy-nearest/v1": self.distance(pair.predicted.vertices.double(), pair.reference.vertices.double())}

    def distance(self, a: Tensor, b: Tensor) -> float:
        apart = torch.cdist(a, b)
        return float(apart.amin(dim=0).mean() + apart.amin(dim=1).mean()) / 2


INPUTS: dict[str, dict[str, object]] = {
    "encoder": {"source": rows},
    "renderer": {"cameras": lambda: [torch.ones(1)]},
}
"""What the kit cannot make itself, by kind."""
