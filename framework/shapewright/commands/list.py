"""``shapewright list``."""

from __future__ import annotations

import json
from difflib import get_close_matches

import click

from ..host import discover
from ..spec import KINDS, Capabilities, ComponentSpec
from .options import columns, json_flag

CLAIMS = (
    "open_surfaces",
    "interiors",
    "non_manifold",
    "oriented",
    "sharp_edges",
    "pbr",
    "differentiable",
    "deterministic",
)
GEOMETRIC = ("representation", "extractor")
PIPELINES = ("pipeline", "pipelines")


def claimed(capabilities: Capabilities) -> list[str]:
    """Names of what a component claims."""
    return [name for name in CLAIMS if getattr(capabilities, name)]


def _notable(spec: ComponentSpec) -> str:
    if spec.kind not in GEOMETRIC:
        return ""
    return " ".join(name.replace("_", "-") for name in claimed(spec.capabilities) if name != "deterministic")


@click.command("list")
@click.argument("kind", required=False)
@json_flag
def command(kind: str | None, as_json: bool) -> None:
    """List the components that are installed, of all kinds or of one KIND; `list pipelines` lists pipelines."""
    if kind in PIPELINES:
        click.echo(_pipelines(as_json))
        return
    if kind is not None and kind not in KINDS:
        singular = kind.removesuffix("s")
        close = [singular] if singular in KINDS else get_close_matches(kind, [*KINDS, "pipelines"], n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise click.UsageError(f"no kind is named {kind!r}; {hint}Kinds: {', '.join(KINDS)}; or pipelines")
    catalog = discover()
    specs = [spec for each in KINDS if kind in (None, each) for spec in catalog.of_kind(each)]
    if as_json:
        rows = [
            {
                "key": spec.key,
                "kind": spec.kind,
                "name": spec.name,
                "summary": spec.summary,
                "capabilities": claimed(spec.capabilities),
                "devices": sorted(spec.capabilities.devices),
                "verbs": {
                    name: {"inputs": dict(verb.inputs), "outputs": dict(verb.outputs)}
                    for name, verb in spec.verbs.items()
                },
                "api": spec.api,
                "plugin": catalog.owner(spec.key).name,
                "cite": spec.cite,
                "license": spec.license,
            }
            for spec in specs
        ]
        click.echo(json.dumps(rows, indent=1))
        return
    for each in (kind,) if kind else dict.fromkeys(spec.kind for spec in specs):
        members = [spec for spec in specs if spec.kind == each]
        click.echo(f"{each} ({len(members)})")
        table = [[spec.name, spec.summary] for spec in members]
        lines = columns(table, "  ").splitlines()
        for spec, line in zip(members, lines, strict=True):
            click.echo(line)
            if claims := _notable(spec):
                click.echo(f"      {claims}")
    failed = [plugin for plugin in catalog.plugins if plugin.state != "ok"]
    if failed:
        click.echo(f"{len(failed)} plugin(s) did not load; see `shapewright plugins --errors`", err=True)


def _pipelines(as_json: bool) -> str:
    """Pipelines of the registry and of plugins: name, what goes in, summary. ``a, b`` are inputs, not alternatives."""
    from ..registry import load_registry

    found = [
        (name, dict(entry.get("inputs") or {}), str(entry.get("summary") or ""))
        for name, entry in sorted(load_registry(catalog=discover()).pipelines.items())
    ]
    if as_json:
        rows = [{"name": name, "inputs": inputs, "summary": summary} for name, inputs, summary in found]
        return json.dumps(rows, indent=1)
    table = [[name, ", ".join(inputs.values()), summary] for name, inputs, summary in found]
    return f"{columns([['PIPELINE', 'FROM', 'SUMMARY'], *table])}\n`shapewright check NAME` shows the stages of one"
