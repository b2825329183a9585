"""The tree is the architecture: imports point one way, and light things stay light."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from distributions import environment, shapewright

ROOT = Path(__file__).resolve().parents[2]
SOURCES = {
    "shapewright": ROOT / "framework" / "shapewright",
    "shapewright_plugins": ROOT / "plugins" / "shapewright_plugins",
    "shapewright_kernels": ROOT / "kernels" / "shapewright_kernels",
}
NETWORKS = SOURCES["shapewright"] / "nn"
ALLOWED = {
    "shapewright_plugins": {"shapewright", "shapewright_kernels"},
    "shapewright": set(),
    "shapewright_kernels": set(),
}
HEAVY = ("torch", "numba", "trimesh", "scipy", "manifold3d", "omegaconf", "rich")


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module


@pytest.mark.parametrize("package", SOURCES)
def test_imports_between_packages_point_one_way(package: str) -> None:
    files = sorted(SOURCES[package].rglob("*.py"))
    assert files
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in files
        for name in imports(path)
        if (top := name.partition(".")[0]) in SOURCES
        and top != package
        and top not in ALLOWED[package]
        and not (top == "shapewright_kernels" and path.is_relative_to(NETWORKS))
    ]
    assert wrong == []


def test_the_core_does_not_import_the_networks() -> None:
    """``shapewright.nn`` is a layer above the core: it alone there may import the kernels, and nothing imports it."""
    core = [path for path in SOURCES["shapewright"].rglob("*.py") if not path.is_relative_to(NETWORKS)]
    assert core
    wrong = []
    for path in core:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [f"{node.module or ''}.{alias.name}".strip(".") for alias in node.names]
            else:
                continue
            parts = [name.removeprefix("shapewright.").split(".")[0] for name in names]
            wrong += [f"{path.relative_to(ROOT)} imports {name}" for name, part in zip(names, parts) if part == "nn"]
    assert wrong == []


def test_built_in_plugins_do_not_import_one_another() -> None:
    """Each could move out of the tree: what two of them share belongs to the framework or the kernels."""
    root = SOURCES["shapewright_plugins"]
    wrong = []
    for path in root.rglob("*.py"):
        own = path.relative_to(root).parts[0]
        for name in imports(path):
            parts = name.split(".")
            if parts[0] == "shapewright_plugins" and len(parts) > 1 and parts[1] != own:
                wrong.append(f"{path.relative_to(ROOT)} imports {name}")
    assert wrong == []


def test_the_framework_names_no_plugin_and_no_system() -> None:
    names = [path.name for path in SOURCES["shapewright_plugins"].iterdir() if (path / "__init__.py").is_file()]
    assert "o_voxel" in names
    for path in SOURCES["shapewright"].rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Compare):
                compared = {c.value for c in ast.walk(node) if isinstance(c, ast.Constant) and isinstance(c.value, str)}
                assert not compared & {
                    "triposg",
                    "triposf",
                    "trellis2",
                    "direct3d_s2",
                    "sparseflex",
                    "o-voxel",
                    "sdf",
                }, path


@pytest.mark.parametrize("code", ["import shapewright", "import shapewright.plugin", "import shapewright.host"])
def test_light_imports_load_nothing_heavy(code: str) -> None:
    probe = f"import sys; {code}; print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, env=environment(), check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "arguments", [["--help"], ["list"], ["list", "--json"], ["plugins"], ["matrix"], ["--version"]]
)
def test_light_commands_import_nothing_heavy(arguments: list[str]) -> None:
    """The half-second budget holds as long as none of these is imported: torch alone takes seconds."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "shapewright", *arguments],
        capture_output=True,
        text=True,
        env=environment(),
        check=True,
    )
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines() if "|" in line}
    assert imported & set(HEAVY) == set()
    assert "click" in imported


def test_every_light_module_of_a_plugin_imports_only_the_plugin_interface(catalog) -> None:  # type: ignore[no-untyped-def]
    for path in SOURCES["shapewright_plugins"].glob("*/__init__.py"):
        allowed = {"shapewright.plugin", "__future__", "collections.abc", "types", "pathlib", "collections"}
        assert set(imports(path)) <= allowed, path


def test_help_of_every_command_answers() -> None:
    listing = shapewright("--help").stdout
    commands = [
        line.split()[0]
        for line in listing.partition("Commands:")[2].splitlines()
        if line.startswith("  ") and line[2] != " "
    ]
    assert {"bench", "convert", "parity", "list", "plugins", "matrix", "check", "info", "completion"} <= set(commands)
    for name in commands:
        done = shapewright(name, "--help")
        assert done.returncode == 0, done.stderr
        assert "Usage:" in done.stdout
