"""TRELLIS.2 at its published sizes: seconds and peak memory of every stage, with random weights.

    python benchmarks/gpu_trellis2.py                    # CUDA: 512, 1024 and 1536, under eight minutes on an H100
    python benchmarks/gpu_trellis2.py --json out.json
    python benchmarks/gpu_trellis2.py --device cpu --resolutions 512 --stage texture   # one step on the CPU, minutes
    python benchmarks/gpu_trellis2.py --cpu-smoke        # tiny networks on the CPU through the same code

Random weights predict no sensible structure, so decoders are led through the voxels of a sphere, whose latents are
about as many as the specification names for assets (2.2K, 9.6K, 22K). Each stage runs with its own network on the
device and no other. Times on CUDA are of a second run of the stage; the first one compiles and tunes. A stage that is
left out gives the next ones random values of the same shape.

``weights`` is what a stage's network takes, ``beyond`` the most that running it took on top. ``--residency keep`` needs
all weights and the largest ``beyond``, ``one-at-a-time`` the largest sum of the two.
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
from shapewright import Condition, GridLatent, SparseLatent, SparseTensor, Voxels, discover
from shapewright.bench.memory import PeakMemory
from shapewright.run import build
from shapewright.weights.empty import parameter_bytes, without_memory
from shapewright_plugins.trellis2.subdivisions import levels_of, subdivisions_of
from torch import nn

RADIUS = 0.35
PUBLISHED_SECONDS = {512: 3.0, 1024: 17.0, 1536: 60.0}
STEPS, GUIDANCE = 12, 7.5
TEXTURE = {"latent": "trellis2-texture", "in_channels": 64, "concat_channels": 32}
HALF = {"generator": torch.bfloat16, "encoder": torch.float16, "conditioner": torch.float32}
CPU_HALF = HALF | {"encoder": torch.bfloat16}
"""Processors multiply bfloat16; float16 takes as much memory."""
GIB = 2**30


@dataclass(frozen=True)
class Sizes:
    """What differs between the real run and the smoke run."""

    device: torch.device
    stride: int
    coarse: int
    images: tuple[int, int]
    options: dict[str, dict[str, Any]]
    steps: int
    half: dict[str, torch.dtype]
    repeat: bool = True
    guidance: float = GUIDANCE


def real(device: torch.device, steps: int | None = None, guidance: float = GUIDANCE) -> Sizes:
    cuda = device.type == "cuda"
    return Sizes(device, 16, 512, (512, 1024), {"texture": TEXTURE}, steps or (STEPS if cuda else 1),
                 HALF if cuda else CPU_HALF, repeat=cuda, guidance=guidance)  # fmt: skip


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
    return Sizes(torch.device("cpu"), 4, 16, (32, 64), options, 2, dict.fromkeys(HALF, torch.float32))


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
    half = sizes.half[key.partition("/")[0]]
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


def measured(sizes: Sizes, run: Callable[[], object], weights: int) -> tuple[float, float]:
    """Seconds, and the most memory in GiB that was taken beyond the weights."""
    if sizes.device.type != "cuda":
        if sizes.repeat:
            run()
        with PeakMemory() as peak:
            start = time.perf_counter()
            run()
            seconds = time.perf_counter() - start
        return seconds, peak.bytes / GIB
    run()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    start = time.perf_counter()
    run()
    torch.cuda.synchronize()
    seconds = time.perf_counter() - start
    return seconds, (torch.cuda.max_memory_allocated() - weights) / GIB


@dataclass
class Chain:
    """The stages of a pipeline one after the other, and what they made."""

    resolution: int
    sizes: Sizes
    wanted: tuple[str, ...]

    def __post_init__(self) -> None:
        self.made: dict[str, Any] = {}
        self.rng = torch.Generator().manual_seed(1)

    def stage(
        self,
        name: str,
        alias: str,
        run: Callable[[Any], object],
        tokens: int,
        value: str = "",
        instead: Callable[[], object] | None = None,
    ) -> Iterator[dict[str, Any]]:
        """A row if the stage is wanted; its result is kept as ``value``, for which ``instead()`` stands in."""
        if self.wanted and not any(name.startswith(each) for each in self.wanted):
            if value and instead is not None:
                self.made[value] = instead()
            return
        start = time.perf_counter()
        part = network(alias, self.sizes)
        weights = parameter_bytes(part)
        filled = time.perf_counter() - start
        kept: list[Any] = []

        def call() -> None:
            kept[:] = [run(part)]

        with torch.no_grad():
            seconds, beyond = measured(self.sizes, call, weights)
        if value:
            self.made[value] = kept[0]
        yield {
            "resolution": self.resolution, "stage": name, "network": alias, "tokens": tokens, "seconds": seconds,
            "seconds_to_fill": filled, "weights_gib": weights / GIB, "beyond_gib": beyond,
            "peak_gib": weights / GIB + beyond,
        }  # fmt: skip

    def random(self, *shape: int) -> torch.Tensor:
        """Normal values on the device."""
        return torch.randn(*shape, generator=self.rng).to(self.sizes.device)


def options_of(alias: str, sizes: Sizes) -> Any:
    """The configuration of a network."""
    with without_memory():
        return build(discover(), KEYS[alias], sizes.options.get(alias, {})).config


def rows(resolution: int, sizes: Sizes, wanted: tuple[str, ...] = ()) -> Iterator[dict[str, Any]]:
    """One row for each stage of a pipeline."""
    device, steps, guidance = sizes.device, sizes.steps, sizes.guidance
    cascade = resolution > sizes.coarse
    image = torch.rand(64, 64, 3, generator=torch.Generator().manual_seed(0))
    chain = Chain(resolution, sizes, wanted)
    made, rng = chain.made, chain.rng
    dino, grid, flow = (options_of(alias, sizes) for alias in ("dino", "structure", "shape"))

    def seen(size: int) -> Iterator[dict[str, Any]]:
        length = 1 + dino.num_register_tokens + (size // dino.patch_size) ** 2
        return chain.stage(
            f"condition {size}", "dino", lambda p: p.encode(image, size=size), length, f"cond{size}",
            lambda: Condition(chain.random(1, length, dino.hidden_size), chain.random(1, length, dino.hidden_size)),
        )  # fmt: skip

    for size in sizes.images[: 2 if cascade else 1]:
        yield from seen(size)
    low, high = sizes.images[0], sizes.images[1 if cascade else 0]
    side = (grid.resolution,) * 3
    yield from chain.stage(
        "structure flow", "structure", lambda p: p.sample(made[f"cond{low}"], steps=steps, guidance=guidance, rng=rng),
        math.prod(side), "cells", lambda: GridLatent(chain.random(1, grid.out_channels, *side)),
    )  # fmt: skip
    yield from chain.stage("structure decode", "cells", lambda p: p.decode(made["cells"]), math.prod(side))

    def shape(at: int, value: str, condition: str) -> Iterator[dict[str, Any]]:
        fine = sphere(at, device)
        levels = levels_of(fine, int(math.log2(sizes.stride)))
        support = Voxels(levels[-1].structure.coords, at // sizes.stride)
        made[f"{value} voxels"] = fine, levels
        yield from chain.stage(
            f"shape flow {at}", "shape",
            lambda p: p.sample(made[condition], support=support, steps=steps, guidance=guidance, rng=rng),
            len(support.coords), value,
            lambda: SparseLatent(SparseTensor(
                support.coords, chain.random(len(support.coords), flow.out_channels), support.resolution
            )),
        )  # fmt: skip

    if cascade:
        yield from shape(sizes.coarse, "coarse", f"cond{low}")
        voxels, levels = made["coarse voxels"]
        yield from chain.stage("upsample", "shape_vae", lambda p: led(p, made["coarse"], levels), len(voxels.coords))
    yield from shape(resolution, "fine", f"cond{high}")
    fine, levels = made["fine voxels"]
    latent: SparseLatent = made["fine"]
    support = Voxels(latent.values.coords, latent.values.resolution)
    yield from chain.stage(
        "texture flow", "texture",
        lambda p: p.sample(made[f"cond{high}"], support=support, concat=latent, steps=steps, guidance=1.0, rng=rng),
        len(support.coords), "texture", lambda: latent,
    )  # fmt: skip
    yield from chain.stage("shape decode", "shape_vae", lambda p: led(p, latent, levels), len(fine.coords))
    guides = subdivisions_of(levels, fine)
    yield from chain.stage(
        "texture decode", "texture_vae", lambda p: p.decode(made["texture"], guides=guides), len(fine.coords)
    )


def led(part: Any, latent: SparseLatent, levels: Any) -> object:
    """The shape decoder on given voxels. Neighbour maps are made anew, as when the voxels are predicted."""
    fresh = levels_of(SparseTensor(levels[0].fine.coords, levels[0].fine.coords[:, :0].float(),
                                   latent.values.resolution * 2 ** len(levels)), len(levels))  # fmt: skip
    return part.decoder(latent.values, levels=fresh)


def told(resolution: int, found: list[dict[str, Any]], cuda: bool) -> str:
    """A line on all stages of a pipeline together."""
    # The shape flows of a cascade are two networks, the decoder of its two stages is one.
    weights = {row["stage" if row["network"] == "shape" else "network"]: row["weights_gib"] for row in found}
    beyond = max(row["beyond_gib"] for row in found)
    total = sum(row["seconds"] for row in found)
    published = PUBLISHED_SECONDS.get(resolution) if cuda else None
    against = f" (published: {published:g} s)" if published else ""
    return (
        f"{resolution:5d} in total {total:.2f} s{against}; keep {sum(weights.values()) + beyond:.2f} GiB, "
        f"one-at-a-time {max(row['peak_gib'] for row in found):.2f} GiB"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cpu-smoke", action="store_true", help="tiny networks on the CPU")
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--steps", type=int, help="of every flow: 12 on CUDA, 1 on the CPU")
    parser.add_argument("--guidance", type=float, default=GUIDANCE, help="of structure and shape; 1: one branch only")
    parser.add_argument("--stage", action="append", default=[], help="only stages that start so; repeat it for several")
    parser.add_argument("--resolutions", type=int, nargs="+", help="512, 1024 and 1536 by default")
    parser.add_argument("--json", type=Path, help="write all figures here")
    arguments = parser.parse_args()
    if not arguments.cpu_smoke and arguments.device == "cuda" and not torch.cuda.is_available():
        print("gpu_trellis2: no CUDA device; use --device cpu, or --cpu-smoke to try the code", file=sys.stderr)
        return 2
    sizes = (
        smoke() if arguments.cpu_smoke else real(torch.device(arguments.device), arguments.steps, arguments.guidance)
    )
    wanted = arguments.resolutions or ([16, 32] if arguments.cpu_smoke else [512, 1024, 1536])
    found = []
    for resolution in wanted:
        ours = []
        for row in rows(resolution, sizes, tuple(arguments.stage)):
            ours.append(row)
            print(
                "{resolution:5d} {stage:18s} {tokens:9d} tokens {seconds:8.3f} s, weights {weights_gib:5.2f} GiB, "
                "beyond {beyond_gib:5.2f} GiB".format(**row), flush=True,
            )  # fmt: skip
        if not ours:
            print(f"gpu_trellis2: no stage starts with {' or '.join(arguments.stage)}", file=sys.stderr)
            return 2
        print(told(resolution, ours, sizes.device.type == "cuda"), flush=True)
        found += ours
    if arguments.json:
        name = torch.cuda.get_device_name() if sizes.device.type == "cuda" else "cpu"
        arguments.json.write_text(json.dumps({"device": name, "rows": found}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
