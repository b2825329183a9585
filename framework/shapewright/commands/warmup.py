"""``shapewright warmup``."""

from __future__ import annotations

import json
from dataclasses import asdict
from textwrap import shorten

import click

from .options import columns, json_flag


@click.command("warmup")
@json_flag
def command(as_json: bool) -> int:
    """Run every component once on tiny shapes, so that what compiles does so now and is cached on disk."""
    from ..host import discover
    from ..warmup import warm_up

    catalog = discover()

    def announce(what: str) -> None:
        click.echo(f"{what} ...", err=True)

    rows = warm_up(catalog, announce)
    if as_json:
        click.echo(json.dumps([asdict(row) for row in rows], indent=1))
    else:
        table = [["COMPONENT", "FIRST", "AGAIN"]]
        table += [[row.component, f"{row.first:.2f} s", f"{row.again:.3f} s"] for row in rows if not row.reason]
        click.echo(columns(table))
        click.echo(
            f"total {sum(row.first for row in rows):.1f} s the first time, {sum(r.again for r in rows):.1f} s again"
        )
    failed = [row for row in rows if row.reason]
    for row in failed:
        click.echo(f"{row.component} did not run: {shorten(row.reason, 300, placeholder=' ...')}", err=True)
    return 1 if failed else 0
