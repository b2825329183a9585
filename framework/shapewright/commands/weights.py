"""``shapewright weights``."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import click

from .options import columns, json_flag, places_options, registry_options, reported_warnings

NOT_ASKED = "without --download it is not fetched"


@dataclass(frozen=True)
class Need:
    """One weights entry of a pipeline and what became of looking for it."""

    component: str
    key: str
    source: str
    revision: str
    license: str
    bytes: int | None
    state: str
    """``found``, ``missing`` or ``wrong``."""
    where: str
    files: tuple[str, ...] = ()


@click.command("weights")
@click.argument("pipeline")
@places_options
@click.option("--download", is_flag=True, help="Fetch from the hub what is not here.")
@click.option("--verify", is_flag=True, help="Compare keys, shapes and checksums with the components too.")
@json_flag
@registry_options
@click.pass_context
def command(
    context: click.Context,
    pipeline: str,
    weights: tuple[str, ...],
    offline: bool,
    download: bool,
    verify: bool,
    as_json: bool,
    registries: tuple[str, ...],
    overrides: tuple[str, ...],
) -> None:
    """Show which weights PIPELINE needs; exit status 1 where some are missing or wrong."""
    from ..cli import EXIT_FAILED
    from ..errors import ConfigError, WeightsError
    from ..host import discover
    from ..plan import check
    from ..registry import load_registry
    from ..weights.entry import read_entry
    from ..weights.locate import NotFoundError, Places, locate, weights_folders

    if download and offline:
        raise ConfigError("--download and --offline exclude each other")
    catalog = discover()
    registry = load_registry(registries, catalog)
    plan = check(pipeline, registry.pipeline(pipeline, overrides), catalog)
    folders = weights_folders(weights, registry.defaults.get("weights", {}).get("folders", ()))
    places = Places(folders, offline=True) if offline else Places(folders, offline=not download, refusal=NOT_ASKED)
    needs = []

    def resolve(uri: str, cache: Any, offline: bool) -> Any:
        return catalog.hook.resolve_weights(uri=uri, cache=cache, offline=offline)

    for alias, part in plan.parts.items():
        entry = read_entry(part.weights)
        if not (entry.repo or entry.path or entry.uri):
            continue
        facts: dict[str, Any] = {
            "component": alias, "key": part.spec.key, "source": entry.source, "revision": entry.revision,
            "license": entry.license,
        }  # fmt: skip
        try:
            with reported_warnings():
                found = locate(entry, places, resolve)
            facts["revision"] = found.revision or entry.revision
            paths = tuple(str(path) for path in found.files)
            needs.append(Need(**facts, bytes=found.size, state="found", where=found.origin, files=paths))
        except NotFoundError as error:
            needs.append(Need(**facts, bytes=entry.size or None, state="missing", where=str(error)))
        except WeightsError as error:
            needs.append(Need(**facts, bytes=entry.size or None, state="wrong", where=str(error)))
    if as_json:
        click.echo(json.dumps([need.__dict__ for need in needs], indent=1))
    else:
        click.echo(_table(pipeline, needs, [str(folder) for folder in folders]))
    if verify and all(need.state == "found" for need in needs):
        from ..weights.provide import provide

        provide(plan, catalog, places=places)
        click.echo("keys, shapes and checksums fit", err=True)
    if any(need.state != "found" for need in needs):
        context.exit(EXIT_FAILED)


def _table(pipeline: str, needs: list[Need], folders: list[str]) -> str:
    from ..weights.sizes import human_bytes

    if not needs:
        return f"{pipeline} needs no weights"
    rows = [["COMPONENT", "WEIGHTS", "SIZE", "LICENCE", "FOUND"]]
    for need in needs:
        size = human_bytes(need.bytes) if need.bytes else "unknown"
        where = need.where if need.state == "found" else f"{need.state}: {need.where}"
        rows.append([need.component, need.source, size, need.license or "not stated", where])
    total = human_bytes(sum(need.bytes or 0 for need in needs))
    searched = ", ".join(folders) or "none (--weights DIR, or the variable SHAPEWRIGHT_WEIGHTS)"
    return f"{columns(rows)}\ntotal {total}; folders searched: {searched}"
