"""Tables from cells: means with confidence intervals over shapes, the best of each column, as text, Markdown and
CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

BOOTSTRAP = 10_000


@dataclass(frozen=True)
class Column:
    """One column of the table: a figure by protocol id (or ``seconds.total``, ``peak_memory_bytes``, ``faces``)."""

    title: str
    figure: str
    scale: float = 1.0
    better: str = ""
    """``"high"``, ``"low"`` or nothing where neither is better."""
    failure: float | None = None
    """What a failed cell counts as; ``None`` leaves it out of the mean."""
    detail: bool = False
    """Only in the files, not in the printed table."""
    reference: str = ""
    """A second figure that is subtracted (components of the result minus those of the reference)."""
    where_it_applies: bool = False
    """A failed cell counts only where its shape and its pipeline have this figure elsewhere in the run."""

    def value(self, cell: Mapping[str, Any]) -> float | None:
        """The cell's figure, ``None`` where it has none."""
        if cell["status"] == "failed":
            return self.failure
        found = _figure(cell, self.figure)
        if found is None or not self.reference:
            return found
        other = _figure(cell, self.reference)
        return None if other is None else found - other


def _figure(cell: Mapping[str, Any], name: str) -> float | None:
    for group in ("metrics", "health"):
        if name in cell[group]:
            value = cell[group][name]
            return None if value is None else float(value)
    head, _, rest = name.partition(".")
    value = cell.get(head)
    if isinstance(value, Mapping):
        value = value.get(rest)
    return None if value is None else float(value)


@dataclass(frozen=True)
class Entry:
    """Mean over shapes, its 95 % interval, and how many shapes it holds."""

    mean: float
    low: float
    high: float
    count: int


@dataclass(frozen=True)
class Row:
    """One combination at one resolution on one dataset."""

    pipeline: str
    dataset: str
    resolution: int | None
    ok: int
    total: int
    entries: tuple[Entry | None, ...]


@dataclass(frozen=True)
class Table:
    """What is printed at the end of a bench."""

    columns: tuple[Column, ...]
    rows: tuple[Row, ...]

    def best(self, column: int) -> set[int]:
        """Rows with the best mean of their dataset and resolution in one column, by what is shown of it."""
        better = self.columns[column].better
        if not better:
            return set()
        found: set[int] = set()
        for group in {(row.dataset, row.resolution) for row in self.rows}:
            means = {
                index: row.entries[column].mean  # type: ignore[union-attr]
                for index, row in enumerate(self.rows)
                if (row.dataset, row.resolution) == group and row.entries[column] is not None
            }
            if len(means) > 1:
                top = (max if better == "high" else min)(means.values())
                found |= {index for index, mean in means.items() if f"{mean:.4g}" == f"{top:.4g}"}
        return found


def bootstrap(values: Sequence[float]) -> Entry:
    """Mean with a 95 % percentile bootstrap over shapes (10,000 resamples, fixed seed)."""
    data = np.asarray(values, dtype=np.float64)
    if len(data) == 1:
        return Entry(float(data[0]), float(data[0]), float(data[0]), 1)
    rng = np.random.default_rng(0)
    means = data[rng.integers(0, len(data), size=(BOOTSTRAP, len(data)))].mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return Entry(float(data.mean()), float(low), float(high), len(data))


def summarise(cells: Iterable[Mapping[str, Any]], columns: Sequence[Mapping[str, Any]]) -> Table:
    """Group cells by dataset, resolution and pipeline; skipped pairs and shapes that could not be read are left out,
    failed cells count as failures."""
    chosen = tuple(Column(**column) for column in columns)
    tried = [cell for cell in cells if cell["status"] != "skipped"]
    never = unread_shapes(tried)
    groups: dict[tuple[str, int, str], list[Mapping[str, Any]]] = {}
    for cell in tried:
        if _shape(cell) not in never:
            key = (str(cell["dataset"]), cell["resolution"] or 0, str(cell["pipeline"]))
            groups.setdefault(key, []).append(cell)
    shapes, pipelines = _owners(groups.values())
    rows = []
    for (dataset, resolution, pipeline), members in sorted(groups.items()):
        entries = []
        for column in chosen:
            counted = members
            if column.where_it_applies:
                known, made = shapes.get(column.figure, set()), pipelines.get(column.figure, set())
                counted = [m for m in members if m["status"] == "ok" or (_shape(m) in known and pipeline in made)]
            values = [value for cell in counted if (value := column.value(cell)) is not None]
            entries.append(bootstrap([value * column.scale for value in values]) if values else None)
        ok = sum(cell["status"] == "ok" for cell in members)
        rows.append(Row(pipeline, dataset, resolution or None, ok, len(members), tuple(entries)))
    used = [i for i in range(len(chosen)) if any(row.entries[i] is not None for row in rows)]
    return Table(
        tuple(chosen[i] for i in used),
        tuple(Row(r.pipeline, r.dataset, r.resolution, r.ok, r.total, tuple(r.entries[i] for i in used)) for r in rows),
    )


def unread_shapes(cells: Iterable[Mapping[str, Any]]) -> dict[tuple[Any, Any], str]:
    """Dataset and sample of shapes that could not be read, so that no pipeline was tried on them, and the reason."""
    return {_shape(cell): cell["reason"] for cell in cells if cell["provenance"].get("unread")}


def _shape(cell: Mapping[str, Any]) -> tuple[Any, Any]:
    return cell["dataset"], cell["sample"]


def _owners(
    groups: Iterable[Sequence[Mapping[str, Any]]],
) -> tuple[dict[str, set[tuple[Any, Any]]], dict[str, set[str]]]:
    """By figure: shapes that have it (a result or their noise floor does), and pipelines whose results do."""
    shapes: dict[str, set[tuple[Any, Any]]] = {}
    pipelines: dict[str, set[str]] = {}
    for cell in (cell for group in groups for cell in group):
        for figure in {*cell["metrics"], *cell["noise_floor"]}:
            shapes.setdefault(figure, set()).add(_shape(cell))
        for figure in cell["metrics"]:
            pipelines.setdefault(figure, set()).add(str(cell["pipeline"]))
    return shapes, pipelines


def _number(value: float, digits: int = 4) -> str:
    if value != 0 and (abs(value) >= 10_000_000 or abs(value) < 0.0001):
        return f"{value:.1e}"
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.{digits}g}"


def shown(entry: Entry | None) -> str:
    """``mean [low, high]``; a dash where there is no value."""
    if entry is None:
        return "–"
    if entry.count == 1:
        return _number(entry.mean)
    return f"{_number(entry.mean)} [{_number(entry.low)}, {_number(entry.high)}]"


def compact(entry: Entry | None) -> str:
    """``mean ±half width`` for narrow tables."""
    if entry is None:
        return "–"
    if entry.count == 1:
        return _number(entry.mean)
    return f"{_number(entry.mean, 3)} ±{_number((entry.high - entry.low) / 2, 2)}"


def markdown(table: Table) -> str:
    """A Markdown table; the best of each column within a dataset and resolution is bold."""
    best = [table.best(i) for i in range(len(table.columns))]
    lines = ["| dataset | R | pipeline | ok | " + " | ".join(column.title for column in table.columns) + " |"]
    lines.append("|---|--:|---|--:|" + "--:|" * len(table.columns))
    for index, row in enumerate(table.rows):
        texts = [shown(e) if index not in best[i] else f"**{shown(e)}**" for i, e in enumerate(row.entries)]
        head = [row.dataset, str(row.resolution or "–"), row.pipeline, f"{row.ok}/{row.total}"]
        lines.append("| " + " | ".join(head + texts) + " |")
    return "\n".join(lines) + "\n"


def comma_separated(table: Table) -> str:
    """The same rows as CSV, with mean, interval and count in columns of their own."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    figures = [f"{column.figure}{'-' + column.reference if column.reference else ''}" for column in table.columns]
    head = [f"{figure} {part}" for figure in figures for part in ("mean", "low", "high", "count")]
    writer.writerow(["dataset", "resolution", "pipeline", "ok", "cells", *head])
    for row in table.rows:
        values: list[Any] = []
        for column, entry in zip(table.columns, row.entries, strict=True):
            if entry is None:
                values += ["", "", "", 0]
            else:
                values += [entry.mean / column.scale, entry.low / column.scale, entry.high / column.scale, entry.count]
        writer.writerow([row.dataset, row.resolution or "", row.pipeline, row.ok, row.total, *values])
    return stream.getvalue()
