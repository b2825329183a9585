"""A file that nothing can read is no pipeline's failure; a material that only fills a place is no appearance."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from in_process import run
from shapewright.bench.summary import summarise, unread_shapes
from shapewright.materials import Appearance, Material
from shapewright.mesh_io import save_mesh
from shapewright.states import Mesh
from shapewright.textured_meshes import load_textured_mesh

TETRAHEDRON = (
    torch.tensor([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], dtype=torch.float64),
    torch.tensor([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]]),
)
COLUMNS = [{"title": "CD", "figure": "chamfer-l1/v1", "better": "low", "failure": 0.5}]


def cell(pipeline: str, sample: str, value: float | None, *, unread: bool = False, reason: str = "") -> dict[str, Any]:
    return {
        "pipeline": pipeline, "dataset": "d", "sample": sample, "resolution": 32, "reason": reason,
        "status": "failed" if value is None else "ok", "health": {}, "noise_floor": {},
        "provenance": {"unread": True} if unread else {},
        "metrics": {} if value is None else {"chamfer-l1/v1": value},
    }  # fmt: skip


def test_shapes_that_cannot_be_read_are_in_no_mean() -> None:
    cells = [cell("a", "good", 0.1), cell("b", "good", None, reason="it raised")]
    cells += [cell(name, "broken", None, unread=True, reason="broken.obj: truncated") for name in ("a", "b")]
    assert unread_shapes(cells) == {("d", "broken"): "broken.obj: truncated"}
    a, b = summarise(cells, COLUMNS).rows
    assert (a.ok, a.total, b.ok, b.total) == (1, 1, 0, 1)
    assert a.entries[0] is not None
    assert b.entries[0] is not None
    assert (a.entries[0].mean, b.entries[0].mean) == (0.1, 0.5)  # what raised still counts


def test_a_pipeline_that_is_refused_or_dies_on_every_shape_still_counts() -> None:
    cells = [cell("a", "one", None, reason="too large"), cell("b", "one", None, reason="too large")]
    assert unread_shapes(cells) == {}
    assert [row.total for row in summarise(cells, COLUMNS).rows] == [1, 1]


def test_a_broken_file_is_told_apart_by_the_bench(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "broken.obj").write_text("v 0 0\n")
    save_mesh(Mesh(*TETRAHEDRON), data / "good.ply")
    asked = ("--representation", "o-voxel", "--extractor", "flexible-dual-grid", "--resolution", "8", "--no-report")
    done = run("bench", "--data", data, *asked, "--out", tmp_path / "out")
    assert done.returncode == 1
    assert "1 shape could not be read; no mean holds what is not there" in done.stdout
    table = (tmp_path / "out" / "table.md").read_text()
    assert "| 1/1 |" in table
    assert "Shapes that could not be read, and count nowhere above:\n\n- broken" in table


@pytest.mark.parametrize(
    ("material", "kept"),
    [
        (None, False),
        (Material(base_color=(1.0, 1.0, 1.0), metallic=0.0, roughness=0.3), False),
        (Material(base_color=(1.0, 1.0, 1.0), metallic=1.0), True),
        (Material(base_color=(1.0, 0.5, 1.0)), True),
        (Material(base_color=(1.0, 1.0, 1.0), alpha=0.5, alpha_mode="blend"), True),
        (Material(base_color=(1.0, 1.0, 1.0), emissive=(0.1, 0.0, 0.0)), True),
    ],
)
def test_a_plain_white_material_is_no_appearance(tmp_path: Path, material: Material | None, kept: bool) -> None:
    look = None if material is None else Appearance((material,))
    save_mesh(Mesh(*TETRAHEDRON, appearance=look), tmp_path / "a.glb")
    found = load_textured_mesh(tmp_path / "a.glb").appearance
    assert (found is not None) == kept
