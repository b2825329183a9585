"""Spatial Sparse Attention equals the published kernels and modules, forward and all gradients."""

from __future__ import annotations

from pathlib import Path

import pytest
from shapewright.parity import run_case
from shapewright_plugins import attention

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
