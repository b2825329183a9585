"""Provenance of a run as HTML tables: what all cells share once, what differs by pipeline and by shape."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

from .run_folder import RunFolder


def provenance_tables(run: RunFolder) -> str:
    """Three tables: the run, its pipelines with their resolved options, its shapes with content and licence."""
    cells = [cell for cell in run.cells if cell["provenance"]]
    return _run_table(run, cells) + _pipelines(cells) + _shapes(cells)


def _table(caption: str, heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Cells are HTML; the first of each row is its heading."""
    head = "".join(f"<th scope=col>{text}</th>" for text in heads)
    body = "".join(
        f"<tr><th scope=row>{first}</th>{''.join(f'<td>{cell}</td>' for cell in rest)}</tr>" for first, *rest in rows
    )
    return (
        f'<div class=scroll tabindex=0 role=region aria-label="{caption}">'
        f"<table class=plain><caption>{caption}</caption>"
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _distinct(values: Iterable[Any]) -> list[Any]:
    """Each value once, in the order met; values may be nested."""
    return list({json.dumps(value, sort_keys=True): value for value in values}.values())


def _words(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_words(entry)}" for key, entry in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_words, value))
    return str(value)


def _run_table(run: RunFolder, cells: list[dict[str, Any]]) -> str:
    records = [cell["provenance"] for cell in cells]
    dates = sorted(filter(None, (record.get("date") for record in records)))
    asked = {key: value for key, value in run.request.items() if value not in (None, [], "", False)}
    rows = [["Shapewright", escape(run.version)], ["asked for", escape(_words(asked) or "the defaults")]]
    if dates:
        rows.append(["measured", escape(dates[0] if dates[0] == dates[-1] else f"{dates[0]} to {dates[-1]}")])
    for name in ("machine", "device", "dtype", "protocol"):
        found = _distinct(record[name] for record in records if name in record)
        rows.append([name, "<br>".join(escape(_words(value)) for value in found)])
    for name, title in (("libraries", "libraries"), ("plugins", "plugins"), ("code", "source hashes"), ("api", "API")):
        found = _distinct(record["identity"][name] for record in records if name in record.get("identity", {}))
        merged: dict[str, list[str]] = {}
        for value in found:
            for key, text in (value if isinstance(value, Mapping) else {"": value}).items():
                if str(text) not in merged.setdefault(key, []):
                    merged[key].append(str(text))
        texts = [f"{key} {' and '.join(entries)}".strip() for key, entries in merged.items()]
        rows.append([title, escape(", ".join(texts))])
    return _table("Run", ("what", "value"), rows)


def _pipelines(cells: list[dict[str, Any]]) -> str:
    rows = []
    for name in sorted({cell["pipeline"] for cell in cells}):
        found = _distinct(
            _without_resolution(cell["provenance"].get("config", {})) for cell in cells if cell["pipeline"] == name
        )
        texts = [
            "<br>".join(
                f"<code>{escape(part['use'])}</code> {escape(_words(part['with']) or 'no options')}"
                for part in config.values()
            )
            for config in found
        ]
        rows.append([escape(name), "<hr>".join(texts)])
    return _table("Pipelines and their resolved options", ("pipeline", "components"), rows)


def _without_resolution(config: Mapping[str, Any]) -> dict[str, Any]:
    """The resolution is the cell's own and stands beside it."""
    return {
        alias: {"use": part["use"], "with": {k: v for k, v in part["with"].items() if k != "resolution"}}
        for alias, part in config.items()
    }


def _shapes(cells: list[dict[str, Any]]) -> str:
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for cell in cells:
        found.setdefault((str(cell["dataset"]), str(cell["sample"])), cell)
    rows = []
    for (dataset, sample), cell in sorted(found.items()):
        record = cell["provenance"]
        rows.append(
            [
                escape(sample),
                escape(dataset),
                escape(", ".join(cell["tags"]) or "–"),
                escape(str(record.get("license") or "not stated")),
                f"<code>{escape(str(record.get('content', ''))[:16])}</code>",
                escape("; ".join(record.get("notes", ())) or "–"),
            ]
        )
    return _table("Shapes", ("shape", "dataset", "tags", "licence", "content", "repairs while loading"), rows)
