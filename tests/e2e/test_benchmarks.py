"""The kernel benchmarks: a quick run gives rows of the agreed form, and the document's tables are made of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import jsonschema
import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
BENCHMARKS = ROOT / "benchmarks"
NUMBER: dict[str, Any] = {"type": "number", "exclusiveMinimum": 0}
OF_A_PEER = ("peer", "peer_s", "ratio", "goal", "peer_peak_bytes", "equal")
ROW: dict[str, Any] = {
    "type": "object",
    "required": [
        "operation", "mesh", "resolution", "ours_s", "peer", "peer_s", "ratio", "goal", "ours_peak_bytes",
        "peer_peak_bytes", "equal",
    ],
    "properties": {
        "operation": {"type": "string"},
        "mesh": {"type": "string"},
        "resolution": {"type": ["integer", "null"]},
        "ours_s": NUMBER,
        "ours_min_s": NUMBER,
        "ours_max_s": NUMBER,
        "ours_cpu_s": {"type": "number", "minimum": 0},
        "first_call_s": NUMBER,
        "ours_peak_bytes": {"type": "integer", "minimum": 0},
        "tolerance": {"type": "string", "minLength": 1},
    },
    "oneOf": [
        {
            "properties": {
                "peer": {"type": "string"}, "peer_s": NUMBER, "ratio": NUMBER, "goal": {"type": ["number", "null"]},
                "peer_peak_bytes": {"type": "integer", "minimum": 0}, "equal": {"type": "boolean"},
            }
        },
        {"properties": {name: {"type": "null"} for name in OF_A_PEER}},
    ],
}  # fmt: skip


def run(script: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, str(BENCHMARKS / script), *map(str, arguments)]
    return subprocess.run(words, capture_output=True, text=True, timeout=300, env={**os.environ, "COLUMNS": "200"})


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    target = tmp_path_factory.mktemp("rows") / "rows.json"
    operations = "mesh-to-flexible-dual-grid,nearest-points,neighbour-map-27"
    done = run("kernels.py", "--quick", "--operation", operations, "--resolution", "16,32", "--json", target)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 5, done.stdout
    found: list[dict[str, Any]] = json.loads(target.read_text())
    return found


def test_a_quick_run_writes_rows_of_the_agreed_form(rows: list[dict[str, Any]]) -> None:
    jsonschema.validate(rows, {"type": "array", "items": ROW})
    places = [(row["operation"], row["resolution"]) for row in rows]
    assert places == [
        ("mesh-to-flexible-dual-grid", 16),
        ("mesh-to-flexible-dual-grid", 32),
        ("nearest-points", None),
        ("neighbour-map-27", 16),
        ("neighbour-map-27", 32),
    ]


def test_the_ratio_is_against_the_fastest_peer_that_agrees(rows: list[dict[str, Any]]) -> None:
    with_peers = [row for row in rows if row["peer"] is not None]
    assert {"neighbour-map-27", "nearest-points"} <= {row["operation"] for row in with_peers}
    for row in with_peers:
        fastest = min((peer for peer in row["peers"] if peer["equal"]), key=lambda peer: peer["median_s"])
        assert (row["peer"], row["peer_s"]) == (fastest["name"], fastest["median_s"])
        assert row["ratio"] == pytest.approx(row["peer_s"] / row["ours_s"])
        assert row["ours_min_s"] <= row["ours_s"] <= row["ours_max_s"]
        assert row["equal"] is True


def test_an_operation_without_a_peer_has_neither_ratio_nor_goal(rows: list[dict[str, Any]]) -> None:
    grid = rows[0]
    assert (grid["peer"], grid["ratio"], grid["goal"], grid["peers"]) == (None, None, None, [])
    assert grid["seconds_per_million"] == pytest.approx(grid["ours_s"] / grid["units"] * 1e6)


def test_rows_tell_when_and_how_but_not_where(rows: list[dict[str, Any]], tmp_path: Path) -> None:
    made = rows[0]["run"]
    assert made["command"].startswith("python benchmarks/kernels.py --quick --operation mesh-to-flexible-dual-grid,")
    assert {"python", "numba", "numpy"} <= made["versions"].keys()
    assert str(Path.home()) not in json.dumps(rows)
    assert str(ROOT) not in json.dumps(rows)


# --- in this process --------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def scripts() -> Iterator[dict[str, ModuleType]]:
    sys.path.insert(0, str(BENCHMARKS))
    try:
        import harness
        import operations_surfaces
        import peers
        import report

        # by path: with the checkout on the search path, its folder `kernels` answers to the name as well
        spec = spec_from_file_location("benchmarks_kernels", BENCHMARKS / "kernels.py")
        assert spec is not None
        assert spec.loader is not None
        kernels = module_from_spec(spec)
        spec.loader.exec_module(kernels)
        yield {
            "harness": harness,
            "surfaces": operations_surfaces,
            "peers": peers,
            "report": report,
            "kernels": kernels,
        }
    finally:
        sys.path.remove(str(BENCHMARKS))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--operation", "marching-cube"],
            "no operation is named 'marching-cube'; there are mesh-to-flexible-dual-grid",
        ),
        (["--resolution", "4"], "resolutions lie between 8 and 4096"),
        (["--data", "no-such-folder"], "--data no-such-folder is not a folder"),
    ],
)
def test_a_wrong_request_is_refused_before_anything_runs(
    scripts: dict[str, ModuleType], capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    with pytest.raises(SystemExit) as end:
        scripts["kernels"].main(["--quick", *words])
    assert end.value.code == 2
    printed = capsys.readouterr()
    assert message in printed.err
    assert printed.out == ""


def test_a_peer_with_wrong_answers_is_not_the_one_to_beat(scripts: dict[str, ModuleType]) -> None:
    harness = scripts["harness"]
    work = np.random.default_rng(0).random(200_000)
    case = harness.Case(
        "sum", "none", None, lambda: np.sort(work)[-1],
        [harness.Side("wrong", lambda: -1.0), harness.Side("slow", lambda: max(work.max() for _ in range(50)))],
        lambda ours, theirs: ours == theirs, "equal", {"*": 2.0},
    )  # fmt: skip
    row = harness.measure(case, harness.QUICK)
    assert (row["peer"], row["equal"], row["goal"]) == ("slow", True, 2.0)
    assert [(peer["name"], peer["equal"]) for peer in row["peers"]] == [("wrong", False), ("slow", True)]


def test_a_peer_that_raises_is_reported_and_left_out(
    scripts: dict[str, ModuleType], capsys: pytest.CaptureFixture[str]
) -> None:
    harness = scripts["harness"]

    def broken() -> None:
        raise RuntimeError("no such device")

    peers = [harness.Side("broken", broken)]
    row = harness.measure(harness.Case("one", "none", 8, lambda: 1, peers, lambda a, b: True, "equal"), harness.QUICK)
    assert (row["peer"], row["peers"]) == (None, [])
    assert "broken failed: no such device" in capsys.readouterr().err


def test_peak_memory_is_that_of_one_call(scripts: dict[str, ModuleType]) -> None:
    harness = scripts["harness"]
    size = 64 * 2**20

    def ours() -> float:
        return float(np.ones(size // 8).sum())

    small = harness.Side("small", lambda: float(size // 8))
    row = harness.measure(harness.Case("sum", "none", 8, ours, [small], float.__eq__, "equal"), harness.QUICK)
    assert 0.98 * size <= row["ours_peak_bytes"] < 1.2 * size
    assert row["peer_peak_bytes"] < 0.1 * size


def test_a_part_of_the_queries_is_scaled_to_all(scripts: dict[str, ModuleType]) -> None:
    part = scripts["peers"].Part(1_000_000, 100_000)
    assert part.rows[0] == 0
    assert part.rows[-1] == 999_999
    assert part.scale == pytest.approx(1_000_000 / len(part.rows))
    assert len(part.rows) <= 100_000
    blocks = part.rows.reshape(-1, part.BLOCK)
    assert (np.diff(blocks, axis=1) == 1).all()


def test_the_dense_lattice_has_no_sign_change_outside_the_band(scripts: dict[str, ModuleType]) -> None:
    """Peers get the band on a dense lattice; both must hold the same surface."""
    surfaces = scripts["surfaces"]
    resolution = 24
    index = np.arange(resolution + 1)
    x, y, z = np.meshgrid(index, index, index, indexing="ij")
    distance = np.sqrt((x - 12.0) ** 2 + (y - 11.5) ** 2 + (z - 12.2) ** 2) - 7.3
    near = np.abs(distance) <= 1.75
    coords = np.argwhere(near).astype(np.int32)
    dense = surfaces.dense_values(coords, distance[near].astype(np.float32), resolution)
    assert ((dense < 0) == (distance < 0)).all()
    assert (dense[near] == distance[near].astype(np.float32)).all()


def test_exponents_are_slopes_of_logarithms(scripts: dict[str, ModuleType]) -> None:
    points = [(resolution, 3e-6 * resolution**2.25) for resolution in (256, 512, 1024)]
    assert scripts["report"].exponent(points) == pytest.approx(2.25)


def test_the_document_is_filled_from_rows_and_checked_against_them(
    rows: list[dict[str, Any]], scripts: dict[str, ModuleType]
) -> None:
    report = scripts["report"]
    old = "Before.\n<!-- generated: figures -->\nold\n<!-- end -->\nBetween.\n<!-- generated: run -->\n<!-- end -->\n"
    new = report.filled(old, rows)
    assert "old" not in new
    assert all(text in new for text in ("Before.", "Between.", rows[0]["run"]["date"], "| neighbour-map-27 |"))
    assert report.filled(new, rows) == new
    with pytest.raises(ValueError, match="no table is named 'figure'"):
        report.filled("<!-- generated: figure --><!-- end -->", rows)


def test_goals_count_the_meshes_that_reach_them(scripts: dict[str, ModuleType]) -> None:
    def row(mesh: str, ratio: float) -> dict[str, Any]:
        peer = {"name": "numpy", "goal": 2.5, "ratio": ratio, "equal": True}
        return {"operation": "neighbour-map-27", "mesh": mesh, "resolution": 1024, "peer": "numpy", "peers": [peer]}

    table = scripts["report"].goals([row("a", 3.0), row("b", 2.0)])
    assert table.splitlines()[-1].split("|")[1:-1] == [
        " neighbour-map-27 ", " 1024, fastest peer ", " 2.5x ", " 2.5x ", " 2.0x ", " 1 of 2 meshes ",
    ]  # fmt: skip


def test_the_committed_document_shows_the_committed_rows() -> None:
    done = run("report.py", "--check")
    assert done.returncode == 0, "docs/performance.md is older than docs/performance.json; run benchmarks/report.py"
