"""The TRELLIS.2 benchmark: tiny networks run through its code on the CPU; without CUDA it says so and stops."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gpu_trellis2.py"


def call(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPT), *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def test_smoke_run_measures_every_stage(tmp_path: Path) -> None:
    done = call("--cpu-smoke", "--json", str(tmp_path / "figures.json"))
    assert done.returncode == 0, done.stdout + done.stderr
    rows = json.loads((tmp_path / "figures.json").read_text())["rows"]
    single = [row["stage"] for row in rows if row["resolution"] == 16]
    assert single == [
        "condition 32", "structure flow", "structure decode", "shape flow 16", "texture flow", "shape decode",
        "texture decode",
    ]  # fmt: skip
    cascade = [row["stage"] for row in rows if row["resolution"] == 32]
    assert {"condition 64", "shape flow 16", "upsample", "shape flow 32"} <= set(cascade)
    assert all(row["seconds"] > 0 for row in rows)
    assert all(row["weights_gib"] > 0 and row["peak_gib"] == row["weights_gib"] + row["beyond_gib"] for row in rows)
    assert "keep" in done.stdout
    assert "one-at-a-time" in done.stdout


def test_single_stages_can_be_chosen(tmp_path: Path) -> None:
    done = call("--cpu-smoke", "--resolutions", "32", "--stage", "texture", "--stage", "upsample", "--json",
                str(tmp_path / "figures.json"))  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    rows = json.loads((tmp_path / "figures.json").read_text())["rows"]
    assert [row["stage"] for row in rows] == ["upsample", "texture flow", "texture decode"]
    nothing = call("--cpu-smoke", "--stage", "bake")
    assert nothing.returncode == 2
    assert "no stage starts with bake" in nothing.stderr


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_cuda_it_says_so_in_one_line() -> None:
    done = call()
    assert done.returncode == 2
    assert done.stderr.strip().count("\n") == 0
    assert "no CUDA device" in done.stderr
