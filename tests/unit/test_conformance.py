"""How the conformance kit runs: order, stops, expected failures, versions, pytest, the command line."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from textwrap import dedent

import pytest
import torch
from conformance.honest import Keep, Soup
from conformance.kit import catalog_of, verdicts
from distributions import install, shapewright
from in_process import assert_refused, run
from shapewright import Capabilities, ConfigError, UnknownComponentError, discover
from shapewright.testing import conform, conformance
from shapewright.testing.check import Check
from shapewright.testing.runner import Suite, selected
from shapewright.testing.suites import checks_of
from shapewright.testing.values import cast, difference, map_tensors, tensors

pytest_plugins = ["pytester"]
PLAIN = {"capabilities": Capabilities()}


class WrongTag(Keep):
    def from_mesh(self, mesh, *, rng):  # type: ignore[no-untyped-def]
        return mesh


class NoColours(Keep):
    def from_mesh(self, mesh, *, rng):  # type: ignore[no-untyped-def]
        return Soup(mesh.vertices, mesh.faces, mesh.frame)


# --- order and verdicts -----------------------------------------------------------------------------------------------
def test_nothing_is_run_after_a_basic_failure() -> None:
    found = verdicts("representation", WrongTag)
    names = list(found)
    assert found["outputs"].status == "fail"
    assert "tagged 'mesh', the spec declares 'toy.soup'" in found["outputs"].reason
    later = names[names.index("outputs") + 1 :]
    assert len(later) > 10
    assert {(found[name].status, found[name].reason) for name in later} == {("not run", "outputs failed")}


def test_one_derived_check_asked_for_alone_still_stops_at_a_basic_failure() -> None:
    assert Suite.of("representation/toy", catalog=catalog_of("representation", WrongTag)).outcome("pbr").status == (
        "not run"
    )


def test_what_is_not_claimed_is_not_required() -> None:
    found = verdicts("representation", NoColours, **PLAIN)
    assert (found["pbr"].status, found["pbr"].reason) == ("skipped", "pbr is not claimed")


def test_an_expected_failure_must_fail() -> None:
    def outcome(cls: type[Keep]) -> tuple[str, str]:
        found = conform(
            "representation/toy", expected_failures={"pbr": "no colours yet"}, catalog=catalog_of("representation", cls)
        )
        (pbr,) = (o for o in found if o.check == "pbr")
        return pbr.status, pbr.reason

    assert outcome(NoColours) == ("expected failure", "no colours yet")
    status, reason = outcome(Keep)
    assert status == "fail"
    assert "take it off the list" in reason


class Unsettled(Keep):
    def from_mesh(self, mesh, *, rng):  # type: ignore[no-untyped-def]
        return Soup(mesh.vertices + 1e-7 * torch.rand(()), mesh.faces, mesh.frame, mesh.attributes.get("base_color"))


def test_an_expected_failure_of_a_basic_check_does_not_stop_the_rest() -> None:
    found = conform(
        "representation/toy",
        expected_failures={"deterministic": "wip", "pure": "wip"},
        catalog=catalog_of("representation", Unsettled, **PLAIN),
    )
    statuses = {o.check: o.status for o in found}
    assert (statuses["deterministic"], statuses["pure"]) == ("expected failure", "expected failure")
    assert set(statuses.values()) == {"pass", "skipped", "expected failure"}


def test_an_expected_failure_that_is_not_claimed_is_tried_all_the_same() -> None:
    catalog = catalog_of("representation", Keep, **PLAIN)
    found = conform("representation/toy", expected_failures={"interiors": "a solid"}, catalog=catalog)
    (interiors,) = (o for o in found if o.check == "interiors")
    assert interiors.status == "fail"
    assert interiors.reason == "passes, though expected to fail (a solid); take it off the list and claim interiors"


def test_a_misspelt_expected_failure_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(ConfigError, match="no check 'open_surface'; did you mean 'open_surfaces'"):
        conformance("representation/sdf", expected_failures={"open_surface": "an SDF closes surfaces"})


def test_an_unknown_component_is_refused() -> None:
    with pytest.raises(UnknownComponentError, match="Did you mean"):
        conformance("representation/o-voxl")


# --- versions of the contract -----------------------------------------------------------------------------------------
def test_an_older_version_of_the_contract_leaves_out_later_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shapewright.testing.runner.API_VERSION", (1, 2))
    checks = [Check(f"since_1_{minor}", "", lambda subject: None, since=(1, minor)) for minor in range(3)]
    assert [check.name for check in selected(checks, "1.0")] == ["since_1_0"]
    assert [check.name for check in selected(checks, "1.1")] == ["since_1_0", "since_1_1"]
    assert selected(checks, None) == tuple(checks)
    for wrong in ("1.3", "2.0", "0.9", "one", "1"):
        with pytest.raises(ConfigError):
            selected(checks, wrong)


def test_every_check_says_what_it_proves_and_the_document_lists_it() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "conformance.md").read_text()
    for kind in ("representation", "extractor", "attention", "generator", "encoder", "conditioner", "sampler",
                 "transform", "renderer", "dataset", "metric"):  # fmt: skip
        checks = checks_of(kind)
        assert len({check.name for check in checks}) == len(checks)
        for check in checks:
            assert check.proves
            assert f"`{check.name}`" in page, (kind, check.name)
            assert check.since == (1, 0)


# --- light import -----------------------------------------------------------------------------------------------------
HEAVY_PLUGIN = """
    import {imported}
    from shapewright.plugin import ComponentSpec, hookimpl

    @hookimpl
    def register_components():
        return [ComponentSpec("sampler", "{name}", "conformance.honest:Euler")]
"""


@pytest.mark.parametrize(("imported", "status"), [("torch", "fail"), ("math", "pass")])
def test_a_plugin_that_imports_torch_to_describe_itself_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, imported: str, status: str
) -> None:
    name = f"imports_{imported}"
    (tmp_path / f"{name}.py").write_text(dedent(HEAVY_PLUGIN.format(imported=imported, name="light")))
    monkeypatch.syspath_prepend(tmp_path)
    module = __import__(name)
    found = {o.check: o for o in conform("sampler/light", catalog=discover(points=[], extra=[module]))}
    assert found["light_import"].status == status, found["light_import"]
    if status == "fail":
        assert "imports torch" in found["light_import"].reason
        assert {o.status for o in found.values()} == {"fail", "not run"}
    else:
        assert {o.status for o in found.values()} == {"pass"}
    sys.modules.pop(name)


# --- pytest -----------------------------------------------------------------------------------------------------------
def test_three_lines_are_a_whole_test(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("""
        from shapewright.testing import conformance

        test_chamfer = conformance("metric/chamfer")
    """)
    done = pytester.runpytest_inprocess("-v", "-p", "no:cacheprovider")
    names = [check.name for check in checks_of("metric")]
    done.assert_outcomes(passed=len(names))
    done.stdout.fnmatch_lines([f"*::test_chamfer[[]{name}[]] PASSED*" for name in names])


def test_verdicts_arrive_in_pytest_as_what_they_are(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("""
        from conformance.kit import catalog_of
        from shapewright.testing import conformance
        from test_conformance_classes import NoColours

        plain = catalog_of("representation", NoColours)
        test_failing = conformance("representation/toy", catalog=plain)
        test_expected = conformance("representation/toy", catalog=plain, expected_failures={"pbr": "none yet"})
        test_stale = conformance("representation/toy", catalog=plain, expected_failures={"pbr": "x", "pure": "stale"})
    """)
    pytester.makepyfile(
        test_conformance_classes="""
        from conformance.honest import Keep, Soup

        class NoColours(Keep):
            def from_mesh(self, mesh, *, rng):
                return Soup(mesh.vertices, mesh.faces, mesh.frame)
        """
    )
    done = pytester.runpytest_inprocess("-v", "-rxs", "-p", "no:cacheprovider")
    found = done.parseoutcomes()
    assert found["failed"] == 2
    assert found["xfailed"] == 2
    done.stdout.fnmatch_lines(
        ["*test_failing[[]pbr[]] FAILED*", "*test_expected[[]pbr[]] XFAIL*", "*test_stale[[]pure[]] FAILED*"]
    )
    done.stdout.fnmatch_lines(
        ["*pbr: coloured cube, extracted by extractor/toy: the mesh has no attribute base_color*"]
    )


# --- the command ------------------------------------------------------------------------------------------------------
def test_the_command_prints_and_writes_every_verdict(tmp_path: Path) -> None:
    target = tmp_path / "rows.json"
    done = run("conform", "dataset/stress-suite", "metric/chamfer", "--api", "1.0", "--json", target)
    assert (done.returncode, done.stderr) == (0, "")
    rows = json.loads(target.read_text())
    names = [*(c.name for c in checks_of("dataset")), *(c.name for c in checks_of("metric"))]
    assert [row["check"] for row in rows] == names
    assert set(rows[0]) == {"component", "check", "status", "seconds", "reason"}
    assert {row["component"] for row in rows} == {"dataset/stress-suite", "metric/chamfer"}
    lines = done.stdout.splitlines()
    assert lines[0] == "dataset/stress-suite"
    assert lines[-1] == f"{len(names)} passed"
    assert sum(line.startswith("  pass ") for line in lines) == len(names)


def test_the_command_prints_json_alone_on_request() -> None:
    rows = json.loads(run("conform", "dataset/stress-suite", "--json", "-").stdout)
    assert {row["status"] for row in rows} == {"pass"}


def test_the_command_fails_where_a_check_fails_unless_that_is_expected(tmp_path: Path) -> None:
    arguments = ["conform", "dataset/folder", "--set", f"path={tmp_path / 'absent'}"]
    done = run(*arguments)
    assert done.returncode == 1
    assert "  fail              outputs " in done.stdout
    assert "  not run           stable_ids " in done.stdout
    assert run("conform", "dataset/stress-suite", "--expect", "content=a test").returncode == 1


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (["representation/o-voxl"], "Did you mean 'representation/o-voxel'?"),
        ([], "name components such as representation/sdf, or use --all"),
        (["--all", "metric/chamfer"], "or use --all"),
        (["metric/chamfer", "--api", "9.9"], "checks plugin API 1.0 to"),
        (["metric/chamfer", "--expect", "symetric=x"], "did you mean 'symmetric'?"),
        (["metric/chamfer", "--expect", "symmetric"], "does not read CHECK=REASON"),
        (["metric/chamfer", "metric/f-score", "--set", "samples=3"], "are for one component"),
    ],
)
def test_the_command_refuses_what_it_cannot_do(arguments: list[str], wanted: str) -> None:
    assert_refused(run("conform", *arguments), wanted)


def test_a_third_party_component_is_checked_like_any_other(tmp_path: Path) -> None:
    install(
        tmp_path,
        "shapewright-toys",
        {
            "toys_light.py": """
            from shapewright.plugin import ComponentSpec, hookimpl

            @hookimpl
            def register_components():
                return [ComponentSpec("dataset", "one-shape", "toys_heavy:OneShape")]
            """,
            "toys_heavy.py": """
            from dataclasses import dataclass

            import torch
            from shapewright import Dataset, Mesh, Sample

            @dataclass(frozen=True)
            class Config:
                pass

            class OneShape(Dataset):
                Config = Config

                def ids(self):
                    return ["triangle"]

                def load(self, id):
                    return Sample(id, Mesh(torch.rand(3, 3), torch.tensor([[0, 1, 2]])), content="triangle")
            """,
        },
        {"toys": "toys_light"},
    )
    done = shapewright("conform", "dataset/one-shape", sites=(tmp_path,))
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    failing = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("  fail ")]
    assert failing == ["deterministic", "unknown"]


# --- values as trees --------------------------------------------------------------------------------------------------
def test_tensors_are_rebuilt_in_the_order_in_which_they_are_listed() -> None:
    value = {"b": (torch.zeros(1), [torch.ones(2)]), "a": Soup(torch.zeros(3, 3), torch.zeros(1, 3).long())}
    listed = [path for path, _ in tensors(value)]
    assert listed == ["a.vertices", "a.faces", "b.0", "b.1.0"]
    seen: list[tuple[int, ...]] = []
    map_tensors(value, lambda tensor: (seen.append(tuple(tensor.shape)), tensor)[1])
    assert seen == [tuple(tensor.shape) for _, tensor in tensors(value)]
    assert cast(value, torch.float64)["a"].vertices.dtype == torch.float64
    assert cast(value, torch.float64)["a"].faces.dtype == torch.int64


def test_differences_name_the_place() -> None:
    one = Soup(torch.zeros(3, 3), torch.zeros(1, 3).long())
    other = Soup(torch.zeros(3, 3), torch.ones(1, 3).long())
    assert difference(one, one) == ""
    assert difference(one, other) == "result.faces: 3 of 3 entries differ"
    assert difference({"x": 1.0}, {"x": 1.5}, relative=0.1).startswith("result.x: 1 against 1.5")
    assert "float32" in difference(torch.zeros(2), torch.zeros(2, dtype=torch.float64))
    assert difference(torch.tensor([float("nan")]), torch.tensor([float("nan")])) == ""
