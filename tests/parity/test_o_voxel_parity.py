"""The dual grid and its mesh equal the published converter's stored results."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from shapewright.parity import GoldenCase, load_case, run_case
from shapewright_plugins import o_voxel
from shapewright_plugins.o_voxel.parity import morton_codes, to_grid_case, to_mesh_case

OWN = sorted((Path(__file__).parents[1] / "golden" / "trellis2").glob("*.safetensors"))
OWN = [path for path in OWN if path.name.startswith(("fdg_", "g2m_"))]
HANDLERS = {(h.system, h.component): h for h in o_voxel.register_parity_handlers()}


@pytest.mark.parametrize("path", OWN, ids=lambda path: path.stem)
def test_golden_copy_is_reproduced(path: Path) -> None:
    result = run_case(path, HANDLERS)
    assert result.status == "pass", result.reason


def test_golden_copies_are_here() -> None:
    assert len(OWN) == 4


def test_all_published_cases_are_reproduced(shared: Path) -> None:
    cases = [*(shared / "fixtures" / "trellis2").glob("fdg_*"), *(shared / "fixtures" / "trellis2").glob("g2m_*")]
    assert len(cases) >= 11
    failed = {r.case: r.reason for r in (run_case(path, HANDLERS) for path in cases) if r.status != "pass"}
    assert failed == {}


def _variant(case: GoldenCase, tmp_path: Path, config: dict[str, object], drop: tuple[str, ...] = ()) -> GoldenCase:
    tensors = {f"in.{k}": v for k, v in case.inputs.items() if k not in drop}
    tensors |= {f"out.{k}": v for k, v in case.outputs.items()}
    metadata = dict(case.metadata) | {"config": json.dumps(dict(case.config) | config)}
    save_file({k: v.contiguous() for k, v in tensors.items()}, tmp_path / "case.safetensors", metadata)
    return load_case(tmp_path / "case.safetensors")


@pytest.fixture
def box() -> GoldenCase:
    return load_case(next(path for path in OWN if "aligned" in path.name))


@pytest.fixture
def split() -> GoldenCase:
    return load_case(next(path for path in OWN if "split" in path.name))


@pytest.mark.parametrize(
    "config",
    [
        {"grid_size": None, "voxel_size": 0.0625},
        {"grid_size": [16, 16, 16], "voxel_size": [0.0625, 0.0625, 0.0625]},
        {"grid_size": None, "voxel_size": [0.0625]},
    ],
)
def test_one_grid_can_be_described_in_many_ways(box: GoldenCase, tmp_path: Path, config: dict[str, object]) -> None:
    answer = to_grid_case(_variant(box, tmp_path, config))
    assert torch.equal(answer.values["coords"], box.outputs["coords"])
    assert torch.equal(answer.values["intersected"], box.outputs["intersected"])


def test_grid_fitted_to_the_mesh_is_padded_by_one_voxel(box: GoldenCase, tmp_path: Path) -> None:
    answer = to_grid_case(_variant(box, tmp_path, {"aabb": None, "grid_size": 9}))
    coords = answer.values["coords"]
    # Eight voxels of the box and half a voxel on each side: its walls are in the middle of the outermost voxels.
    assert coords.amin(0).tolist() == [0, 0, 0]
    assert coords.amax(0).tolist() == [8, 8, 8]
    low = box.inputs["vertices"].amin(0).double()
    extent = (box.inputs["vertices"].amax(0).double() - low) / 8
    relative = answer.values["dual_vertices"].double() / extent - coords
    assert relative[(coords[:, 0] == 0) & (coords[:, 1] == 4) & (coords[:, 2] == 4), 0] == pytest.approx(0.5, abs=1e-3)


def test_training_mesh_without_weights_puts_the_middle_at_the_mean(split: GoldenCase, tmp_path: Path) -> None:
    case = _variant(split, tmp_path, {"train": True, "split_weight": False}, drop=("split_weight",))
    answer = to_mesh_case(case)
    vertices, faces = answer.values["vertices"], answer.values["faces"]
    voxels = len(case.inputs["coords"])
    quads = faces.reshape(-1, 4, 3)
    corners = vertices[quads[:, :, 0]]
    assert len(vertices) == voxels + len(quads)
    assert torch.equal(quads[:, 0, 2], voxels + torch.arange(len(quads)))
    torch.testing.assert_close(vertices[voxels:], corners.mean(dim=1))


def test_mesh_follows_voxel_size_and_box(split: GoldenCase, tmp_path: Path) -> None:
    config = {"grid_size": None, "voxel_size": [0.125, 0.25, 0.5], "aabb": [[0, 0, 0], [4, 8, 16]]}
    answer = to_mesh_case(_variant(split, tmp_path, config))
    wanted = (split.inputs["coords"] + split.inputs["dual_vertices"]) * torch.tensor([0.125, 0.25, 0.5])
    torch.testing.assert_close(answer.values["vertices"], wanted)
    assert torch.equal(answer.values["faces"], split.outputs["faces"].long())


def test_morton_codes_interleave_with_x_slowest() -> None:
    coords = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [2, 0, 0], [1023, 1023, 1023], [(1 << 21) - 1, 0, 0]])
    top = sum(1 << (3 * bit + 2) for bit in range(21))
    assert morton_codes(coords).tolist() == [4, 2, 1, 32, (1 << 30) - 1, top]
