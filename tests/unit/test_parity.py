"""The parity runner itself: formats, rules, verdicts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from distributions import assert_one_line_error, install, shapewright
from safetensors.torch import save_file
from shapewright.parity import (
    Answer,
    GoldenCaseError,
    close,
    compare,
    exact,
    find_cases,
    load_case,
    procedural_parameters,
    quantiles,
    share_within,
)

METADATA = {"system": "toy", "component": "double", "config": "{}", "notes": "", "atol": "1e-6", "rtol": "1e-6"}


def write_case(path: Path, out: torch.Tensor | None = None, **metadata: str) -> Path:
    x = torch.tensor([1.0, 2.0, -3.0])
    tensors = {"in.x": x, "out.y": 2 * x if out is None else out}
    save_file(tensors, path, {**METADATA, **metadata})
    return path


def test_a_case_carries_inputs_outputs_and_tolerances(tmp_path: Path) -> None:
    case = load_case(write_case(tmp_path / "a.safetensors", atol="exact"))
    assert (case.system, case.component, case.atol, case.rtol) == ("toy", "double", 0.0, 1e-6)
    assert case.inputs["x"].tolist() == [1, 2, -3]
    assert set(case.outputs) == {"y"}


def test_procedural_parameters_follow_the_published_check_value() -> None:
    rule = {"seed": 0, "tensors": {"decoder.out_layer.weight": {"shape": [1, 4], "scale": 1, "offset": 0}}}
    values = procedural_parameters(rule)["decoder.out_layer.weight"]
    torch.testing.assert_close(values, torch.tensor([[-0.1693448, 0.2541873, -0.4331216, -0.2646402]]))


def test_procedural_parameters_are_part_of_a_loaded_case(tmp_path: Path) -> None:
    rule = {"seed": 7, "tensors": {"w": {"shape": [2, 3], "scale": 0.5, "offset": 1.0}}}
    case = load_case(write_case(tmp_path / "a.safetensors", param_rule=json.dumps(rule)))
    assert case.params["w"].shape == (2, 3)
    assert float((case.params["w"] - 1).abs().max()) <= 0.5


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        ({"config": "{"}, "metadata cannot be read"),
        ({"atol": "small"}, "metadata cannot be read"),
    ],
)
def test_a_malformed_case_says_what_is_wrong(tmp_path: Path, change: dict[str, str], wanted: str) -> None:
    with pytest.raises(GoldenCaseError, match=wanted):
        load_case(write_case(tmp_path / "a.safetensors", **change))


def test_files_that_are_no_golden_cases_are_refused(tmp_path: Path) -> None:
    text = tmp_path / "text.safetensors"
    text.write_text("not tensors")
    with pytest.raises(GoldenCaseError, match="not a safetensors file"):
        load_case(text)
    plain = tmp_path / "plain.safetensors"
    save_file({"weight": torch.zeros(1)}, plain)
    with pytest.raises(GoldenCaseError, match="none of"):
        load_case(plain)
    with pytest.raises(GoldenCaseError, match="no such file"):
        find_cases([tmp_path / "missing"])


def test_rules_accept_what_they_say_and_nothing_more() -> None:
    wanted = torch.tensor([1.0, 10.0])
    assert close(1e-3, 0)(wanted + 0.9e-3, wanted).ok
    assert not close(1e-3, 0)(wanted + 1.1e-3, wanted).ok
    assert close(0, 1e-2)(wanted * 1.009, wanted).ok
    assert not close(0, 1e-2)(wanted + 0.05, wanted).ok
    assert not exact(torch.tensor([1, 2]), torch.tensor([1, 3])).ok
    assert exact(torch.tensor([True]), torch.tensor([True])).ok
    errors = torch.zeros(1000)
    errors[0] = 0.05
    assert quantiles(1e-4, 2e-3, 0.1)(errors, torch.zeros(1000)).ok
    assert not quantiles(1e-4, 2e-3, 0.01)(errors, torch.zeros(1000)).ok
    assert not quantiles(1e-4, 2e-3, 0.1, scale=4)(errors, torch.zeros(1000)).ok
    assert share_within(0, 0.99)(errors, torch.zeros(1000)).ok
    assert not share_within(0, 0.9999)(errors, torch.zeros(1000)).ok


def test_nan_never_passes_unless_it_is_stored() -> None:
    nan = torch.tensor([float("nan")])
    assert not close(1, 1)(nan, torch.zeros(1)).ok
    assert close(0, 0)(nan, nan).ok
    assert close(0, 0)(torch.tensor([float("inf")]), torch.tensor([float("inf")])).ok


def test_every_output_must_be_answered_in_its_shape(tmp_path: Path) -> None:
    case = load_case(write_case(tmp_path / "a.safetensors"))
    assert compare(case, Answer({"y": 2 * case.inputs["x"]})).status == "pass"
    assert "not answered" in compare(case, Answer({})).reason
    assert "shape" in compare(case, Answer({"y": torch.zeros(4)})).reason


HANDLER = """
    from shapewright.plugin import ParityHandler, hookimpl

    @hookimpl
    def register_parity_handlers():
        functions = {"double": "toy_parity_heavy:double", "crash": "toy_parity_heavy:crash"}
        return [ParityHandler("toy", component, function) for component, function in functions.items()]
"""
HEAVY = """
    from shapewright.parity import Answer

    def double(case):
        return Answer({"y": 2 * case.inputs["x"]})

    def crash(case):
        raise IndexError("broken handler")
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    site = tmp_path_factory.mktemp("site")
    install(site, "toy-parity", {"toy_parity.py": HANDLER, "toy_parity_heavy.py": HEAVY}, {"toy-parity": "toy_parity"})
    return site


def test_a_third_party_answers_for_its_own_cases(site: Path, tmp_path: Path) -> None:
    (tmp_path / "cases").mkdir()
    write_case(tmp_path / "cases" / "good.safetensors")
    done = shapewright("parity", tmp_path / "cases", "--json", tmp_path / "out.json", sites=(site,))
    assert done.returncode == 0, done.stderr
    (row,) = json.loads((tmp_path / "out.json").read_text())
    assert {k: row[k] for k in ("case", "system", "component", "status", "max_abs", "max_rel")} == {
        "case": "good",
        "system": "toy",
        "component": "double",
        "status": "pass",
        "max_abs": 0.0,
        "max_rel": 0.0,
    }


def test_failures_missing_handlers_and_crashes_are_told_apart_and_fail_the_run(site: Path, tmp_path: Path) -> None:
    write_case(tmp_path / "a_good.safetensors")
    write_case(tmp_path / "b_wrong.safetensors", out=torch.tensor([2.0, 4.0, -6.5]))
    write_case(tmp_path / "c_nobody.safetensors", component="unheard-of")
    write_case(tmp_path / "d_crash.safetensors", component="crash")
    (tmp_path / "e_text.safetensors").write_text("x")
    done = shapewright("parity", tmp_path, "--json", tmp_path / "out.json", sites=(site,))
    assert done.returncode == 1
    rows = json.loads((tmp_path / "out.json").read_text())
    assert [row["status"] for row in rows] == ["pass", "fail", "no-handler", "fail", "fail"]
    assert rows[1]["max_abs"] == 0.5
    assert "IndexError: broken handler" in rows[3]["reason"]
    assert "no handler" in done.stdout


def test_no_handler_alone_is_not_a_pass(site: Path, tmp_path: Path) -> None:
    write_case(tmp_path / "a.safetensors", component="unheard-of")
    assert shapewright("parity", tmp_path / "a.safetensors", sites=(site,)).returncode == 1


def test_a_missing_path_is_one_line(tmp_path: Path) -> None:
    assert_one_line_error(shapewright("parity", tmp_path / "nothing"), "no such file or folder")
    assert_one_line_error(shapewright("parity", tmp_path), "no *.safetensors file")
