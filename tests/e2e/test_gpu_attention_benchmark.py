"""The attention benchmark: tiny sizes run through its code on the CPU; without CUDA it says so and stops."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gpu_attention.py"


def call(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPT), *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def test_smoke_run_checks_both_settings_and_writes_every_figure(tmp_path: Path) -> None:
    done = call("--cpu-smoke", "--sizes", "96", "--json", str(tmp_path / "figures.json"))
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert [(row["setting"], row["tokens"]) for row in figures["rows"]] == [("v1.1", 96), ("v1.0", 96)]
    assert all(row["ok"] and row["output_error"] < row["limit"] for row in figures["checks"])
    assert len(figures["checks"]) == 6
    for row in figures["rows"]:
        for way in ("forward", "backward"):
            assert row[f"{way}_ms"] > 0
            assert row[f"{way}_ratio"] == pytest.approx(row[f"flash_{way}_ms"] / row[f"{way}_ms"])
            assert row[f"{way}_of_floor"] == pytest.approx(row[f"floor_{way}_ms"] / row[f"{way}_ms"])


@pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device is here")
def test_without_cuda_it_exits_with_2_and_one_line() -> None:
    done = call()
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert "CUDA" in done.stderr


@pytest.mark.slow
@pytest.mark.skipif(find_spec("triton") is None, reason="triton is not installed")
def test_every_kernel_compiles_for_an_h100_without_spilling() -> None:
    script = SCRIPT.with_name("gpu_attention_compile.py")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(script), "--first"], capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 14
    assert all(", spilled 0," in line for line in lines)
    products = [line for line in lines if line.startswith(("forward", "query", "key", "top"))]
    assert len(products) == 11
    assert all("wgmma 0" not in line for line in products)
