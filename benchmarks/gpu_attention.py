"""Spatial Sparse Attention on CUDA: checked against float64, then timed against PyTorch's flash attention.

    python benchmarks/gpu_attention.py                 # all sizes and settings, under eight minutes on an H100
    python benchmarks/gpu_attention.py --json out.json
    python benchmarks/gpu_attention.py --cpu-smoke     # tiny sizes on the CPU through the same code
    python benchmarks/gpu_attention.py --cpu-memory    # peak memory of the torch backend against the number of tokens

The published heads, widths, blocks and top-k; tokens are the voxels nearest to a sphere, which fill blocks of 8^3 as
measured surfaces do (about 90 a block). What is timed is the attention: compressed, scores and top-k, selected, window,
gated sum; projections and the compression of keys are left out on both sides.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from shapewright_kernels.spatial_sparse_attention import (
    Backend,
    SpatialStructure,
    attend_compressed,
    attend_selected,
    attend_windows,
    select_blocks,
    sort_block,
    spatial_structure,
)
from torch import Tensor
from torch.nn import functional

HEADS, KV_HEADS, WIDTH, WINDOW, SHIFT = 32, 2, 32, 8, 4
SIZES = (16384, 32768, 65536, 131072)
CHECKED_TOKENS = 4096
# An H100, as measured: dense bfloat16 matrix products and memory; its exponential unit by its clock.
MATRIX_FLOPS, BYTES, EXPONENTIALS = 798e12, 3.0e12, 3.7e12
GOALS_MS = {("v1.1", 131072): (10.0, 15.0)}


@dataclass(frozen=True)
class Setting:
    """Block edges and top-k of a published version."""

    name: str
    compression: int
    selection: int
    top_k: int


SETTINGS = (Setting("v1.1", 8, 8, 8), Setting("v1.0", 4, 8, 8))


@dataclass(frozen=True)
class Problem:
    """Inputs of one size and setting."""

    structure: SpatialStructure
    q: Tensor
    k: Tensor
    v: Tensor
    compressed_k: Tensor
    compressed_v: Tensor
    gates: Tensor
    grad: Tensor

    def to(self, dtype: torch.dtype) -> Problem:
        values = (self.q, self.k, self.v, self.compressed_k, self.compressed_v, self.gates, self.grad)
        return Problem(self.structure, *(value.to(dtype) for value in values))

    def leaves(self) -> list[Tensor]:
        return [t.detach().requires_grad_() for t in (self.q, self.k, self.v, self.compressed_k, self.compressed_v)]


def sphere_voxels(count: int) -> tuple[Tensor, int]:
    """``count`` voxels nearest to a sphere, ``(count, 4)`` int32, and the edge of their grid, a multiple of 8."""
    radius = math.sqrt(count / (4 * math.pi * 1.45))
    resolution = 8 * math.ceil((2 * radius + 6) / 8)
    axis = torch.arange(resolution, dtype=torch.float32) - (resolution - 1) / 2 - 0.13
    distance = (
        (axis[:, None, None] ** 2 + axis[None, :, None] ** 2 + axis[None, None, :] ** 2).sqrt().sub_(radius).abs_()
    )
    nearest = distance.flatten().topk(count, largest=False).indices.sort().values
    cells = torch.stack([nearest // resolution**2, nearest // resolution % resolution, nearest % resolution], dim=1)
    return torch.cat([torch.zeros(count, 1, dtype=torch.int64), cells], dim=1).int(), resolution


def make_problem(tokens: int, setting: Setting, device: torch.device, dtype: torch.dtype) -> Problem:
    coords, resolution = sphere_voxels(tokens)
    coords = coords[sort_block(coords, setting.selection)].to(device)
    structure = spatial_structure(
        coords, compression=setting.compression, selection=setting.selection, window=WINDOW, shift=SHIFT,
        resolution=resolution, batch_size=1,
    )  # fmt: skip
    draw = torch.Generator(device).manual_seed(0)

    def normal(rows: int, heads: int) -> Tensor:
        return torch.randn(rows, heads, WIDTH, generator=draw, device=device).to(dtype)

    blocks = len(structure.compression)
    gates = torch.rand(tokens, 3, generator=draw, device=device).to(dtype)
    return Problem(
        structure, normal(tokens, HEADS), normal(tokens, KV_HEADS), normal(tokens, KV_HEADS), normal(blocks, KV_HEADS),
        normal(blocks, KV_HEADS), gates, normal(tokens, HEADS),
    )  # fmt: skip


def attend(
    problem: Problem, leaves: list[Tensor], top_k: int, backend: Backend, selected: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The gated sum of the branches, and the selection."""
    q, k, v, compressed_k, compressed_v = leaves
    structure, gates = problem.structure, problem.gates[:, :, None, None].unbind(1)
    total, lse = attend_compressed(q, compressed_k, compressed_v, structure, backend=backend)
    if selected is None:
        selected = select_blocks(q, compressed_k, lse.detach(), structure, top_k, backend=backend)
    total = gates[0] * total
    total = total + gates[1] * attend_selected(q, k, v, selected, structure, backend=backend)[0]
    total = total + gates[2] * attend_windows(q, k, v, structure.windows, backend=backend)[0]
    return total, selected


def relative(found: Tensor, wanted: Tensor) -> float:
    return float((found.detach().double() - wanted.detach()).norm() / wanted.detach().norm().clamp_min(1e-300))


def check(setting: Setting, tokens: int, device: torch.device, dtypes: list[torch.dtype]) -> list[dict[str, Any]]:
    """Relative errors (Frobenius) of the result and the gradients of each type against float64 of the same inputs."""
    rows = []
    for dtype in dtypes:
        problem = make_problem(tokens, setting, device, dtype)
        exact = problem.to(torch.float64)
        leaves = exact.leaves()
        wanted, selected = attend(exact, leaves, setting.top_k, "torch")
        wanted_grads = torch.autograd.grad(wanted, leaves, exact.grad)
        mine = problem.leaves()
        found, _ = attend(problem, mine, setting.top_k, "auto", selected)
        grads = torch.autograd.grad(found, mine, problem.grad)
        _, chosen = attend(problem, problem.leaves(), setting.top_k, "auto")
        errors = [relative(found, wanted), *(relative(a, b) for a, b in zip(grads, wanted_grads, strict=True))]
        same = (chosen.sort(-1).values == selected.sort(-1).values).all(-1).double().mean()
        limit = 1e-5 if dtype == torch.float32 else 2e-2
        rows.append(
            {
                "setting": setting.name,
                "dtype": str(dtype).removeprefix("torch."),
                "tokens": tokens,
                "output_error": errors[0],
                "gradient_error": max(errors[1:]),
                "same_selection": float(same),
                "limit": limit,
                "ok": max(errors) < limit and (dtype != torch.float32 or float(same) > 0.999),
            }
        )
    return rows


def milliseconds(call: Callable[[], Any], device: torch.device, rounds: int) -> float:
    """Median time of a call after one that is not counted (it compiles and tunes)."""
    call()
    times = []
    for _ in range(rounds):
        if device.type == "cuda":
            begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            begin.record()
            call()
            end.record()
            torch.cuda.synchronize()
            times.append(begin.elapsed_time(end))
        else:
            start = time.perf_counter()
            call()
            times.append((time.perf_counter() - start) * 1e3)
    return median(times)


def floors(structure: SpatialStructure, selected: Tensor, size: int) -> tuple[float, float]:
    """Least milliseconds forward and backward on an H100: the largest of products, exponentials and memory."""
    tokens, width = len(structure), HEADS * WIDTH
    counts = structure.selection.offsets.diff()
    seen = torch.where(selected >= 0, counts[selected.clamp_min(0).long()], 0).sum(-1).double().mean()
    windows = structure.windows.offsets.diff().double()
    chosen, near = float(seen), float((windows**2).sum() / windows.sum())
    blocks = len(structure.compression)
    once = 2 * tokens * width * size + 2 * tokens * KV_HEADS * WIDTH * size
    forward = max(
        (6 * blocks + 4 * chosen + 4 * near) * tokens * width / MATRIX_FLOPS,
        (2 * blocks + chosen + near) * tokens * HEADS / EXPONENTIALS,
        once / BYTES,
    )
    backward = max(
        10 * (blocks + chosen + near) * tokens * width / MATRIX_FLOPS,
        (blocks + chosen + near) * tokens * HEADS / EXPONENTIALS,
        2 * once / BYTES,
    )
    return forward * 1e3, backward * 1e3


def flash_times(tokens: int, device: torch.device, dtype: torch.dtype, rounds: int) -> tuple[float, float]:
    """Full attention over the same tokens by PyTorch, forward and backward; keys repeated to all heads beforehand."""
    draw = torch.Generator(device).manual_seed(0)
    q, k, v, grad = (torch.randn(1, HEADS, tokens, WIDTH, generator=draw, device=device).to(dtype) for _ in range(4))
    leaves = [t.requires_grad_() for t in (q, k, v)]

    def run() -> Tensor:
        if device.type != "cuda":
            return functional.scaled_dot_product_attention(*leaves)
        with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.FLASH_ATTENTION):
            return functional.scaled_dot_product_attention(*leaves)

    with torch.no_grad():
        forward = milliseconds(run, device, rounds)
    out = run()
    backward = milliseconds(lambda: torch.autograd.grad(out, leaves, grad, retain_graph=True), device, rounds)
    return forward, backward


def peak_mib(call: Callable[[], Any], device: torch.device) -> float | None:
    """Most memory that PyTorch held during a call, inputs included; ``None`` on the CPU (see ``--cpu-memory``)."""
    if device.type != "cuda":
        return None
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    call()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() / 2**20


def measure(
    setting: Setting, tokens: int, device: torch.device, dtype: torch.dtype, flash: tuple[float, float], rounds: int
) -> dict[str, Any]:
    problem = make_problem(tokens, setting, device, dtype)
    leaves = problem.leaves()

    def forward() -> Tensor:
        with torch.no_grad():
            return attend(problem, leaves, setting.top_k, "auto")[0]

    def both() -> None:
        out, _ = attend(problem, leaves, setting.top_k, "auto")
        torch.autograd.grad(out, leaves, problem.grad)

    out, selected = attend(problem, leaves, setting.top_k, "auto")
    gradients = partial(torch.autograd.grad, out, leaves, problem.grad, retain_graph=True)
    forward_ms = milliseconds(forward, device, rounds)
    backward_ms = milliseconds(gradients, device, rounds)
    del out, gradients  # the peak is to be that of one evaluation
    floor_forward, floor_backward = floors(problem.structure, selected, problem.q.element_size())
    goals = GOALS_MS.get((setting.name, tokens), (None, None))
    return {
        "setting": setting.name,
        "tokens": tokens,
        "blocks": len(problem.structure.compression),
        "tokens_per_block": tokens / len(problem.structure.selection),
        "forward_ms": forward_ms,
        "backward_ms": backward_ms,
        "flash_forward_ms": flash[0],
        "flash_backward_ms": flash[1],
        "forward_ratio": flash[0] / forward_ms,
        "backward_ratio": flash[1] / backward_ms,
        "floor_forward_ms": floor_forward,
        "floor_backward_ms": floor_backward,
        "forward_of_floor": floor_forward / forward_ms,
        "backward_of_floor": floor_backward / backward_ms,
        "goal_forward_ms": goals[0],
        "goal_backward_ms": goals[1],
        "peak_forward_mib": peak_mib(forward, device),
        "peak_both_mib": peak_mib(both, device),
    }


def run(device: torch.device, dtype: torch.dtype, sizes: tuple[int, ...], checked: int, rounds: int) -> dict[str, Any]:
    """Checks and times; prints as it goes."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    print(f"{name}, torch {torch.__version__}, {dtype}")
    dtypes = [torch.float32, torch.bfloat16, torch.float16]
    checks = [row for setting in SETTINGS for row in check(setting, checked, device, dtypes)]
    for row in checks:
        print(
            f"check {row['setting']} {row['dtype']:8s} output {row['output_error']:.1e} gradients "
            f"{row['gradient_error']:.1e} same selection {row['same_selection']:.2%} {'ok' if row['ok'] else 'WRONG'}"
        )
    rows = []
    print(
        "setting  tokens   forward ms (flash, ratio, of floor)       backward ms (flash, ratio, of floor)     peak MiB"
    )
    for tokens in sizes:
        flash = flash_times(tokens, device, dtype, min(rounds, 5))
        for setting in SETTINGS:
            row = measure(setting, tokens, device, dtype, flash, rounds)
            rows.append(row)
            peak = (
                "-" if row["peak_both_mib"] is None else f"{row['peak_forward_mib']:.0f} / {row['peak_both_mib']:.0f}"
            )
            parts = [
                f"{row[f'{way}_ms']:9.2f} ({row[f'flash_{way}_ms']:9.2f}, {row[f'{way}_ratio']:5.1f}x, "
                f"{row[f'{way}_of_floor']:4.0%})"
                for way in ("forward", "backward")
            ]
            print(f"{setting.name:8s} {tokens:7d} {parts[0]}  {parts[1]}  {peak}", flush=True)
    return {"device": name, "torch": torch.__version__, "dtype": str(dtype), "checks": checks, "rows": rows}


def _cpu_peak(tokens: int, answer: Any) -> None:
    torch.set_num_threads(1)
    problem = make_problem(tokens, SETTINGS[0], torch.device("cpu"), torch.float32)
    leaves = problem.leaves()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    out, _ = attend(problem, leaves, SETTINGS[0].top_k, "torch")
    after_forward = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    torch.autograd.grad(out, leaves, problem.grad)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    answer.put(((after_forward - before) / 1024, (after - before) / 1024))


def cpu_memory(sizes: tuple[int, ...]) -> dict[str, Any]:
    """Growth of the resident memory of a fresh process over its inputs, forward, and forward with backward."""
    context = multiprocessing.get_context("spawn")
    rows = []
    print("tokens   forward MiB   with backward MiB   KiB a token")
    for tokens in sizes:
        answer = context.Queue()
        process = context.Process(target=_cpu_peak, args=(tokens, answer))
        process.start()
        forward, both = answer.get(timeout=600)
        process.join()
        rows.append({"tokens": tokens, "forward_mib": forward, "both_mib": both})
        print(f"{tokens:7d} {forward:12.0f} {both:19.0f} {both * 1024 / tokens:13.1f}", flush=True)
    return {"device": "cpu", "memory": rows}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--cpu-smoke", action="store_true", help="tiny sizes on the CPU, through the same code")
    parser.add_argument("--cpu-memory", action="store_true", help="peak memory of the torch backend on the CPU")
    parser.add_argument("--sizes", type=int, nargs="+", help="numbers of tokens")
    options = parser.parse_args(arguments)
    if options.cpu_memory:
        result = cpu_memory(tuple(options.sizes or (4096, 8192, 16384)))
    elif options.cpu_smoke:
        result = run(torch.device("cpu"), torch.float32, tuple(options.sizes or (256, 512)), 192, 1)
    elif torch.cuda.is_available():
        result = run(torch.device("cuda"), torch.bfloat16, tuple(options.sizes or SIZES), CHECKED_TOKENS, 20)
    else:
        print("gpu_attention.py needs a CUDA device and found none; --cpu-smoke runs tiny sizes here", file=sys.stderr)
        return 2
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")
    return 0 if all(row["ok"] for row in result.get("checks", [])) else 1


if __name__ == "__main__":
    sys.exit(main())
