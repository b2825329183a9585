"""Farthest point sampling of tensors: every backend chooses the same rows; Triton's program without CUDA."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from shapewright_kernels import farthest_point_sampling_tensors as sampling
from shapewright_kernels.farthest_point_sampling_tensors import farthest_rows

needs_triton = pytest.mark.skipif(find_spec("triton") is None, reason="triton is not installed")
SCRIPT = Path(__file__).parents[1] / "triton_farthest_points.py"


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("ties", [False, True])
def test_torch_chooses_the_rows_of_numba(dtype: torch.dtype, ties: bool) -> None:
    rng = torch.Generator().manual_seed(3)
    points = (torch.randint(0, 4, (3, 60, 3), generator=rng) if ties else torch.randn(3, 60, 3, generator=rng)).to(
        dtype
    )
    for count, start in ((1, 5), (20, 0), (70, 59)):
        wanted = farthest_rows(points, count, start=start, backend="numba")
        assert torch.equal(farthest_rows(points, count, start=start, backend="torch"), wanted)
        assert torch.equal(farthest_rows(points, count, start=start), wanted)
        assert torch.equal(farthest_rows(points[1], count, start=start), wanted[1])


@needs_triton
def test_triton_in_its_interpreter_chooses_the_rows_of_numba() -> None:
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    done = subprocess.run([sys.executable, str(SCRIPT)], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["scattered", "ties", "wide", "one"]


@needs_triton
@pytest.mark.parametrize("block", [512, 8192])
def test_the_program_compiles_for_an_h100_without_fusing_or_spilling(block: int) -> None:
    """A fused multiplication and addition rounds once instead of twice, and would choose other rows."""
    import triton
    from shapewright_kernels import farthest_point_sampling_triton as kernel
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    names = {"points": "*fp64", "distance": "*fp64", "chosen": "*i64", "size": "i32", "count": "i32"}
    constants = {**names, "BLOCK": "constexpr"}
    source = ASTSource(kernel.farthest_kernel, constants, {"BLOCK": block})
    options = {"num_warps": kernel.warps(block), "enable_fp_fusion": False}
    text = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options).asm["ptx"]
    assert "mul.f64" in text or "mul.rn.f64" in text
    assert "fma.rn.f64" not in text
    said = _assembled(text)
    assert re.search(r"\b0 bytes spill stores", said), said


def _assembled(text: str) -> str:
    import triton

    folder = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
    said = "triton brings no assembler"
    for assembler in [path for name in ("ptxas-blackwell", "ptxas") if (path := folder / name).exists()]:
        with tempfile.TemporaryDirectory() as scratch:
            given, made = Path(scratch) / "kernel.ptx", Path(scratch) / "kernel.cubin"
            given.write_text(text)
            command = [assembler, "-v", "--fmad=false", "--gpu-name", "sm_90a", given, "-o", made]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        said = done.stdout + done.stderr
        if done.returncode == 0:  # an older assembler may not read what the compiler writes
            break
    return said


def test_the_device_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    def chosen(kind: str) -> str:
        return sampling._backend_for(torch.device(kind))

    monkeypatch.setattr(sampling, "find_spec", lambda name: object())
    assert [chosen(kind) for kind in ("cpu", "cuda", "mps")] == ["numba", "triton", "torch"]
    monkeypatch.setattr(sampling, "find_spec", lambda name: None)
    assert [chosen(kind) for kind in ("cpu", "cuda", "mps")] == ["numba", "torch", "torch"]


@pytest.mark.parametrize(
    ("points", "options", "message"),
    [
        (torch.zeros(0, 3), {}, "N > 0"),
        (torch.zeros(2, 4, 2), {}, "must be"),
        (torch.zeros(4, 3), {"count": 0}, "count"),
        (torch.zeros(4, 3), {"start": 4}, "start"),
        (torch.full((4, 3), torch.nan), {}, "not finite"),
        (torch.zeros(4, 3), {"backend": "cuda"}, "backend must be one of"),
        (torch.zeros(4, 3), {"backend": "triton"}, "triton"),
    ],
)
def test_what_cannot_be_chosen_from_is_refused(points: torch.Tensor, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        farthest_rows(points, **{"count": 2, **options})
    assert "\n" not in str(caught.value)


def test_a_batch_of_none_has_no_rows() -> None:
    for backend in ("numba", "torch"):
        assert farthest_rows(torch.zeros(0, 5, 3), 4, backend=backend).shape == (0, 4)
