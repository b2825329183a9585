"""The shipped TRELLIS.2 pipelines plan, and run at small sizes with random weights, every stage of them."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from shapewright import Mesh, discover, normalise
from shapewright.plan import check
from shapewright.run import build_parts, execute
from shapewright.testing import toys
from shapewright.weights.fill import fill_at_random

ROOT = Path(__file__).resolve().parents[2]
CATALOG = discover()
REGISTRY: dict[str, Any] = yaml.safe_load((ROOT / "registry.yaml").read_text())["pipelines"]
NAMES = [
    "trellis2-512",
    "trellis2-1024",
    "trellis2-1024-direct",
    "trellis2-1536",
    "trellis2-texturing",
    "trellis2-reconstruct",
]
FLOW = {
    "model_channels": 24, "cond_channels": 24, "num_blocks": 1, "num_heads": 2, "mlp_ratio": 2.0, "in_channels": 4,
    "out_channels": 4,
}  # fmt: skip
SLAT = FLOW | {"stride": 4, "mean": [0.0] * 4, "std": [1.0] * 4}
VAE = {
    "latent_channels": 4, "encoder_channels": [8, 8, 16], "encoder_blocks": [0, 1, 1], "decoder_channels": [16, 8, 8],
    "decoder_blocks": [1, 1, 0],
}  # fmt: skip
SMALL: dict[str, dict[str, Any]] = {
    "conditioner/dinov3": {
        "hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32, "image_size": 32,
    },
    "generator/trellis2-structure-flow": FLOW | {"resolution": 4, "stride": 2},
    "generator/trellis2-slat-flow": SLAT,
    "encoder/trellis2-structure-vae": {
        "latent_channels": 4, "channels": [4, 8], "num_res_blocks": 1, "num_res_blocks_middle": 1,
    },
    "encoder/trellis2-shape-vae": VAE,
    "encoder/trellis2-texture-vae": VAE,
    "representation/o-voxel": {"resolution": 16},
    "transform/occupied-voxels": {"resolution": 4},
    "transform/requantise-voxels": {"resolution": 32, "max_tokens": 60, "least": 16, "stride": 4},
    "transform/bake-pbr": {"texture_size": 64},
}  # fmt: skip


def shrunk(entry: Mapping[str, Any]) -> dict[str, Any]:
    """The pipeline with small networks; stages and wiring as shipped."""
    small = deepcopy(dict(entry))
    for body in small["components"].values():
        options = body.setdefault("with", {})
        texture = options.get("latent") == "trellis2-texture"
        options.update(SMALL.get(body["use"], {}))
        if texture:
            options.update(in_channels=8, concat_channels=4, concat_mean=[0.0] * 4, concat_std=[1.0] * 4)
        body.pop("weights", None)
    for stage in small["stages"]:
        options = stage.get("with", {})
        for name, value in (("size", 32), ("steps", 2), ("times", 2)):
            if name in options:
                options[name] = value
    return small


@pytest.mark.parametrize("name", NAMES)
def test_shipped_pipelines_plan(name: str) -> None:
    plan = check(name, REGISTRY[name], CATALOG)
    assert plan.tags[plan.output] == "mesh"


@pytest.mark.parametrize("name", NAMES)
def test_pipelines_run_from_input_to_mesh(name: str) -> None:
    if name != "trellis2-reconstruct":
        for package in ("xatlas", "fast_simplification"):
            pytest.importorskip(package, reason="baking needs the extra 'texture'")
    plan = check(name, shrunk(REGISTRY[name]), CATALOG)
    parts = build_parts(plan, CATALOG)
    for alias, part in parts.items():
        if isinstance(part, torch.nn.Module):
            fill_at_random(part.eval(), 1, alias)
    if "cells" in parts:  # random weights must not leave the structure empty
        parts["cells"].decoder.out_layer[-1].bias.data += 0.5
    image = torch.zeros(40, 40, 4, dtype=torch.uint8)
    image[8:32, 8:32] = torch.tensor([200, 90, 40, 255], dtype=torch.uint8)
    values = {"image": image, "reference": normalise.normalise(toys.sphere())[0]}
    with torch.no_grad():
        run = execute(plan, CATALOG, {key: values[key] for key in plan.inputs}, parts=parts, seed=4)
        again = execute(plan, CATALOG, {key: values[key] for key in plan.inputs}, parts=parts, seed=4)
    mesh = run.output
    assert isinstance(mesh, Mesh)
    assert len(mesh.faces) > 0
    assert mesh.frame.up == "y"
    assert torch.equal(mesh.vertices, again.output.vertices)
    if "bake" in parts:
        assert mesh.appearance is not None
        assert mesh.appearance.materials[0].base_color_texture is not None
