"""docs/protocols.md lists exactly the protocols that the code defines, and every figure has a definition."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from shapewright.interfaces import MeshPair, Metric, MetricDefinition
from shapewright.spec import ComponentSpec
from shapewright.states import Mesh
from shapewright.testing import toys
from shapewright_plugins import appearance, metrics
from shapewright_plugins.metrics.protocols import count_name

DOCUMENT = Path(__file__).parents[2] / "docs" / "protocols.md"
GEOMETRY = list(metrics.register_components())
SPECS = [*GEOMETRY, *(spec for spec in appearance.register_components() if spec.kind == "metric")]
UNPRODUCED = "lpips"
"""Ids that need weights; tests/unit/test_appearance_metrics.py proves that they come."""


def component(spec: ComponentSpec) -> type[Metric[Any]]:
    module, name = spec.factory.split(":")
    found: type[Metric[Any]] = getattr(import_module(module), name)
    return found


def row(protocol: str, entry: MetricDefinition) -> str:
    definition = entry.definition.replace("|", "\\|")
    better = "higher" if entry.higher_is_better else "lower"
    failed = "not averaged" if entry.failure is None else format(entry.failure, "g")
    return f"| `{protocol}` | {definition} | {entry.unit} | {better} | {failed} | {entry.group} |"


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_document_lists_the_protocols_of_the_code(spec: ComponentSpec) -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    section = re.split(r"^### ", text, flags=re.MULTILINE)
    mine = next(part for part in section if part.startswith(f"`{spec.key}`"))
    listed = [line for line in mine.splitlines() if line.startswith("| `")]
    assert listed == [row(protocol, entry) for protocol, entry in component(spec).protocols.items()]


def test_ids_are_well_formed_and_belong_to_one_metric() -> None:
    ids = [protocol for spec in SPECS for protocol in component(spec).protocols]
    assert len(ids) == len(set(ids))
    assert all(re.fullmatch(r"[a-z0-9.-]+(@[0-9.]+)?/v\d+", protocol) for protocol in ids)


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
@pytest.mark.parametrize("changed", [False, True])
def test_every_figure_has_a_definition(spec: ComponentSpec, changed: bool) -> None:
    """An open, creased, partly hidden reference and closed ones between them bring out every id."""
    cube = torch.tensor([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)], dtype=torch.float64) - 0.5
    faces = torch.tensor(
        [[0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5], [0, 4, 5], [0, 5, 1], [2, 3, 7], [2, 7, 6], [0, 2, 6], [0, 6, 4],
         [1, 5, 7], [1, 7, 3]]
    )  # fmt: skip
    closed = Mesh(torch.cat([cube, cube / 2]), torch.cat([faces, faces.flip(1) + 8]))
    opened = Mesh(closed.vertices, closed.faces[:-1])
    metric = component(spec)
    option, value, mark = ("size", 32, "@32px") if "rendered" in spec.name else ("samples", 3_000, "@3k")
    measure = metric(metric.Config(**({option: value} if changed else {}))).measure
    shapes = [toys.painted(mesh) for mesh in (closed, opened)]
    returned = {protocol for mesh in shapes for protocol in measure(MeshPair(mesh, mesh, "shape"))}
    marked = {protocol for protocol in returned if mark in protocol}
    assert {protocol.removesuffix(mark) for protocol in returned} == {
        p for p in metric.protocols if UNPRODUCED not in p
    }
    assert bool(marked) == changed


def test_sample_counts_read_as_people_write_them() -> None:
    assert [count_name(n) for n in (1, 999, 1_000, 20_000, 20_001, 3_000_000)] == [
        "1", "999", "1k", "20k", "20001", "3M"
    ]  # fmt: skip


def test_registering_imports_nothing_heavy() -> None:
    code = (
        "import sys; from shapewright_plugins import metrics; metrics.register_components();"
        "print(sorted({'torch', 'numba', 'numpy', 'trimesh'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
