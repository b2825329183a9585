"""``shapewright matrix``."""

from __future__ import annotations

import json

import click

from ..host import discover
from ..plan import pairings
from .list import CLAIMS, claimed
from .options import columns, json_flag


@click.command("matrix")
@json_flag
def command(as_json: bool) -> None:
    """Show what every representation and extractor claims, which pairs fit, and why the others do not."""
    catalog = discover()
    pairs = pairings(catalog)
    if as_json:
        capabilities = {
            spec.key: claimed(spec.capabilities)
            for kind in ("representation", "extractor")
            for spec in catalog.of_kind(kind)
        }
        fitting = [
            {
                "representation": p.representation.name,
                "extractor": p.extractor.name,
                "fits": not p.reason,
                "reason": p.reason,
            }
            for p in pairs
        ]
        click.echo(json.dumps({"capabilities": capabilities, "pairs": fitting}, indent=1))
        return
    shown = [claim for claim in CLAIMS if claim != "deterministic"]
    for kind in ("representation", "extractor"):
        rows = [[kind.upper(), *(claim.replace("_", "-") for claim in shown)]]
        for spec in catalog.of_kind(kind):
            rows.append([spec.name, *("yes" if getattr(spec.capabilities, claim) else "-" for claim in shown)])
        click.echo(columns(rows) + "\n")
    extractors = [spec.name for spec in catalog.of_kind("extractor")]
    fits = {(p.representation.name, p.extractor.name): not p.reason for p in pairs}
    rows = [["FITS", *extractors]]
    for spec in catalog.of_kind("representation"):
        rows.append([spec.name, *("yes" if fits[spec.name, name] else "-" for name in extractors)])
    click.echo(columns(rows))
    reasons = [pair.reason for pair in pairs if pair.reason]
    if reasons:
        click.echo("\nPairs that do not fit:\n" + "\n".join(f"  {reason}" for reason in reasons))
