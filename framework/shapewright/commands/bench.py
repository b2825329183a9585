"""``shapewright bench``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ..cli import EXIT_FAILED, EXIT_INTERRUPTED
from .report import PAGE

if TYPE_CHECKING:
    from ..bench.matrix import Matrix, Skipped
    from ..bench.request import Request
    from ..bench.summary import Table
    from ..bench.sweep import Outcome


Command = TypeVar("Command", bound=Callable[..., Any])
Item = TypeVar("Item")


def _names(context: click.Context, option: click.Parameter, values: Sequence[str]) -> tuple[str, ...]:
    """Comma-separated names of a repeatable option, each once."""
    return tuple(dict.fromkeys(part.strip() for value in values for part in value.split(",") if part.strip()))


def _integers(context: click.Context, option: click.Parameter, values: Sequence[str]) -> tuple[int, ...]:
    """Comma-separated whole numbers of a repeatable option, each once."""
    try:
        return tuple(dict.fromkeys(int(part) for part in _names(context, option, values)))
    except ValueError:
        raise click.BadParameter(f"{','.join(values)!r} is not a list of whole numbers such as 64,128") from None


def _listed(name: str, field: str, text: str, callback: Callable[..., Any] = _names) -> Callable[[Command], Command]:
    metavar = "N,M,..." if callback is _integers else "A,B,..."
    return click.option(name, field, multiple=True, callback=callback, metavar=metavar, help=text)


@click.command("bench")
@_listed("--dataset", "datasets", "Datasets by name; the default is the stress suite.")
@click.option(
    "--data", "folders", multiple=True, metavar="DIR", help="A folder of meshes, instead of or beside --dataset."
)
@_listed("--representation", "representations", "Representations by name; all by default.")
@_listed("--extractor", "extractors", "Extractors by name; all by default.")
@_listed("--pipeline", "pipelines", "Pipelines of the registry, mesh to mesh.")
@_listed("--resolution", "resolutions", "Cells an axis, e.g. 64,128.", _integers)
@_listed("--samples", "samples", "Only these samples (ids or shell patterns).")
@_listed("--metric", "metrics", "Metrics by name; by default all that the registry does not leave out.")
@click.option(
    "--workers", type=int, default=1, show_default=True, help="Processes; each gets its share of the processors."
)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("bench-results"),
    show_default=True,
    help="Folder of results.",
)
@click.option("--json", "json_file", metavar="FILE", help="Write all cells as a JSON list to FILE.")
@click.option("--keep-meshes", is_flag=True, help="Keep every result mesh as .glb beside the cards.")
@click.option("--report/--no-report", default=True, help="Write report.html, and keep a small mesh a cell for it.")
@click.option("--retry-failed", is_flag=True, help="Measure cells again whose card says they failed.")
@click.option(
    "--cell-timeout", type=float, metavar="SECONDS", help="Stop a cell that takes longer; it counts as failed."
)
@click.option(
    "--registry", "registries", multiple=True, metavar="FILE", help="Registry file on top of the packaged one."
)
@click.option("--set", "overrides", multiple=True, metavar="COMPONENT.OPTION=VALUE", help="E.g. sdf.surface=shell.")
@click.pass_context
def command(context: click.Context, /, json_file: str | None, **options: Any) -> None:
    """Compare representations on meshes.

    Every representation with every extractor that fits it, on every shape, at every resolution: one cell each. Cells
    that a former run finished are taken from its cards, so the same command continues after an interruption. A cell
    that fails is recorded with its reason. Exit status 0 when all cells have a result, 1 when any failed, 130 when
    interrupted.
    """
    from ..atomic import write_json
    from ..bench.matrix import expand
    from ..bench.request import Request
    from ..bench.sweep import sweep
    from ..host import discover
    from ..registry import load_registry
    from ..report.page import write_report
    from ..report.plugin_sections import plugin_sections

    request = Request(**options)
    if request.out.exists() and not request.out.is_dir():
        raise click.UsageError(f"--out {request.out}: is a file, give a folder")
    catalog = discover()
    registry = load_registry(request.registries, catalog)
    matrix = expand(request, catalog, registry)
    for line in _skipped_lines(matrix.skipped, request.out):
        click.echo(line, err=True)
    with _Progress(len(matrix.cells)) as progress:
        outcome = sweep(request, matrix, progress.advance)
    defaults = registry.defaults.get("bench", {})
    _write_results(request, outcome, matrix, defaults)
    if request.report and any(cell["status"] != "skipped" for cell in outcome.cells):
        write_report(request.out, request.out / PAGE, sections=plugin_sections(catalog, request.out / "cards"))
    if json_file:
        write_json(json_file, outcome.cells)
    _report(request, outcome, defaults)
    if outcome.interrupted:
        kept = sum(cell["status"] != "skipped" for cell in outcome.cells)
        click.echo(f"interrupted: {kept} of {len(matrix.cells)} cells are kept; the same command continues", err=True)
        context.exit(EXIT_INTERRUPTED)
    if outcome.failed:
        context.exit(EXIT_FAILED)


class _Progress:
    """A bar with an estimate on a terminal; a line now and then elsewhere."""

    def __init__(self, total: int) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        self.total = total
        self.done = 0
        self.failed = 0
        self.started = monotonic()
        console = Console(stderr=True)
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
        )
        self.live = console.is_terminal
        self.task = self.bar.add_task("starting", total=total)

    def __enter__(self) -> _Progress:
        if self.live:
            self.bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self.live:
            self.bar.stop()

    def advance(self, cell: Mapping[str, Any]) -> None:
        """Count one finished cell."""
        self.done += 1
        self.failed += cell["status"] == "failed"
        failed = f", {self.failed} failed" if self.failed else ""
        if self.live:
            self.bar.update(self.task, advance=1, description=f"{cell['sample']}{failed}")
        elif self.done % max(1, self.total // 20) == 0 or self.done == self.total:
            left = (monotonic() - self.started) / self.done * (self.total - self.done)
            click.echo(f"{self.done}/{self.total} cells{failed}, about {left:.0f} s left", err=True)


def _write_results(request: Request, outcome: Outcome, matrix: Matrix, defaults: Mapping[str, Any]) -> None:
    """``table.md``, ``table.csv``, ``cells.json``, ``metrics.json`` and ``run.json`` beside the cards."""
    from .. import __version__
    from ..atomic import write_json, write_text
    from ..bench.summary import comma_separated, markdown, summarise, unread_shapes
    from ..host import discover
    from ..report.run_folder import write_run_file

    out = request.out
    table = summarise(outcome.cells, defaults.get("columns", ()))
    caption = str(defaults.get("caption", "")).strip()
    unread = unread_shapes(outcome.cells)
    failures = "".join(
        f"- {_name(cell)}: {cell['reason']}\n"
        for cell in outcome.failed
        if (cell["dataset"], cell["sample"]) not in unread
    )
    unreadable = "".join(f"- {sample}: {reason}\n" for (_, sample), reason in unread.items())
    skipped = [c for c in outcome.cells if c["status"] == "skipped"]
    pairs = "".join(f"- {cell['pipeline']}: {cell['reason']}\n" for cell in skipped)
    text = f"{markdown(table)}\n{caption}\n"
    text += f"\nShapes that could not be read, and count nowhere above:\n\n{unreadable}" if unreadable else ""
    text += f"\nFailed cells:\n\n{failures}" if failures else ""
    text += f"\nPairs that do not fit:\n\n{pairs}" if pairs else ""
    write_text(out / "table.md", text)
    write_text(out / "table.csv", comma_separated(table))
    write_json(out / "cells.json", outcome.cells)
    catalog = discover()
    protocols = {}
    for key in matrix.metrics:
        for protocol, definition in catalog.load(key).protocols.items():
            protocols[protocol] = {
                "metric": key,
                "definition": definition.definition,
                "unit": definition.unit,
                "group": definition.group,
                "higher_is_better": definition.higher_is_better,
            }
    write_json(out / "metrics.json", protocols)
    asked = {key: value for key, value in asdict(request).items() if key not in ("out", "report")}
    write_run_file(out, defaults, asked, __version__)


def _name(cell: Mapping[str, Any]) -> str:
    return f"{cell['pipeline']} on {cell['sample']} at {cell['resolution'] or 'its own resolution'}"


def _print_table(table: Table) -> None:
    """One table a dataset, on the width of the terminal, or on what it needs where there is none."""
    from rich.console import Console
    from rich.table import Table as RichTable
    from rich.text import Text

    from ..bench.summary import compact

    console = Console()
    if not console.is_terminal:
        console = Console(width=220)
    best = [table.best(index) for index in range(len(table.columns))]
    for dataset in dict.fromkeys(row.dataset for row in table.rows):
        title = f"{dataset}: mean over shapes ± half its 95 % interval; * best of its resolution"
        shown = RichTable(title=title, title_justify="left", pad_edge=False)
        for heading in ("R", "pipeline", "ok"):
            shown.add_column(heading, justify="left" if heading == "pipeline" else "right", no_wrap=True)
        for column in table.columns:
            arrow = {"high": " ↑", "low": " ↓"}.get(column.better, "")
            shown.add_column(column.title + arrow, justify="right", no_wrap=True)
        previous = None
        for index, row in enumerate(table.rows):
            if row.dataset != dataset:
                continue
            if previous not in (None, row.resolution):
                shown.add_section()
            previous = row.resolution
            texts = []
            for position, entry in enumerate(row.entries):
                leading = index in best[position]
                texts.append(Text(compact(entry) + (" *" if leading else "  "), style="bold" if leading else ""))
            shown.add_row(str(row.resolution or "–"), row.pipeline, f"{row.ok}/{row.total}", *texts)
        console.print(shown)


def _report(request: Request, outcome: Outcome, defaults: Mapping[str, Any]) -> None:
    from ..bench.summary import summarise, unread_shapes

    _print_table(summarise(outcome.cells, [c for c in defaults.get("columns", ()) if not c.get("detail")]))
    warned = sorted({f"{cell['sample']}: {text}" for cell in outcome.cells for text in cell["warnings"]})
    for line in warned[:5]:
        click.echo(f"note: {line}")
    if len(warned) > 5:
        click.echo(f"note: and {len(warned) - 5} more, in the cards")
    for line in _failed_lines(outcome.failed):
        click.echo(line)
    unread = unread_shapes(outcome.cells)
    if unread:
        click.echo(f"{len(unread)} shape{'s' * (len(unread) > 1)} could not be read; no mean holds what is not there")
    tried = [cell for cell in outcome.cells if cell["status"] != "skipped"]
    ok = len(tried) - len(outcome.failed)
    click.echo(f"{ok} of {len(tried)} cells ok, {outcome.reused} of them from earlier runs")
    out = request.out
    if request.report and tried:
        click.echo(f"report: {out / PAGE}")
    click.echo(
        f"result cards: {out / 'cards'}   tables: {out / 'table.md'}, {out / 'table.csv'}   "
        f"all cells: {out / 'cells.json'}"
    )


def _skipped_lines(skipped: Sequence[Skipped], out: Path) -> Iterator[str]:
    """A line a representation; most pairs never fit, so their reasons are told where there is only one."""
    for representation, pairs in _grouped(skipped, lambda skip: skip.representation).items():
        names = ", ".join(skip.extractor for skip in pairs)
        reason = f": {pairs[0].reason}" if len(pairs) == 1 else f" (reasons: {out / 'table.md'})"
        yield f"skipped: {representation} with {names}{reason}"


def _failed_lines(failed: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """A line a cell, but one for all cells of a shape that fail alike: a broken file fails everywhere."""
    for (sample, reason), cells in _grouped(failed, lambda cell: (cell["sample"], cell["reason"])).items():
        pipelines = ", ".join(dict.fromkeys(cell["pipeline"] for cell in cells))
        name = _name(cells[0]) if len(cells) == 1 else f"{sample}, {len(cells)} cells ({pipelines})"
        yield f"failed: {name}: {reason}"


def _grouped(items: Sequence[Item], key: Callable[[Item], Any]) -> dict[Any, list[Item]]:
    groups: dict[Any, list[Item]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return groups
