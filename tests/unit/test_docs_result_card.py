"""docs/read-a-result-card.md explains exactly the fields that the schema has, and the schema those that a cell has."""

from __future__ import annotations

import ast
import json
import re
from importlib.resources import files
from pathlib import Path

import shapewright.bench.worker
from documents import ROOT
from shapewright.bench.cards import blank_cell

PAGE = (ROOT / "docs" / "read-a-result-card.md").read_text(encoding="utf-8")
SCHEMA = json.loads(files("shapewright").joinpath("schemas", "bench-cells.schema.json").read_text(encoding="utf-8"))
PROPERTIES = SCHEMA["$defs"]["cell"]["properties"]


def rows(text: str) -> list[list[str]]:
    """Cells of every table row that begins with a field in back quotes."""
    lines = [line for line in text.splitlines() if line.startswith("| `")]
    return [[part.strip() for part in line.strip("|").split("|")] for line in lines]


def types(entry: dict[str, object]) -> str:
    """The type of a field as the page says it."""
    if entry.get("$ref") == "#/$defs/figures":
        return "figures"
    if "const" in entry:
        return "integer"
    if "enum" in entry:
        return "text"
    kinds = entry["type"] if isinstance(entry["type"], list) else [entry["type"]]
    names = {"string": "text", "integer": "integer", "null": "null", "object": "object", "array": "list of text"}
    if entry["type"] == "object" and "additionalProperties" in entry:
        return "numbers"
    return " or ".join(names[str(kind)] for kind in kinds)


CELL, PROVENANCE = PAGE.split("## Provenance")


def test_the_page_explains_every_field_of_the_schema_with_its_type() -> None:
    explained = {row[0].strip("`"): row[1] for row in rows(CELL)}
    assert explained == {name: types(entry) for name, entry in PROPERTIES.items()}
    assert all(len(row) == 3 and len(row[2]) > 5 for row in rows(CELL))


def test_a_cell_has_the_fields_of_the_schema() -> None:
    assert set(blank_cell("a+b", "a", "b", None, None, None, 0)) == set(PROPERTIES)


def test_the_page_explains_every_entry_of_the_provenance() -> None:
    """The entries are read off the one place that writes them."""
    tree = ast.parse(Path(shapewright.bench.worker.__file__).read_text(encoding="utf-8"))
    written = [
        [key.value for key in node.value.keys if isinstance(key, ast.Constant)]
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign)
        and ast.unparse(node.targets[0]) == "card['provenance']"
        and isinstance(node.value, ast.Dict)
    ]
    assert len(written) == 1
    assert [row[0].strip("`") for row in rows(PROVENANCE)] == written[0]


def test_the_versions_of_the_page_and_the_schema_agree() -> None:
    assert re.search(rf"version of this format, {PROPERTIES['schema']['const']};", PAGE)
