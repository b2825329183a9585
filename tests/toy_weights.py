"""Install the toy plugin into a folder, and make weights for it in the layout of published repositories."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from distributions import install
from PIL import Image
from safetensors.torch import load_file, save_file
from shapewright.weights.fill import fill_at_random, save_weights

TESTS = Path(__file__).resolve().parent
PARTS = {"eye": "Eye", "flow": "Flow", "vae": "VAE"}


@contextmanager
def toymaker_installed(site: Path) -> Iterator[Path]:
    """Make this process see an installed distribution that offers :mod:`toymaker`."""
    install(site, "shapewright-toymaker", {}, {"toymaker": "toymaker"})
    sys.path.insert(0, str(site))
    try:
        yield site
    finally:
        sys.path.remove(str(site))


def toy_parts(seed: int = 3) -> dict[str, Any]:
    """The three networks with random weights."""
    from toymaker import networks

    parts = {}
    for alias, name in PARTS.items():
        cls = getattr(networks, name)
        parts[alias] = cls(cls.Config())
        fill_at_random(parts[alias], seed, alias)
    return parts


def write_repository(folder: Path, *, shard_bytes: int | None = None, seed: int = 3) -> Path:
    """``model_index.json`` and one sub-folder a component; the autoencoder's file holds keys of another network too."""
    parts = toy_parts(seed)
    folder.mkdir(parents=True)
    index = {"_class_name": "Toy", **{name: ["toy", name] for name in parts}}
    (folder / "model_index.json").write_text(json.dumps(index))
    save_weights(parts["eye"], folder / "eye" / "model.safetensors")
    save_weights(parts["flow"], folder / "flow" / "diffusion_pytorch_model.safetensors", shard_bytes=shard_bytes)
    path = folder / "vae" / "model.safetensors"
    save_weights(parts["vae"], path, prefix="vae.")
    save_file({**load_file(path), "discriminator.weight": torch.ones(2)}, path)
    return folder


def write_image(path: Path, shade: int = 0, size: tuple[int, int] = (20, 16)) -> Path:
    """A small picture that differs by ``shade``, its first column transparent."""
    width, height = size
    y, x = np.mgrid[:height, :width]
    alpha = np.where(x > 0, 255, 0)
    pixels = np.stack([(7 * x + shade) % 256, (11 * y + shade) % 256, np.full_like(x, shade % 256), alpha], axis=2)
    Image.fromarray(pixels.astype(np.uint8)).save(path)
    return path
