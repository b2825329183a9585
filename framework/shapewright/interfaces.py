"""The interfaces that components implement. One class per kind; a plugin subclasses one and says so in its spec."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, Protocol, TypeVar

import torch
from torch import Tensor, nn

from .states import Condition, Decoded, Latent, Layout, Mesh, State, Support
from .streams import stream


class Velocity(Protocol):
    """A model as a sampler sees it: ``x`` at flow time ``t`` to a velocity of the same shape."""

    def __call__(self, x: Tensor, t: float, *, conditional: bool) -> Tensor: ...


ConfigT = TypeVar("ConfigT")
StateT = TypeVar("StateT", bound=State)
Shared = TypeVar("Shared")


class Component(ABC, Generic[ConfigT]):
    """A plugin class: built from one frozen dataclass ``Config``, holds no global state, does nothing at import."""

    Config: ClassVar[type[Any]]

    def __init__(self, config: ConfigT) -> None:
        super().__init__()  # reaches nn.Module in the learned kinds
        self.config = config


class Representation(Component[ConfigT], Generic[ConfigT, StateT]):
    """Analytic (weight-free) map from a mesh to a geometric state. Pair it with an extractor for a round trip.

    A config that has a field ``resolution`` takes part in sweeps over resolutions.
    """

    @abstractmethod
    def from_mesh(self, mesh: Mesh, *, rng: torch.Generator) -> StateT:
        """Convert ``mesh``, already normalised into its frame; ``rng`` is the only source of randomness.

        The returned state's ``frame`` may be larger than the mesh's, so that a margin of cells surrounds the surface.
        """

    def peak_bytes(self) -> int:
        """Upper estimate, from the config alone, of the memory that ``from_mesh`` needs; ``0`` where it follows the
        surface and is small. The runner refuses a request that cannot fit before anything is allocated."""
        return 0


class Extractor(Component[ConfigT], Generic[ConfigT, StateT]):
    """Turn a state into triangles, in the units of the state's frame. Keeps autograd when it claims
    ``differentiable``."""

    @abstractmethod
    def extract(self, state: StateT) -> Mesh: ...


class Encoder(Component[ConfigT], nn.Module):
    """Autoencoder between a state (or surface samples) and a latent."""

    @abstractmethod
    def encode(
        self, source: State, *, support: Support | None = None, rng: torch.Generator | None = None
    ) -> Latent: ...

    @abstractmethod
    def decode(self, latent: Latent, *, guides: Sequence[Any] = ()) -> Decoded:
        """Return a state, never a mesh: meshing belongs to an extractor."""


class Generator(Component[ConfigT], nn.Module):
    """Sample a latent on a support under a condition."""

    @abstractmethod
    def sample(
        self,
        condition: Condition,
        *,
        support: Support | None = None,
        concat: Latent | None = None,
        noise: Latent | None = None,
        steps: int = 25,
        guidance: float = 5.0,
        rng: torch.Generator | None = None,
    ) -> Latent:
        """``support=None`` uses the generator's own default; ``noise`` overrides the draw (parity tests)."""


class Attention(Component[ConfigT], nn.Module):
    """Token mixer on hidden states; owns its projections, because some patterns gate or compress with the input."""

    @abstractmethod
    def forward(
        self, hidden: Tensor, layout: Layout, *, context: Tensor | None = None, context_layout: Layout | None = None
    ) -> Tensor:
        """``hidden (T, C)`` to ``(T, C)``; ``context (S, Cc)`` makes it cross-attention."""


class Sampler(Component[ConfigT]):
    """Integrate a velocity model from noise to data; owns schedule, guidance interval and rescale."""

    @abstractmethod
    def integrate(self, model: Velocity, noise: Tensor, *, steps: int, guidance: float) -> Tensor: ...


class Conditioner(Component[ConfigT], nn.Module):
    """Encode an image ``(H, W, 3 or 4)`` (uint8, or float in [0, 1]) into tokens that generators attend to."""

    @abstractmethod
    def encode(self, image: Tensor, *, size: int | None = None) -> Condition: ...


class Transform(Component[ConfigT]):
    """Pure function between states: occupancy to voxels, hole filling, refinement, baking.

    Subclasses define ``apply`` with the ports declared in their spec as keyword arguments.
    """


class Renderer(Component[ConfigT]):
    """Images of a mesh from given cameras."""

    @abstractmethod
    def render(self, mesh: Mesh, cameras: Any) -> Mapping[str, Tensor]:
        """Named buffers ``(B, H, W, C)``: ``depth``, ``normal``, ``mask``, ``color`` when present."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One shape of a dataset: its raw (not normalised) mesh and what is known about it.

    ``tags`` select subsets (``open``, ``closed``, ``non-manifold``, ``interior``, ``sharp``, ...). ``content`` is the
    hash of the geometry, part of every cache key.
    """

    id: str
    mesh: Mesh
    tags: frozenset[str] = frozenset()
    license: str = ""
    split: str = ""
    content: str = ""
    notes: tuple[str, ...] = ()
    """Repairs made while loading, for the result card."""


class Dataset(Component[ConfigT]):
    """A finite, ordered set of shapes with stable ids. Listing ids is cheap; loading happens one shape at a time."""

    @abstractmethod
    def ids(self) -> Sequence[str]:
        """Stable ids in a stable order, without loading any mesh."""

    @abstractmethod
    def load(self, id: str) -> Sample:
        """One shape. Raises :class:`~shapewright.errors.MeshError` where a file holds no usable geometry."""

    def __iter__(self) -> Iterator[Sample]:
        return (self.load(id) for id in self.ids())


@dataclass(frozen=True)
class MeshPair:
    """A result and its reference in one frame, as a metric sees them.

    Both meshes were normalised by the *reference* (largest extent 1, centred: ``box1`` of docs/protocols.md).
    Everything random comes from :meth:`rng`; expensive intermediates (samples, search trees, distances) go through
    :meth:`shared`, so that ten metrics of one cell sample and query once.
    """

    predicted: Mesh
    reference: Mesh
    sample: str = ""
    seed: int = 0
    open_reference: bool = False
    """True where the reference bounds no volume, so volume metrics do not apply."""
    _memo: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)
    reference_memo: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)
    """Survives across all results of one reference; pass the same dict for each of them."""

    def rng(self, role: str) -> torch.Generator:
        """A fresh stream for (seed, sample, role); the reference and the result use different roles."""
        return stream(self.seed, self.sample, role)

    def shared(self, name: str, compute: Callable[[], Shared]) -> Shared:
        """``compute()``, once per pair and name. Names that start with ``reference/`` are kept per reference."""
        memo = self.reference_memo if name.startswith("reference/") else self._memo
        if name not in memo:
            memo[name] = compute()
        value: Shared = memo[name]
        return value


@dataclass(frozen=True, slots=True)
class MetricDefinition:
    """Definition of one figure: what is summed over what, in which unit, and whether more is better."""

    definition: str
    higher_is_better: bool
    unit: str = ""
    group: str = "metrics"
    """``"metrics"`` (accuracy against the reference) or ``"health"`` (state of the result as a mesh)."""
    failure: float | None = None
    """What a failed cell counts as in averages (evaluation protocol 5.6); ``None`` where it is only counted."""
    symmetric: bool = False
    """Whether the figure stays the same when result and reference change places."""


class Metric(Component[ConfigT]):
    """Compare a result with its reference by a protocol whose definition never changes under one id.

    ``measure`` returns ``{protocol id: value}`` (``"chamfer-l1/v1"``); a value that does not apply to this pair (volume
    of an open shape) is left out. ``protocols`` describes every id the metric can return.
    """

    protocols: ClassVar[Mapping[str, MetricDefinition]]

    @abstractmethod
    def measure(self, pair: MeshPair) -> Mapping[str, float]: ...

    def deviations(self, pair: MeshPair, points: Tensor) -> Tensor | None:
        """Distances ``(N,)`` of ``points`` ``(N, 3)`` to the surface of the reference, for maps of the error.

        A metric that measures no such distance leaves this out and answers ``None``.
        """
        return None
