"""Run a pipeline on several samples, stage by stage, so that every network is brought to the device once.

What fails for one sample is kept apart from the others, and what was made before a failure stays. Every sample has
random streams of its own, so that batches, order and failures of others change no draw.
"""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from dataclasses import fields as dataclass_fields
from time import perf_counter
from typing import Any

import torch
from torch import Tensor

from .bench.memory import PeakMemory
from .errors import ResourceError, ShapewrightError, StateError
from .host import Catalog
from .plan import Plan, Stage
from .residency import Residency
from .run import call_stage, refuse_what_cannot_fit
from .spec import satisfies
from .states import FunctionField
from .streams import stage_stream
from .weights.empty import learned

BATCHED_KINDS = ("encoder", "generator")
"""Kinds whose verbs take several samples at once (design: learned verbs are batched, analytic ones are not)."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a sample has no result: the stage, one line, and the whole story for those who want it."""

    stage: str
    reason: str
    error: Exception
    trace: str = ""


@dataclass(frozen=True, slots=True)
class StageRecord:
    """Time and memory of one stage over all samples. ``device_bytes`` is the most that was allocated on the device
    while it ran (weights included), ``None`` on the CPU; ``host_bytes`` the growth of main memory at its peak."""

    id: str
    component: str
    seconds: float
    host_bytes: int
    device_bytes: int | None
    samples: int


@dataclass
class Sample:
    """One sample on its way: its named values, and its failure if it has one."""

    values: dict[str, Any]
    failure: Failure | None = None


@dataclass(frozen=True)
class Finished:
    """What a run made."""

    samples: Sequence[Sample]
    stages: Sequence[StageRecord]


@dataclass(frozen=True)
class Watch:
    """What a caller wants to be told while a run is on its way."""

    before: Callable[[int, Stage, int], None] = field(default=lambda index, stage, samples: None)
    after: Callable[[int, StageRecord], None] = field(default=lambda index, record: None)
    made: Callable[[int, Mapping[str, Any]], None] = field(default=lambda sample, values: None)
    """Told the outputs of every stage as soon as they exist (to keep them on disk)."""


def run_samples(
    plan: Plan,
    catalog: Catalog,
    samples: Sequence[Mapping[str, Any]],
    residency: Residency,
    *,
    seed: int = 0,
    names: Sequence[object] | None = None,
    batch: int = 1,
    watch: Watch | None = None,
) -> Finished:
    """Run ``plan`` on every sample.

    Args:
        samples: values for ``plan.inputs``, one mapping a sample. residency: holds the components; its device is
            where networks run. seed, names: with the stage's id they name the random streams; without ``names`` every
            sample has the same, so that a
            sample gets what it would get alone.
        batch: how many samples go into one call of a learned verb that takes several.
    Returns:
        The samples in order, each with its values or its failure, and a record of every stage.
    Raises:
        StateError: an input is missing.
        ResourceError: a component says beforehand that it cannot fit.
    """
    watch = watch or Watch()
    missing = sorted({name for name in plan.inputs for sample in samples if name not in sample})
    if missing:
        raise StateError(f"pipeline {plan.name!r} wants the input(s) {', '.join(missing)}")
    refuse_what_cannot_fit(residency.parts, plan.name)
    running = [Sample(dict(values)) for values in samples]
    identities: list[object] = list(names) if names is not None else [0] * len(running)
    lent: dict[str, set[str]] = {}
    records = []
    for index, stage in enumerate(plan.stages):
        alive = [number for number, sample in enumerate(running) if sample.failure is None]
        if not alive:
            break
        watch.before(index, stage, len(alive))
        borrowed = set().union(*(lent.get(value, set()) for value in stage.inputs.values()))
        with _Measured(residency.device) as measured:
            # Reading weights is not part of a stage's seconds, but is part of its peak memory.
            residency.ready({stage.component, *borrowed}, _used_later(plan, index))
            start = perf_counter()
            for group in _groups(stage, plan, residency, alive, batch):
                _run_group(plan, catalog, stage, residency, running, group, seed, identities, watch)
            if residency.device.type == "cuda":
                torch.cuda.synchronize(residency.device)
            seconds = perf_counter() - start
        for value in stage.outputs.values():
            if any(isinstance(running[number].values.get(value), FunctionField) for number in alive):
                lent[value] = {stage.component, *borrowed}  # a function computes with the network it came from
        key = plan.parts[stage.component].spec.key
        record = StageRecord(stage.id, key, seconds, measured.host_bytes, measured.device_bytes, len(alive))
        records.append(record)
        watch.after(index, record)
    residency.finish()
    return Finished(running, records)


def _used_later(plan: Plan, index: int) -> set[str]:
    """Components of coming stages, and those that made a function that a coming stage evaluates."""
    makers = {value: stage.component for stage in plan.stages for value in stage.outputs.values()}
    later = set()
    for stage in plan.stages[index + 1 :]:
        later.add(stage.component)
        later |= {
            makers[value]
            for value in stage.inputs.values()
            if value in makers and satisfies(plan.tags[value], FunctionField.tag)
        }
    return later


def _groups(stage: Stage, plan: Plan, residency: Residency, alive: list[int], batch: int) -> list[list[int]]:
    part = residency.parts[stage.component]
    rng = inspect.signature(getattr(part, stage.verb)).parameters.get("rng")
    # A verb that draws can serve several samples only if it takes a stream for each.
    streams = rng is None or "Sequence" in str(rng.annotation)
    together = batch if plan.parts[stage.component].spec.kind in BATCHED_KINDS and streams else 1
    return [alive[start : start + together] for start in range(0, len(alive), together)]


def _run_group(
    plan: Plan,
    catalog: Catalog,
    stage: Stage,
    residency: Residency,
    running: list[Sample],
    group: list[int],
    seed: int,
    identities: list[object],
    watch: Watch,
) -> None:
    """One call of a verb. A batch that fails is repeated one by one, so that one bad sample spoils no other."""
    try:
        results = _call(
            plan, catalog, stage, residency, [running[n] for n in group], seed, [identities[n] for n in group]
        )
    except Exception as error:  # whatever a component raises belongs to its sample
        if len(group) > 1:
            for number in group:
                _run_group(plan, catalog, stage, residency, running, [number], seed, identities, watch)
            return
        error = _explained(error)
        reason = str(error) if isinstance(error, ShapewrightError) else f"{type(error).__name__}: {error}"
        running[group[0]].failure = Failure(stage.id, reason, error, traceback.format_exc())
        return
    for number, made in zip(group, results, strict=True):
        running[number].values |= made
        watch.made(number, made)


def _call(
    plan: Plan,
    catalog: Catalog,
    stage: Stage,
    residency: Residency,
    samples: list[Sample],
    seed: int,
    identities: list[object],
) -> list[dict[str, Any]]:
    part = residency.parts[stage.component]
    given = {port: [sample.values[name] for sample in samples] for port, name in stage.inputs.items()}
    values = {port: items[0] if len(items) == 1 else stacked(items, port, stage.id) for port, items in given.items()}
    if learned(part):
        values = {port: moved(value, residency.device) for port, value in values.items()}
    streams = [stage_stream(seed, stage.id, identity) for identity in identities]
    made, _ = call_stage(plan, catalog, stage, part, values, streams[0] if len(streams) == 1 else streams)
    if len(samples) == 1:
        return [made]
    apart = {name: unbound(value, len(samples), name) for name, value in made.items()}
    return [{name: items[index] for name, items in apart.items()} for index in range(len(samples))]


def _explained(error: Exception) -> Exception:
    if isinstance(error, torch.OutOfMemoryError):
        first = str(error).split(". ")[0]
        return ResourceError(
            f"{first}; try --residency one-at-a-time, --dtype bfloat16, a smaller --batch or resolution"
        )
    return error


# --- values ----------------------------------------------------------------------------------------------------------
def stacked(items: Sequence[Any], port: str = "", stage: str = "") -> Any:
    """Several samples as one value. Values that are equal plain data stay as they are."""
    first = items[0]
    if hasattr(type(first), "stack"):
        return type(first).stack(list(items))
    if isinstance(first, tuple):
        return tuple(stacked(parts, port, stage) for parts in zip(*items, strict=True))
    if first is None or (isinstance(first, str | int | float) and all(item == first for item in items)):
        return first
    raise StateError(f"stage {stage}: {type(first).__name__} at {port!r} cannot be stacked; use a batch of 1")


def unbound(value: Any, count: int, name: str = "") -> list[Any]:
    """The samples of one value."""
    if hasattr(value, "unbind") and not isinstance(value, Tensor):
        parts = list(value.unbind())
    elif isinstance(value, tuple):
        parts = (
            [tuple(items) for items in zip(*(unbound(item, count, name) for item in value))] if value else [()] * count
        )
    elif value is None:
        parts = [None] * count
    else:
        raise StateError(f"{type(value).__name__} of {name!r} cannot be taken apart; use a batch of 1")
    if len(parts) != count:
        raise StateError(f"{name!r} holds {len(parts)} samples, not {count}")
    return parts


def moved(value: Any, device: torch.device) -> Any:
    """``value`` with all its tensors on ``device``; what is there already is not copied, functions stay as they are."""
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, FunctionField):
        return value
    if isinstance(value, tuple):
        parts = [moved(item, device) for item in value]
        if all(new is old for new, old in zip(parts, value, strict=True)):
            return value
        return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
    if isinstance(value, list):
        return [moved(item, device) for item in value]
    if isinstance(value, dict):
        return {key: moved(item, device) for key, item in value.items()}
    if hasattr(value, "__dataclass_fields__") and not isinstance(value, type):
        changed = {
            each.name: new
            for each in dataclass_fields(value)
            if each.init and (new := moved(old := getattr(value, each.name), device)) is not old
        }
        return replace(value, **changed) if changed else value
    return value


class _Measured:
    """Peak memory of a block: of the process, and of the device where it counts."""

    host_bytes: int = 0
    device_bytes: int | None = None

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._host = PeakMemory(collect=False)

    def __enter__(self) -> _Measured:
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
        self._host.__enter__()
        return self

    def __exit__(self, *about: Any) -> None:
        self._host.__exit__(*about)
        self.host_bytes = self._host.bytes
        if self._device.type == "cuda":
            self.device_bytes = torch.cuda.max_memory_allocated(self._device)
