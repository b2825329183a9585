"""``shapewright report``."""

from __future__ import annotations

from pathlib import Path

import click

PAGE = "report.html"
_SMALLEST = 2.0


@click.command("report")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help=f"The HTML file; {PAGE} in DIR by default. An existing report is replaced.",
)
@click.option(
    "--megabytes",
    type=click.FloatRange(min=_SMALLEST),
    default=14.0,
    show_default=True,
    help="Keep the page below this size by showing coarser meshes.",
)
def command(folder: Path, output: Path | None, megabytes: float) -> None:
    """Write the page of a bench: its table, plots and meshes in one HTML file that needs no network.

    DIR is the folder that `shapewright bench` wrote (its --out). The bench writes the page itself when it ends; this
    makes it again, of another size or elsewhere.
    """
    from ..host import discover
    from ..report.page import write_report
    from ..report.plugin_sections import plugin_sections

    target = output or folder / PAGE
    if target.is_dir():
        raise click.UsageError(f"--output {target}: is a folder, give a file")
    report = write_report(folder, target, megabytes, plugin_sections(discover(), folder / "cards"))
    for problem in report.problems:
        click.echo(f"warning: {problem}; its view is left out", err=True)
    coarser = f", {report.simplified} of them coarser for display" if report.simplified else ""
    click.echo(f"{report.path}: {report.bytes / 1e6:.1f} MB, {report.meshes} meshes{coarser}")
