"""Measure cells in a child process: a crash costs one cell, and what was measured is already on disk."""

from __future__ import annotations

import math
import os
import re
import signal
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

from ..errors import MeshWarning, ShapewrightError
from ..host import Catalog, discover
from ..interfaces import MeshPair, Metric, MetricDefinition, Sample
from ..mesh_io import save_mesh
from ..normalise import normalise
from ..plan import Plan, check
from ..report.display_mesh import Floats
from ..report.views import ViewStore, display_mesh
from ..run import build, build_parts, execute, resolved_options
from ..states import Frame, Mesh
from ..warmup import tiny_shapes
from .appearance import appearance_hash, textured
from .cards import CardStore, blank_cell, cache_key
from .matrix import Cell, Source
from .memory import PeakMemory
from .provenance import code_identity, machine

WARM_RESOLUTION = 16


@dataclass(frozen=True)
class Job:
    """All cells of one shape."""

    source: Source
    sample: str
    cells: tuple[tuple[int, Cell], ...]


@dataclass
class _Reference:
    """One shape, loaded and normalised, with everything that all its cells share."""

    sample: Sample
    mesh: Mesh
    look: str
    """Hash of its appearance; empty where it has none."""
    memo: dict[str, Any] = field(default_factory=dict)
    floors: dict[str, dict[str, float]] = field(default_factory=dict)
    view: str | None = None


def reason_of(error: BaseException) -> str:
    """One line that says what went wrong; the class is named where the message alone would not."""
    message = " ".join(str(error).split())
    if isinstance(error, ShapewrightError):
        return message
    return f"{type(error).__name__}: {message}" if message else type(error).__name__


def definition(metric: Metric[Any], protocol: str) -> MetricDefinition:
    """The definition behind a figure. ``"chamfer-l1/v1@20k"`` is ``"chamfer-l1/v1"`` with another sample count."""
    base = re.match(r".+?/v\d+", protocol)
    found = metric.protocols.get(protocol) or metric.protocols.get(base.group() if base else "")
    if found is None:
        raise ShapewrightError(f"{type(metric).__name__} returned {protocol!r}, which its `protocols` do not define")
    return found


def _octahedron() -> Mesh:
    corners = torch.tensor([[1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]], dtype=torch.float64)
    faces = [[0, 2, 4], [2, 1, 4], [1, 3, 4], [3, 0, 4], [2, 0, 5], [1, 2, 5], [3, 1, 5], [0, 3, 5]]
    return Mesh(corners / 2, torch.tensor(faces), Frame())


class Bench:
    """Everything a worker keeps between cells."""

    def __init__(
        self,
        out: Path,
        metric_options: Mapping[str, Mapping[str, Any]],
        keep_meshes: bool,
        keep_views: bool,
        retry: bool,
    ) -> None:
        self.catalog: Catalog = discover()
        self.store = CardStore(out)
        self.out = out
        self.keep_meshes = keep_meshes
        self.keep_views = keep_views
        self.views = ViewStore(out)
        self.retry = retry
        self.metric_options = {
            key: resolved_options(self.catalog, key, options) for key, options in metric_options.items()
        }
        self.metrics: dict[str, Metric[Any]] = {
            key: build(self.catalog, key, options) for key, options in metric_options.items()
        }
        self.machine = machine() | {"threads": torch.get_num_threads()}
        self.warm: dict[tuple[str, bool], str] = {}

    # --- one shape ----------------------------------------------------------------------------------------------------
    def load(self, job: Job) -> _Reference:
        """Load and normalise the reference; repairs are kept as notes of the sample."""
        dataset = build(self.catalog, job.source.key, job.source.options)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", MeshWarning)  # the sample's notes carry what was repaired
            sample: Sample = dataset.load(job.sample)
        mesh, _ = normalise(sample.mesh)
        return _Reference(sample, mesh, appearance_hash(mesh))

    # --- one cell -----------------------------------------------------------------------------------------------------
    def prepare(self, cell: Cell) -> tuple[Plan, dict[str, dict[str, Any]], int | None]:
        """The plan at the cell's resolution, the resolved options of its parts, and the resolution in force."""
        entry = {**cell.combination.entry, "components": {}}
        swept = []
        for alias, body in cell.combination.entry["components"].items():
            chosen = dict(body.get("with") or {})
            if body["use"].startswith("representation/") and "resolution" in resolved_options(
                self.catalog, body["use"], {}
            ):
                swept.append(alias)
                if cell.resolution is not None:
                    chosen["resolution"] = cell.resolution
            entry["components"][alias] = {**body, "with": chosen}
        plan = check(cell.combination.name, entry, self.catalog)
        options = {
            alias: resolved_options(self.catalog, part.spec.key, part.options) for alias, part in plan.parts.items()
        }
        resolution = options[swept[0]]["resolution"] if swept else cell.resolution
        return plan, options, resolution

    def key(self, cell: Cell, plan: Plan, options: Mapping[str, Any], reference: _Reference) -> str:
        """Everything that decides the numbers; nothing that does not."""
        components = [part.spec.key for part in plan.parts.values()]
        return cache_key(
            {
                "stages": [[s.id, s.component, s.verb, s.inputs, s.outputs, s.options] for s in plan.stages],
                "components": {alias: [part.spec.key, options[alias]] for alias, part in plan.parts.items()},
                "metrics": self.metric_options,
                "identity": code_identity(self.catalog, [*components, *self.metric_options, cell.source.key]),
                "data": reference.sample.content,
                "appearance": reference.look,
                "sample": [cell.source.name, cell.sample],
                "seed": cell.seed,
                "device": "cpu",
                "dtype": str(reference.mesh.vertices.dtype),
                "machine": self.machine,
                "keep_meshes": self.keep_meshes,
            }
        )

    def measure(self, cell: Cell, reference: _Reference) -> tuple[dict[str, Any], bool]:
        """Run one cell, or take its card (then the second value is true); a failure is a card too."""
        card = blank(cell)
        card["tags"] = sorted(reference.sample.tags)
        try:
            plan, options, card["resolution"] = self.prepare(cell)
        except ShapewrightError as error:
            return card | {"reason": reason_of(error)}, False
        card["key"] = key = self.key(cell, plan, options, reference)
        kept = self.store.read(key)
        if kept is not None and not (kept["status"] == "failed" and self.retry) and self._meshes_are_there(kept):
            return kept, True
        card["provenance"] = {
            "config": {alias: {"use": part.spec.key, "with": options[alias]} for alias, part in plan.parts.items()},
            "metrics": self.metric_options,
            "protocol": {"gt": "original", "frame": "box1", "post_processing": "none"},
            "dataset": cell.source.key,
            "content": reference.sample.content,
            "appearance": reference.look,
            "license": reference.sample.license,
            "notes": list(reference.sample.notes),
            "device": "cpu",
            "dtype": str(reference.mesh.vertices.dtype).removeprefix("torch."),
            "machine": self.machine,
            "identity": code_identity(self.catalog, [part.spec.key for part in plan.parts.values()]),
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                self._fill(card, cell, plan, reference)
                card["status"] = "ok"
            except Exception as error:  # a failing cell is a recorded result and the sweep goes on
                card["reason"] = reason_of(error)
                with suppress(Exception):  # tells which figures the shape has, whatever its results do
                    card["noise_floor"] = self._floors(cell, reference)
        card["warnings"] = sorted({f"{w.category.__name__}: {' '.join(str(w.message).split())}" for w in caught})
        self.store.write(card)
        return card, False

    def _meshes_are_there(self, card: Mapping[str, Any]) -> bool:
        if card["mesh"] is not None and not (self.out / card["mesh"]).is_file():
            return False
        if not self.keep_views or card["status"] != "ok":
            return True
        return self.views.holds(card["view"]) and self.views.holds(card["reference_view"])

    def _fill(self, card: dict[str, Any], cell: Cell, plan: Plan, reference: _Reference) -> None:
        parts = build_parts(plan, self.catalog)
        self._warm_up(cell, plan, painted=bool(reference.look))
        with PeakMemory() as peak:
            start = perf_counter()
            run = execute(
                plan, self.catalog, self._inputs(plan, reference.mesh), parts=parts, seed=cell.seed, sample=cell.sample
            )
            total = perf_counter() - start
        mesh: Mesh = run.output
        card["seconds"] = {plan_stage.verb.replace("_", "-"): 0.0 for plan_stage in plan.stages}
        for stage in plan.stages:
            card["seconds"][stage.verb.replace("_", "-")] += run.seconds[stage.id]
        card["seconds"]["total"] = total
        card["peak_memory_bytes"] = peak.bytes
        card["vertices"], card["faces"] = len(mesh.vertices), len(mesh.faces)
        if len(mesh.faces) == 0:
            raise ShapewrightError("the result is empty: no face was extracted; try a higher resolution")
        if not bool(torch.isfinite(mesh.vertices).all()):
            raise ShapewrightError("the result has vertices that are not finite")
        if self.keep_meshes:
            place = Path("meshes") / f"{card['key']}.glb"
            save_mesh(mesh, self.out / place, overwrite=True)
            card["mesh"] = place.as_posix()
        start = perf_counter()
        # First, so that what all cells of a shape share (trees, samples) is not in the time of the first one.
        card["noise_floor"] = self._floors(cell, reference)
        card["seconds"]["noise-floor"] = perf_counter() - start
        start = perf_counter()
        pair = MeshPair(mesh, reference.mesh, cell.sample, cell.seed, reference_memo=reference.memo)
        for metric in self.metrics.values():
            for protocol, value in metric.measure(pair).items():
                card[definition(metric, protocol).group][protocol] = value if math.isfinite(value) else None
        card["seconds"]["metrics"] = perf_counter() - start
        if self.keep_views:
            card["view"] = self.views.write(display_mesh(mesh, lambda points: self._deviations(pair, points)))
            if reference.view is None:
                reference.view = self.views.write(display_mesh(reference.mesh))
            card["reference_view"] = reference.view

    def _deviations(self, pair: MeshPair, points: Floats) -> Floats | None:
        """Distances to the reference by the first metric that measures such; without one there is no error map."""
        for metric in self.metrics.values():
            found = metric.deviations(pair, torch.from_numpy(points))
            if found is not None:
                return found.numpy(force=True)
        return None

    @staticmethod
    def _inputs(plan: Plan, mesh: Mesh) -> dict[str, Mesh]:
        return dict.fromkeys(plan.inputs, mesh)

    def _floors(self, cell: Cell, reference: _Reference) -> dict[str, float]:
        """What the metrics say about a perfect result: the reference against itself, sampled independently."""
        for name, metric in self.metrics.items():
            if name not in reference.floors:
                pair = MeshPair(reference.mesh, reference.mesh, cell.sample, cell.seed, reference_memo=reference.memo)
                reference.floors[name] = {
                    protocol: value
                    for protocol, value in metric.measure(pair).items()
                    if definition(metric, protocol).group == "metrics" and math.isfinite(value)
                }
        return {protocol: value for name in self.metrics for protocol, value in reference.floors[name].items()}

    def _warm_up(self, cell: Cell, plan: Plan, *, painted: bool) -> None:
        """Run the combination once on a tiny closed shape and once on an open one, which takes other kernels, with
        materials or without, so that compiling is not timed. Failures and warnings are the cell's to report."""
        name = cell.combination.name
        if (name, painted) in self.warm:
            return
        entry = {**cell.combination.entry, "components": {}}
        for alias, body in cell.combination.entry["components"].items():
            tiny = {"resolution": WARM_RESOLUTION} if "resolution" in plan.parts[alias].options else {}
            entry["components"][alias] = {**body, "with": {**(body.get("with") or {}), **tiny}}
        try:
            tiny_plan = check(name, entry, self.catalog)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                for mesh in (_octahedron(), tiny_shapes()["open"]):
                    shown = textured(mesh) if painted else mesh
                    execute(tiny_plan, self.catalog, self._inputs(tiny_plan, shown))
            self.warm[name, painted] = "ok"
        except Exception as error:  # kept: the first timed cell of this combination then includes compiling
            self.warm[name, painted] = reason_of(error)


def blank(cell: Cell) -> dict[str, Any]:
    """The row of a cell before it is measured."""
    combination = cell.combination
    return blank_cell(
        combination.name,
        combination.representation,
        combination.extractor,
        cell.source.name,
        cell.sample,
        cell.resolution,
        cell.seed,
    )


def serve(connection: Connection, *arguments: Any) -> None:
    """Body of a worker process; ends quietly when the parent is gone, since what was measured is on disk."""
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        _serve(connection, *arguments)


def _serve(
    connection: Connection,
    out: Path,
    metric_options: Mapping[str, Mapping[str, Any]],
    keep_meshes: bool,
    keep_views: bool,
    retry: bool,
    processors: Sequence[int] | None,
) -> None:
    """Take jobs until ``None`` comes; answer ``("start", index)`` and
    ``("cell", index, card, reused)``."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what Ctrl-C means
    if processors and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, processors)
        torch.set_num_threads(len(processors))
    bench = Bench(out, metric_options, keep_meshes, keep_views, retry)
    connection.send(("ready",))
    while True:
        job: Job | None = connection.recv()
        if job is None:
            return
        reference: _Reference | None = None
        problem = ""
        for index, cell in job.cells:
            connection.send(("start", index))
            if reference is None and not problem:
                try:
                    reference = bench.load(job)
                except Exception as error:  # a shape that cannot be loaded fails its cells, not the sweep
                    problem = reason_of(error)
            if reference is None:
                unread = {"reason": problem, "provenance": {"unread": True}}
                connection.send(("cell", index, blank(cell) | unread, False))
                continue
            connection.send(("cell", index, *bench.measure(cell, reference)))
        connection.send(("done",))
