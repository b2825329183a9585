"""Golden cases of TripoSG: our answers, and that a wrong answer fails."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file
from shapewright import discover
from shapewright.parity import find_cases, handlers, load_case, run_case

ROOT = Path(__file__).resolve().parents[2]
CASES = find_cases([ROOT / "tests" / "golden" / "triposg"])
MORE = ROOT.parent / "shared" / "fixtures" / "triposg"
KNOWN = handlers(discover())
BY_PACKAGE = {"dinov2", "clip_text"}


def _run(path: Path) -> None:
    if path.stem in BY_PACKAGE and find_spec("transformers") is None:
        pytest.skip("the transformers package is not installed")
    result = run_case(path, KNOWN)
    assert result.status == "pass", result.reason


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_case(path: Path) -> None:
    _run(path)


def test_all_cases_that_are_shared_pass() -> None:
    here = {path.name for path in CASES}
    rest = [path for path in sorted(MORE.glob("*.safetensors")) if path.name not in here]
    if not rest:
        pytest.skip("no further golden cases here")
    for path in rest:
        _run(path)


@pytest.mark.parametrize("name", ["vae_decode", "dit_single", "moe_8e_top2", "hier_rbox_logits_3_5", "image_prepare"])
def test_another_stored_output_fails(name: str, tmp_path: Path) -> None:
    source = next(path for path in CASES if path.stem == name)
    tensors = load_file(source)
    key = max((key for key in tensors if key.startswith("out.")), key=lambda key: (key == "out.grid", key))
    tensors[key] = tensors[key].flip(0)
    save_file(
        {key: value.contiguous() for key, value in tensors.items()}, tmp_path / source.name, load_case(source).metadata
    )
    result = run_case(tmp_path / source.name, KNOWN)
    assert result.status == "fail"
    assert key.removeprefix("out.") in result.reason
