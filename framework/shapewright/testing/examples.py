"""Example values for ports, by tag; and the calls of a component's verbs that follow from them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..errors import ShapewrightError
from ..interfaces import MeshPair
from ..spec import ComponentSpec, Verb, satisfies
from ..states import (
    Condition,
    Grid,
    GridLatent,
    Layout,
    Mesh,
    OccupancyVoxels,
    SparseLatent,
    SparseTensor,
    SurfaceSamples,
    TokenLatent,
    Tokens,
    Voxels,
)
from ..streams import stream
from . import fields, measure, toys
from .check import CheckFailure, NotHere
from .subject import Call, Subject, built

SMALL = 8
"""Cells an axis of supports for learned components."""
CHANNELS = ("channels", "hidden_channels", "model_channels", "width", "dim")
CONTEXT_CHANNELS = ("context_channels", "condition_channels", "cond_channels", "context_dim", "cond_dim")
LATENT_CHANNELS = ("latent_channels", "in_channels", *CHANNELS)
STEPS = 2
"""Of generators, where checks are not about the number of steps: published defaults take half a minute on the CPU."""
_QUIET = {"noise", "concat", "guides", "size"}
"""Optional ports whose values belong to another component's training; they are left out."""

Labelled = tuple[str, Any]


def values(subject: Subject, *shape: int, name: object = "values") -> Tensor:
    """Normal draws in single precision from a stream of their own."""
    return torch.randn(shape, generator=stream(0, "example", name, *shape))


def calls(subject: Subject) -> list[Call]:
    """Ways to call the component's verbs; at least one.

    Raises:
        NotHere: a port wants what neither the caller, the kit nor an installed representation provides.
    """
    found: list[Call] = subject.kept("calls", lambda: list(_calls(subject)))
    return found


def _calls(subject: Subject) -> Iterator[Call]:
    special = {"metric": _metric_calls, "attention": _attention_calls}.get(subject.spec.kind)
    if special:
        yield from special(subject)
        return
    missing: list[str] = []
    made = False
    for name, verb in subject.spec.verbs.items():
        try:
            for call in _verb_calls(subject, name, verb):
                made = True
                yield call
        except NotHere as reason:
            missing.append(str(reason))
    if not made:
        raise NotHere("; ".join(dict.fromkeys(missing)) or "the spec declares no verb")


def _verb_calls(subject: Subject, name: str, verb: Verb) -> Iterator[Call]:
    needed = {port: tag for port, tag in verb.inputs.items() if not tag.endswith("?")}
    columns = {port: examples(subject, port, tag) for port, tag in needed.items()}
    count = max(map(len, columns.values()), default=1)
    options = {"steps": STEPS} if subject.spec.kind == "generator" and name == "sample" else {}
    for row in range(count):
        chosen = {port: column[row % len(column)] for port, column in columns.items()}
        yield Call(
            ", ".join(label for label, _ in chosen.values()),
            name,
            {port: v for port, (_, v) in chosen.items()} | options,
        )
    first = {port: column[0][1] for port, column in columns.items()} | options
    for port, tag in verb.inputs.items():
        if (tag.endswith("?") and port not in _QUIET) or (port in subject.inputs and port not in needed):
            try:
                label, value = examples(subject, port, tag)[0]
            except NotHere:
                continue
            yield Call(f"with {port} {label}", name, {**first, port: value})


def examples(subject: Subject, port: str, tag: str) -> list[Labelled]:
    """At least one labelled value for a port; what the caller gave goes before what the kit knows."""
    given = [(f"given {index}", value) for index, value in enumerate(subject.given(port))]
    if given:
        return given
    wanted = tag.rstrip("?").split("|")
    found: list[Labelled] = []
    reasons: list[str] = []
    for each in wanted:
        made = [pair for known, make in _MADE.items() if satisfies(known, each) for pair in _made(make, subject)]
        found += made
    found += from_representations(subject, tag, "sphere")
    if not found:
        reasons.append(f"no example of {' or '.join(wanted)} for the port {port!r}: the kit makes none")
        raise NotHere(f"{reasons[0]} and no installed representation offers it; give inputs={{{port!r}: [...]}}")
    return found


def _made(make: Callable[[Subject], list[Labelled]], subject: Subject) -> list[Labelled]:
    try:
        return make(subject)
    except NotHere:
        return []


# --- what the kit makes -----------------------------------------------------------------------------------------------
def _meshes(subject: Subject) -> list[Labelled]:
    return [("sphere", toys.sphere()), ("cube", toys.cube())]


def _surfaces(subject: Subject) -> list[Labelled]:
    found = []
    for label, mesh in _meshes(subject):
        corners = mesh.vertices[mesh.faces]
        points = torch.from_numpy(measure.sample(mesh)).float()
        nearest = torch.cdist(points.double(), corners.mean(dim=1)).argmin(dim=1)
        normals = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        unit = (normals / normals.norm(dim=1, keepdim=True))[nearest].float()
        found.append((label, SurfaceSamples(points[:512], unit[:512])))
    return found


def _field(tag: str) -> Callable[[Subject], list[Labelled]]:
    return lambda subject: [(f"{tag} of a sphere", fields.stored(fields.solids()["sphere"], tag))]


def _voxel_coords(radius: float) -> Tensor:
    """``(N, 4)`` cells of a small cube near a sphere, in order."""
    centres = (torch.arange(SMALL) + 0.5) / SMALL - 0.5
    grid = torch.stack(torch.meshgrid(centres, centres, centres, indexing="ij"), dim=-1)
    places = ((grid.norm(dim=-1) - radius).abs() < 0.5 / SMALL).nonzero()
    return torch.cat([torch.zeros_like(places[:, :1]), places], dim=1).int()


def _supports(subject: Subject) -> list[Labelled]:
    return [("two shells", Voxels(_voxel_coords(0.4), SMALL)), ("a small shell", Voxels(_voxel_coords(0.2), SMALL))]


def latent_channels(subject: Subject) -> int:
    """Raises NotHere where the component does not say."""
    spec = getattr(subject.component, "latent_spec", None)
    channels = spec.channels if spec is not None else subject.option(*LATENT_CHANNELS)
    if not isinstance(channels, int):
        raise NotHere("the component tells its latent channels neither by latent_spec nor by an option latent_channels")
    return channels


def _token_latents(subject: Subject) -> list[Labelled]:
    channels = latent_channels(subject)
    return [(f"tokens {k}", TokenLatent(values(subject, 1, 12, channels, name=k))) for k in (0, 1)]


def _grid_latents(subject: Subject) -> list[Labelled]:
    channels = latent_channels(subject)
    return [(f"grid {k}", GridLatent(values(subject, 1, channels, 4, 4, 4, name=k))) for k in (0, 1)]


def _sparse_latents(subject: Subject) -> list[Labelled]:
    channels = latent_channels(subject)
    return [
        (label, SparseLatent(SparseTensor(v.coords, values(subject, len(v.coords), channels), v.resolution)))
        for label, v in _supports(subject)
    ]


def _conditions(subject: Subject) -> list[Labelled]:
    channels = subject.option(*CONTEXT_CHANNELS, *CHANNELS)
    if not isinstance(channels, int):
        raise NotHere("the component does not tell the channels of its condition by an option condition_channels")
    found = []
    for k in (0, 1):
        tokens = values(subject, 1, 5, channels, name=f"condition {k}")
        found.append((f"condition {k}", Condition(tokens, torch.zeros_like(tokens))))
    return found


def _images(subject: Subject) -> list[Labelled]:
    ramp = torch.linspace(0, 1, 32)
    first = torch.stack((*torch.meshgrid(ramp, ramp, indexing="ij"), torch.full((32, 32), 0.25)), dim=-1)
    second = torch.rand(32, 32, 3, generator=stream(0, "example", "image"))
    return [("ramp", first), ("noise", second)]


_MADE: dict[str, Callable[[Subject], list[Labelled]]] = {
    "mesh": _meshes,
    "mesh.textured": lambda subject: [("coloured cube", toys.coloured_cube())],
    "surface": _surfaces,
    **{tag: _field(tag) for tag in fields.TAGS},
    "support.tokens": lambda subject: [("8 tokens", Tokens(8))],
    "support.grid": lambda subject: [("grid of 4", Grid(4))],
    "support.voxels": _supports,
    "occupancy.sparse": lambda subject: [(label, OccupancyVoxels(v)) for label, v in _supports(subject)],
    "latent.tokens": _token_latents,
    "latent.grid": _grid_latents,
    "latent.sparse": _sparse_latents,
    "condition": _conditions,
    "image": _images,
}
SHAPES: dict[str, Callable[[], Mesh]] = {
    "sphere": toys.sphere,
    "nested": toys.nested_spheres,
    "disc": toys.disc,
    "three quads": toys.three_quads,
    "cube": toys.cube,
    "coloured cube": toys.coloured_cube,
}


# --- states made by what is installed ---------------------------------------------------------------------------------
def partners(subject: Subject, kind: str, claim: str = "") -> list[ComponentSpec]:
    """Installed components of ``kind`` whose state fits the subject's and which claim ``claim``; own plugin first."""
    verbs = {"representation": ("from_mesh", "outputs"), "extractor": ("extract", "inputs")}

    def tag(spec: ComponentSpec) -> str:
        verb, side = verbs[spec.kind]
        return str(getattr(spec.verbs[verb], side).get("state", "")) if verb in spec.verbs else ""

    mine = tag(subject.spec)
    found = []
    for spec in subject.catalog.of_kind(kind):
        offered, wanted = (tag(spec), mine) if kind == "representation" else (mine, tag(spec))
        fits = bool(offered) and bool(wanted) and satisfies(offered, wanted)
        if fits and (not claim or getattr(spec.capabilities, claim)):
            found.append(spec)
    own = set(subject.catalog.owner(subject.spec.key).components)
    return sorted(found, key=lambda spec: (spec.key not in own, spec.name))


def from_representations(subject: Subject, tag: str, shape: str, claim: str = "") -> list[Labelled]:
    """States of a toy made by every installed representation that offers ``tag`` (and claims ``claim``)."""
    found = []
    for spec in subject.catalog.of_kind("representation"):
        verb = spec.verbs.get("from_mesh")
        if spec.key == subject.spec.key or verb is None or not satisfies(verb.outputs.get("state", ""), tag):
            continue
        if claim and not getattr(spec.capabilities, claim):
            continue
        try:
            make = partial(_toy_state, subject, spec, shape)
            state = subject.kept(f"{spec.key}/{shape}", make)
        except (NotHere, ShapewrightError):
            continue  # its own conformance says what is wrong with it
        found.append((f"{shape} by {spec.key}", state))
    return found


def partner(subject: Subject, spec: ComponentSpec) -> Any:
    """An instance of another component at toy size."""
    return subject.kept(f"built/{spec.key}", lambda: built(subject.catalog, spec, {}, subject.catalog.load(spec.key)))


def _toy_state(subject: Subject, spec: ComponentSpec, shape: str) -> Any:
    return state_of(subject, spec, SHAPES[shape]())


def state_of(subject: Subject, spec: ComponentSpec, mesh: Mesh) -> Any:
    """``mesh`` through another representation."""
    return partner(subject, spec).from_mesh(mesh, rng=stream(0, "partner", spec.key))


# --- kinds whose arguments are not ports ------------------------------------------------------------------------------
def _metric_calls(subject: Subject) -> Iterator[Call]:
    for label, shape in _meshes(subject):
        mesh = toys.painted(shape) if subject.spec.capabilities.pbr else shape
        vertices = mesh.vertices * 0.96 + mesh.vertices.new_tensor([0.03, 0, 0.005])
        moved = replace(mesh, vertices=vertices.float().double())  # the same shape in either precision
        yield Call(f"{label} beside a smaller one", "measure", {"pair": MeshPair(moved, mesh, sample=label)})


def hidden_channels(subject: Subject) -> int:
    """Raises NotHere where the config does not say."""
    channels = subject.option(*CHANNELS)
    if not isinstance(channels, int):
        raise NotHere(f"no option of the component tells its channels ({', '.join(CHANNELS)}); give inputs='hidden'")
    return channels


def token_samples(subject: Subject) -> list[Labelled]:
    """Single sequences ``(hidden, coords)`` of different lengths: what is given, or tokens on small shells."""
    given = subject.given("hidden")
    if given:
        layouts = subject.given("layout")
        coords = [layout.coords for layout in layouts] or [None] * len(given)
        if len(coords) != len(given):
            raise CheckFailure("inputs has a different number of values for 'hidden' and for 'layout'")
        return [(f"given {k}", pair) for k, pair in enumerate(zip(given, coords, strict=True))]
    channels = hidden_channels(subject)
    found = []
    for label, support in _supports(subject):
        coords = support.coords[:, 1:]
        found.append((label, (values(subject, len(coords), channels, name=label), coords)))
    return found


def packed(samples: list[tuple[Tensor, Tensor | None]]) -> dict[str, Any]:
    """Arguments ``hidden`` and ``layout`` of several sequences in one call."""
    counts = torch.tensor([0, *(len(hidden) for hidden, _ in samples)]).cumsum(0).int()
    coords = [c for _, c in samples if c is not None]
    layout = Layout(counts, torch.cat(coords) if coords else None, SMALL if coords else None)
    return {"hidden": torch.cat([hidden for hidden, _ in samples]), "layout": layout}


def _attention_calls(subject: Subject) -> Iterator[Call]:
    samples = token_samples(subject)
    context = context_arguments(subject, 1)
    for label, sample in samples:
        yield Call(label, "forward", {**packed([sample]), **context})
    both = {**packed([sample for _, sample in samples]), **context_arguments(subject, len(samples))}
    yield Call("both packed", "forward", both)


def context_arguments(subject: Subject, batch: int, start: int = 0) -> dict[str, Any]:
    """``context`` and its layout for cross-attention; empty for components that have no option for its channels."""
    given = subject.given("context")
    channels = subject.option("context_channels", "context_dim")
    if not given and not isinstance(channels, int):
        return {}
    found = given or [values(subject, 5 + 2 * k, int(channels), name=f"context {k}") for k in range(2)]
    chosen = [found[(start + k) % len(found)] for k in range(batch)]
    counts = torch.tensor([0, *map(len, chosen)]).cumsum(0).int()
    return {"context": torch.cat(chosen), "context_layout": Layout(counts)}
