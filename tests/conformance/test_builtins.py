"""Everything that ships keeps its contract and its claims; the tests are made from the catalog.

A component that is added is checked without a line here. Documented gaps go into ``EXPECTED`` with their reason.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from shapewright import Frame, Mesh, discover, save_mesh
from shapewright.testing import conformance, toys

CATALOG = discover()
SHIPPED = [key for key in CATALOG.specs if CATALOG.owner(key).distribution == "shapewright"]
EXPECTED: dict[str, dict[str, str]] = {
    "conditioner/clip-text": dict.fromkeys(("images", "alpha"), "it encodes a prompt, and the kit asks with an image")
}
_UNTRAINED = "as published, an untrained flow transformer answers zero whatever the condition"
EXPECTED |= {f"generator/trellis2-{name}": {"condition": _UNTRAINED} for name in ("structure-flow", "slat-flow")}
"""Component to check to reason."""
OPTIONS: dict[str, dict[str, Any]] = {f"metric/{name}-p2p": {"samples": 20_000} for name in ("chamfer", "f-score")}
"""Options at which a component takes less time than at its defaults."""
OPTIONS |= {f"metric/rendered-{name}": {"size": 64} for name in ("materials", "normals")}
OPTIONS["metric/pbr-attributes"] = {"samples": 20_000}
OPTIONS["transform/bake-pbr"] = {"texture_size": 64}
OPTIONS["renderer/raster"] = {"size": 96}
OPTIONS |= {
    "encoder/triposg-vae": {
        "latent_channels": 4,
        "num_attention_heads": 2,
        "width_encoder": 16,
        "width_decoder": 16,
        "num_layers_encoder": 1,
        "num_layers_decoder": 1,
        "tokens": 12,
    },
    "generator/triposg-dit": {
        "num_attention_heads": 2,
        "width": 16,
        "cross_attention_dim": 16,
        "in_channels": 4,
        "num_layers": 3,
        "tokens": 12,
    },
    "generator/triposg-scribble-dit": {
        "num_attention_heads": 2,
        "width": 16,
        "cross_attention_dim": 16,
        "cross_attention_2_dim": 16,
        "in_channels": 4,
        "num_layers": 3,
        "tokens": 12,
    },
    "conditioner/dinov2": {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "image_size": 70},
    "conditioner/clip-text": {
        "vocab_size": 60,
        "hidden_size": 24,
        "intermediate_size": 48,
        "num_hidden_layers": 1,
        "num_attention_heads": 3,
        "max_position_embeddings": 16,
        "bos_token_id": 57,
        "eos_token_id": 59,
    },
    "transform/surface-samples": {"count": 500},
    "extractor/hierarchical-marching-cubes": {"coarse_depth": 4, "fine_depth": 6},
    "extractor/flash-dual": {"depth": 6, "min_resolution": 15},
}
_SMALL_FLOW: dict[str, Any] = {
    "model_channels": 24,
    "cond_channels": 16,
    "num_blocks": 1,
    "num_heads": 2,
    "in_channels": 4,
    "out_channels": 4,
    "resolution": 4,
}
_SMALL_VAE: dict[str, Any] = {
    "latent_channels": 4,
    "encoder_channels": [8, 8],
    "encoder_blocks": [0, 1],
    "decoder_channels": [8, 8],
    "decoder_blocks": [1, 0],
}
OPTIONS |= {
    "encoder/trellis2-shape-vae": _SMALL_VAE,
    "encoder/trellis2-texture-vae": _SMALL_VAE,
    "encoder/trellis2-structure-vae": {
        "latent_channels": 4,
        "channels": [4, 8],
        "num_res_blocks": 1,
        "num_res_blocks_middle": 1,
    },
    "generator/trellis2-structure-flow": _SMALL_FLOW,
    "generator/trellis2-slat-flow": _SMALL_FLOW | {"mean": [0.0] * 4, "std": [1.0] * 4},
    "conditioner/dinov3": {
        "hidden_size": 24,
        "num_hidden_layers": 1,
        "num_attention_heads": 3,
        "intermediate_size": 32,
        "image_size": 32,
    },
}
INPUTS: dict[str, dict[str, Any]] = {}
"""Example values for ports that the kit cannot fill."""


def _cut_out(side: int) -> torch.Tensor:
    """An image whose middle is opaque."""
    image = torch.rand(32, 32, 4, generator=torch.Generator().manual_seed(side))
    image[..., 3] = 0
    image[8 : 8 + side, 8 : 8 + side, 3] = 1
    return image


INPUTS |= {
    "transform/prepare-image": {"image": [_cut_out(10), _cut_out(16)]},
    "transform/trellis2-prepare-image": {"image": [_cut_out(10), _cut_out(16)]},
    "conditioner/clip-text": {"text": [torch.arange(16)[None], torch.arange(16).flip(0)[None]]},
}

for _key in SHIPPED:
    if _key == "dataset/folder":
        continue
    globals()[f"test_{_key.replace('/', '_').replace('-', '_')}"] = conformance(
        _key,
        expected_failures=EXPECTED.get(_key),
        options=OPTIONS.get(_key),
        inputs=INPUTS.get(_key),
        catalog=CATALOG,
    )


def test_a_folder_of_meshes_conforms(tmp_path: Path) -> None:
    from shapewright.testing import conform

    for name, mesh in (("sphere", toys.sphere()), ("cube", toys.cube()), ("tetrahedron", toys.tetrahedron())):
        save_mesh(Mesh(mesh.vertices, mesh.faces, Frame()), tmp_path / f"{name}.obj")
    found = conform("dataset/folder", options={"path": str(tmp_path)}, catalog=CATALOG)
    assert {outcome.status for outcome in found} == {"pass"}, found


def test_every_component_that_ships_has_its_test_here() -> None:
    assert {"representation/o-voxel", "extractor/flexicubes", "metric/chamfer", "dataset/stress-suite"} <= set(SHIPPED)
    for table in (EXPECTED, OPTIONS, INPUTS):
        assert set(table) <= set(SHIPPED)


@pytest.mark.parametrize("claim", ["open_surfaces", "interiors", "non_manifold", "sharp_edges", "differentiable"])
def test_every_claim_is_made_by_something_that_ships(claim: str) -> None:
    """So that each check is shown on a real component, not on toys alone."""
    assert any(getattr(CATALOG.specs[key].capabilities, claim) for key in SHIPPED)
