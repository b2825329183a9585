"""``shapewright report``."""

from __future__ import annotations

from pathlib import Path

import click

from .options import reported_warnings

PAGE = "report.html"
_SMALLEST = 2.0


@click.command("report")
@click.argument("source", metavar="DIR|MESH", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help=f"The HTML file; {PAGE} in DIR, or beside MESH, by default. An existing report is replaced.",
)
@click.option(
    "--megabytes",
    type=click.FloatRange(min=_SMALLEST),
    default=14.0,
    show_default=True,
    help="Keep the page below this size by showing coarser meshes.",
)
def command(source: Path, output: Path | None, megabytes: float) -> None:
    """Write the page of a bench: its table, plots and meshes in one HTML file that needs no network.

    DIR is the folder that `shapewright bench` wrote (its --out). The bench writes the page itself when it ends; this
    makes it again, of another size or elsewhere. With a mesh file instead: a page to turn it, with its materials.
    """
    if source.suffix and not source.is_dir():
        from ..mesh_io import READABLE

        if source.suffix.lower() in READABLE:
            _mesh(source, _checked(output or source.with_suffix(".html")))
            return
    from ..host import discover
    from ..report.page import write_report
    from ..report.plugin_sections import plugin_sections

    target = _checked(output or source / PAGE)
    report = write_report(source, target, megabytes, plugin_sections(discover(), source / "cards"))
    for problem in report.problems:
        click.echo(f"warning: {problem}; its view is left out", err=True)
    coarser = f", {report.simplified} of them coarser for display" if report.simplified else ""
    click.echo(f"{report.path}: {report.bytes / 1e6:.1f} MB, {report.meshes} meshes{coarser}")


def _checked(target: Path) -> Path:
    if target.is_dir():
        raise click.UsageError(f"--output {target}: is a folder, give a file")
    return target


def _mesh(source: Path, target: Path) -> None:
    from ..atomic import write_text
    from ..report.notebook import mesh_page
    from ..textured_meshes import load_textured_mesh

    if target.resolve() == source.resolve():
        raise click.UsageError(f"--output {target}: is the mesh itself, give another file")
    with reported_warnings():
        mesh = load_textured_mesh(source)
    page = mesh_page(mesh, source.name)
    write_text(target, page)
    click.echo(f"{target}: {len(page.encode()) / 1e6:.1f} MB, {len(mesh.faces):,} faces")
