"""``shapewright parity``."""

from __future__ import annotations

from pathlib import Path

import click

from ..cli import EXIT_FAILED


@click.command("parity")
@click.argument("paths", nargs=-1, required=True, metavar="FILE|DIR...")
@click.option("--json", "json_file", metavar="FILE", help="Write the verdicts as a JSON list to FILE.")
@click.pass_context
def command(context: click.Context, paths: tuple[str, ...], json_file: str | None) -> None:
    """Run golden cases against the installed components that answer for them.

    One line a case: largest absolute and relative error, tolerance, verdict. Exit status 1 unless all pass.
    """
    from ..atomic import write_json
    from ..host import discover
    from ..parity import find_cases, handlers, run_case

    known = handlers(discover())
    files = find_cases(paths)
    results = []
    width = max(len(path.stem) for path in files)
    for path in files:
        result = run_case(path, known)
        results.append(result)
        errors = ""
        if result.max_abs is not None and result.max_rel is not None:
            errors = f"abs {result.max_abs:9.3g}  rel {result.max_rel:9.3g}  {result.limit}"
        reason = f"  {result.reason}" if result.reason and result.status == "fail" else ""
        who = f"{result.system}/{result.component}".strip("/")
        click.echo(f"{result.status.replace('-', ' '):10s} {result.case:{width}s}  {who}  {errors}{reason}".rstrip())
    counts = {status: sum(r.status == status for r in results) for status in ("pass", "fail", "no-handler")}
    click.echo(f"{counts['pass']} passed, {counts['fail']} failed, {counts['no-handler']} with no handler")
    if json_file:
        write_json(Path(json_file), [result.as_json() for result in results])
    if counts["pass"] != len(results):
        context.exit(EXIT_FAILED)
