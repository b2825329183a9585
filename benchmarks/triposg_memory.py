"""Peak memory and seconds of TripoSG at its published sizes, from files of random weights in the published layout.

    python benchmarks/triposg_memory.py --steps 2      # on the CPU: minutes, 8 GB of disk, 12 GiB of memory
    python benchmarks/triposg_memory.py --device cuda  # 50 steps and the whole extraction
    python benchmarks/triposg_memory.py --cpu-smoke    # tiny networks through the same code

The registry's pipeline runs as it is, up to the field; each policy in a process of its own. Files are float32, as
published, unless ``--stored`` says otherwise. On the CPU two kinds of memory are told apart: anonymous (what the
program wrote, which is what it needs) and pages of mapped files (which the system takes back when it wants to). On CUDA
the most that was allocated counts. Random weights have no surface: the extractor is led around a torus, and asks the
decoder at every point that it visits there.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from shapewright import discover
from shapewright.plan import Plan, check
from shapewright.registry import load_registry
from shapewright.residency import POLICIES, Residency
from shapewright.run import build_parts
from shapewright.runner import run_samples
from shapewright.weights.empty import learned, parameter_bytes, without_memory
from shapewright.weights.entry import read_entry
from shapewright.weights.fill import published_state
from shapewright.weights.locate import Places
from shapewright.weights.provide import provide
from shapewright_plugins.triposg.field import SATURATION, LatentField
from shapewright_plugins.triposg.flash import Config as FlashConfig
from shapewright_plugins.triposg.flash import FlashDual
from torch import Tensor

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
SPELLED = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}
SLOPE = 200.0
"""Logits a unit of length."""
PARTS = {"dino": "image_encoder_dinov2/model", "flow": "transformer/diffusion_pytorch_model",
         "vae": "vae/diffusion_pytorch_model"}  # fmt: skip
TINY = (
    "dino.hidden_size=24", "dino.num_hidden_layers=1", "dino.num_attention_heads=2", "dino.image_size=70",
    "dino.shortest_edge=64", "dino.crop=56", "flow.num_attention_heads=2", "flow.width=32", "flow.in_channels=4",
    "flow.num_layers=3", "flow.tokens=12", "flow.cross_attention_dim=24", "vae.latent_channels=4",
    "vae.num_attention_heads=2", "vae.width_encoder=16", "vae.width_decoder=16", "vae.num_layers_encoder=1",
    "vae.num_layers_decoder=2",
)  # fmt: skip


@dataclass
class Phase:
    """Peaks in bytes of one part of a run, and its seconds. ``device`` is ``None`` on the CPU."""

    name: str
    seconds: float = 0.0
    anonymous: int = 0
    file_pages: int = 0
    resident: int = 0
    device: int | None = None


@dataclass
class Phases:
    """Watches the memory of this process every few milliseconds, apart for each named phase."""

    device: torch.device
    done: dict[str, Phase] = field(default_factory=dict)
    _now: list[Phase] = field(default_factory=list)

    def _look(self) -> None:
        found = {}
        for line in Path("/proc/self/status").read_text().splitlines():
            name, _, value = line.partition(":")
            if name in ("RssAnon", "RssFile", "VmRSS"):
                found[name] = int(value.split()[0]) * 1024
        for phase in self._now[-1:]:
            phase.anonymous = max(phase.anonymous, found["RssAnon"])
            phase.file_pages = max(phase.file_pages, found["RssFile"])
            phase.resident = max(phase.resident, found["VmRSS"])

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Look until the block ends."""
        stop = threading.Event()

        def look() -> None:
            while not stop.wait(0.005):
                self._look()

        thread = threading.Thread(target=look, daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """What happens in the block, without phases inside it, belongs to ``name``; equal names are one phase."""
        phase = self.done.setdefault(name, Phase(name))
        cuda = self.device.type == "cuda"
        if cuda:
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
        self._now.append(phase)
        self._look()
        start = time.perf_counter()
        try:
            yield
        finally:
            if cuda:
                torch.cuda.synchronize()
                phase.device = max(phase.device or 0, torch.cuda.max_memory_allocated())
            self._look()
            phase.seconds += time.perf_counter() - start
            self._now.pop()
            print(f"{name}: {phase.seconds:.1f} s", file=sys.stderr, flush=True)


def torus(points: Tensor) -> Tensor:
    """Logits of a torus."""
    around = torch.linalg.vector_norm(points[..., :2], dim=-1) - 0.55
    return SLOPE * (torch.sqrt(around**2 + points[..., 2] ** 2) - 0.24)


def planned(overrides: list[str]) -> tuple[Plan, Any]:
    """The registry's pipeline without its extractor."""
    catalog = discover()
    body = load_registry((), catalog).pipeline("triposg", overrides)
    stages = [stage for stage in body["stages"] if not stage["run"].startswith("mesher.")]
    components = {alias: part for alias, part in body["components"].items() if alias != "mesher"}
    return check("triposg", {**body, "components": components, "stages": stages, "output": "field"}, catalog), catalog


def write_weights(folder: Path, overrides: list[str], dtype: torch.dtype) -> int:
    """Random weights of all networks in the published layout; what is there already stays. Returns bytes of all."""
    plan, catalog = planned(overrides)
    with without_memory():
        parts = build_parts(plan, catalog)
    total = 0
    for alias, part in parts.items():
        if learned(part):
            file = folder / read_entry(plan.parts[alias].weights).repo / f"{PARTS[alias]}.safetensors"
            file.parent.mkdir(parents=True, exist_ok=True)
            table = {key: tuple(value.shape) for key, value in published_state(part).items()}
            size = sum(math.prod(shape) for shape in table.values()) * dtype.itemsize
            if not file.exists() or file.stat().st_size < size:
                _write_tensors(file, table, dtype)
            total += size
    return total


def _write_tensors(file: Path, table: Mapping[str, tuple[int, ...]], dtype: torch.dtype) -> None:
    """A safetensors file written tensor by tensor: the library would want all of them in memory."""
    header, place = {}, 0
    for key, shape in table.items():
        size = math.prod(shape) * dtype.itemsize
        header[key] = {"dtype": SPELLED[dtype], "shape": shape, "data_offsets": (place, place + size)}
        place += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    rng = torch.Generator().manual_seed(0)
    with file.with_suffix(".part").open("wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        for key, shape in table.items():
            values = torch.randn(shape, generator=rng)
            if len(shape) > 1:
                values /= math.sqrt(math.prod(shape[1:]))
            else:
                values = values * 0.02 + (0.0 if key.endswith("bias") else 1.0)
            stream.write(values.to(dtype).reshape(-1).view(torch.uint8).numpy().data)
    file.with_suffix(".part").replace(file)


def measured(folder: Path, overrides: list[str], policy: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """One run in this process."""
    device = torch.device(arguments.device)
    phases = Phases(device)
    with phases.watching():
        with phases.phase("start"):
            plan, catalog = planned(overrides)
            provided = provide(plan, catalog, places=Places((folder,), hub=False), dtype=DTYPES[arguments.dtype])
            sizes = {alias: parameter_bytes(part) for alias, part in provided.parts.items() if learned(part)}

        def watched(alias: str) -> Any:
            def fill(part: Any, where: torch.device) -> None:
                with phases.phase(f"read {alias}"):
                    provided.fillers[alias](part, where)

            return fill

        fillers = {alias: watched(alias) for alias in provided.fillers}
        residency = Residency(provided.parts, fillers, policy=policy, device=device)
        calls = _timed_calls(provided.parts["flow"], device)
        side = 64 if arguments.cpu_smoke else 512
        image = torch.randint(0, 256, (side, side, 4), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
        image[..., 3] = 255
        image[: side // 8, :, 3] = 0
        with phases.phase("run"):
            finished = run_samples(plan, catalog, [{"image": image}], residency, seed=42)
        if device.type == "cuda":  # the runner starts anew at every stage
            phases.done["run"].device = max(record.device_bytes or 0 for record in finished.stages)
        failure = finished.samples[0].failure
        if failure is not None:
            raise RuntimeError(f"{failure.stage}: {failure.reason}")
        evaluations = _extracted(finished.samples[0].values["field"], residency, arguments, phases)
    guided = 2 if arguments.guidance > 1 else 1
    return {
        "residency": policy,
        "phases": [asdict(phase) for phase in phases.done.values()],
        "stages": [asdict(record) for record in finished.stages],
        # The first step compiles and touches memory for the first time.
        "seconds_per_step": statistics.median(calls[guided:] or calls) * guided,
        "evaluations": evaluations,
        "network_bytes": sizes,
        "float32_bytes": sum(4 * sum(p.numel() for p in provided.parts[alias].parameters()) for alias in sizes),
    }


def _timed_calls(network: Any, device: torch.device) -> list[float]:
    calls: list[float] = []

    def now() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    started: list[float] = []
    network.register_forward_pre_hook(lambda *_: started.append(now()))
    network.register_forward_hook(lambda *_: calls.append(now() - started.pop()))
    return calls


def _extracted(state: LatentField, residency: Residency, arguments: argparse.Namespace, phases: Phases) -> int:
    residency.ready({"vae"})
    count = 0

    def led(points: Tensor) -> Tensor:
        nonlocal count
        count += len(points)
        return torus(points).to(points) + 0 * state.query(points).to(points)

    with phases.phase("extract"):
        FlashDual(FlashConfig(arguments.depth, min_resolution=63 if arguments.depth > 7 else 31)).extract(
            LatentField(led, state.frame, SATURATION)
        )
    residency.finish()
    return count


def described(row: Mapping[str, Any], cuda: bool) -> str:
    """A few lines of Markdown."""
    gib = 2**30
    lines = [f"### {row['residency']}", ""]
    if cuda:
        lines += ["| phase | seconds | device GiB |", "|---|--:|--:|"]
        lines += [f"| {p['name']} | {p['seconds']:.2f} | {(p['device'] or 0) / gib:.2f} |" for p in row["phases"]]
    else:
        lines += ["| phase | seconds | anonymous GiB | file pages GiB | resident GiB |", "|---|--:|--:|--:|--:|"]
        lines += [
            f"| {p['name']} | {p['seconds']:.2f} | {p['anonymous'] / gib:.2f} | {p['file_pages'] / gib:.2f} "
            f"| {p['resident'] / gib:.2f} |"
            for p in row["phases"]
        ]
    stages = ", ".join(f"{stage['component']} {stage['seconds']:.2f} s" for stage in row["stages"])
    held = ", ".join(f"{alias} {size / gib:.2f}" for alias, size in row["network_bytes"].items())
    lines += [
        "",
        f"{row['seconds_per_step']:.2f} s a step; stages: {stages}; extraction asked at {row['evaluations']:,} points.",
        f"Networks in the dtype of the run, GiB: {held}; all of them in float32: {row['float32_bytes'] / gib:.2f}.",
    ]
    return "\n".join(lines)


def main() -> int:
    """Write the files, run every policy in a process of its own, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="bfloat16", choices=list(DTYPES))
    parser.add_argument("--stored", default="float32", choices=list(DTYPES), help="dtype of the files")
    parser.add_argument("--steps", type=int, help="50 on CUDA, 2 on the CPU")
    parser.add_argument("--guidance", type=float, default=7.0)
    parser.add_argument("--residency", nargs="+", default=["keep", "one-at-a-time"], choices=POLICIES)
    parser.add_argument("--depth", type=int, help="of the extraction: 9 on CUDA, as published, 6 on the CPU")
    parser.add_argument("--folder", type=Path, help="keep the files here for another run")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--cpu-smoke", action="store_true", help="tiny networks")
    parser.add_argument("--in-this-process", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    cuda = arguments.device.startswith("cuda")
    if cuda and not torch.cuda.is_available():
        print("triposg_memory: no CUDA device; the default is --device cpu", file=sys.stderr)
        return 2
    arguments.steps = arguments.steps or (50 if cuda else 2)
    arguments.depth = arguments.depth or (9 if cuda else 6)
    overrides = [
        f"stages.2.with.steps={arguments.steps}",
        f"stages.2.with.guidance={arguments.guidance}",
        *(TINY if arguments.cpu_smoke else ()),
    ]
    if arguments.in_this_process:
        print(json.dumps(measured(arguments.folder, overrides, arguments.residency[0], arguments)))
        return 0
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.folder or Path(scratch)
        size = write_weights(folder, overrides, DTYPES[arguments.stored])
        print(f"{size / 1e9:.2f} GB of {arguments.stored} weights in {folder}", file=sys.stderr, flush=True)
        rows = []
        for policy in arguments.residency:
            given = ["--in-this-process", "--folder", str(folder), "--residency", policy]
            for name in ("device", "dtype", "stored", "steps", "guidance", "depth"):
                given += [f"--{name}", str(getattr(arguments, name))]
            command = [sys.executable, __file__, *given, *(["--cpu-smoke"] if arguments.cpu_smoke else [])]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
            if done.returncode:
                return done.returncode
            rows.append(json.loads(done.stdout))
            print(described(rows[-1], cuda), end="\n\n", flush=True)
    name = torch.cuda.get_device_name() if cuda else f"CPU, {os.cpu_count()} cores"
    print(f"{name}; torch {torch.__version__}; {arguments.steps} steps, {arguments.dtype}")
    if arguments.json is not None:
        arguments.json.write_text(json.dumps({"device": name, "runs": rows}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
