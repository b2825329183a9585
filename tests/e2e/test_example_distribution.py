"""The example in ``examples/``: a third party's distribution that knows nothing but the public API."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import shapewright
from distributions import environment, install

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "shapewright-tetrahedra"
FROZEN = ROOT / "tests" / "golden" / "plugins" / "api-1.0"
"""The example as it was when API 1.0 was frozen. Never edited: what breaks it breaks published plugins."""
PUBLIC = {"shapewright", "shapewright.plugin", "shapewright.testing"}
THIRD_PARTY = {"torch", "numpy", "scipy", "pytest"}


def put_on(site: Path, package: Path) -> Path:
    project = tomllib.loads((package / "pyproject.toml").read_text())["project"]
    modules = {str(path.relative_to(package / "src")): path.read_text() for path in (package / "src").rglob("*.py")}
    install(site, project["name"], modules, project["entry-points"]["shapewright.plugins"])
    return site


def python(*arguments: object, site: Path, cwd: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *map(str, arguments)],
        env=environment(site),
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("package", [EXAMPLE, FROZEN], ids=["example", "frozen"])
def test_it_imports_the_public_api_alone(package: Path) -> None:
    files = sorted(package.rglob("*.py"))
    assert len(files) >= 5
    for path in files:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [str(node.module)]
                if node.module == "shapewright":
                    assert {alias.name for alias in node.names} <= set(shapewright.__all__), path
            else:
                continue
            for name in names:
                top = name.partition(".")[0]
                known = name in PUBLIC or top in THIRD_PARTY or top in sys.stdlib_module_names
                assert known or top == "shapewright_tetrahedra", f"{path.name} imports {name}"


@pytest.mark.parametrize("package", [EXAMPLE, FROZEN], ids=["example", "frozen"])
def test_it_passes_its_own_tests(package: Path, tmp_path: Path) -> None:
    site = put_on(tmp_path / "site", package)
    options = ["-q", "-p", "no:cacheprovider", "--import-mode=importlib", "-c", package / "pyproject.toml"]
    report = python("pytest", *options, package / "tests", site=site, cwd=tmp_path)
    last = report.splitlines()[-1]
    assert "passed" in last
    assert "failed" not in last


def test_the_representation_is_short() -> None:
    """Options, class and description together: what a newcomer has to write."""
    source = EXAMPLE / "src" / "shapewright_tetrahedra"
    classes = [n for n in ast.parse((source / "representation.py").read_text()).body if isinstance(n, ast.ClassDef)]
    calls = [
        node
        for node in ast.walk(ast.parse((source / "__init__.py").read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "ComponentSpec"
    ]
    assert [c.name for c in classes] == ["Config", "Tetrahedral"]
    assert len(calls) == 2
    lines = sum((node.end_lineno or 0) - node.lineno + 1 for node in [*classes, calls[0]])
    assert 20 < lines <= 45


def test_the_counts_in_its_readme_are_true() -> None:
    rows = [line.split("|") for line in (EXAMPLE / "README.md").read_text().splitlines() if line.startswith("| `")]
    assert len(rows) == 5
    for _, file, count, *_ in rows:
        path = EXAMPLE / file.strip().strip("`")
        assert len(path.read_text().splitlines()) == int(count), path


def test_a_bench_includes_it(tmp_path: Path) -> None:
    site = put_on(tmp_path / "site", EXAMPLE)
    out = tmp_path / "cells.json"
    options = ["--samples", "s07-spiked-icosahedron,s03-nested-spheres", "--resolution", "24", "--json", out]
    options += ["--representation", "tetrahedral,sdf", "--extractor", "marching-tetrahedra,marching-cubes"]
    python("shapewright", "bench", *options, "--out", tmp_path / "out", site=site, cwd=tmp_path)
    cells = json.loads(out.read_text())
    ok = [cell for cell in cells if cell["status"] == "ok"]
    assert {cell["pipeline"] for cell in ok} == {"tetrahedral+marching-tetrahedra", "sdf+marching-cubes"}
    for cell in ok:
        assert cell["metrics"]["chamfer-l1/v1"] < 0.1
