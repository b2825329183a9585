"""``shapewright bench`` on shapes with materials and without: geometry and appearance on one card."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import torch
from distributions import shapewright
from shapewright import Mesh, save_mesh
from shapewright.bench.appearance import textured

SCHEMA = json.loads((files("shapewright") / "schemas" / "bench-cells.schema.json").read_text())


def box() -> Mesh:
    corners = torch.tensor([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)], dtype=torch.float64)
    faces = [[0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5], [0, 4, 5], [0, 5, 1], [2, 3, 7], [2, 7, 6], [0, 2, 6],
             [0, 6, 4], [1, 5, 7], [1, 7, 3]]  # fmt: skip
    return Mesh(corners, torch.tensor(faces))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    folder, out = tmp_path_factory.mktemp("assets"), tmp_path_factory.mktemp("out")
    save_mesh(textured(box()), folder / "painted.glb")
    save_mesh(box(), folder / "plain.stl")
    metrics = "chamfer,pbr-attributes,rendered-materials,rendered-normals"
    done = shapewright(
        "bench", "--data", folder, "--representation", "o-voxel,sdf", "--extractor",
        "flexible-dual-grid,marching-cubes", "--resolution", "16,32", "--metric", metrics,
        "--set", "pbr-attributes.samples=20000", "--set", "rendered-materials.size=64",
        "--set", "rendered-normals.size=64", "--set", "chamfer.samples=5000", "--out", out, "--json", out / "all.json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    cells = json.loads((out / "all.json").read_text())
    jsonschema.validate(cells, SCHEMA)
    return out, [cell for cell in cells if cell["status"] == "ok"]


def test_results_with_materials_have_figures_of_both(run: tuple[Path, list[dict[str, Any]]]) -> None:
    found = {(c["sample"], c["representation"], c["resolution"]): c for c in run[1]}
    assert len(found) == 8
    coarse, fine = (found["painted", "o-voxel", r]["metrics"] for r in (16, 32))
    assert fine["chamfer-l1/v1@5k"] < 0.01
    assert 15 < coarse["base-color-psnr/v1@20k"] < fine["base-color-psnr/v1@20k"] < 60
    assert fine["rendered-base-color-psnr/v1@64px"] > 15
    assert 0 < fine["rendered-shaded-ssim/v1@64px"] < 1
    floor = found["painted", "o-voxel", 16]["noise_floor"]
    assert floor["base-color-psnr/v1@20k"] == floor["rendered-shaded-psnr/v1@64px"] == 100
    health = found["painted", "o-voxel", 16]["health"]
    assert health["samples-without-material/v1@20k"] == 0


def test_what_has_no_materials_has_no_such_figures_and_did_not_fail(run: tuple[Path, list[dict[str, Any]]]) -> None:
    for cell in run[1]:
        if cell["sample"] == "painted" and cell["representation"] == "o-voxel":
            continue
        names = {name.partition("/")[0] for name in cell["metrics"]}
        assert names == {"chamfer-l1", "chamfer-l2", "completeness", "accuracy", "rendered-normal-psnr",
                         "rendered-normal-ssim"}  # fmt: skip


def test_the_appearance_is_part_of_where_a_figure_comes_from(run: tuple[Path, list[dict[str, Any]]]) -> None:
    hashes = {cell["sample"]: cell["provenance"]["appearance"] for cell in run[1]}
    assert len(hashes["painted"]) == 64
    assert hashes["plain"] == ""


def test_time_that_cells_of_a_shape_share_is_told_apart(run: tuple[Path, list[dict[str, Any]]]) -> None:
    """The first cell of a shape pays for the reference; its own measuring is not charged with it."""
    for sample in ("painted", "plain"):
        shared = [cell["seconds"]["noise-floor"] for cell in run[1] if cell["sample"] == sample]
        assert sorted(shared)[-1] > 10 * sum(sorted(shared)[:-1])
