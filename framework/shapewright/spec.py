"""Static description of a component. Standard library only: importing this never imports torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal, get_args

API_VERSION = (1, 0)
"""Version of the plugin contract, apart from the package version; see docs/architecture.md."""

Kind = Literal[
    "representation",
    "encoder",
    "generator",
    "attention",
    "extractor",
    "conditioner",
    "sampler",
    "transform",
    "renderer",
    "dataset",
    "metric",
]
KINDS: tuple[str, ...] = get_args(Kind)


@dataclass(frozen=True, slots=True)
class Verb:
    """One callable method of a component, as the planner sees it.

    ``inputs`` and ``outputs`` map a port name to a tag such as ``"latent.sparse"``. A tag is a dotted path from
    general to special; an offered tag satisfies a wanted tag when the wanted one is its prefix. A wanted tag may list
    alternatives (``"sdf.grid|sdf.sparse"``); a trailing ``?`` marks an input that may be left out.
    """

    inputs: Mapping[str, str]
    outputs: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Capabilities:
    """Claims about a component, each of which a test can demonstrate.

    ``open_surfaces``: a boundary stays a boundary. ``interiors``: nested shells survive. ``non_manifold``: an edge with
    more than two faces survives. ``oriented``: the winding of the result is meaningful. ``sharp_edges``: creases are
    kept to well under a cell. ``pbr``: materials travel along. ``differentiable``: gradients flow from the output to
    the input. ``deterministic``: the same input and stream give the same bits.
    """

    open_surfaces: bool = False
    interiors: bool = False
    non_manifold: bool = False
    oriented: bool = True
    sharp_edges: bool = False
    pbr: bool = False
    differentiable: bool = False
    deterministic: bool = True
    devices: frozenset[str] = frozenset({"cpu", "cuda"})


@dataclass(frozen=True, slots=True)
class ComponentSpec:
    """Everything the framework knows about a component before its class is imported."""

    kind: Kind
    name: str
    factory: str
    """``"package.module:Class"``; imported only when a plan uses the component."""
    verbs: Mapping[str, Verb] = field(default_factory=lambda: MappingProxyType({}))
    capabilities: Capabilities = Capabilities()
    api: str = "1.0"
    summary: str = ""
    cite: str = ""
    license: str = ""

    @property
    def key(self) -> str:
        """``"kind/name"``, the name used in registries, on the command line and in result cards."""
        return f"{self.kind}/{self.name}"


@dataclass(frozen=True, slots=True)
class ParityHandler:
    """Says which function reproduces the golden cases of one ``component`` of a published ``system``.

    ``function`` is ``"package.module:function"``; it takes a :class:`shapewright.parity.GoldenCase` and returns a
    :class:`shapewright.parity.Answer`, and is imported only when such a case is run.
    """

    system: str
    component: str
    function: str


def satisfies(offered: str, wanted: str) -> bool:
    """Whether a value tagged ``offered`` may be given where ``wanted`` is asked for.

    >>> satisfies("sdf.sparse", "sdf"), satisfies("sdf", "sdf.sparse"), satisfies("mesh", "image|mesh?")
    (True, False, True)
    """
    have = offered.split(".")
    return any(have[: len(want)] == want for want in (tag.split(".") for tag in wanted.rstrip("?").split("|")))


def api_compatible(required: str, provided: tuple[int, int] = API_VERSION) -> bool:
    """Same major, and a minor that the host already has."""
    major, minor = (int(part) for part in required.split("."))
    return major == provided[0] and minor <= provided[1]


@dataclass(frozen=True, slots=True)
class FileFormat:
    """A file extension that a state is kept under; functions are ``"package.module:function"``, imported late.

    ``read(path)`` returns the state and its :class:`~shapewright.normalise.Placement`;
    ``write(state, placement, path)`` writes it; ``describe(path)`` returns what ``shapewright info FILE`` prints, by
    name, without reading the voxels.
    """

    suffix: str
    """Lower case, with its dot; may have two, as in ``.voxels.ply``."""
    tag: str
    read: str
    write: str
    describe: str
