"""Flow transformers of TRELLIS.2 and Direct3D-S2 equal the published results, and have the published parameters."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from shapewright import ConfigError, SparseTensor, StateError
from shapewright.nn.flow_transformer import FlowTransformerConfig, initialise
from shapewright.nn.layouts import layout_of
from shapewright.nn.windows import WindowAttention
from shapewright.parity import run_case
from shapewright_plugins import direct3d_s2, trellis2
from shapewright_plugins.direct3d_s2.flow import DenseConfig, DenseFlow, SparseConfig, SparseFlow
from shapewright_plugins.trellis2.flow import LatentFlow, StructureFlow

HANDLERS = {(h.system, h.component): h for plugin in (trellis2, direct3d_s2) for h in plugin.register_parity_handlers()}
CASES = {
    "trellis2": [
        "ss_flow_rope_sharemod", "ss_flow_ape_nomod", "shape_slat_flow", "slat_flow_varlen_cond_ape",
        "tex_slat_flow_concat",
    ],
    "direct3d_s2": ["dense_dit_small", "sparse_dit_v1_b1", "sparse_dit_v1_b2", "sparse_dit_v2_sparse_cond"],
}  # fmt: skip


@pytest.mark.parametrize(("system", "name"), [(system, name) for system, names in CASES.items() for name in names])
def test_published_case_is_reproduced(shared: Path, system: str, name: str) -> None:
    result = run_case(shared / "fixtures" / system / f"{name}.safetensors", HANDLERS)
    assert result.status == "pass", result.reason


OFFICIAL: dict[str, Any] = {
    "model_channels": 1536, "cond_channels": 1024, "num_blocks": 30, "num_heads": 12, "mlp_ratio": 5.3334,
    "pe_mode": "rope", "share_mod": True, "qk_rms_norm": True, "qk_rms_norm_cross": True, "initialization": "scaled",
}  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "inputs", "outputs", "count"),
    [
        (StructureFlow, 8, 8, 1_292_179_976),
        (LatentFlow, 32, 32, 1_292_253_728),
        (LatentFlow, 64, 32, 1_292_302_880),
    ],
)
def test_trellis2_models_have_the_published_size(kind: Any, inputs: int, outputs: int, count: int) -> None:
    with torch.device("meta"):
        model = kind(FlowTransformerConfig(in_channels=inputs, out_channels=outputs, **OFFICIAL))
    assert sum(parameter.numel() for parameter in model.parameters()) == count
    assert len(model.state_dict()) == 640


@pytest.mark.parametrize(("version", "compression", "block"), [("v1_0", "v2", 4), ("v1_1", "v1", 8)])
def test_direct3d_s2_models_have_the_published_keys(shared: Path, version: str, compression: str, block: int) -> None:
    listed = json.loads((shared / "fixtures" / "direct3d_s2" / f"statedict_{version}.json").read_text())
    sparse = {"sparse_conditions": True} if version == "v1_0" else {}
    with torch.device("meta"):
        models = {
            "dense": DenseFlow(
                DenseConfig(num_heads=16, qk_rms_norm=True, in_channels=8, out_channels=8, resolution=16)
            ),
            "sparse_512": SparseFlow(
                SparseConfig(
                    in_channels=16,
                    out_channels=16,
                    compression_version=compression,
                    compression_block_size=block,
                    **sparse,
                )
            ),
        }
    for name, model in models.items():
        published = listed[f"model_{name}.ckpt"]["dit"]
        wanted = {
            key.replace("{i}", str(block)): shape
            for key, shape in published["keys"].items()
            for block in range(published["repeat_i"] if "{i}" in key else 1)
        }
        assert {key: list(value.shape) for key, value in model.state_dict().items()} == wanted


def voxels(samples: int = 2, count: int = 20) -> SparseTensor:
    rng = torch.Generator().manual_seed(3)
    coords = []
    for sample in range(samples):
        codes = torch.randperm(512, generator=rng)[:count]
        xyz = torch.stack([codes // 64, codes // 8 % 8, codes % 8], dim=1)
        coords.append(torch.cat([torch.full((count, 1), sample), xyz], dim=1))
    return SparseTensor(torch.cat(coords).int(), torch.randn(samples * count, 4, generator=rng), 8, samples)


SMALL: dict[str, Any] = {
    "in_channels": 4, "out_channels": 4, "model_channels": 24, "cond_channels": 6, "num_blocks": 2, "num_heads": 2,
    "mlp_ratio": 2, "resolution": 4,
}  # fmt: skip


def test_a_new_model_predicts_zero_and_learns() -> None:
    """Modulation and last layer begin at zero; after one step of the last layer everything else gets gradients."""
    for initialization in ("vanilla", "scaled"):
        model = LatentFlow(FlowTransformerConfig(**SMALL, initialization=initialization, share_mod=True))
        x, cond = voxels(), torch.randn(2, 5, 6)
        assert model(x, torch.tensor([10.0, 900.0]), cond).feats.abs().max() == 0
        torch.nn.init.normal_(model.out_layer.weight)
        torch.nn.init.normal_(model.adaLN_modulation[1].weight)  # type: ignore[index, union-attr, arg-type]
        model(x, torch.tensor([10.0, 900.0]), cond).feats.square().sum().backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_samples_of_a_batch_do_not_see_one_another() -> None:
    model = LatentFlow(FlowTransformerConfig(**SMALL, pe_mode="ape"))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3, generator=torch.Generator().manual_seed(parameter.numel()))
    x, cond, t = voxels(), [torch.randn(5, 6), torch.randn(2, 6)], torch.tensor([10.0, 900.0])
    together = model(x, t, cond)
    for sample, alone in enumerate(x.unbind()):
        found = model(alone, t[sample : sample + 1], [cond[sample]])
        torch.testing.assert_close(found.feats, together.unbind()[sample].feats, rtol=1e-4, atol=1e-5)


def test_attention_is_swapped_by_name_and_blocks_may_be_half() -> None:
    model = LatentFlow(FlowTransformerConfig(**SMALL, attention=WindowAttention))
    assert [block.self_attn.config.shifts[0] for block in model.blocks] == [0, 4]
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2, generator=torch.Generator().manual_seed(parameter.numel()))
    x, t, cond = voxels(1), torch.tensor([500.0]), torch.randn(1, 5, 6)
    wanted = model(x, t, cond, layout=layout_of(x)).feats
    found = model.cast_blocks(torch.bfloat16)(x, t, cond).feats
    assert found.dtype == torch.float32
    assert model.blocks[0].mlp.mlp[0].weight.dtype == torch.bfloat16
    torch.testing.assert_close(found, wanted, rtol=0.1, atol=0.1)


def test_patches_are_cut_and_joined_in_one_order() -> None:
    model = DenseFlow(DenseConfig(**SMALL | {"patch_size": 2, "num_blocks": 0}))
    eye = torch.zeros(24, 32)
    eye[:24, :24] = torch.eye(24)
    model.input_layer.weight.data, model.pos_emb = eye, torch.zeros_like(model.pos_emb)
    x = torch.randn(2, 4, 4, 4, 4)
    hidden: list[torch.Tensor] = []
    model.input_layer.register_forward_hook(lambda _, inputs, output: hidden.append(inputs[0]))
    model(x, torch.zeros(2), torch.zeros(2, 1, 6))
    tokens = hidden[0].reshape(2, 2, 2, 2, 4, 2, 2, 2)
    assert torch.equal(tokens[1, 1, 0, 1], x[1, :, 2:4, 0:2, 2:4])


def test_saved_position_codes_of_checkpoints_are_passed_over() -> None:
    model = StructureFlow(FlowTransformerConfig(**SMALL, pe_mode="rope"))
    state = dict(model.state_dict()) | {"rope_phases": torch.zeros(64, 6, dtype=torch.complex64)}
    assert model.load_state_dict(state, strict=True).unexpected_keys == []
    with pytest.raises(RuntimeError, match="Unexpected"):
        model.load_state_dict(dict(model.state_dict()) | {"rope_phase": torch.zeros(1)}, strict=True)
    initialise(model)


def test_bad_input_is_named() -> None:
    with pytest.raises(ConfigError, match="pe_mode must be ape or rope"):
        FlowTransformerConfig(pe_mode="none")
    with pytest.raises(ConfigError, match="patch_size 3 must divide"):
        DenseConfig(patch_size=3)
    with pytest.raises(ConfigError, match="must equal model_channels"):
        SparseConfig(sparse_conditions=True, cond_channels=8)
    latent, x = LatentFlow(FlowTransformerConfig(**SMALL)), voxels()
    with pytest.raises(StateError, match="one time for each sample"):
        latent(x, torch.zeros(1), torch.zeros(2, 1, 6))
    with pytest.raises(StateError, match="tokens must be"):
        latent(x.replace(torch.zeros(40, 3)), torch.zeros(2), torch.zeros(2, 1, 6))
    moved = SparseTensor(x.coords + torch.tensor([0, 1, 0, 0], dtype=torch.int32), x.feats, 9, 2)
    with pytest.raises(StateError, match="concat must lie"):
        latent(x, torch.zeros(2), torch.zeros(2, 1, 6), concat=moved)
    with pytest.raises(StateError, match="x must be"):
        StructureFlow(FlowTransformerConfig(**SMALL))(torch.zeros(1, 4, 4, 4, 5), torch.zeros(1), torch.zeros(1, 1, 6))
