"""Spatial Sparse Attention equals the published kernels and modules, forward and all gradients."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from shapewright.parity import load_case, run_case
from shapewright_plugins import attention
from shapewright_plugins.attention.ssa_parity import sort_block_case

HANDLERS = {(h.system, h.component): h for h in attention.register_parity_handlers()}
CASES = [
    "sort_block", "ssa_block_score_aggregate", "ssa_block_score_equal", "ssa_compress_v1", "ssa_compress_v2",
    "ssa_module_v1_b1", "ssa_module_v1_b2_agg", "ssa_module_v2_b2", "ssa_selection_b2", "ssa_selection_official_heads",
    "ssa_window_shift0", "ssa_window_shift2",
]  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_published_case_is_reproduced(shared: Path, name: str) -> None:
    result = run_case(shared / "fixtures" / "direct3d_s2" / f"{name}.safetensors", HANDLERS)
    assert result.status == "pass", result.reason


def test_a_case_whose_rows_are_the_voxels_is_answered_in_block_order(shared: Path) -> None:
    """As the notes of the case say, and as the published function orders on CUDA."""
    case = load_case(shared / "fixtures" / "direct3d_s2" / "sort_block.safetensors")
    coords = case.inputs["coords"]
    key = torch.cat([coords // 8, coords % 8], dim=1).tolist()
    wanted = coords[sorted(range(len(coords)), key=key.__getitem__)]
    answer = sort_block_case(replace(case, outputs={"block8": wanted}))
    assert torch.equal(answer.values["block8"], wanted)
