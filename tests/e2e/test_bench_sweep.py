"""The bench runner on a toy plugin: what is recorded, and what survives failures, deaths and interruptions."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from distributions import assert_one_line_error, environment, install, interruptible, shapewright

sys.path.insert(0, str(Path(__file__).parent))
from toy_bench import HEAVY, LIGHT

SCHEMA = json.loads((files("shapewright") / "schemas" / "bench-cells.schema.json").read_text())
TOY = ("--dataset", "toys", "--representation", "rounded", "--extractor", "as-is", "--metric", "toy-error")
READABLE = ("--samples", "flat,tall")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    site = tmp_path_factory.mktemp("site")
    install(site, "toy-bench", {"toy_light.py": LIGHT, "toy_heavy.py": HEAVY}, {"toy": "toy_light"})
    return site


def bench(site: Path, out: Path, *arguments: object) -> tuple[subprocess.CompletedProcess[str], list[dict[str, Any]]]:
    done = shapewright("bench", "--out", out, "--json", out / "all.json", *arguments, sites=(site,))
    cells = json.loads((out / "all.json").read_text()) if (out / "all.json").exists() else []
    jsonschema.validate(cells, SCHEMA)
    return done, cells


def test_a_sweep_records_every_cell_and_writes_its_tables(site: Path, tmp_path: Path) -> None:
    done, cells = bench(site, tmp_path, *TOY, *READABLE, "--resolution", "2,8")
    assert done.returncode == 0, done.stderr
    assert [(c["sample"], c["resolution"], c["status"]) for c in cells] == [
        ("flat", 2, "ok"),
        ("flat", 8, "ok"),
        ("tall", 2, "ok"),
        ("tall", 8, "ok"),
    ]
    for sample in ("flat", "tall"):
        coarse, fine = (c["metrics"]["toy-error/v1"] for c in cells if c["sample"] == sample)
        assert coarse > fine > 0
    cell = cells[0]
    assert cell["noise_floor"]["toy-error/v1"] == 0
    assert cell["health"] == {"toy-faces/v1": 4}
    assert (cell["faces"], cell["vertices"]) == (4, 4)
    assert cell["provenance"]["config"]["rep"]["with"] == {"resolution": 2, "seconds": 0.0}
    assert "toy-bench 1.2.3" in cell["provenance"]["identity"]["plugins"].values()
    assert len(list((tmp_path / "cards").glob("*.json"))) == 4
    assert "toy-error" in (tmp_path / "metrics.json").read_text()
    assert (tmp_path / "table.md").read_text().startswith("| dataset | R | pipeline | ok |")
    assert (tmp_path / "table.csv").read_text().count("\n") == 3


def test_pairs_that_do_not_fit_are_listed_with_the_reason(site: Path, tmp_path: Path) -> None:
    done, cells = bench(site, tmp_path, *TOY, *READABLE, "--extractor", "flexicubes", "--resolution", "4")
    assert done.returncode == 0
    (skipped,) = (c for c in cells if c["status"] == "skipped")
    assert skipped["pipeline"] == "rounded+flexicubes"
    assert "rounded makes toy.rounded" in skipped["reason"]
    assert skipped["sample"] is None
    assert "rounded makes toy.rounded" in done.stderr


def test_a_failing_cell_is_a_result_and_the_sweep_goes_on(site: Path, tmp_path: Path) -> None:
    done, cells = bench(site, tmp_path, *TOY, "--extractor", "trouble", "--resolution", "4")
    assert done.returncode == 1
    by = {(c["sample"], c["extractor"]): c for c in cells}
    assert by["flat", "as-is"]["status"] == by["tall", "as-is"]["status"] == "ok"
    assert by["flat", "trouble"]["reason"] == "RuntimeError: this extractor always fails"
    assert by["unreadable", "as-is"]["reason"] == "unreadable: holds no face"
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("how", "wanted"), [("die", "signal 9"), ("hang", "--cell-timeout"), ("empty", "no face was extracted")]
)
def test_a_dying_hanging_or_empty_cell_costs_only_itself(site: Path, tmp_path: Path, how: str, wanted: str) -> None:
    options = ("--extractor", "trouble", "--set", f"trouble.how={how}", "--cell-timeout", "15", "--resolution", "4")
    done, cells = bench(site, tmp_path, *TOY, *READABLE, *options)
    assert done.returncode == 1
    assert [c["status"] for c in cells] == ["ok", "failed", "ok", "failed"]
    assert all(wanted in c["reason"] for c in cells if c["status"] == "failed")


def test_workers_change_no_number(site: Path, tmp_path: Path) -> None:
    _, one = bench(site, tmp_path / "one", *TOY, *READABLE, "--resolution", "2,4,8")
    _, two = bench(site, tmp_path / "two", *TOY, *READABLE, "--resolution", "2,4,8", "--workers", "2")
    assert [(c["sample"], c["resolution"], c["metrics"]) for c in one] == [
        (c["sample"], c["resolution"], c["metrics"]) for c in two
    ]


def test_the_same_command_again_measures_nothing_twice(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "log"
    monkeypatch.setenv("TOY_LOG", str(log))
    _, first = bench(site, tmp_path / "out", *TOY, *READABLE, "--resolution", "4")
    measured = log.read_text().count("extracted")
    done, second = bench(site, tmp_path / "out", *TOY, *READABLE, "--resolution", "4")
    assert log.read_text().count("extracted") == measured
    assert first == second
    assert "2 of them from earlier runs" in done.stdout


@pytest.mark.parametrize(
    "change", [("--seed", "1"), ("--set", "rounded.seconds=0.001"), ("--metric", "toy-error", "--resolution", "5")]
)
def test_whatever_decides_the_numbers_decides_the_key(site: Path, tmp_path: Path, change: tuple[str, ...]) -> None:
    _, first = bench(site, tmp_path, *TOY, "--samples", "flat", "--resolution", "4")
    _, second = bench(site, tmp_path, *TOY, "--samples", "flat", "--resolution", "4", *change)
    assert {c["key"] for c in first} != {c["key"] for c in second}


def test_edited_plugin_code_is_measured_again(tmp_path: Path) -> None:
    site = tmp_path / "site"
    install(site, "toy-bench", {"toy_light.py": LIGHT, "toy_heavy.py": HEAVY}, {"toy": "toy_light"})
    _, (first,) = bench(site, tmp_path / "out", *TOY, "--samples", "flat", "--resolution", "4")
    heavy = site / "toy_heavy.py"
    heavy.write_text(heavy.read_text().replace("mesh.vertices * r) / r", "mesh.vertices * r) / r + 0.25"))
    _, (second,) = bench(site, tmp_path / "out", *TOY, "--samples", "flat", "--resolution", "4")
    assert second["metrics"]["toy-error/v1"] > first["metrics"]["toy-error/v1"] + 0.1


def test_a_torn_card_is_measured_again(site: Path, tmp_path: Path) -> None:
    _, (first,) = bench(site, tmp_path, *TOY, "--samples", "flat", "--resolution", "4")
    card = tmp_path / "cards" / f"{first['key']}.json"
    card.write_text(card.read_text()[:100])
    done, (second,) = bench(site, tmp_path, *TOY, "--samples", "flat", "--resolution", "4")
    assert "0 of them from earlier runs" in done.stdout
    assert second["metrics"] == first["metrics"]


def test_failed_cells_are_kept_until_asked_to_retry(site: Path, tmp_path: Path) -> None:
    arguments = ("--extractor", "trouble", "--samples", "flat", "--resolution", "4")
    bench(site, tmp_path, *TOY, *arguments)
    assert "2 of them from earlier runs" in bench(site, tmp_path, *TOY, *arguments)[0].stdout
    assert "1 of them from earlier runs" in bench(site, tmp_path, *TOY, *arguments, "--retry-failed")[0].stdout


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGKILL])
def test_a_sweep_resumes_after_an_interruption(site: Path, tmp_path: Path, kind: signal.Signals) -> None:
    slow = (*TOY, *READABLE, "--resolution", "2,3,4,5", "--set", "rounded.seconds=0.7", "--out", tmp_path)
    command = [sys.executable, "-m", "shapewright", "bench", *map(str, slow)]
    process = subprocess.Popen(
        command,
        env=environment(site),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=interruptible,
    )
    deadline = time.monotonic() + 120
    while len(list((tmp_path / "cards").glob("[!.]*.json"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    if kind == signal.SIGINT:
        os.killpg(process.pid, kind)  # what a terminal does on Ctrl-C: everybody in the group gets it
    else:
        process.kill()
    _, errors = process.communicate(timeout=60)
    kept = len(list((tmp_path / "cards").glob("[!.]*.json")))
    assert 2 <= kept < 8
    if kind == signal.SIGINT:
        assert process.returncode == 130
        assert "the same command continues" in errors
        assert "Traceback" not in errors
        assert json.loads((tmp_path / "cells.json").read_text())
    time.sleep(1.0)  # orphans of a killed parent see a closed pipe and end; they may finish the cell in hand
    kept = len(list((tmp_path / "cards").glob("[!.]*.json")))
    done, cells = bench(site, tmp_path, *slow)
    assert [c["status"] for c in cells] == ["ok"] * 8
    assert f"{kept} of them from earlier runs" in done.stdout


def test_meshes_are_kept_on_request_and_made_again_when_lost(site: Path, tmp_path: Path) -> None:
    arguments = (*TOY, "--samples", "flat", "--resolution", "4", "--keep-meshes")
    _, (cell,) = bench(site, tmp_path, *arguments)
    mesh = tmp_path / cell["mesh"]
    assert mesh.stat().st_size > 0
    mesh.unlink()
    bench(site, tmp_path, *arguments)
    assert mesh.is_file()


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (("--resolution", "0"), "resolution 0 is out of range"),
        (("--resolution", "1"), "resolution 1 is out of range"),
        (("--resolution", "1000000"), "resolution 1000000 is out of range"),
        (("--resolution", "12,x"), "whole numbers"),
        (("--representation", "rouded"), "representation/rounded"),
        (("--extractor", "nothing-like-it"), "shapewright list extractor"),
        (("--metric", "toy-eror"), "metric/toy-error"),
        (("--samples", "flatt"), "flat"),
        (("--workers", "0"), "at least 1 worker"),
        (("--data", "no-such-folder"), "no-such-folder"),
        (("--dataset", "toyz"), "dataset/toys"),
        (("--pipeline", "roundtrip-sdff"), "roundtrip-sdf"),
        (("--set", "rounded.resolutoin=3"), "resolution"),
        (("--set", "rouded.resolution=3"), "did you mean 'rounded'?"),
        (("--registry", "none.yaml"), "none.yaml"),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_measured(
    site: Path, tmp_path: Path, arguments: tuple[str, ...], wanted: str
) -> None:
    base = {"--dataset": "toys", "--representation": "rounded", "--extractor": "as-is", "--metric": "toy-error"}
    base.pop(arguments[0], None)
    given = [part for pair in base.items() for part in pair]
    done = shapewright("bench", "--out", tmp_path / "out", *given, *arguments, sites=(site,))
    assert_one_line_error(done, wanted)
    assert not (tmp_path / "out" / "cards").exists()
