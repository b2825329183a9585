"""Run every component once on tiny shapes, so that whatever compiles or loads on first use has done so.

The framework knows nothing of kernels: it calls components through pipelines, as any user does, so plugins of third
parties are warmed as well.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from time import perf_counter
from typing import Any

import torch

from .bench.appearance import textured
from .host import Catalog
from .interfaces import MeshPair
from .plan import check, pairings, roundtrip
from .run import build, execute, resolved_options
from .states import Frame, Mesh

RESOLUTION = 16


@dataclass(frozen=True, slots=True)
class Warmed:
    """Seconds that one component took over all tiny shapes, the first time and again."""

    component: str
    first: float
    again: float
    reason: str = ""
    """Why it could not be run on any shape."""


def tiny_shapes() -> dict[str, Mesh]:
    """``closed``: an octahedron with textures. ``open``: it without, and without two faces, one of the others turned
    over, and a fin on an edge; components take other ways through their code there."""
    corners = [[1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1], [0.9, 0.9, 0.9]]
    vertices = torch.tensor(corners, dtype=torch.float64) / 2
    faces = [[0, 2, 4], [2, 1, 4], [1, 3, 4], [3, 0, 4], [2, 0, 5], [1, 2, 5], [3, 1, 5], [0, 3, 5]]
    opened = [*faces[:4], [0, 2, 5], faces[5], [0, 2, 6]]
    return {
        "closed": textured(Mesh(vertices[:6], torch.tensor(faces), Frame())),
        "open": Mesh(vertices, torch.tensor(opened), Frame()),
    }


def warm_up(catalog: Catalog, announce: Callable[[str], None] = lambda what: None) -> list[Warmed]:
    """Every representation with every extractor that fits it at resolution 16, and every metric.

    Args:
        announce: told what runs next.
    Returns:
        One row a component, in the order in which they ran. A component that refuses one of the shapes with an error
        is warm all the same; one that no shape got through has a ``reason``.
    """
    jobs = [*_pairs(catalog), *_metrics(catalog)]
    seconds: dict[str, list[float]] = {}
    reasons: dict[str, str] = {}
    done: set[str] = set()
    for turn in (0, 1):
        for label, components, job in jobs:
            if turn == 0:
                announce(label)
            for component in components:
                seconds.setdefault(component, [0.0, 0.0])
            for mesh in tiny_shapes().values():
                try:
                    with warnings.catch_warnings():
                        warnings.simplefilter("ignore")  # an open mesh is meant to be one
                        for component, spent in job(mesh).items():
                            seconds[component][turn] += spent
                            done.add(component)
                except Exception as error:  # a plugin may fail in any way; the others are warmed all the same
                    for component in components:
                        reasons.setdefault(component, f"{type(error).__name__}: {' '.join(str(error).split())}")
    return [
        Warmed(component, first, again, "" if component in done else reasons.get(component, ""))
        for component, (first, again) in seconds.items()
    ]


Job = tuple[str, tuple[str, ...], Callable[[Mesh], dict[str, float]]]


def _pairs(catalog: Catalog) -> Iterator[Job]:
    for pair in pairings(catalog):
        if not pair.reason:
            label = f"{pair.representation.name} with {pair.extractor.name}"
            keys = (pair.representation.key, pair.extractor.key)
            yield label, keys, partial(_run_pair, catalog, *keys)


def _run_pair(catalog: Catalog, representation: str, extractor: str, mesh: Mesh) -> dict[str, float]:
    entry = roundtrip(representation, extractor)
    if "resolution" in resolved_options(catalog, representation, {}):
        entry["components"]["rep"]["with"] = {"resolution": RESOLUTION}
    plan = check("warmup", entry, catalog)
    start = perf_counter()
    run = execute(plan, catalog, {"reference": mesh})
    rest = perf_counter() - start - sum(run.seconds.values())  # importing and building both
    return {
        representation: run.seconds["rep.from_mesh"] + rest,
        extractor: run.seconds["mesher.extract"],
    }


def _metrics(catalog: Catalog) -> Iterator[Job]:
    for spec in catalog.of_kind("metric"):
        yield spec.name, (spec.key,), partial(_run_metric, catalog, spec.key)


def _run_metric(catalog: Catalog, key: str, mesh: Mesh) -> dict[str, float]:
    start = perf_counter()
    metric: Any = build(catalog, key, {})
    result = replace(mesh, vertices=mesh.vertices * 0.95)
    metric.measure(MeshPair(result, mesh, sample="warmup", open_reference=len(mesh.faces) < 8))
    return {key: perf_counter() - start}
