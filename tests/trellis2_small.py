"""The shipped TRELLIS.2 pipelines with small networks: stages and wiring as shipped, and weights in the published
layout."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file, save_file
from shapewright import discover
from shapewright.plan import check
from shapewright.run import build_parts
from shapewright.weights.fill import fill_at_random, save_weights

ROOT = Path(__file__).resolve().parents[1]
PIPELINES: dict[str, Any] = yaml.safe_load((ROOT / "registry.yaml").read_text())["pipelines"]
NAMES = [
    "trellis2-512", "trellis2-1024", "trellis2-1024-direct", "trellis2-1536", "trellis2-texturing",
    "trellis2-reconstruct",
]  # fmt: skip
FLOW = {
    "model_channels": 24, "cond_channels": 24, "num_blocks": 1, "num_heads": 2, "mlp_ratio": 2.0, "in_channels": 4,
    "out_channels": 4,
}  # fmt: skip
VAE = {
    "latent_channels": 4, "encoder_channels": [8, 8, 16], "encoder_blocks": [0, 1, 1], "decoder_channels": [16, 8, 8],
    "decoder_blocks": [1, 1, 0],
}  # fmt: skip
SMALL: dict[str, dict[str, Any]] = {
    "conditioner/dinov3": {
        "hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32, "image_size": 32,
    },
    "generator/trellis2-structure-flow": FLOW | {"resolution": 4, "stride": 2},
    "generator/trellis2-slat-flow": FLOW | {"stride": 4, "mean": [0.0] * 4, "std": [1.0] * 4},
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
    """The pipeline with small networks."""
    small = deepcopy(dict(entry))
    for body in small["components"].values():
        options = body.setdefault("with", {})
        texture = options.get("latent") == "trellis2-texture"
        options.update(SMALL.get(body["use"], {}))
        if texture:
            options.update(in_channels=8, concat_channels=4, concat_mean=[0.0] * 4, concat_std=[1.0] * 4)
    for stage in small["stages"]:
        options = stage.get("with", {})
        for name, value in (("size", 32), ("steps", 2), ("times", 2)):
            if name in options:
                options[name] = value
    return small


def keep_occupied(parts: Mapping[str, Any]) -> None:
    """Random weights must not leave the structure empty."""
    if "cells" in parts:
        parts["cells"].decoder.out_layer[-1].bias.data += 0.5


def write_registry(path: Path) -> Path:
    """All small pipelines under their own names."""
    entries = {name: shrunk(PIPELINES[name]) for name in NAMES}
    path.write_text(yaml.safe_dump({"schema": 1, "pipelines": entries}))
    return path


def write_weights(folder: Path, names: Iterable[str] = NAMES) -> Path:
    """Every file that the pipelines want, in the types of the published ones: ``folder/OWNER/NAME/FILE``."""
    catalog = discover()
    for name in names:
        entry = shrunk(PIPELINES[name])
        parts = build_parts(check(name, entry, catalog), catalog)
        for alias, body in entry["components"].items():
            if "weights" not in body:
                continue
            path = folder / body["weights"]["repo"] / body["weights"]["file"]
            if path.exists():
                continue
            half = torch.float32
            for word, kind in (("bf16", torch.bfloat16), ("fp16", torch.float16)):
                half = kind if word in path.name else half
            fill_at_random(parts[alias].eval(), 1, path.name, dtype=half)
            if alias == "cells":
                keep_occupied(parts)
            path.parent.mkdir(parents=True, exist_ok=True)
            save_weights(parts[alias], path)
            if alias == "structure":  # published files carry the table of position codes
                save_file({**load_file(path), "rope_phases": torch.zeros(64, 6, dtype=torch.complex64)}, path)
    return folder


def write_picture(path: Path, shade: int = 0) -> Path:
    """A disc of one colour on a transparent ground."""
    y, x = np.mgrid[:48, :48]
    alpha = np.where((x - 24) ** 2 + (y - 24) ** 2 < 18**2, 255, 0)
    pixels = np.stack([np.full_like(x, 200 - shade), 3 * x + shade, 40 + 2 * y, alpha], axis=2)
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)
    return path
