"""What a run was: everything that could change its result, and what it cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from .bench.provenance import code_identity, machine
from .host import Catalog
from .plan import Plan
from .run_files import SampleInput
from .runner import Finished
from .weights.provide import Provided, Source

SCHEMA = 1


def run_card(
    plan: Plan,
    catalog: Catalog,
    entry: Mapping[str, Any],
    provided: Provided,
    finished: Finished,
    loads: Sequence[Mapping[str, Any]],
    outcomes: Sequence[Mapping[str, Any]],
    *,
    seed: int,
    device: str,
    dtype: str,
    residency: str,
    batch: int,
    inputs: Sequence[SampleInput],
) -> dict[str, Any]:
    """The card that ``shapewright run --json`` writes; docs/run.md explains its keys."""
    peaks = [
        record.device_bytes if record.device_bytes is not None else record.host_bytes for record in finished.stages
    ]
    return {
        "schema": SCHEMA,
        "pipeline": plan.name,
        "entry": entry,
        "seed": seed,
        "device": device,
        "dtype": dtype,
        "residency": residency,
        "batch": batch,
        "samples": [{key: value for key, value in each.items() if key != "refused"} for each in outcomes],
        "stages": [asdict(record) for record in finished.stages],
        "seconds": sum(record.seconds for record in finished.stages),
        "peak_memory_bytes": max(peaks, default=0),
        "weights": {alias: source_facts(source) for alias, source in provided.sources.items()},
        "residency_log": list(loads),
        "identity": code_identity(catalog, [part.spec.key for part in plan.parts.values()]),
        "machine": machine(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def source_facts(source: Source) -> dict[str, Any]:
    """Where weights came from, as plain values."""
    found = source.found
    return {
        "source": "random" if source.random_seed is not None else source.entry.source,
        "random_seed": source.random_seed,
        "revision": (found.revision if found else "") or source.entry.revision,
        "license": source.entry.license,
        "files": [str(path) for path in found.files] if found else [],
        "file_bytes": found.size if found else None,
        "memory_bytes": source.bytes,
    }
