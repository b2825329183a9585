"""``shapewright warmup``: every component runs once on tiny shapes, whoever wrote it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from distributions import environment, install, shapewright
from shapewright.host import discover
from shapewright.warmup import tiny_shapes, warm_up

sys.path.insert(0, str(Path(__file__).parent))
from toy_bench import HEAVY, LIGHT

ONLY_TOYS = """
import sys
from shapewright import host
real = host.discover
def discover(points=None, extra=()):
    return real([point for point in host.entry_points(group=host.GROUP) if point.name == "toy"], extra)
host.discover = discover
from shapewright.cli import main
main(["warmup", *sys.argv[1:]])
"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    install(tmp_path / "site", "toy-bench", {"toy_light.py": LIGHT, "toy_heavy.py": HEAVY}, {"toy": "toy_light"})
    return tmp_path / "site"


def warm_toys(site: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-c", ONLY_TOYS, *arguments]
    return subprocess.run(words, env=environment(site), capture_output=True, text=True, timeout=120)


def test_components_of_third_parties_are_run_and_their_failures_told(site: Path) -> None:
    done = warm_toys(site, "--json")
    rows = {row["component"]: row for row in json.loads(done.stdout)}
    assert list(rows) == ["representation/rounded", "extractor/as-is", "extractor/trouble", "metric/toy-error"]
    assert rows["metric/toy-error"]["reason"] == ""
    assert rows["representation/rounded"]["first"] > 0
    assert rows["extractor/trouble"]["reason"] == "RuntimeError: this extractor always fails"
    assert done.returncode == 1
    assert "extractor/trouble did not run: RuntimeError: this extractor always fails" in done.stderr


def test_the_table_has_a_line_for_each_component_that_ran(site: Path) -> None:
    done = warm_toys(site)
    lines = [line.split() for line in done.stdout.splitlines()]
    assert lines[0] == ["COMPONENT", "FIRST", "AGAIN"]
    assert [line[0] for line in lines[1:-1]] == ["representation/rounded", "extractor/as-is", "metric/toy-error"]
    assert lines[-1][0] == "total"


def test_a_catalog_without_components_is_warm() -> None:
    assert warm_up(discover(points=[])) == []


def test_one_tiny_shape_is_closed_and_one_is_not() -> None:
    def open_edges(name: str) -> int:
        faces = tiny_shapes()[name].faces.tolist()
        edges = [frozenset((face[i], face[i - 1])) for face in faces for i in range(3)]
        return sum(edges.count(edge) == 1 for edge in set(edges))

    assert open_edges("closed") == 0
    assert open_edges("open") > 0


@pytest.mark.slow
def test_after_a_warm_up_a_conversion_compiles_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With an empty cache: all kernels that a conversion needs are in it after the warm-up."""
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "cache"))

    def compiled() -> set[str]:
        return {file for _, _, files in os.walk(tmp_path / "cache") for file in files if file.endswith(".nbc")}

    done = shapewright("warmup", "--json", timeout=900)
    assert done.returncode == 0, done.stderr
    before = compiled()
    assert before
    corners = "v -1 -1 -1\nv 1 -1 -1\nv 1 1 -1\nv -1 1 -1\nv -1 -1 1\nv 1 -1 1\nv 1 1 1\nv -1 1 1\n"
    faces = "f 1 4 3 2\nf 5 6 7 8\nf 1 2 6 5\nf 2 3 7 6\nf 3 4 8 7\nf 4 1 5 8\n"
    (tmp_path / "cube.obj").write_text(corners + faces)
    for pipeline in ("roundtrip-o-voxel", "roundtrip-sdf", "roundtrip-sparseflex"):
        target = tmp_path / f"{pipeline}.glb"
        done = shapewright(
            "convert", tmp_path / "cube.obj", "--pipeline", pipeline, "-o", target, "--resolution", 32, timeout=300
        )
        assert done.returncode == 0, done.stderr
    assert compiled() == before
