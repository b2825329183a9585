"""Expand a request into combinations, shapes and cells; say why a pair is left out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from ..errors import ConfigError, PlanError, RegistryError, ShapewrightError
from ..host import Catalog
from ..plan import Plan, check, pairings, roundtrip
from ..registry import Registry, split_override
from ..run import build, configure
from ..spec import satisfies
from .request import Request


@dataclass(frozen=True)
class Combination:
    """One pipeline from mesh to mesh: its entry, and the representation and extractor in it."""

    name: str
    entry: Mapping[str, Any]
    representation: str
    extractor: str


@dataclass(frozen=True)
class Skipped:
    """A pair that does not fit."""

    representation: str
    extractor: str
    reason: str


@dataclass(frozen=True)
class Source:
    """One dataset of the run: how to build it again in another process, and its ids."""

    name: str
    key: str
    options: Mapping[str, Any]
    ids: tuple[str, ...]


@dataclass(frozen=True)
class Cell:
    """One measurement to make."""

    combination: Combination
    source: Source
    sample: str
    resolution: int | None
    seed: int


@dataclass(frozen=True)
class Matrix:
    """Everything a sweep will do."""

    cells: tuple[Cell, ...]
    skipped: tuple[Skipped, ...]
    sources: tuple[Source, ...]
    combinations: tuple[Combination, ...]
    metrics: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def _selected(catalog: Catalog, kind: str, names: Sequence[str], leave_out: Sequence[str] = ()) -> list[str]:
    if not names:
        return [spec.name for spec in catalog.of_kind(kind) if spec.name not in leave_out]
    return [catalog.get(name if name.startswith(f"{kind}/") else f"{kind}/{name}").name for name in names]


class Options:
    """``--set`` overrides by component name: ``sdf.surface=shell`` or ``representation/sdf.surface=shell``."""

    def __init__(self, catalog: Catalog, overrides: Iterable[str], defaults: Mapping[str, Any]) -> None:
        self.by_key: dict[str, dict[str, Any]] = {key: dict(body) for key, body in defaults.items()}
        for text in overrides:
            path, value = split_override(text)
            keys = (
                [path[0]] if path[0] in catalog.specs else [k for k in catalog.specs if k.partition("/")[2] == path[0]]
            )
            if len(keys) != 1 or len(path) < 2:
                known = sorted({k.partition("/")[2] for k in catalog.specs})
                close = get_close_matches(path[0], known, n=1)
                hint = f"; did you mean {close[0]!r}?" if close else ""
                if len(keys) > 1:
                    hint = f"; write one of {', '.join(keys)}"
                raise RegistryError(f"--set {text!r}: in a bench the path is COMPONENT.option{hint}")
            target = self.by_key.setdefault(keys[0], {})
            for name in path[1:-1]:
                target = target.setdefault(name, {})
            target[path[-1]] = value

    def of(self, key: str) -> dict[str, Any]:
        """The options given for one component."""
        return dict(self.by_key.get(key, {}))


def combinations(
    request: Request, catalog: Catalog, registry: Registry, options: Options
) -> tuple[list[Combination], list[Skipped]]:
    """The pipelines named, and the pairs of the representations and extractors named that fit."""
    found: list[Combination] = []
    skipped: list[Skipped] = []
    if request.representations or request.extractors or not request.pipelines:
        leave_out = registry.defaults.get("bench", {}).get("leave-out", ())
        representations = _selected(catalog, "representation", request.representations, leave_out)
        extractors = _selected(catalog, "extractor", request.extractors, leave_out)
        for pair in pairings(catalog):
            representation, extractor = pair.representation.name, pair.extractor.name
            if representation not in representations or extractor not in extractors:
                continue
            if pair.reason:
                skipped.append(Skipped(representation, extractor, pair.reason))
                continue
            entry = roundtrip(representation, extractor)
            for body in entry["components"].values():
                body["with"] = options.of(body["use"])
            found.append(Combination(f"{representation}+{extractor}", entry, representation, extractor))
    for name in request.pipelines:
        entry = registry.pipeline(name)
        for body in entry.get("components", {}).values():
            body["with"] = {**(body.get("with") or {}), **options.of(body.get("use", ""))}
        plan = check(name, entry, catalog)
        found.append(Combination(name, entry, *_endpoints(plan)))
    return found, skipped


def _endpoints(plan: Plan) -> tuple[str, str]:
    if list(plan.inputs.values()) != ["mesh"] or not satisfies(plan.tags[plan.output], "mesh"):
        raise PlanError(plan.name, ["a bench pipeline has one input, a mesh, and puts out a mesh"])
    names = {
        kind: [p.spec.name for p in plan.parts.values() if p.spec.kind == kind]
        for kind in ("representation", "extractor")
    }
    return "+".join(names["representation"]), "+".join(names["extractor"])


def sources(request: Request, catalog: Catalog, options: Options, default: str) -> list[Source]:
    """The datasets to run on, listed but not loaded, filtered by ``--samples`` (ids or shell patterns)."""
    wanted: list[tuple[str, str, dict[str, Any]]] = []
    for name in request.datasets or (() if request.folders else (default,)):
        spec = catalog.get(name if name.startswith("dataset/") else f"dataset/{name}")
        wanted.append((spec.name, spec.key, options.of(spec.key)))
    for folder in request.folders:
        key = "dataset/folder"
        wanted.append((f"folder:{Path(folder).resolve().name}", key, {**options.of(key), "path": folder}))
    found: list[Source] = []
    every: list[str] = []
    for name, key, chosen in wanted:
        ids = tuple(build(catalog, key, chosen).ids())
        every += ids
        kept = tuple(id for id in ids if not request.samples or any(fnmatch(id, p) for p in request.samples))
        if kept:
            found.append(Source(name, key, chosen, kept))
    for pattern in request.samples:
        if not any(fnmatch(id, pattern) for id in every):
            close = get_close_matches(pattern, every, n=3) or every[:5]
            raise ConfigError(f"--samples {pattern!r} names no sample; there is {', '.join(close)} ...")
    if not found:
        raise ConfigError("nothing to run: the dataset holds no sample")
    return found


def metrics(
    request: Request, catalog: Catalog, options: Options, leave_out: Sequence[str] = ()
) -> dict[str, dict[str, Any]]:
    """The metric components to measure with, and their options. ``--metric`` takes names (``chamfer``)."""
    names = _selected(catalog, "metric", request.metrics, leave_out)
    return {f"metric/{name}": options.of(f"metric/{name}") for name in names}


def expand(request: Request, catalog: Catalog, registry: Registry) -> Matrix:
    """All cells of a request, shape by shape, so that what belongs to a reference is computed once.

    Raises:
        ShapewrightError: something is misspelt, or nothing fits.
    """
    defaults = registry.defaults.get("bench", {})
    options = Options(catalog, request.overrides, registry.defaults.get("components", {}))
    chosen, skipped = combinations(request, catalog, registry, options)
    if not chosen:
        reasons = "; ".join(skip.reason for skip in skipped) or "no representation and extractor are installed"
        raise ShapewrightError(f"no combination fits: {reasons}")
    for combination in chosen:
        for part in check(combination.name, combination.entry, catalog).parts.values():
            configure(catalog.load(part.spec.key), part.options, part.spec.key)
    resolutions: tuple[int | None, ...] = request.resolutions
    measured = metrics(request, catalog, options, defaults.get("leave-out", ()))
    for key, given in measured.items():
        configure(catalog.load(key), given, key)
    found = sources(request, catalog, options, str(defaults.get("dataset", "")))
    cells = []
    for source in found:
        for sample in source.ids:
            for combination in chosen:
                own = (None,) if combination.name in request.pipelines else tuple(defaults.get("resolution", ()))
                for resolution in resolutions or own:
                    cells.append(Cell(combination, source, sample, resolution, request.seed))
    return Matrix(tuple(cells), tuple(skipped), tuple(found), tuple(chosen), measured)
