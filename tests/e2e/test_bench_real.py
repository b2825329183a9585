"""The bench with everything that ships, on two small shapes and on a folder: what a first user sees, made tiny."""

from __future__ import annotations

import csv
import json
import re
import subprocess
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from distributions import shapewright
from shapewright.host import discover
from shapewright.mesh_io import load_mesh

EXTRACTORS = [spec.name for spec in discover().specs.values() if spec.kind == "extractor"]

SCHEMA = json.loads((files("shapewright") / "schemas" / "bench-cells.schema.json").read_text())
FITTING = {
    "o-voxel+flexible-dual-grid",
    "sdf+dual-contouring",
    "sdf+flexicubes",
    "sdf+marching-cubes",
    "sparseflex+flexicubes",
}
DISTANCES = ("chamfer-l1/v1", "chamfer-l2/v1", "completeness/v1", "accuracy/v1", "hausdorff/v1", "edge-surface/v1")
SHARES = ("f-score@0.001/v1", "f-score@0.005/v1", "f-score-p2p@0.01/v1", "normal-consistency/v1")
HEALTH = (
    "boundary-edges/v1",
    "non-manifold-edges/v1",
    "components/v1",
    "euler/v1",
    "degenerate-faces/v1",
    "watertight/v1",
    "components-reference/v1",
    "area-ratio/v1",
)
CUP, SPIKES = "s04b-cup", "s07-spiked-icosahedron"

Cells = list[dict[str, Any]]


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bench")


@pytest.fixture(scope="module")
def done(out: Path) -> subprocess.CompletedProcess[str]:
    """One run of the default bench, cut down to a closed and an open shape at resolution 16."""
    arguments = ("--samples", f"{SPIKES},{CUP}", "--resolution", "16", "--json", out / "all.json")
    return shapewright("bench", *arguments, "--out", out, "--keep-meshes", cwd=out)


@pytest.fixture(scope="module")
def cells(out: Path, done: subprocess.CompletedProcess[str]) -> Cells:
    assert done.returncode == 0, done.stderr
    found: Cells = json.loads((out / "all.json").read_text())
    return found


def measured(cells: Cells) -> Cells:
    return [cell for cell in cells if cell["status"] != "skipped"]


def test_cells_follow_the_published_schema_and_cover_what_fits(cells: Cells) -> None:
    jsonschema.validate(cells, SCHEMA)
    assert {(c["pipeline"], c["sample"]) for c in measured(cells)} == {(p, s) for p in FITTING for s in (CUP, SPIKES)}
    assert all(cell["status"] == "ok" and cell["resolution"] == 16 for cell in measured(cells))


def test_pairs_that_do_not_fit_are_cells_with_a_reason(
    cells: Cells, out: Path, done: subprocess.CompletedProcess[str]
) -> None:
    skipped = {cell["pipeline"]: cell["reason"] for cell in cells if cell["status"] == "skipped"}
    assert (
        set(skipped)
        == {
            f"{representation}+{extractor}"
            for representation in ("o-voxel", "sdf", "sparseflex")
            for extractor in EXTRACTORS
        }
        - FITTING
    )
    assert skipped["sdf+flexible-dual-grid"] == "flexible-dual-grid wants dualgrid.flexible, sdf makes sdf.sparse"
    table = (out / "table.md").read_text(encoding="utf-8")
    told = [line for line in done.stderr.splitlines() if line.startswith("skipped: ")]
    assert len(told) == 3  # one a representation
    for pipeline, reason in skipped.items():
        representation, _, extractor = pipeline.partition("+")
        assert f"- {pipeline}: {reason}" in table
        assert any(line.startswith(f"skipped: {representation} with ") and extractor in line for line in told)


def test_every_cell_holds_figures_health_time_and_memory(cells: Cells) -> None:
    for cell in measured(cells):
        name = (cell["pipeline"], cell["sample"])
        for protocol in DISTANCES:
            assert 0 <= cell["metrics"][protocol] < 0.25, (name, protocol)
        for protocol in SHARES:
            assert 0 <= cell["metrics"][protocol] <= 1, (name, protocol)
        for protocol in HEALTH:
            assert cell["health"][protocol] is not None, (name, protocol)
        assert set(cell["seconds"]) == {"from-mesh", "extract", "total", "noise-floor", "metrics"}
        assert cell["seconds"]["total"] >= max(cell["seconds"]["from-mesh"], cell["seconds"]["extract"]) > 0
        assert isinstance(cell["peak_memory_bytes"], int)
        assert cell["faces"] > 100
        assert cell["vertices"] > 50


def test_the_floor_is_what_a_perfect_result_would_score(cells: Cells) -> None:
    for cell in measured(cells):
        floor = cell["noise_floor"]
        assert set(cell["metrics"]) <= set(floor)
        assert max(floor[protocol] for protocol in DISTANCES) < 1e-12  # exact: point to mesh
        assert floor["f-score@0.001/v1"] == floor["normal-consistency/v1"] == 1
        assert 1e-3 < floor["chamfer-l1-p2p/v1"] < 1e-2  # two sets of samples of one surface are apart
        assert cell["metrics"]["chamfer-l1-p2p/v1"] > 0.9 * floor["chamfer-l1-p2p/v1"]


def test_figures_rank_the_methods_as_they_must(cells: Cells) -> None:
    by = {(cell["pipeline"], cell["sample"]): cell for cell in cells}
    smooth = by["sdf+marching-cubes", SPIKES]["metrics"]
    for pipeline in ("o-voxel+flexible-dual-grid", "sdf+dual-contouring", "sparseflex+flexicubes"):
        assert by[pipeline, SPIKES]["metrics"]["edge-surface/v1"] < smooth["edge-surface/v1"] / 2
        assert by[pipeline, SPIKES]["metrics"]["chamfer-l1/v1"] < smooth["chamfer-l1/v1"]
    for pipeline in ("o-voxel+flexible-dual-grid", "sparseflex+flexicubes"):
        health = by[pipeline, CUP]["health"]
        assert health["boundary-length-ratio/v1"] == pytest.approx(1, abs=0.1)
        assert health["area-ratio/v1"] == pytest.approx(1, abs=0.03)


def test_open_shapes_in_a_solid_field_are_warned_about(cells: Cells, done: subprocess.CompletedProcess[str]) -> None:
    for cell in measured(cells):
        warned = any("OpenSurfaceWarning: the mesh is open (128 open edges)" in text for text in cell["warnings"])
        assert warned == (cell["sample"] == CUP and cell["representation"] == "sdf"), cell["pipeline"]
    assert f"note: {CUP}: OpenSurfaceWarning: " in done.stdout


def test_every_number_can_be_traced(cells: Cells) -> None:
    for cell in measured(cells):
        provenance = cell["provenance"]
        assert provenance["config"]["rep"]["with"]["resolution"] == 16
        assert provenance["config"]["rep"]["use"] == f"representation/{cell['representation']}"
        assert len(provenance["content"]) == 64
        assert {"shapewright", "shapewright_plugins", "shapewright_kernels"} <= set(provenance["identity"]["code"])
        assert {"numpy", "torch", "numba"} <= set(provenance["identity"]["libraries"])
        assert provenance["license"] == "CC0-1.0"
    contents = {(cell["sample"], cell["provenance"]["content"]) for cell in measured(cells)}
    assert len(contents) == 2


def test_tables_lie_beside_the_cards(out: Path, cells: Cells, done: subprocess.CompletedProcess[str]) -> None:
    head, rule, *rows = (out / "table.md").read_text().splitlines()
    assert "CD-L1" in head
    assert "F@0.005" in head
    assert set(rule) <= set("|-:")
    assert {re.split(r"\s*\|\s*", row)[3] for row in rows if row.startswith("| stress-suite")} == FITTING
    lines = list(csv.DictReader((out / "table.csv").read_text().splitlines()))
    assert {line["pipeline"] for line in lines} == FITTING
    for line in lines:
        values = [c["metrics"]["chamfer-l1/v1"] for c in measured(cells) if c["pipeline"] == line["pipeline"]]
        assert float(line["chamfer-l1/v1 mean"]) == pytest.approx(sum(values) / 2)
        assert (line["ok"], line["cells"], line["chamfer-l1/v1 count"]) == ("2", "2", "2")
    assert json.loads((out / "cells.json").read_text()) == cells
    assert {path.stem for path in (out / "cards").iterdir()} == {cell["key"] for cell in measured(cells)}
    definitions = json.loads((out / "metrics.json").read_text())
    for cell in measured(cells):
        assert set(cell["metrics"]) | set(cell["health"]) <= set(definitions)
    for name in FITTING:
        assert name in done.stdout
    assert "10 of 10 cells ok, 0 of them from earlier runs" in done.stdout
    assert str(out / "cards") in done.stdout


def test_kept_meshes_are_the_results(out: Path, cells: Cells) -> None:
    for cell in measured(cells):
        mesh = load_mesh(out / cell["mesh"], repair=False)
        assert (len(mesh.vertices), len(mesh.faces)) == (cell["vertices"], cell["faces"])


def test_a_folder_with_a_broken_file_gives_results_for_the_others_and_exit_status_1(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "good.obj").write_text("v 0 0 0\nv 1 0 0\nv 0 1 0\nv 0 0 1\nf 1 3 2\nf 1 2 4\nf 2 3 4\nf 3 1 4\n")
    (data / "broken.obj").write_text("v nan 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n")
    (data / "readme.txt").write_text("not a mesh, and never looked at")
    options = ("--pipeline", "roundtrip-o-voxel", "--resolution", "12", "--metric", "chamfer,mesh-health")
    done = shapewright("bench", "--data", data, *options, "--json", tmp_path / "all.json", "--out", tmp_path / "out")
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    cells = json.loads((tmp_path / "all.json").read_text())
    jsonschema.validate(cells, SCHEMA)
    by = {cell["sample"]: cell for cell in cells}
    assert set(by) == {"good", "broken"}
    assert by["broken"]["status"] == "failed"
    assert "no usable face is left: dropped 1 faces with non-finite vertices" in by["broken"]["reason"]
    good = by["good"]
    assert (good["status"], good["pipeline"], good["dataset"]) == ("ok", "roundtrip-o-voxel", "folder:data")
    assert (good["representation"], good["extractor"], good["resolution"]) == ("o-voxel", "flexible-dual-grid", 12)
    assert {"chamfer-l1/v1", "chamfer-l2/v1"} <= set(good["metrics"])
    assert good["metrics"]["chamfer-l1/v1"] < 0.01
    assert f"failed: roundtrip-o-voxel on broken at 12: {by['broken']['reason']}" in done.stdout
    assert by["broken"]["reason"] in (tmp_path / "out" / "table.md").read_text()


def test_a_pipeline_runs_at_its_own_resolution_when_none_is_asked_for(tmp_path: Path) -> None:
    options = ("--pipeline", "roundtrip-sdf", "--set", "sdf.resolution=18", "--metric", "chamfer")
    done = shapewright("bench", *options, "--samples", SPIKES, "--json", tmp_path / "all.json", "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    (cell,) = json.loads((tmp_path / "all.json").read_text())
    assert (cell["status"], cell["resolution"], cell["sample"]) == ("ok", 18, SPIKES)
