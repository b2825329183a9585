"""TRELLIS.2 at its published sizes on CUDA: seconds and peak memory of every stage, with random weights.

    python benchmarks/gpu_trellis2.py                    # 512, 1024 and 1536, under eight minutes on an H100
    python benchmarks/gpu_trellis2.py --json out.json
    python benchmarks/gpu_trellis2.py --cpu-smoke        # tiny networks on the CPU through the same code

Random weights predict no sensible structure, so decoders are led through the voxels of a sphere, whose latents are
about as many as the specification names for assets (2.2K, 9.6K, 22K). Each stage runs with its own network on the
device and no other. Times are of a second run of the stage; the first one compiles and tunes.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from shapewright import Condition, SparseLatent, SparseTensor, Voxels, discover
from shapewright.run import build
from shapewright.weights.empty import without_memory
from shapewright_plugins.trellis2.subdivisions import levels_of, subdivisions_of
from torch import nn

RADIUS = 0.35
PUBLISHED_SECONDS = {512: 3.0, 1024: 17.0, 1536: 60.0}
STEPS = 12
TEXTURE = {"latent": "trellis2-texture", "in_channels": 64, "concat_channels": 32}
HALF = {"generator": torch.bfloat16, "encoder": torch.float16, "conditioner": torch.float32}


@dataclass(frozen=True)
class Sizes:
    """What differs between the real run and the smoke run."""

    device: torch.device
    stride: int
    coarse: int
    images: tuple[int, int]
    options: dict[str, dict[str, Any]]


def real(device: torch.device) -> Sizes:
    return Sizes(device, 16, 512, (512, 1024), {"texture": TEXTURE})


def smoke() -> Sizes:
    flow: dict[str, Any] = {
        "model_channels": 24, "cond_channels": 24, "num_blocks": 1, "num_heads": 2, "in_channels": 4, "out_channels": 4,
    }  # fmt: skip
    slat = flow | {"stride": 4, "mean": [0.0] * 4, "std": [1.0] * 4}
    vae = {
        "latent_channels": 4, "encoder_channels": [8, 8, 16], "encoder_blocks": [0, 1, 1],
        "decoder_channels": [16, 8, 8], "decoder_blocks": [1, 1, 0],
    }  # fmt: skip
    beside = {
        "latent": "trellis2-texture", "in_channels": 8, "concat_channels": 4, "concat_mean": [0.0] * 4,
        "concat_std": [1.0] * 4,
    }  # fmt: skip
    options = {
        "dino": {
            "hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32,
            "image_size": 32,
        },
        "structure": flow | {"resolution": 4, "stride": 2},
        "cells": {"latent_channels": 4, "channels": [4, 8]},
        "shape": slat,
        "texture": slat | beside,
        "shape_vae": vae,
        "texture_vae": vae,
    }  # fmt: skip
    return Sizes(torch.device("cpu"), 4, 16, (32, 64), options)


KEYS = {
    "dino": "conditioner/dinov3",
    "structure": "generator/trellis2-structure-flow",
    "cells": "encoder/trellis2-structure-vae",
    "shape": "generator/trellis2-slat-flow",
    "texture": "generator/trellis2-slat-flow",
    "shape_vae": "encoder/trellis2-shape-vae",
    "texture_vae": "encoder/trellis2-texture-vae",
}


def network(alias: str, sizes: Sizes) -> Any:
    """A component with random weights drawn on the device, in the types of the published files."""
    options = dict(sizes.options.get(alias, {}))
    key = KEYS[alias]
    if key.startswith("encoder"):
        options["parts"] = "decoder"
    with without_memory():
        part: Any = build(discover(), key, options)
    half = HALF[key.partition("/")[0]] if sizes.device.type == "cuda" else torch.float32
    kept = tuple(pattern.strip("*").rstrip(".") for pattern in getattr(part, "float32_keys", ()))
    rng = torch.Generator(sizes.device).manual_seed(0)
    for name, parameter in list(part.named_parameters()):
        owner, _, leaf = name.rpartition(".")
        dtype = torch.float32 if any(word in name for word in kept) else half
        values = torch.randn(parameter.shape, generator=rng, device=sizes.device)
        if parameter.ndim > 1:
            values /= math.sqrt(math.prod(parameter.shape[1:]))
        else:
            values = values * 0.02 + (0.0 if leaf == "bias" else 1.0)
        part.get_submodule(owner)._parameters[leaf] = nn.Parameter(values.to(dtype), requires_grad=False)
    return part.to(sizes.device).eval()


def sphere(resolution: int, device: torch.device) -> SparseTensor:
    """The voxels that a sphere passes through, found level by level."""
    cells, coords = 4, torch.cartesian_prod(*[torch.arange(4)] * 3)
    while True:
        distance = ((coords + 0.5) / cells - 0.5).norm(dim=1) - RADIUS
        coords = coords[distance.abs() < (0.5 if cells == resolution else 0.87) / cells]
        if cells == resolution:
            break
        factor = 3 if resolution % (2 * cells) else 2
        steps = torch.cartesian_prod(*[torch.arange(factor)] * 3)
        coords, cells = (coords[:, None] * factor + steps).reshape(-1, 3), cells * factor
    rows = torch.cat([torch.zeros(len(coords), 1), coords], dim=1).int().to(device)
    rows = torch.unique(rows, dim=0)
    return SparseTensor(rows, rows[:, :0].float(), resolution)


def measured(sizes: Sizes, run: Callable[[], object]) -> tuple[float, float]:
    """Seconds of the second run, and the most memory in GiB that was allocated on the device."""
    cuda = sizes.device.type == "cuda"
    run()
    if cuda:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    start = time.perf_counter()
    run()
    if cuda:
        torch.cuda.synchronize()
    seconds = time.perf_counter() - start
    return seconds, torch.cuda.max_memory_allocated() / 2**30 if cuda else 0.0


def rows(resolution: int, sizes: Sizes) -> Iterator[dict[str, Any]]:
    """One row for each stage of a pipeline."""
    device, steps = sizes.device, STEPS if sizes.device.type == "cuda" else 2
    cascade = resolution > sizes.coarse
    image = torch.rand(64, 64, 3, generator=torch.Generator().manual_seed(0))
    rng = torch.Generator().manual_seed(1)
    state: dict[str, Any] = {}

    def stage(name: str, alias: str, run: Callable[[Any], object], tokens: int) -> dict[str, Any]:
        part = network(alias, sizes)
        with torch.no_grad():
            seconds, peak = measured(sizes, lambda: run(part))
        return {"resolution": resolution, "stage": name, "tokens": tokens, "seconds": seconds, "peak_gib": peak}

    def keep(name: str, value: Any) -> Any:
        state[name] = value
        return value

    def tokens_of(name: str) -> Condition:
        found: Condition = state[name]
        return found

    for size in sizes.images[: 2 if cascade else 1]:
        row = stage(f"condition {size}", "dino", lambda p, s=size: keep(f"cond{s}", p.encode(image, size=s)), 0)
        yield row | {"tokens": tokens_of(f"cond{size}").tokens.shape[1]}
    low, high = sizes.images[0], sizes.images[1 if cascade else 0]
    row = stage(
        "structure", "structure",
        lambda p: keep("cells", p.sample(tokens_of(f"cond{low}"), steps=steps, rng=rng)), 0,
    )  # fmt: skip
    cells = state["cells"].values[0, 0].numel()
    yield row | {"tokens": cells}
    yield stage("structure decode", "cells", lambda p: p.decode(state["cells"]), cells)

    def flows(at: int, name: str, condition: str) -> Iterator[dict[str, Any]]:
        fine = sphere(at, device)
        levels = levels_of(fine, int(math.log2(sizes.stride)))
        top = levels[-1].structure.coords
        support = Voxels(top, at // sizes.stride)
        state[name] = (fine, levels)
        yield stage(
            f"shape {at}", "shape",
            lambda p: keep(
                f"{name} latent", p.sample(tokens_of(condition), support=support, steps=steps, rng=rng)
            ),
            len(top),
        )  # fmt: skip

    if cascade:
        yield from flows(sizes.coarse, "coarse", f"cond{low}")
        yield stage(
            "upsample",
            "shape_vae",
            lambda p: led(p, state["coarse latent"], state["coarse"][1]),
            len(state["coarse"][0].coords),
        )
    yield from flows(resolution, "fine", f"cond{high}")
    fine, levels = state["fine"]
    latent: SparseLatent = state["fine latent"]
    count = len(latent.values.coords)
    support = Voxels(latent.values.coords, latent.values.resolution)
    yield stage(
        "texture", "texture",
        lambda p: keep(
            "texture",
            p.sample(
                tokens_of(f"cond{high}"), support=support, concat=latent, steps=steps, guidance=1.0, rng=rng
            ),
        ),
        count,
    )  # fmt: skip
    yield stage("shape decode", "shape_vae", lambda p: led(p, latent, levels), len(fine.coords))
    guides = subdivisions_of(levels, fine)
    yield stage("texture decode", "texture_vae", lambda p: p.decode(state["texture"], guides=guides), len(fine.coords))


def led(part: Any, latent: SparseLatent, levels: Any) -> object:
    """The shape decoder on given voxels. Neighbour maps are made anew, as when the voxels are predicted."""
    fresh = levels_of(SparseTensor(levels[0].fine.coords, levels[0].fine.coords[:, :0].float(),
                                   latent.values.resolution * 2 ** len(levels)), len(levels))  # fmt: skip
    return part.decoder(latent.values, levels=fresh)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cpu-smoke", action="store_true", help="tiny networks on the CPU")
    parser.add_argument("--resolutions", type=int, nargs="+", help="512, 1024 and 1536 by default")
    parser.add_argument("--json", type=Path, help="write all figures here")
    arguments = parser.parse_args()
    if not arguments.cpu_smoke and not torch.cuda.is_available():
        print("gpu_trellis2: no CUDA device; use --cpu-smoke to try the code", file=sys.stderr)
        return 2
    sizes = smoke() if arguments.cpu_smoke else real(torch.device("cuda"))
    wanted = arguments.resolutions or ([16, 32] if arguments.cpu_smoke else [512, 1024, 1536])
    found = []
    for resolution in wanted:
        total, peak = 0.0, 0.0
        for row in rows(resolution, sizes):
            found.append(row)
            total, peak = total + row["seconds"], max(peak, row["peak_gib"])
            print("{resolution:5d} {stage:18s} {tokens:9d} tokens {seconds:8.3f} s {peak_gib:6.2f} GiB".format(**row))
        published = PUBLISHED_SECONDS.get(resolution)
        against = f" (published: {published:g} s)" if published else ""
        print(f"{resolution:5d} in total {total:.2f} s{against}, at most {peak:.2f} GiB", flush=True)
    if arguments.json:
        name = torch.cuda.get_device_name() if sizes.device.type == "cuda" else "cpu"
        arguments.json.write_text(json.dumps({"device": name, "rows": found}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
