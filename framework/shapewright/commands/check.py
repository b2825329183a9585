"""``shapewright check``."""

from __future__ import annotations

from difflib import get_close_matches
from inspect import signature

import click

from ..errors import ConfigError, PlanError
from ..host import Catalog, discover
from ..plan import Plan, check
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
        check_options(plan, catalog)
    click.echo(columns(rows))
    click.echo(f"{pipeline}: fits ({registry.origins[pipeline]})")


def check_options(plan: Plan, catalog: Catalog) -> None:
    """Every component's options against its config, and every stage's against what its verb takes.

    Raises:
        ConfigError: one of them is wrong; :class:`PlanError` with all of them where several are.
    """
    from ..run import configure

    problems = []
    for alias, part in plan.parts.items():
        where = f"components.{alias}.with"
        try:
            configure(catalog.load(part.spec.key), part.options, where)
        except ConfigError as error:
            problems.append(str(error) if str(error).startswith(where) else f"{where}: {error}")
    for index, stage in enumerate(plan.stages):
        ports = {*stage.inputs, "self", "rng"}
        taken = signature(getattr(catalog.load(plan.parts[stage.component].spec.key), stage.verb)).parameters
        accepted = [name for name in taken if name not in ports]
        for name in stage.options:
            if name not in accepted:
                close = get_close_matches(name, accepted, n=1)
                hint = f"did you mean {close[0]!r}?" if close else f"it takes {', '.join(accepted) or 'none'}"
                problems.append(f"stages[{index}] {stage.id}: there is no option {name!r}; {hint}")
    if len(problems) == 1:
        raise ConfigError(f"{plan.name}: {problems[0]}")
    if problems:
        raise PlanError(plan.name, problems)
