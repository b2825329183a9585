"""The benchmark of sparse convolutions: its sides compute the same, and without CUDA its script says so."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import torch
from distributions import environment

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


def _run(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *words]
    return subprocess.run(command, capture_output=True, text=True, env=environment(), check=False)


def test_the_sides_of_the_benchmark_agree(tmp_path: Path) -> None:
    target = tmp_path / "rows.json"
    done = _run(
        str(BENCHMARKS / "kernels.py"), "--quick", "--operation", "sparse-convolution", "--resolution", "16",
        "--json", str(target),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = json.loads(target.read_text())
    assert [row["operation"] for row in rows] == ["sparse-convolution-64-forward", "sparse-convolution-64-training"]
    for row in rows:
        plain = {peer["name"]: peer["equal"] for peer in row["peers"] if peer["name"].startswith("torch")}
        assert plain == {"torch gather-scatter": True, "torch dense conv3d": True}
        assert row["units"] > 100


def test_the_script_for_cuda_says_what_it_lacks() -> None:
    if torch.cuda.is_available():
        done = _run(str(BENCHMARKS / "gpu_convolution.py"), "--quick", "--dtype", "float16")
        assert "0 of 1 rows exceed the tolerance" in done.stdout, done.stdout + done.stderr
    else:
        done = _run(str(BENCHMARKS / "gpu_convolution.py"))
        assert done.stdout.startswith("no CUDA device: nothing was measured")
    assert done.returncode == 0
