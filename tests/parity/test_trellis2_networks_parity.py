"""Autoencoders, samplers, cascade, conditions and training utilities of TRELLIS.2 equal the published results."""

from __future__ import annotations

from pathlib import Path

import pytest
from shapewright.parity import run_case
from shapewright_plugins import trellis2

HANDLERS = {(h.system, h.component): h for h in trellis2.register_parity_handlers()}
GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "trellis2"
KEPT = [
    "scvae_shape_encoder", "scvae_shape_decoder_eval", "scvae_shape_decoder_train", "scvae_tex_encoder",
    "scvae_tex_decoder", "ss_vae_encoder", "ss_vae_decoder", "ss_decode_pool", "sampler_euler", "sampler_cfg_dense",
    "sampler_ss_official", "sampler_shape_official", "sampler_tex_official", "cascade_1024", "cascade_1536_reduced",
    "flow_targets", "train_utils", "dino_v3_features", "preprocess_image",
]  # fmt: skip


@pytest.mark.parametrize("name", KEPT)
def test_published_case_is_reproduced(name: str) -> None:
    result = run_case(GOLDEN / f"{name}.safetensors", HANDLERS)
    assert result.status == "pass", result.reason


def test_every_shared_case_of_ours_passes(shared: Path) -> None:
    """All cases of the components answered here, those that came later too."""
    results = [run_case(path, HANDLERS) for path in sorted((shared / "fixtures" / "trellis2").glob("*.safetensors"))]
    ours = [result for result in results if result.status != "no-handler"]
    assert {result.case for result in ours} >= set(KEPT)
    assert [f"{result.case}: {result.reason}" for result in ours if result.status != "pass"] == []
