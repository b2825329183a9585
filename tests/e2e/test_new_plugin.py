"""The package that ``shapewright new-plugin`` writes passes its own tests, its own lint, and is used like any other."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from distributions import environment, install
from in_process import assert_refused, run
from shapewright.commands.new_plugin import FILES, LICENSES, LONGEST_NAME, TEMPLATES, class_name, render, write
from shapewright.spec import KINDS


def put_on(site: Path, package: Path) -> None:
    """What pip would do with ``package``: its modules and the entry points of its pyproject.toml, in ``site``."""
    project = tomllib.loads((package / "pyproject.toml").read_text())["project"]
    modules = {str(path.relative_to(package / "src")): path.read_text() for path in (package / "src").rglob("*.*")}
    install(site, project["name"], modules, project["entry-points"]["shapewright.plugins"])


def python(*arguments: object, cwd: Path, site: Path | None = None, timeout: float = 300) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *map(str, arguments)],
        env=environment(*([site] if site else [])),
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package of every kind, written by the command."""
    folder = tmp_path_factory.mktemp("packages")
    for kind in KINDS:
        done = run(
            "new-plugin", f"my-{kind}", "--kind", kind, "--into", folder, "--license", "MIT", "--author", "A. B."
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert f"cd {folder / f'shapewright-my-{kind}'}" in done.stdout
    return folder


@pytest.fixture(scope="module")
def site(packages: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All of them installed."""
    site = tmp_path_factory.mktemp("site")
    for package in sorted(packages.iterdir()):
        put_on(site, package)
    return site


def test_every_kind_passes_its_own_tests_as_written(packages: Path, site: Path) -> None:
    tests = [package / "tests" for package in sorted(packages.iterdir())]
    assert len(tests) == len(KINDS)
    arguments = ["pytest", "-q", "-p", "no:cacheprovider", "--import-mode=importlib", "--rootdir", packages]
    report = python(*arguments, "--junitxml", site / "report.xml", *tests, cwd=packages, site=site)
    assert " failed" not in report
    cases = re.findall(r'<testcase classname="([^"]+)" name="test_conformance\[(\w+)\]"[^>]*?(/?)>', report_of(site))
    passed = {(name.split(".")[0], check) for name, check, closed in cases if closed}
    for kind in KINDS:
        for check in ("light_import", "builds", "ports", "outputs"):
            assert (f"shapewright-my-{kind}", check) in passed, report
    assert {("shapewright-my-extractor", "interiors"), ("shapewright-my-extractor", "differentiable")} <= passed


def report_of(site: Path) -> str:
    return (site / "report.xml").read_text()


def test_every_kind_is_clean_for_ruff_whatever_the_length_of_its_name(packages: Path, tmp_path: Path) -> None:
    long = "a" * (LONGEST_NAME - 2) + "-b"
    for kind in KINDS:
        write(render(long, kind), tmp_path / kind)
        write(render("b", kind), tmp_path / f"short-{kind}")
    for folder in (packages, tmp_path):
        python("ruff", "check", "--no-cache", folder, cwd=folder)
        python("ruff", "format", "--no-cache", "--check", folder, cwd=folder)


def test_every_kind_is_clean_for_mypy_strict(packages: Path, tmp_path: Path) -> None:
    sources = sorted(packages.glob("*/src/*"))
    assert len(sources) == len(KINDS)
    python("mypy", "--strict", "--cache-dir", tmp_path, *sources, cwd=tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_a_package_is_complete(packages: Path, kind: str) -> None:
    package = packages / f"shapewright-my-{kind}"
    project = tomllib.loads((package / "pyproject.toml").read_text())["project"]
    assert project["name"] == package.name
    assert project["license"] == "MIT"
    assert "Copyright (c) " in (package / "LICENSE").read_text()
    assert "A. B." in (package / "LICENSE").read_text()
    assert project["entry-points"]["shapewright.plugins"] == {f"my-{kind}": f"shapewright_my_{kind}"}
    files = {str(path.relative_to(package)) for path in package.rglob("*") if path.is_file()}
    assert files == {name.format(module=f"shapewright_my_{kind}") for name in FILES}
    for path in package.rglob("*.*"):
        if path.is_file() and path.suffix != ".yml":
            assert "{{" not in path.read_text(), path
    assert len((package / "tests" / "test_conformance.py").read_text().splitlines()) <= 10


def test_a_bench_measures_them_beside_the_built_ins(site: Path, tmp_path: Path) -> None:
    out = tmp_path / "cells.json"
    arguments = [
        "bench",
        "--dataset",
        "my-dataset",
        "--samples",
        "prism-4",
        "--representation",
        "my-representation,sdf-grid",
    ]
    arguments += ["--extractor", "my-extractor", "--metric", "my-metric,chamfer", "--resolution", "16"]
    python("shapewright", *arguments, "--out", tmp_path / "out", "--json", out, cwd=tmp_path, site=site)
    cells = {cell["pipeline"]: cell for cell in json.loads(out.read_text())}
    assert set(cells) == {"my-representation+my-extractor", "sdf-grid+my-extractor"}
    for cell in cells.values():
        assert cell["status"] == "ok", cell
        assert 0 <= cell["metrics"]["my-metric/v1"] < 0.05
        assert cell["metrics"]["chamfer-l1/v1"] < 0.03


# --- what is refused --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("name", "kind", "wanted"),
    [
        ("Point_SDF", "representation", "lower case words with hyphens"),
        ("-x", "representation", "No such option"),
        ("x" * (LONGEST_NAME + 1), "metric", f"at most {LONGEST_NAME} characters"),
        ("shapewright-mine", "metric", "leave 'shapewright' out"),
        ("mine", "representations", "did you mean 'representation'?"),
        ("mine", "banana", "kinds are representation, encoder"),
        ("sdf", "representation", "representation/sdf is already provided by shapewright"),
        ("plugins", "metric", "a module named shapewright_plugins is already installed"),
    ],
)
def test_a_name_that_cannot_be_is_refused_in_one_line(tmp_path: Path, name: str, kind: str, wanted: str) -> None:
    assert_refused(run("new-plugin", name, "--kind", kind, "--into", tmp_path), wanted)
    assert list(tmp_path.iterdir()) == []


def test_an_existing_folder_is_left_alone(tmp_path: Path) -> None:
    assert run("new-plugin", "mine", "--kind", "metric", "--into", tmp_path).returncode == 0
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert_refused(
        run("new-plugin", "mine", "--kind", "sampler", "--into", tmp_path), "shapewright-mine exists already"
    )
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_class_never_hides_a_name_that_its_module_uses() -> None:
    for name, kind in [("mesh", "transform"), ("config", "metric"), ("none", "sampler"), ("grid-field", "extractor")]:
        assert class_name(name, kind).endswith(kind.capitalize())
    assert class_name("point-sdf", "representation") == "PointSdf"


def test_every_kind_and_licence_has_its_template() -> None:
    assert {path.name.partition(".")[0] for path in (TEMPLATES / "kinds").iterdir()} == set(KINDS)
    assert {path.stem for path in (TEMPLATES / "licenses").iterdir()} == set(LICENSES)


def test_the_command_is_completed_and_light() -> None:
    probe = (
        "import sys; from shapewright.cli import main\n"
        "try: main(['new-plugin', '--help'])\n"
        "except SystemExit: pass\n"
        "print([name for name in ('torch', 'jinja2', 'numba') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, env=environment(), check=True)
    assert done.stdout.splitlines()[-1] == "[]"
