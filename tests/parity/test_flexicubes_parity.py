"""FlexiCubes and the SparseFlex extractor equal the published ones on stored cases."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from shapewright.parity import load_case, run_case
from shapewright_plugins import sparseflex
from shapewright_plugins.sparseflex.parity import flexicubes_case, sparseflex_case

GOLDEN = Path(__file__).parents[1] / "golden" / "triposf"
OWN = sorted([*GOLDEN.glob("fc_*.safetensors"), *GOLDEN.glob("sf_*.safetensors")])
HANDLERS = {(h.system, h.component): h for h in sparseflex.register_parity_handlers()}


def test_golden_copies_are_here() -> None:
    assert len(OWN) == 7


@pytest.mark.parametrize("path", OWN, ids=lambda path: path.stem)
def test_golden_copy_is_reproduced(path: Path) -> None:
    result = run_case(path, HANDLERS)
    assert result.status == "pass", result.reason


def test_all_published_cases_are_reproduced(shared: Path) -> None:
    folder = shared / "fixtures" / "triposf"
    cases = [*folder.glob("fc_*"), *folder.glob("sf_*")]
    assert len(cases) >= 16
    failed = {r.case: r.reason for r in (run_case(path, HANDLERS) for path in cases) if r.status != "pass"}
    assert failed == {}


def test_every_output_is_answered() -> None:
    for path in OWN:
        case = load_case(path)
        handler = flexicubes_case if case.component == "flexicubes" else sparseflex_case
        assert set(handler(case).values) == set(case.outputs)


def test_row_order_of_sparse_features_changes_no_published_output() -> None:
    case = load_case(GOLDEN / "sf_open_train_grad_r12.safetensors")
    order = torch.randperm(len(case.inputs["coords"]), generator=torch.Generator().manual_seed(1))
    shuffled = replace(case, inputs={name: tensor[order] for name, tensor in case.inputs.items()})
    wanted, got = sparseflex_case(case).values, sparseflex_case(shuffled).values
    for name in ("vertices", "faces", "corner_sdf", "cube_idx", "voxel_coords", "l_dev"):
        torch.testing.assert_close(got[name], wanted[name], atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(got["grad_feats"], wanted["grad_feats"][order], atol=2e-5, rtol=1e-3)


def test_case_without_weights_or_deformation_runs_in_both_modes() -> None:
    case = load_case(GOLDEN / "fc_random_eval_r6.safetensors")
    bare = {name: case.inputs[name] for name in ("x_nx3", "sdf", "cube_idx", "voxel_coords")}
    for training in (False, True):
        variant = replace(case, inputs=bare, config={"resolution": 6, "training": training})
        values = flexicubes_case(variant).values
        quads = len(case.outputs["faces"]) // 2
        assert len(values["faces"]) == quads * (4 if training else 2)
        assert values["grad_sdf"].shape == (343,)
        assert "grad_alpha" not in values
