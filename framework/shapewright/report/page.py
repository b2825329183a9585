"""Write the report: one HTML file with its style, script, figures and meshes inside."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from ..atomic import write_text
from .page_data import meshes_within, page_data
from .provenance_tables import provenance_tables
from .run_folder import RunFolder, read_run

MEGABYTES = 14.0
"""Default size that a page is kept below by showing coarser meshes."""


@dataclass(frozen=True)
class Report:
    """What :func:`write_report` made."""

    path: Path
    bytes: int
    meshes: int
    simplified: int
    problems: tuple[str, ...]


def write_report(
    folder: Path, target: Path, megabytes: float = MEGABYTES, sections: Sequence[tuple[str, str]] = ()
) -> Report:
    """Make the page of a bench's folder.

    Args:
        folder: the ``--out`` of a bench.
        target: the HTML file; replaced whole or not at all.
        megabytes: the page stays below this as far as coarser meshes can help.
        sections: titles and plain texts of plugins; an empty line begins a new paragraph.
    Raises:
        ReportError: ``folder`` is not a bench's or is half-written.
    """
    run = read_run(folder)
    room = int(megabytes * 1e6)
    frame = _page(run, page_data(run, {}), [], sections)
    # What is not a mesh, with some air for the numbers of meshes in cells; three bytes become four characters.
    meshes, problems = meshes_within(run, max(1, int((room - len(frame.encode()) - 40 * len(run.cells)) * 3 / 4)))
    text = _page(run, page_data(run, meshes), [mesh.blob for mesh in meshes.values()], sections, problems)
    write_text(target, text)
    small = sum(mesh.faces < mesh.full_faces for mesh in meshes.values())
    return Report(target, len(text.encode()), len(meshes), small, tuple(problems))


def asset(name: str) -> str:
    """Text of a file in ``assets``."""
    return (files(__package__) / "assets" / name).read_text(encoding="utf-8")


def script_json(value: Any) -> str:
    """JSON that cannot end the script element that holds it."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def script_meshes(blobs: Iterable[bytes]) -> str:
    """Display meshes as elements that a browser neither runs nor parses."""
    return "\n".join(
        f'<script type="application/octet-stream" id="view-{index}">{base64.b64encode(blob).decode()}</script>'
        for index, blob in enumerate(blobs)
    )


def _page(
    run: RunFolder, data: Mapping[str, Any], blobs: list[bytes], sections: Sequence[tuple[str, str]],
    problems: Iterable[str] = (),
) -> str:  # fmt: skip
    tried = [cell for cell in run.cells if cell["status"] != "skipped"]
    failed = [cell for cell in tried if cell["status"] == "failed"]
    dates = sorted(filter(None, (cell["provenance"].get("date") for cell in tried)))
    return Template(asset("report.html")).substitute(
        style=asset("report.css"),
        script=asset("report.js"),
        licences=escape(asset("LICENSES.txt")).replace("--", "&#45;&#45;"),
        datasets=escape(", ".join(sorted({str(cell["dataset"]) for cell in tried}))),
        counts=_counts(len(tried), len(failed), data),
        date=escape(dates[-1].replace("T", " ").replace("+00:00", " UTC") if dates else ""),
        version=escape(run.version),
        caption=_code(run.caption),
        edges="checked" if data["edges"] else "",
        table=_table(data),
        failures=_failures(failed),
        skipped=_skipped(run.cells),
        sections="".join(_section(title, text) for title, text in sections),
        definitions=_definitions(run.definitions),
        provenance=provenance_tables(run),
        problems="".join(f"<p class=problem role=status>{escape(line)}</p>" for line in problems),
        data=script_json(data),
        meshes=script_meshes(blobs),
    )


def _counts(tried: int, failed: int, data: Mapping[str, Any]) -> str:
    parts = [(str(tried), "cells"), (str(tried - failed), "ok"), (str(failed), "failed")]
    shapes, pipelines = len(data["samples"]), len(data["pipelines"])
    parts += [(str(shapes), "shape" if shapes == 1 else "shapes")]
    parts += [(str(pipelines), "pipeline" if pipelines == 1 else "pipelines")]
    return "".join(f"<div><dt>{label}</dt><dd>{number}</dd></div>" for number, label in parts)


def _code(text: str) -> str:
    pieces = escape(text).split("`")
    return "".join(f"<code>{piece}</code>" if index % 2 else piece for index, piece in enumerate(pieces))


def _table(data: Mapping[str, Any]) -> str:
    """The summary as plain HTML: it is there without the script, which only makes it sortable."""
    several = len({row["dataset"] for row in data["rows"]}) > 1
    heads = [("dataset", "text", "")] if several else []
    heads += [("pipeline", "text", ""), ("R", "number", "Cells an axis"), ("ok", "number", "Cells with a result")]
    arrows = {"high": ("↑", "higher is better"), "low": ("↓", "lower is better")}
    cells = "".join(_head(title, kind, note) for title, kind, note in heads)
    for column in data["columns"]:
        arrow, note = arrows.get(column["better"], ("", ""))
        cells += _head(column["title"], "number", "; ".join(filter(None, (column["text"], note))), arrow)
    lines = [f"<thead><tr>{cells}</tr></thead><tbody>"]
    for row in data["rows"]:
        line = f"<td>{escape(row['dataset'])}</td>" if several else ""
        line += f"<th scope=row>{_breakable(row['pipeline'])}</th>"
        line += _number(row["resolution"], str(row["resolution"] or "own"))
        share = f"{row['ok']}/{row['total']}"
        short = ' class="short"' if row["ok"] < row["total"] else ""
        line += f'<td data-value="{row["ok"] / row["total"]}"{short}>{share}</td>'
        for entry, text, best in zip(row["entries"], row["texts"], row["best"], strict=True):
            line += _number(None if entry is None else entry[0], text, best)
        lines.append(f"<tr>{line}</tr>")
    return "\n".join([*lines, "</tbody>"])


def _head(title: str, kind: str, note: str, arrow: str = "") -> str:
    hint = f' title="{escape(note)}"' if note else ""
    sign = f" <span class=better aria-hidden=true>{arrow}</span>" if arrow else ""
    return (
        f"<th scope=col data-kind={kind} aria-sort=none><button type=button{hint}>{escape(title)}{sign}</button></th>"
    )


def _number(value: float | None, text: str, best: bool = False) -> str:
    mean, _, interval = text.partition(" ")
    span = f"<span class=interval>{escape(interval)}</span>" if interval else ""
    star = '<span class=star title="best of its resolution">★<span class=hidden> best</span></span> ' if best else ""
    known = "" if value is None else f' data-value="{value}"'
    return f"<td{known}{' class=best' if best else ''}>{star}<span class=mean>{escape(mean)}</span>{span}</td>"


def _breakable(name: str) -> str:
    """A pipeline's name, which a narrow column may break after its signs."""
    return escape(name).replace("+", "+<wbr>").replace("-", "-<wbr>")


def _failures(failed: list[dict[str, Any]]) -> str:
    if not failed:
        return ""
    items = "".join(
        f"<li><strong>{escape(cell['pipeline'])}</strong> on {escape(str(cell['sample']))} at "
        f"{cell['resolution'] or 'its own resolution'}: {escape(cell['reason'])}</li>"
        for cell in failed
    )
    return f"<details class=failures open><summary>✕ {len(failed)} failed cells</summary><ul>{items}</ul></details>"


def _skipped(cells: list[dict[str, Any]]) -> str:
    skipped = [cell for cell in cells if cell["status"] == "skipped"]
    if not skipped:
        return ""
    items = "".join(f"<li><strong>{escape(c['pipeline'])}</strong>: {escape(c['reason'])}</li>" for c in skipped)
    return f"<details><summary>{len(skipped)} pairs that do not fit</summary><ul>{items}</ul></details>"


def _section(title: str, text: str) -> str:
    paragraphs = "".join(f"<p>{escape(part.strip())}</p>" for part in text.split("\n\n") if part.strip())
    return f"<section><h2>{escape(title)}</h2>{paragraphs}</section>"


def _definitions(definitions: Mapping[str, Mapping[str, Any]]) -> str:
    rows = []
    for name, entry in sorted(definitions.items(), key=lambda item: (item[1]["group"] != "metrics", item[0])):
        better = "↑ higher" if entry["higher_is_better"] else "↓ lower"
        kind = "accuracy" if entry["group"] == "metrics" else "mesh"
        rows.append(
            f"<tr><th scope=row><code>{escape(name)}</code></th><td>{escape(entry['definition'])}</td>"
            f"<td>{escape(entry['unit'] or '–')}</td><td>{better}</td><td>{kind}</td></tr>"
        )
    head = "".join(f"<th scope=col>{text}</th>" for text in ("figure", "definition", "unit", "better", "about"))
    return f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody>"
