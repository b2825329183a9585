"""Sparse convolution on CUDA: checked against float64, timed forward and backward beside spconv and plain torch.

    python benchmarks/gpu_convolution.py [--quick] [--dtype float16] [--json FILE]

Voxels are those of a sphere at resolutions 128 to 512, widths 64 to 256; neighbour maps are ready on all sides, as for
every layer but the first of a level. Times are medians of CUDA events. Ratios above 1 mean that ours is faster; the
goal beside spconv is 1.2. A peer that cannot be imported, or that disagrees, is a line that says so.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import torch
from operations_networks import gather_scatter, spconv_layer, training, voxels_of_a_shell
from shapewright_kernels.sparse_convolution import sparse_conv3d
from shapewright_kernels.sparse_convolution_pairs import submanifold_neighbours
from torch import Tensor

GOAL = 1.2
TOLERANCES = {"float32": 1e-5, "float16": 4e-3, "bfloat16": 3e-2}
"""Largest error, relative to the largest value, against float64 sums of the same rounded operands."""


def milliseconds(call: Callable[[], Any], rounds: int) -> float:
    """Median over ``rounds`` calls after three that warm up (and tune)."""
    for _ in range(3):
        call()
    times = []
    for _ in range(rounds):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        call()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end))
    return median(times)


def error(found: Sequence[Tensor], wanted: Sequence[Tensor]) -> float:
    """Largest difference of any of the tensors, relative to its largest value."""
    return max(
        float((a.double() - b.double()).abs().max() / b.double().abs().max())
        for a, b in zip(found, wanted, strict=True)
    )


def measure(resolution: int, width: int, dtype: torch.dtype, rounds: int) -> dict[str, Any]:
    """One row: our times, our error, and each peer's times, ratios and error."""
    device = torch.device("cuda")
    coords = voxels_of_a_shell(resolution).to(device)
    neighbours = submanifold_neighbours(coords)
    rng = torch.Generator(device).manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=rng, device=device)

    leaves = [normal(len(coords), width), normal(width, 3, 3, 3, width) / width, normal(width)]
    leaves = [leaf.to(dtype).requires_grad_() for leaf in leaves]
    exact = [leaf.detach().double().requires_grad_() for leaf in leaves]
    ours = partial(sparse_conv3d, leaves[0], None, leaves[1], leaves[2], neighbours=neighbours)
    double = partial(sparse_conv3d, exact[0], None, exact[1], exact[2], neighbours=neighbours, backend="torch")
    wanted = training(exact, double)
    row: dict[str, Any] = {"voxels": len(coords), "width": width, "dtype": str(dtype).removeprefix("torch.")}
    row["pairs"] = int((neighbours.rows >= 0).sum())
    row |= _times(ours, leaves, rounds) | {"error": error(training(leaves, ours), wanted), "peers": {}}
    makers = {
        "spconv": partial(spconv_layer, coords, resolution, None, *leaves),
        "torch gather-scatter": partial(gather_scatter, neighbours, *leaves),
    }
    for name, make in makers.items():
        try:
            layer = make()
            peer = _times(layer, leaves, rounds) | {"error": error(training(leaves, layer), wanted)}
        except Exception as failure:  # a peer may fail in any way: that is a line, not the end of the run
            print(f"  {name} is left out: {str(failure).splitlines()[0]}", file=sys.stderr)
            continue
        row["peers"][name] = peer | {kind: peer[f"{kind}_ms"] / row[f"{kind}_ms"] for kind in ("forward", "backward")}
    return row


def _times(layer: Callable[[], Tensor], leaves: Sequence[Tensor], rounds: int) -> dict[str, float]:
    with torch.no_grad():
        forward = milliseconds(layer, rounds)
    found = layer()
    slope = torch.ones_like(found)
    backward = milliseconds(lambda: torch.autograd.grad(found, leaves, slope, retain_graph=True), rounds)
    return {"forward_ms": forward, "backward_ms": backward}


def line(row: dict[str, Any]) -> str:
    """One row for the terminal."""
    speed = 2 * row["pairs"] * row["width"] ** 2 / row["forward_ms"] / 1e9
    text = (
        f"{row['voxels']:>8} voxels {row['width']:>4} {row['dtype']:<9} forward {row['forward_ms']:8.3f} ms "
        f"({speed:6.1f} TFLOP/s) backward {row['backward_ms']:8.3f} ms, error {row['error']:.1e}"
    )
    for name, peer in row["peers"].items():
        wrong = "" if peer["error"] <= 2 * TOLERANCES[row["dtype"]] else f"  DISAGREES by {peer['error']:.1e}"
        text += f"\n{'':>10}{peer['forward']:6.2f}x / {peer['backward']:.2f}x {name}{wrong}"
    return text


def main(words: Sequence[str] | None = None) -> int:
    """Measure, print, write; 1 where our error is too large."""
    parser = argparse.ArgumentParser(description="Sparse convolution on CUDA beside its peers.")
    parser.add_argument("--quick", action="store_true", help="one size")
    parser.add_argument("--dtype", choices=list(TOLERANCES), action="append", help="default float16 and float32")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write rows here")
    arguments = parser.parse_args(words)
    if not torch.cuda.is_available():
        print("no CUDA device: nothing was measured (on the CPU: benchmarks/kernels.py --operation sparse-convolution)")
        return 0
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}")
    sizes = [(192, 64)] if arguments.quick else [(192, 64), (192, 128), (384, 64), (384, 128), (384, 256), (512, 128)]
    rows = []
    for name in arguments.dtype or ["float16", "float32"]:
        for resolution, width in sizes:
            rows.append(measure(resolution, width, getattr(torch, name), 5 if arguments.quick else 20))
            print(line(rows[-1]), flush=True)
            if arguments.json is not None:
                arguments.json.write_text(json.dumps(rows, indent=1) + "\n")
    wrong = [row for row in rows if row["error"] > TOLERANCES[row["dtype"]]]
    slow = [
        row for row in rows if (peer := row["peers"].get("spconv")) and min(peer["forward"], peer["backward"]) < GOAL
    ]
    print(f"{len(wrong)} of {len(rows)} rows exceed the tolerance; {len(slow)} are below {GOAL}x of spconv")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
