"""Sparse convolutions, norms, resampling and their blocks equal the published systems' stored results."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from shapewright.parity import load_case, run_case
from shapewright_plugins import sparse_networks

HANDLERS = {(h.system, h.component): h for h in sparse_networks.register_parity_handlers()}
NAMES = (
    "direct3d_s2/sparse_conv3d",
    "direct3d_s2/sparse_group_norm",
    "direct3d_s2/sparse_resample",
    "triposf/subm_conv_a",
    "triposf/local_pool_pointnet_xyz_only",
    "trellis2/sparse_conv3d",
    "trellis2/spatial_ops_f2",
    "trellis2/grid_sample_trilinear",
)
GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.mark.parametrize("name", NAMES)
def test_golden_copy_is_reproduced(name: str) -> None:
    result = run_case(GOLDEN / f"{name}.safetensors", HANDLERS)
    assert result.status == "pass", result.reason


@pytest.mark.parametrize(
    ("system", "pattern", "least"),
    [
        ("direct3d_s2", "sparse_[cgr]*", 3),
        ("direct3d_s2", "ssvae_blocks*", 1),
        ("direct3d_s2", "sparse_to_mesh*", 1),
        ("direct3d_s2", "mesh_to_index*", 1),
        ("triposf", "subm_conv*", 1),
        ("triposf", "subdivide_block*", 2),
        ("triposf", "local_pool*", 3),
        ("trellis2", "sparse_conv3d*", 1),
        ("trellis2", "spatial_ops*", 1),
        ("trellis2", "scvae_resblocks*", 1),
        ("trellis2", "grid_sample*", 1),
    ],
)
def test_published_cases_are_reproduced(system: str, pattern: str, least: int, shared: Path) -> None:
    paths = list((shared / "fixtures" / system).glob(f"{pattern}.safetensors"))
    mine = [path for path in paths if (system, load_case(path).component) in HANDLERS]
    assert len(mine) >= least
    failed = {r.case: r.reason for r in (run_case(path, HANDLERS) for path in mine) if r.status != "pass"}
    assert failed == {}


def test_a_changed_weight_is_noticed(tmp_path: Path) -> None:
    source = GOLDEN / "triposf" / "subm_conv_a.safetensors"
    tensors = load_file(source)
    tensors["param.conv3.conv.weight"][0, 0, 0, 0, 0] += 1.0
    save_file(tensors, tmp_path / "case.safetensors", dict(load_case(source).metadata))
    result = run_case(tmp_path / "case.safetensors", HANDLERS)
    assert result.status == "fail"
    assert "conv3" in result.reason


def test_kernel_one_of_spconv_is_read_as_a_bare_buffer() -> None:
    case = load_case(GOLDEN / "triposf" / "subm_conv_a.safetensors")
    weight, feats = case.params["conv1.conv.weight"], case.inputs["feats"]
    wanted = feats @ weight.reshape(feats.shape[1], -1) + case.params["conv1.conv.bias"]
    assert torch.allclose(case.outputs["conv1"], wanted, atol=1e-5)
