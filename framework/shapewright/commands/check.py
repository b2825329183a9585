"""``shapewright check``."""

from __future__ import annotations

import click

from ..host import discover
from ..plan import check
from ..registry import load_registry
from .options import columns, registry_options


@click.command("check")
@click.argument("pipeline")
@registry_options
@click.option("--wiring-only", is_flag=True, help="Do not import components to check their options.")
def command(pipeline: str, registries: tuple[str, ...], overrides: tuple[str, ...], wiring_only: bool) -> None:
    """Check PIPELINE: its wiring from tags alone, then the options of its components."""
    catalog = discover()
    registry = load_registry(registries, catalog)
    plan = check(pipeline, registry.pipeline(pipeline, overrides), catalog)
    rows = [["STAGE", "COMPONENT", "IN", "OUT"]]
    for stage in plan.stages:
        inputs = ", ".join(f"{name}: {plan.tags[name]}" for name in stage.inputs.values())
        outputs = ", ".join(f"{name}: {plan.tags[name]}" for name in stage.outputs.values())
        rows.append([stage.id, plan.parts[stage.component].spec.key, inputs, outputs])
    if not wiring_only:
        from ..run import configure

        for alias, part in plan.parts.items():
            configure(catalog.load(part.spec.key), part.options, f"{pipeline}: components.{alias}.with")
    click.echo(columns(rows))
    click.echo(f"{pipeline}: fits ({registry.origins[pipeline]})")
