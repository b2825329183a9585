"""A plan's components, built without memory, with what fills each of them: files checked before any is read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch

from ..errors import PlanError, WeightsError
from ..host import Catalog
from ..plan import Plan
from ..run import build_parts, configure
from .checkpoint import open_checkpoint, verify_sha256
from .empty import learned, parameter_bytes, without_memory
from .entry import WeightsEntry, read_entry
from .fill import check_fit, fill_at_random, fill_from
from .locate import Located, NotFoundError, Places, locate
from .sizes import human_bytes

Filler = Callable[[Any, torch.device], None]
"""Gives a component its values on a device."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where the values of one component come from, for cards and listings. ``bytes`` is what it takes in memory as
    built (``found`` holds the size on disk)."""

    entry: WeightsEntry
    found: Located | None
    random_seed: int | None = None
    bytes: int = 0


@dataclass(frozen=True)
class Provided:
    """Components by alias (parameters still empty), and how each learned one is filled."""

    parts: Mapping[str, Any]
    fillers: Mapping[str, Filler]
    sources: Mapping[str, Source]


def provide(
    plan: Plan,
    catalog: Catalog,
    *,
    places: Places | None = None,
    dtype: torch.dtype | None = None,
    random_seed: int | None = None,
) -> Provided:
    """Build the components of ``plan`` and check their weights by name, shape and dtype; no tensor is read yet.

    Args:
        places: where weights are looked for; only what an absolute ``path`` names when ``None``.
        dtype: of all floating parameters; that of the files (or of the network) when ``None``.
        random_seed: random weights for every learned component, whatever its entry says.
    Raises:
        WeightsError: weights are missing (all of them listed, with what to do), damaged, or do not fit.
        ConfigError: two components were not trained for one another.
    """
    with without_memory():
        parts = build_parts(plan, catalog)
    check_trained_with(plan, catalog)
    fillers: dict[str, Filler] = {}
    sources: dict[str, Source] = {}
    missing: list[str] = []
    located: list[tuple[str, WeightsEntry, Located]] = []
    for alias, part in parts.items():
        if not learned(part):
            continue
        entry = read_entry(plan.parts[alias].weights)
        size = parameter_bytes(part)
        if random_seed is not None:
            fillers[alias] = _random_filler(random_seed, alias, dtype)
            sources[alias] = Source(entry, None, random_seed, size)
            continue
        if not (entry.repo or entry.path or entry.uri):
            missing.append(
                f"{alias} ({plan.parts[alias].spec.key}): its entry names no weights; add 'weights: {{repo: ...}}'"
            )
            continue
        try:
            found = locate(entry, places or Places(hub=False), _resolver(catalog))
        except NotFoundError as error:
            facts = ", ".join(filter(None, [human_bytes(entry.size or size), entry.license]))
            missing.append(f"{alias}: {error} ({facts})")
            continue
        except WeightsError as error:
            raise WeightsError(f"{plan.name}: {alias}: {error}") from None
        located.append((alias, entry, found))
        sources[alias] = Source(entry, found, None, size)
    if missing:
        raise WeightsError(_missing_message(plan.name, missing))
    for alias, entry, found in located:
        what = f"{plan.name}: {alias}"
        try:
            verify_sha256(found.files, entry.sha256)
            checkpoint = open_checkpoint(found.files, entry.prefix)
        except WeightsError as error:
            raise WeightsError(f"{what}: {error}") from None
        check_fit(parts[alias], checkpoint, what, dtype=dtype, ignore=entry.ignore)
        if hasattr(parts[alias], "use_files"):
            parts[alias].use_files(found.folder)
        fillers[alias] = _file_filler(checkpoint, what, dtype, entry.ignore)
    return Provided(parts, fillers, sources)


def _missing_message(name: str, missing: list[str]) -> str:
    lines = "\n  - ".join(missing)
    return (
        f"pipeline {name!r} lacks the weights of {len(missing)} component(s):\n  - {lines}\n"
        f"  `--weights DIR` names a folder that holds them (`shapewright weights {name}` shows what is looked for); "
        "`--random-weights 0` tries the pipeline without them"
    )


def _resolver(catalog: Catalog) -> Any:
    def resolve(uri: str, cache: Any, offline: bool) -> Any:
        return catalog.hook.resolve_weights(uri=uri, cache=cache, offline=offline)

    return resolve


def _random_filler(seed: int, alias: str, dtype: torch.dtype | None) -> Filler:
    def fill(part: Any, device: torch.device) -> None:
        fill_at_random(part, seed, alias, device=device, dtype=dtype)

    return fill


def _file_filler(checkpoint: Any, what: str, dtype: torch.dtype | None, ignore: tuple[str, ...]) -> Filler:
    def fill(part: Any, device: torch.device) -> None:
        fill_from(part, checkpoint, what, device=device, dtype=dtype, ignore=ignore)

    return fill


def check_trained_with(plan: Plan, catalog: Catalog) -> None:
    """Compare ``trained_with`` of every weights entry with what the component is configured to use, defaults included.

    Raises:
        PlanError: a component was exchanged for one that the weights were not trained with.
    """
    problems = []
    for alias, part in plan.parts.items():
        trained = part.weights.get("trained_with") or {}
        if not trained:
            continue
        cls = catalog.load(part.spec.key)
        config = configure(cls, part.options, f"components.{alias}.with")
        known = {each.name for each in fields(config)}
        for name, key in trained.items():
            if name not in known:
                problems.append(f"components.{alias}.weights.trained_with: {part.spec.key} has no option {name!r}")
                continue
            value = getattr(config, name)
            used = value.get("use") if isinstance(value, Mapping) else value
            if used is not None and used != key:
                problems.append(
                    f"components.{alias}: the weights were trained with {key!r} as {name}, not {used!r}; "
                    f"use weights trained for it, or take {name} back to {key!r}"
                )
    if problems:
        raise PlanError(plan.name, problems)
