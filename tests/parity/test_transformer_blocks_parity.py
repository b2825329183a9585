"""Attention, position codes and transformer blocks equal the published systems' stored results."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from shapewright.parity import load_case, run_case
from shapewright_plugins import transformer_blocks

GOLDEN = Path(__file__).parents[1] / "golden"
HANDLERS = {(h.system, h.component): h for h in transformer_blocks.register_parity_handlers()}
OWN = sorted(GOLDEN.glob("*/*.safetensors"))
OWN = [path for path in OWN if (load_case(path).system, load_case(path).component) in HANDLERS]


@pytest.mark.parametrize("path", OWN, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_golden_copy_is_reproduced(path: Path) -> None:
    result = run_case(path, HANDLERS)
    assert result.status == "pass", result.reason


def test_golden_copies_are_here() -> None:
    assert len(OWN) == 9


def test_all_published_cases_are_reproduced(shared: Path) -> None:
    patterns = {
        "direct3d_s2": ("ape_*", "sparse_condition_tokens*", "sparse_cross_attention*", "sparse_transformer_block*"),
        "triposf": ("transformer_block_*", "pieces_*"),
        "trellis2": ("norm_rope_embed*", "sparse_attention*", "morton_hilbert*"),
    }
    folder = shared / "fixtures"
    paths = [path for system, names in patterns.items() for name in names for path in (folder / system).glob(name)]
    assert len(paths) >= 13
    results = [run_case(path, HANDLERS) for path in paths]
    assert {r.case: r.reason for r in results if r.status != "pass"} == {}


@pytest.mark.parametrize("name", ["transformer_block_window_shift_qknorm", "pieces_a"])
def test_a_wrong_parameter_is_noticed(name: str, tmp_path: Path) -> None:
    case = load_case(GOLDEN / "triposf" / f"{name}.safetensors")
    tensors = {f"in.{k}": v for k, v in case.inputs.items()} | {f"out.{k}": v for k, v in case.outputs.items()}
    tensors |= {f"param.{k}": v + 0.01 for k, v in case.params.items()}
    save_file({k: v.contiguous() for k, v in tensors.items()}, tmp_path / "case.safetensors", dict(case.metadata))
    assert run_case(tmp_path / "case.safetensors", HANDLERS).status == "fail"


def test_a_block_without_norms_of_queries_refuses_their_parameters(tmp_path: Path) -> None:
    """Loading is strict: a parameter that has no place is an error, not silence."""
    case = load_case(GOLDEN / "triposf" / "transformer_block_full_qknorm.safetensors")
    tensors = {f"in.{k}": v for k, v in case.inputs.items()} | {f"out.{k}": v for k, v in case.outputs.items()}
    tensors |= {f"param.{k}": v for k, v in case.params.items()}
    config = json.dumps(dict(case.config) | {"qk_rms_norm": False})
    save_file(
        {k: v.contiguous() for k, v in tensors.items()},
        tmp_path / "case.safetensors",
        dict(case.metadata) | {"config": config},
    )
    result = run_case(tmp_path / "case.safetensors", HANDLERS)
    assert result.status == "fail"
    assert "q_rms_norm" in result.reason or "state_dict" in result.reason


def test_blocks_answer_the_same_for_permuted_rows(tmp_path: Path) -> None:
    """Cases keep the order of their input rows; permuting the voxels of a sample permutes the answer."""
    case = load_case(GOLDEN / "triposf" / "transformer_block_window_shift_qknorm.safetensors")
    samples = case.inputs["coords"][:, 0]
    order = torch.cat([torch.where(samples == b)[0].flip(0) for b in samples.unique()])
    tensors = {f"in.{k}": v[order] for k, v in case.inputs.items()}
    tensors |= {f"out.{k}": v[order] for k, v in case.outputs.items()}
    tensors |= {f"param.{k}": v for k, v in case.params.items()}
    save_file({k: v.contiguous() for k, v in tensors.items()}, tmp_path / "case.safetensors", dict(case.metadata))
    assert run_case(tmp_path / "case.safetensors", HANDLERS).status == "pass"
