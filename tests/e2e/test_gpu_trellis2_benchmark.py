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
        "condition 32", "structure", "structure decode", "shape 16", "texture", "shape decode", "texture decode",
    ]  # fmt: skip
    cascade = [row["stage"] for row in rows if row["resolution"] == 32]
    assert {"condition 64", "shape 16", "upsample", "shape 32"} <= set(cascade)
    assert all(row["seconds"] > 0 for row in rows)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_cuda_it_says_so_in_one_line() -> None:
    done = call()
    assert done.returncode == 2
    assert done.stderr.strip().count("\n") == 0
    assert "no CUDA device" in done.stderr
