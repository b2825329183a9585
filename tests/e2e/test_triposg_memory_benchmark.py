"""The memory benchmark of TripoSG: tiny networks run through its code on the CPU; without CUDA it says so and stops."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "triposg_memory.py"


def call(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(SCRIPT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment, check=False)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="it reads /proc")
def test_a_smoke_run_measures_reading_running_and_extraction(tmp_path: Path) -> None:
    pytest.importorskip("transformers", reason="the conditioner needs the extra 'conditioners'")
    figures = tmp_path / "figures.json"
    done = call("--cpu-smoke", "--residency", "one-at-a-time", "--steps", "1", "--json", str(figures))
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(figures.read_text())["runs"]
    phases = {phase["name"]: phase for phase in row["phases"]}
    assert list(phases) == ["start", "run", "read dino", "read flow", "read vae", "extract"]
    assert all(phase["seconds"] > 0 and phase["resident"] >= phase["anonymous"] > 0 for phase in phases.values())
    assert row["seconds_per_step"] > 0
    assert 0 < row["evaluations"] < 63**3
    assert "### one-at-a-time" in done.stdout


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_cuda_one_line_says_so() -> None:
    done = call("--device", "cuda")
    assert done.returncode == 2
    assert done.stderr == "triposg_memory: no CUDA device; the default is --device cpu\n"
