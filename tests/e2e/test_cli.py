"""The commands that look but do not compute, with everything that ships installed."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from textwrap import dedent

import pytest
import torch
from distributions import environment, shapewright
from in_process import assert_refused, run
from shapewright.cli import COMMANDS
from shapewright.spec import KINDS

REPRESENTATIONS = ["o-voxel", "sdf", "sdf-grid", "sparseflex"]
EXTRACTORS = ["dual-contouring", "flexible-dual-grid", "flexicubes", "marching-cubes"]
PIPELINES = ["roundtrip-sdf", "roundtrip-sparseflex", "roundtrip-o-voxel"]
FITTING = {
    ("o-voxel", "flexible-dual-grid"),
    ("sparseflex", "flexicubes"),
    *((sdf, e) for sdf in ("sdf", "sdf-grid") for e in ("dual-contouring", "flexicubes", "marching-cubes")),
}


# --- list, plugins ----------------------------------------------------------------------------------------------------
def test_list_shows_name_summary_and_capabilities_of_every_component() -> None:
    rows = json.loads(run("list", "--json").stdout)
    keys = [row["key"] for row in rows]
    assert {f"representation/{name}" for name in REPRESENTATIONS} <= set(keys)
    assert {f"extractor/{name}" for name in EXTRACTORS} <= set(keys)
    assert {"dataset/stress-suite", "dataset/folder", "dataset/pybullet-objects", "metric/chamfer"} <= set(keys)
    assert len(keys) == len(set(keys))
    for row in rows:
        assert row["kind"] in KINDS
        assert row["key"] == f"{row['kind']}/{row['name']}"
        assert 10 < len(row["summary"]) < 120, row["key"]
        assert row["plugin"]
    by_key = {row["key"]: row for row in rows}
    assert {"open_surfaces", "interiors", "non_manifold"} <= set(by_key["representation/o-voxel"]["capabilities"])
    assert "non_manifold" not in by_key["representation/sparseflex"]["capabilities"]
    assert "open_surfaces" not in by_key["representation/sdf"]["capabilities"]
    assert by_key["extractor/flexicubes"]["verbs"]["extract"]["outputs"] == {"mesh": "mesh"}
    plain = run("list")
    assert plain.stderr == ""
    for row in rows:
        (line,) = [line for line in plain.stdout.splitlines() if line.startswith(f"  {row['name']} ")]
        assert line.endswith(row["summary"])


def test_list_of_one_kind_shows_that_kind_alone() -> None:
    lines = run("list", "extractor").stdout.splitlines()
    assert lines[0] == f"extractor ({len(json.loads(run('list', 'extractor', '--json').stdout))})"
    assert {line.split()[0] for line in lines if re.match(r"  \S", line)} >= set(EXTRACTORS)
    assert not any("stress-suite" in line for line in lines)


def test_list_of_pipelines_says_what_each_starts_from() -> None:
    rows = {row["name"]: row for row in json.loads(run("list", "pipelines", "--json").stdout)}
    assert rows["triposg-scribble"]["inputs"] == {"image": "image", "prompt": "text"}
    lines = run("list", "pipelines").stdout.splitlines()
    for name, row in rows.items():
        (line,) = [line for line in lines if line.startswith(f"{name} ")]
        assert line.endswith(row["summary"])
        assert ", ".join(row["inputs"].values()) in line


def test_every_plugin_that_ships_is_in_order() -> None:
    rows = {row["name"]: row for row in json.loads(run("plugins", "--json").stdout)}
    for name in ("datasets", "isosurface", "metrics", "o-voxel", "sdf", "sparseflex"):
        assert (rows[name]["state"], rows[name]["distribution"]) == ("ok", "shapewright")
        assert rows[name]["components"]
    assert re.search(r"^sparseflex +shapewright ", run("plugins").stdout, re.MULTILINE)


# --- matrix -----------------------------------------------------------------------------------------------------------
def test_the_matrix_says_which_pairs_fit_and_why_the_others_do_not() -> None:
    found = json.loads(run("matrix", "--json").stdout)
    pairs = {(p["representation"], p["extractor"]): p for p in found["pairs"]}
    assert {(r, e) for r in REPRESENTATIONS for e in EXTRACTORS} <= set(pairs)
    for (representation, extractor), pair in pairs.items():
        if representation in REPRESENTATIONS and extractor in EXTRACTORS:
            assert pair["fits"] == ((representation, extractor) in FITTING)
        assert pair["fits"] == (not pair["reason"])
    assert pairs["o-voxel", "flexicubes"]["reason"] == (
        "flexicubes wants sparseflex or sdf.grid or sdf.sparse, o-voxel makes dualgrid.flexible"
    )
    assert set(found["capabilities"]) >= {f"representation/{name}" for name in REPRESENTATIONS}
    text = run("matrix").stdout
    table = text[text.index("FITS") :].splitlines()
    columns = table[0].split()
    (row,) = [line.split() for line in table if line.startswith("sdf ")]
    assert dict(zip(columns, row))["marching-cubes"] == "yes"
    assert dict(zip(columns, row))["flexible-dual-grid"] == "-"
    for pair in pairs.values():
        assert not pair["reason"] or f"  {pair['reason']}\n" in text


# --- check ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("pipeline", PIPELINES)
def test_check_prints_the_stages_and_where_the_pipeline_comes_from(pipeline: str) -> None:
    done = run("check", pipeline)
    assert (done.returncode, done.stderr) == (0, "")
    head, convert, extract, verdict = done.stdout.splitlines()
    assert head.split() == ["STAGE", "COMPONENT", "IN", "OUT"]
    assert convert.startswith("rep.from_mesh")
    assert "reference: mesh" in convert
    assert extract.startswith("mesher.extract")
    assert extract.endswith("mesh: mesh")
    assert re.fullmatch(rf"{pipeline}: fits \(.*registry\.yaml:\d+\)", verdict)


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's file with one good pipeline and several kinds of wrong ones."""
    path = tmp_path_factory.mktemp("registry") / "mine.yaml"
    stages = """
            stages:
              - {run: rep.from_mesh, in: {mesh: reference}, out: {state: grid}}
              - {run: mesher.extract, in: {state: grid}, out: {mesh: mesh}}
            output: mesh"""
    path.write_text(
        dedent(f"""
        schema: 1
        pipelines:
          good:
            inputs: {{reference: mesh}}
            components:
              rep: {{use: representation/o-voxel, with: {{resolution: 64}}}}
              mesher: {{use: extractor/flexible-dual-grid}}{stages}
          miswired:
            inputs: {{reference: mesh}}
            components:
              lost: {{use: representation/o-voxl}}
              rep: {{use: representation/o-voxel}}
              mesher: {{use: extractor/marching-cubes}}
            stages:
              - {{run: rep.from_mesh, in: {{mesh: referense}}, out: {{state: grid}}}}
              - {{run: mesher.extract, in: {{state: grid}}, out: {{mesh: mesh}}}}
              - {{run: mesher.extrakt, in: {{state: grid}}, out: {{mesh: second}}}}
            output: mehs
          one-typo:
            inputs: {{reference: mesh}}
            components:
              rep: {{use: representation/o-voxel, with: {{resolutoin: 64}}}}
              mesher: {{use: extractor/flexible-dual-grid}}{stages}
          out-of-range:
            inputs: {{reference: mesh}}
            components:
              rep: {{use: representation/o-voxel, with: {{resolution: 1}}}}
              mesher: {{use: extractor/flexible-dual-grid}}{stages}
          three-options:
            inputs: {{reference: mesh}}
            components:
              rep: {{use: representation/sdf, with: {{surfase: shell}}}}
              mesher: {{use: extractor/dual-contouring, with: {{clamp: perhaps}}}}
            stages:
              - {{run: rep.from_mesh, in: {{mesh: reference}}, out: {{state: grid}}}}
              - {{run: mesher.extract, in: {{state: grid}}, out: {{mesh: mesh}}, with: {{level: 0}}}}
            output: mesh
        """)
    )
    return path


def test_check_reads_a_users_registry_and_names_file_and_line(registry: Path) -> None:
    done = run("check", "good", "--registry", registry)
    line = registry.read_text().splitlines().index("  good:") + 1
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith(f"good: fits ({registry}:{line})\n")


def test_check_reports_all_problems_of_a_wiring_together(registry: Path) -> None:
    done = run("check", "miswired", "--registry", registry)
    assert (done.returncode, done.stdout) == (2, "")
    head, *problems = done.stderr.splitlines()
    assert head == "error: pipeline 'miswired' cannot run (5 problems):"
    wanted = [
        "components.lost.use: no component is named 'representation/o-voxl'. Did you mean 'representation/o-voxel'?",
        "stages[0] rep.from_mesh: 'referense' is not made by an earlier stage; did you mean 'reference'?",
        "input 'state' wants 'sdf.grid or sdf.sparse or sdf.function' but 'grid' is 'dualgrid.flexible'; "
        "extractors that fit: flexible-dual-grid",
        "extractor/marching-cubes has no verb 'extrakt'; it has extract",
        "output: 'mehs' is made by no stage; did you mean 'mesh'?",
    ]
    assert len(problems) == len(wanted)
    for problem, text in zip(problems, wanted):
        assert text in problem


def test_check_validates_options(registry: Path) -> None:
    done = run("check", "one-typo", "--registry", registry)
    assert_refused(done, "one-typo: components.rep.with.resolutoin", "Did you mean: 'resolution'?")
    assert run("check", "one-typo", "--registry", registry, "--wiring-only").returncode == 0
    done = run("check", "out-of-range", "--registry", registry)
    assert_refused(done, "components.rep.with: resolution must lie between 2 and 32767, not 1")
    assert_refused(run("check", "roundtrip-sdf", "--set", "rep.resolution=0"), "roundtrip-sdf: components.rep.with: ")


def test_check_reports_all_problems_of_the_options_together(registry: Path) -> None:
    done = run("check", "three-options", "--registry", registry)
    assert (done.returncode, done.stdout) == (2, "")
    head, *problems = done.stderr.splitlines()
    assert head == "error: pipeline 'three-options' cannot run (3 problems):"
    assert "components.rep.with.surfase: " in problems[0]
    assert "Did you mean: 'surface'?" in problems[0]
    assert "components.mesher.with.clamp: Value 'perhaps'" in problems[1]
    assert problems[2] == "  - stages[1] mesher.extract: there is no option 'level'; it takes none"


def test_an_unknown_pipeline_is_one_line_with_what_there_is() -> None:
    done = run("check", "roundtrip-sdff")
    assert_refused(done, "no pipeline is named 'roundtrip-sdff'; did you mean 'roundtrip-sdf'", *PIPELINES)


# --- info -------------------------------------------------------------------------------------------------------------
def test_info_tells_versions_devices_backends_and_plugins() -> None:
    facts = json.loads(run("info", "--json").stdout)
    assert facts["shapewright"] == version("shapewright")
    for name in ("torch", "numpy", "numba", "trimesh", "pluggy", "omegaconf", "safetensors"):
        assert facts["libraries"][name] == version(name)
    assert facts["machine"]["memory_gib"] > 0.5
    assert facts["devices"][0] == "cpu"
    assert len(facts["devices"]) >= 1 + torch.cuda.device_count()
    assert facts["backends"]["torch"].startswith("works")
    assert facts["backends"]["numba"].startswith("works")
    assert facts["plugins"]["o-voxel"] == "ok, 2 components"
    text = run("info").stdout
    assert f"shapewright: {facts['shapewright']}\n" in text
    assert f"  numba: {facts['libraries']['numba']}\n" in text


# --- completion -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_are_printed_and_valid(shell: str, tmp_path: Path) -> None:
    done = run("completion", shell)
    assert (done.returncode, done.stderr) == (0, "")
    assert "_SHAPEWRIGHT_COMPLETE" in done.stdout
    if shutil.which(shell):
        script = tmp_path / "script"
        script.write_text(done.stdout)
        checked = subprocess.run([shell, "-n", str(script)], capture_output=True, text=True)
        assert (checked.returncode, checked.stderr) == (0, "")


def test_the_shell_is_offered_commands_and_options() -> None:
    asked = {"COMP_WORDS": "shapewright conv", "COMP_CWORD": "1", "_SHAPEWRIGHT_COMPLETE": "bash_complete"}
    code = "from shapewright.cli import main; main()"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env={**environment(), **asked}, capture_output=True, text=True)
    assert done.stdout.splitlines() == ["plain,convert", "plain,convert-weights"]
    assert done.stderr == ""
    asked |= {"COMP_WORDS": "shapewright convert --pi", "COMP_CWORD": "2"}
    done = subprocess.run(command, env={**environment(), **asked}, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("plain,--pipeline\n", "")


# --- help and mistakes ------------------------------------------------------------------------------------------------
def test_help_names_every_command_and_every_command_has_help() -> None:
    text = run("--help").stdout
    for name in COMMANDS:
        assert f"\n  {name} " in text
        done = run(name, "--help")
        assert done.returncode == 0
        assert done.stdout.startswith(f"Usage: shapewright {name} ")
    bare = run()
    assert bare.returncode != 0
    assert "\n  convert " in bare.stderr + bare.stdout


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (("covnert",), "no command is named 'covnert'; did you mean 'convert'? (see `shapewright --help`)"),
        (("qqqq",), f"there is {', '.join(sorted(COMMANDS))}"),
        (("--jsn",), "'--jsn'"),
        (("list", "extractors"), "no kind is named 'extractors'; did you mean 'extractor'?"),
        (("list", "--jsn"), "Did you mean '--json'? (see `shapewright list --help`)"),
        (("check",), "Missing argument 'PIPELINE'"),
        (("convert", "mesh.obj"), "name the file to write once, as TARGET or with --output"),
        (("completion", "tcsh"), "'tcsh' is not one of 'bash', 'zsh', 'fish'"),
        (("parity", "no/such/file"), "no/such/file"),
        (("bench", "--resolution", "12,x"), "whole numbers"),
    ],
)
def test_a_mistyped_command_line_is_one_line(arguments: tuple[str, ...], wanted: str) -> None:
    assert_refused(run(*arguments), wanted)


def test_a_reader_that_goes_away_is_no_error() -> None:
    command = f"'{sys.executable}' -m shapewright list --json | head -n 1"
    done = subprocess.run(["sh", "-c", command], env=environment(), capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("[\n", "")


# --- what others print ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("pipeline", PIPELINES)
def test_no_library_speaks_on_standard_error(tmp_path: Path, pipeline: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a fresh process as a user starts it, imports included: deprecations, Numba's remarks, and the like."""
    monkeypatch.delenv("PYTHONWARNINGS", raising=False)
    mesh = tmp_path / "tetrahedron.obj"
    mesh.write_text("v 0 0 0\nv 1 0 0\nv 0 1.2 0\nv 0 0 0.7\nf 1 3 2\nf 1 2 4\nf 2 3 4\nf 3 1 4\n")
    done = shapewright("convert", mesh, "--pipeline", pipeline, "--resolution", 16, "-o", tmp_path / "out.glb")
    assert (done.returncode, done.stderr) == (0, "")


def test_no_library_speaks_on_standard_error_of_info(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONWARNINGS", raising=False)
    done = shapewright("info")
    assert (done.returncode, done.stderr) == (0, "")
    assert "\nbackends:\n  torch: works" in done.stdout
