"""``shapewright plugins``."""

from __future__ import annotations

import json
from dataclasses import asdict

import click

from ..host import discover
from .options import columns, json_flag


@click.command("plugins")
@click.option("--errors", is_flag=True, help="Only those that did not load; exit status 1 if there are any.")
@json_flag
@click.pass_context
def command(context: click.Context, errors: bool, as_json: bool) -> None:
    """List the installed plugins: name, distribution, state, and the reason where one did not load."""
    plugins = [plugin for plugin in discover().plugins if not errors or plugin.state != "ok"]
    if as_json:
        click.echo(json.dumps([asdict(plugin) for plugin in plugins], indent=1))
    elif plugins:
        rows = [["PLUGIN", "FROM", "STATE", "COMPONENTS, OR THE REASON"]]
        for plugin in plugins:
            origin = f"{plugin.distribution} {plugin.version}".strip() or "-"
            detail = plugin.reason if plugin.state != "ok" else ", ".join(plugin.components) or "none"
            rows.append([plugin.name, origin, plugin.state, detail])
        click.echo(columns(rows))
    elif errors:
        click.echo("every plugin loaded")
    if errors and plugins:
        context.exit(1)
