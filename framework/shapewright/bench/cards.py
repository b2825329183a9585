"""Result cards: one JSON file per finished cell, named by a key of everything that decides its numbers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..atomic import write_json

SCHEMA = 1


def cache_key(parts: Mapping[str, Any]) -> str:
    """Hash of a canonical form of ``parts``: resolved config, code, data, device, dtype, seed and protocol ids."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), allow_nan=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


class CardStore:
    """Cards below one folder. Writing is atomic, so a kill leaves whole cards or none; reading skips torn files."""

    def __init__(self, out: Path) -> None:
        self.folder = out / "cards"

    def path(self, key: str) -> Path:
        """Where the card of ``key`` lies."""
        return self.folder / f"{key}.json"

    def read(self, key: str) -> dict[str, Any] | None:
        """The card, or ``None`` where there is none that this version can use."""
        try:
            card = json.loads(self.path(key).read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return None
        return card if isinstance(card, dict) and card.get("schema") == SCHEMA and card.get("key") == key else None

    def write(self, card: Mapping[str, Any]) -> None:
        """Keep one card."""
        write_json(self.path(card["key"]), card)


def skipped_cell(representation: str, extractor: str, reason: str, seed: int) -> dict[str, Any]:
    """The row of a pair that does not fit: no sample, no resolution, the reason."""
    return {
        **blank_cell(f"{representation}+{extractor}", representation, extractor, None, None, None, seed),
        "status": "skipped",
        "reason": reason,
    }


def blank_cell(
    pipeline: str,
    representation: str,
    extractor: str,
    dataset: str | None,
    sample: str | None,
    resolution: int | None,
    seed: int,
) -> dict[str, Any]:
    """A cell with its identity and nothing measured."""
    return {
        "schema": SCHEMA,
        "key": "",
        "pipeline": pipeline,
        "representation": representation,
        "extractor": extractor,
        "dataset": dataset,
        "sample": sample,
        "tags": [],
        "resolution": resolution,
        "seed": seed,
        "status": "failed",
        "reason": "",
        "warnings": [],
        "metrics": {},
        "noise_floor": {},
        "health": {},
        "seconds": {},
        "peak_memory_bytes": None,
        "faces": None,
        "vertices": None,
        "mesh": None,
        "view": None,
        "reference_view": None,
        "provenance": {},
    }
