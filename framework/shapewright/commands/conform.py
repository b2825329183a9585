"""``shapewright conform``."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem

from ..cli import EXIT_FAILED
from ..host import discover

if TYPE_CHECKING:
    from ..testing import Outcome


def _keys(context: click.Context, parameter: click.Parameter, typed: str) -> list[CompletionItem]:
    """Keys of installed components, for the shell."""
    return [CompletionItem(key, help=spec.summary) for key, spec in sorted(discover().specs.items()) if typed in key]


def _assignments(pairs: tuple[str, ...], what: str) -> dict[str, str]:
    found = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name or not value:
            raise click.UsageError(f"{pair!r} does not read {what}")
        found[name] = value
    return found


@click.command("conform")
@click.argument("keys", nargs=-1, metavar="KIND/NAME...", shell_complete=_keys)
@click.option("--all", "everything", is_flag=True, help="Check every component that is installed.")
@click.option("--json", "json_file", metavar="FILE", help="Write the verdicts as a JSON list to FILE ('-' prints it).")
@click.option("--api", metavar="VERSION", help="Version of the plugin contract to check against; default: this one's.")
@click.option(
    "--expect",
    "expected",
    multiple=True,
    metavar="CHECK=REASON",
    help="A check that is known to fail; it fails the run when it passes. For one component.",
)
@click.option(
    "--set", "overrides", multiple=True, metavar="OPTION=VALUE", help="Option of the component. For one component."
)
@click.pass_context
def command(
    context: click.Context,
    keys: tuple[str, ...],
    everything: bool,
    json_file: str | None,
    api: str | None,
    expected: tuple[str, ...],
    overrides: tuple[str, ...],
) -> None:
    """Check that components keep their contract and every capability they claim.

    One line a check, from basic to derived; the rest is not run after a basic one fails. Exit status 1 if any fails.
    """
    if everything == bool(keys):
        raise click.UsageError("name components such as representation/sdf, or use --all")
    catalog = discover()
    chosen = sorted(catalog.specs) if everything else list(dict.fromkeys(keys))
    if len(chosen) != 1 and (expected or overrides):
        raise click.UsageError("--expect and --set are for one component")
    for key in chosen:
        catalog.get(key)  # refuse before anything heavy is imported
    reasons = _assignments(expected, "CHECK=REASON")
    _assignments(overrides, "OPTION=VALUE")

    from ..atomic import write_json
    from ..registry import split_override
    from ..testing.runner import Suite

    options = {".".join(path): value for path, value in map(split_override, overrides)}
    outcomes: list[Outcome] = []
    quiet = json_file == "-"
    suites = [Suite.of(key, expected_failures=reasons, options=options, api=api, catalog=catalog) for key in chosen]
    for suite in suites:
        if not quiet:
            click.echo(suite.subject.spec.key)
        for name in suite.names:
            outcomes.append(suite.outcome(name))
            if not quiet:
                _print(outcomes[-1])
    rows = [asdict(outcome) | {"seconds": round(outcome.seconds, 3)} for outcome in outcomes]
    if quiet:
        import json

        click.echo(json.dumps(rows, indent=1))
    else:
        counts = Counter(outcome.status for outcome in outcomes)
        said = {"pass": "passed", "fail": "failed", "expected failure": "failed as expected"}
        click.echo(", ".join(f"{count} {said.get(status, status)}" for status, count in counts.items()))
        if json_file:
            write_json(Path(json_file), rows)
    if any(outcome.status == "fail" for outcome in outcomes):
        context.exit(EXIT_FAILED)


def _print(outcome: Outcome) -> None:
    reason = f"  {outcome.reason}" if outcome.reason else ""
    click.echo(f"  {outcome.status:16s}  {outcome.check:16s} {outcome.seconds:6.2f} s{reason}")
