"""Run the conformance kit on a class of a test, as if it were installed."""

from __future__ import annotations

import sys
from dataclasses import replace
from types import ModuleType
from typing import Any

from conformance import honest
from shapewright import Capabilities, Catalog, ComponentSpec, Verb, discover
from shapewright.plugin import hookimpl
from shapewright.testing import Outcome, conform

EVERYTHING = Capabilities(
    open_surfaces=True, interiors=True, non_manifold=True, sharp_edges=True, pbr=True, differentiable=True
)
DIFFERENTIABLE = Capabilities(differentiable=True)
TOKENS = {"hidden": "tokens", "layout": "layout", "context": "tokens?", "context_layout": "layout?"}
SPECS = {
    "representation": ComponentSpec(
        "representation", "toy", "", {"from_mesh": Verb({"mesh": "mesh"}, {"state": "toy.soup"})}, EVERYTHING
    ),
    "extractor": ComponentSpec(
        "extractor", "toy", "", {"extract": Verb({"state": "toy"}, {"mesh": "mesh"})}, EVERYTHING
    ),
    "attention": ComponentSpec("attention", "toy", "", {"forward": Verb(TOKENS, {"hidden": "tokens"})}, DIFFERENTIABLE),
    "generator": ComponentSpec(
        "generator",
        "toy",
        "",
        {"sample": Verb({"condition": "condition", "noise": "latent.tokens?"}, {"latent": "latent.tokens"})},
        DIFFERENTIABLE,
    ),
    "encoder": ComponentSpec(
        "encoder",
        "toy",
        "",
        {
            "encode": Verb({"source": "toy.rows"}, {"latent": "latent.tokens"}),
            "decode": Verb({"latent": "latent.tokens"}, {"state": "toy.rows"}),
        },
        DIFFERENTIABLE,
    ),
    "conditioner": ComponentSpec(
        "conditioner", "toy", "", {"encode": Verb({"image": "image"}, {"condition": "condition"})}
    ),
    "sampler": ComponentSpec("sampler", "toy", ""),
    "transform": ComponentSpec(
        "transform", "toy", "", {"apply": Verb({"mesh": "mesh"}, {"mesh": "mesh"})}, DIFFERENTIABLE
    ),
    "renderer": ComponentSpec(
        "renderer",
        "toy",
        "",
        {"render": Verb({"mesh": "mesh", "cameras": "cameras"}, {"images": "images"})},
    ),
    "dataset": ComponentSpec("dataset", "toy", ""),
    "metric": ComponentSpec(
        "metric",
        "toy",
        "",
        {"measure": Verb({"predicted": "mesh", "reference": "mesh"}, {"values": "metrics"})},
    ),
}
HONEST: dict[str, type[Any]] = {
    "representation": honest.Keep,
    "extractor": honest.Give,
    "attention": honest.Mixer,
    "generator": honest.Painter,
    "encoder": honest.Squeeze,
    "conditioner": honest.Patches,
    "sampler": honest.Euler,
    "transform": honest.Halve,
    "renderer": honest.Splat,
    "dataset": honest.Tetrahedra,
    "metric": honest.Nearest,
}


def catalog_of(kind: str, cls: type[Any] | None = None, **changes: Any) -> Catalog:
    """A catalog with ``cls`` as ``kind/toy`` (fields of its spec changed) and honest partners to try it with."""
    plugin = ModuleType("toy_conformance")
    classes = {**HONEST, kind: cls or HONEST[kind]}
    for name in {kind, "representation", "extractor"}:
        setattr(plugin, name, classes[name])
    sys.modules[plugin.__name__] = plugin
    specs = [
        replace(SPECS[name], factory=f"{plugin.__name__}:{name}", **(changes if name == kind else {}))
        for name in sorted({kind, "representation", "extractor"})
    ]
    plugin.register_components = hookimpl(lambda: specs)  # type: ignore[attr-defined]
    return discover(points=[], extra=[plugin])


def verdicts(kind: str, cls: type[Any] | None = None, **changes: Any) -> dict[str, Outcome]:
    """The outcome of every check of ``cls`` as a component of ``kind``."""
    found = conform(f"{kind}/toy", inputs=honest.INPUTS.get(kind), catalog=catalog_of(kind, cls, **changes))
    return {outcome.check: outcome for outcome in found}


def failed(found: dict[str, Outcome]) -> list[str]:
    """Names of the checks that failed."""
    return [name for name, outcome in found.items() if outcome.status == "fail"]
