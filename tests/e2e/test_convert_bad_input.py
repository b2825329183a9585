"""``shapewright convert`` when something is wrong: one line, a non-zero exit, and nothing half-written."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import torch
from distributions import environment, install, interruptible
from in_process import Done, assert_refused, run
from shapewright.mesh_io import load_mesh, save_mesh
from shapewright.states import Mesh

PIPELINES = ("roundtrip-sdf", "roundtrip-sparseflex", "roundtrip-o-voxel")
RANGES = {"roundtrip-sdf": ("1", "4096"), "roundtrip-sparseflex": ("4", "8192"), "roundtrip-o-voxel": ("2", "32767")}
TETRAHEDRON = "v 0 0 0\nv 1 0 0\nv 0 1.2 0\nv 0 0 0.7\nf 1 3 2\nf 1 2 4\nf 2 3 4\nf 3 1 4\n"


@pytest.fixture
def tetrahedron(tmp_path: Path) -> Path:
    path = tmp_path / "tetrahedron.obj"
    path.write_text(TETRAHEDRON)
    return path


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """An empty folder for outputs."""
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


def solid(scale: float, move: float = 0.0) -> Mesh:
    corners = torch.tensor([[0, 0, 0], [1, 0, 0], [0, 1.2, 0], [0, 0, 0.7]], dtype=torch.float64)
    return Mesh(corners * scale + move, torch.tensor([[0, 2, 1], [0, 1, 3], [1, 2, 3], [2, 0, 3]]))


def convert(mesh: object, output: object, *arguments: object, pipeline: str = "roundtrip-o-voxel") -> Done:
    return run("convert", mesh, "--pipeline", pipeline, "-o", output, "--resolution", 16, *arguments)


# --- the input ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("name", "content", "wanted"),
    [
        ("missing.obj", None, "no such file"),
        ("folder.obj", ..., "is a folder"),
        ("image.jpeg", b"\xff\xd8\xff", "'.jpeg' is unknown; meshes are read from .obj"),
        ("nameless", b"v 0 0 0", "no extension"),
        ("empty.ply", b"", "empty"),
        ("no_faces.obj", b"v 0 0 0\nv 1 0 0\nv 0 1 0\n", "no faces: the file is a point cloud of 3 points"),
        ("nan.obj", b"v nan 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n", "1 faces with non-finite vertices"),
        ("point.obj", b"v 1 1 1\nv 1 1 1\nv 1 1 1\nf 1 2 3\n", "no face has an area"),
        ("really_a_glb.stl", b"glTF" + struct.pack("<II", 2, 12), "really_a_glb.stl"),
        ("really_an_obj.ply", TETRAHEDRON.encode(), "really_an_obj.ply"),
        ("noise.glb", bytes(range(256)) * 4, "noise.glb"),
        ("binary.obj", bytes(range(256)) * 4, "binary.obj"),
    ],
)
def test_an_unusable_input_is_one_line_that_names_it(
    tmp_path: Path, out: Path, name: str, content: object, wanted: str
) -> None:
    path = tmp_path / name
    if content is ...:
        path.mkdir()
    elif isinstance(content, bytes):
        path.write_bytes(content)
    for pipeline in PIPELINES:
        assert_refused(convert(path, out / "out.glb", pipeline=pipeline), str(path), wanted)
    assert list(out.iterdir()) == []


@contextmanager
def unprivileged() -> Iterator[None]:
    """Lay root's rights down for a moment, since root may read and write everything."""
    if os.geteuid() != 0:
        yield
        return
    os.setresuid(65534, 65534, 0)
    try:
        yield
    finally:
        os.setresuid(0, 0, 0)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that everybody may enter, unlike pytest's."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def test_an_unreadable_input_is_refused(open_folder: Path) -> None:
    path = open_folder / "secret.obj"
    path.write_text(TETRAHEDRON)
    path.chmod(0)
    (open_folder / "out").mkdir()
    (open_folder / "out").chmod(0o777)
    convert(path.with_name("warm.obj"), open_folder / "out" / "out.glb")  # imports happen with full rights
    with unprivileged():
        done = convert(path, open_folder / "out" / "out.glb")
    assert_refused(done, str(path), "Permission denied")
    assert list((open_folder / "out").iterdir()) == []


def test_an_output_folder_without_permission_is_refused_before_work_starts(open_folder: Path) -> None:
    path = open_folder / "tetrahedron.obj"
    path.write_text("this is not even looked at")
    (open_folder / "out").mkdir(mode=0o555)
    with unprivileged():
        done = convert(path, open_folder / "out" / "below" / "out.glb")
    assert_refused(done, "no permission to write", str(open_folder / "out"))
    assert list((open_folder / "out").iterdir()) == []


def test_partly_broken_input_is_repaired_and_says_so(tmp_path: Path, out: Path) -> None:
    path = tmp_path / "partly.obj"
    path.write_text(TETRAHEDRON + "v nan 0 0\nf 1 2 5\nf 1 2 2\nf 2 1 3\nv 9 9 9\n")
    done = convert(path, out / "out.ply")
    assert done.returncode == 0
    (line,) = done.stderr.splitlines()
    assert line == (
        f"warning: {path}: dropped 1 faces with non-finite vertices, 1 unreferenced vertices, 1 zero-area faces, "
        "1 duplicate faces"
    )
    result = load_mesh(out / "out.ply")
    assert result.vertices.amax(dim=0).tolist() == pytest.approx([1, 1.2, 0.7], abs=0.1)


@pytest.mark.parametrize("suffix", [".obj", ".ply"])
def test_huge_and_tiny_coordinates_survive_where_the_format_holds_them(tmp_path: Path, suffix: str) -> None:
    for scale in (1e-300, 1e300):
        save_mesh(solid(scale), tmp_path / f"scaled{scale}.ply")
        output = tmp_path / f"out{scale}{suffix}"
        done = convert(tmp_path / f"scaled{scale}.ply", output)
        assert done.returncode == 0, done.stderr
        assert (load_mesh(output).vertices.amax(dim=0) / scale).tolist() == pytest.approx([1, 1.2, 0.7], abs=0.1)


@pytest.mark.parametrize("suffix", [".glb", ".stl"])
@pytest.mark.parametrize(
    ("move", "scale", "wanted"),
    [(0.0, 1e300, "float32"), (0.0, 1e-300, "float32"), (1e9, 1.0, "nearer to the origin")],
)
def test_coordinates_that_float32_would_destroy_are_not_written(
    tmp_path: Path, out: Path, suffix: str, move: float, scale: float, wanted: str
) -> None:
    save_mesh(solid(scale, move), tmp_path / "far.ply")
    assert_refused(convert(tmp_path / "far.ply", out / f"out{suffix}"), f"out{suffix}", wanted, ".obj, .ply or .off")
    assert list(out.iterdir()) == []


# What becomes of each file: refused, repaired (a warning says what was dropped), or converted as it is.
REFUSED = {
    "01_zero_bytes.obj": "empty",
    "02_empty_header.ply": "empty",
    "03_points_only.ply": "point cloud of 100 points",
    "04_all_nan.obj": "32 faces with non-finite vertices",
    "06_infinite.glb": "12 faces with non-finite vertices",
    "14_zero_area.obj": "no face has an area",
    "18_truncated.stl": "announces 320 triangles and holds 100",
}
REPAIRED = {
    "05_some_nan.ply": "dropped 15 faces with non-finite vertices",
    "07_degenerate_faces.ply": "dropped 80 zero-area faces",
    "08_duplicate_faces.obj": "dropped 128 duplicate faces",
    "11_huge_offset.ply": "dropped 288 zero-area faces",
    "17_index_out_of_range.obj": "dropped 1 faces that refer to a vertex that is not there",
    "21_unreferenced.ply": "dropped 1000 unreferenced vertices",
    "23_nan_colors.obj": "dropped 8 vertex colours",
}
OPEN = {
    "05_some_nan.ply",
    "15_flat_quad.off",
    "16_single_triangle.off",
    "17_index_out_of_range.obj",
    "19_ngons.obj",
    "22_soup.stl",
}
WITHOUT_INSIDE = {"15_flat_quad.off", "16_single_triangle.off"}


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_every_broken_file_is_refused_or_converted_with_its_repairs_named(
    shared: Path, out: Path, pipeline: str
) -> None:
    files = sorted((shared / "data" / "broken").iterdir())
    assert len(files) >= 24
    signed = pipeline == "roundtrip-sdf"
    for path in files:
        output = out / f"{path.stem}.ply"
        done = convert(path, output, pipeline=pipeline)
        *notes, last = done.stderr.splitlines() or [""]
        if path.name in REFUSED or (signed and path.name in WITHOUT_INSIDE):
            assert_refused(done, str(path), REFUSED.get(path.name, "no face"))
            assert not output.exists(), path.name
        else:
            notes = done.stderr.splitlines()
            assert done.returncode == 0, (path.name, last)
            assert len(load_mesh(output, repair=False).faces) > 10, path.name
            assert all(line.startswith("warning: ") for line in notes), (path.name, notes)
        repairs = [line for line in notes if "dropped" in line]
        assert len(repairs) == (path.name in REPAIRED), (path.name, notes)
        assert not repairs or f"{path}: {REPAIRED[path.name]}" in repairs[0]
        assert any("open edges" in line for line in notes) == (signed and path.name in OPEN), (path.name, notes)
    assert not any(path.name.startswith(".") for path in out.iterdir())  # no temporary is left


# --- options --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("given", [0, 1, 1_000_000, -5])
@pytest.mark.parametrize("pipeline", PIPELINES)
def test_a_resolution_out_of_range_is_refused_with_the_range(
    tetrahedron: Path, out: Path, pipeline: str, given: int
) -> None:
    for way in (("--resolution", given), ("--set", f"rep.resolution={given}")):
        done = run("convert", tetrahedron, "--pipeline", pipeline, "-o", out / "out.glb", *way)
        wanted = ["use at least 3"] if (pipeline, given) == ("roundtrip-sdf", 1) else RANGES[pipeline]
        assert_refused(done, f"{pipeline}: components.rep.with: ", "resolution", str(given), *wanted)
    assert list(out.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (("--resolution", "many"), "'many' is not a valid integer"),
        (("--set", "rep.resolutoin=3"), "Did you mean: 'resolution'?"),
        (("--set", "rp.resolution=3"), "did you mean 'rep'?"),
        (("--set", "rep.resolution=64.5"), "'64.5' of type 'float' could not be converted to Integer"),
        (("--set", "rep.resolution"), "write it as path.to.option=value"),
        (("--set", "mesher.modee=train"), "Did you mean: 'mode'?"),
        (("--pipeline", "roundtrip-o-voxl"), "did you mean 'roundtrip-o-voxel'"),
        (("--registry", "none.yaml"), "none.yaml: No such file"),
        (("--seed", "x"), "'--seed'"),
        (("--resolutoin", "3"), "--resolution"),
    ],
)
def test_a_misspelt_option_is_one_line_with_what_to_type(
    tetrahedron: Path, out: Path, arguments: tuple[str, ...], wanted: str
) -> None:
    done = run("convert", tetrahedron, "--pipeline", "roundtrip-o-voxel", "-o", out / "out.glb", *arguments)
    assert_refused(done, wanted)
    assert list(out.iterdir()) == []


def test_options_are_checked_before_the_mesh_is_read(out: Path) -> None:
    done = run("convert", "not-there.obj", "--pipeline", "roundtrip-sdf", "-o", out / "out.glb", "--resolution", 0)
    assert_refused(done, "resolution must be")


# --- memory ---------------------------------------------------------------------------------------------------------
DENSE = ("--set", "components.rep.use=representation/sdf-grid")


def test_a_dense_grid_that_cannot_fit_is_refused_with_the_figure(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=8 * 2**30))
    done = run(
        "convert", "not-there.obj", "--pipeline", "roundtrip-sdf", "-o", out / "o.ply", "--resolution", 1024, *DENSE
    )
    assert_refused(done, "GiB and 8.0 GiB are free", "lower the resolution")
    figure = float(done.stderr.split("needs about ")[1].split()[0])
    assert 1025**3 * 16 / 2**30 <= figure < 40  # a float32 value and its float32 gradient at every point, at least
    assert list(out.iterdir()) == []


def test_a_dense_grid_that_fits_is_computed(tetrahedron: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=2**28))
    done = convert(tetrahedron, out / "out.ply", *DENSE, pipeline="roundtrip-sdf")
    assert done.returncode == 0, done.stderr
    assert len(load_mesh(out / "out.ply").faces) > 100


def test_running_out_of_memory_is_one_line(tetrahedron: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def exhausted(*arguments: object, **options: object) -> None:
        raise MemoryError("Unable to allocate 9.00 TiB")

    monkeypatch.setattr("shapewright_plugins.o_voxel.representation.mesh_to_flexible_dual_grid", exhausted)
    assert_refused(convert(tetrahedron, out / "out.ply"), "out of memory", "9.00 TiB", "lower the resolution")
    assert list(out.iterdir()) == []


# --- the output -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("out.xyz", "'.xyz' is unknown; meshes are written as .glb, .obj, .ply, .stl"),
        ("out", "no extension"),
        ("folder.ply", "folder.ply: is a folder"),
        ("file.txt/out.ply", "file.txt is a file, not a folder"),
    ],
)
def test_an_impossible_output_is_refused_before_the_mesh_is_read(out: Path, name: str, wanted: str) -> None:
    (out / "folder.ply").mkdir()
    (out / "file.txt").write_text("text")
    for overwrite in ((), ("--overwrite",)):
        assert_refused(convert("not-there.obj", out / name, *overwrite), wanted)
    assert {path.name for path in out.iterdir()} == {"folder.ply", "file.txt"}
    assert (out / "file.txt").read_text() == "text"


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Let the kernel refuse to write more than ``size`` bytes into any file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("suffix", [".glb", ".obj", ".ply", ".stl"])
def test_a_write_that_the_system_cuts_short_leaves_nothing(tetrahedron: Path, out: Path, suffix: str) -> None:
    output = out / f"out{suffix}"
    convert(tetrahedron, out / f"whole{suffix}")
    (out / f"whole{suffix}").unlink()
    with largest_file(4096):
        assert_refused(convert(tetrahedron, output), f"cannot write {output}", "File too large")
    assert list(out.iterdir()) == []


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_full_disk_leaves_nothing_and_spares_the_file_that_was_there(
    tetrahedron: Path, out: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    output = out / "out.ply"
    monkeypatch.setattr(os, step, full)
    assert_refused(convert(tetrahedron, output), f"cannot write {output}", "No space left", "free some space")
    assert list(out.iterdir()) == []
    output.write_bytes(b"precious")
    assert_refused(convert(tetrahedron, output, "--overwrite"), "No space left")
    assert list(out.iterdir()) == [output]
    assert output.read_bytes() == b"precious"


def test_a_disk_that_is_really_full(tetrahedron: Path, out: Path) -> None:
    """A file system of 16 kB in a mount namespace of its own, which ends with the process."""
    mounted = f"mount -t tmpfs -o size=16k tmpfs '{out}'"
    own = ["unshare", "-m", "sh", "-c"]
    if not shutil.which("unshare") or subprocess.run([*own, mounted], capture_output=True).returncode != 0:
        pytest.skip("mounting a file system is not permitted here")
    command = f"'{sys.executable}' -m shapewright convert '{tetrahedron}' --pipeline roundtrip-o-voxel -o '{out}/o.ply'"
    script = f"{mounted} && {command}; code=$?; ls -A '{out}'; exit $code"
    done = subprocess.run([*own, script], capture_output=True, text=True, env=environment())
    assert_refused(Done(done.returncode, done.stdout, done.stderr), "cannot write", "No space left on device")


# --- Ctrl-C ---------------------------------------------------------------------------------------------------------
MARKER = """
    import os
    from shapewright.plugin import hookimpl

    @hookimpl
    def before_stage(stage, inputs):
        open(os.environ["MARKER"], "w").write(stage)
"""


def test_ctrl_c_during_the_work_is_one_line_and_leaves_nothing(tmp_path: Path, tetrahedron: Path, out: Path) -> None:
    install(tmp_path / "site", "marker", {"marker_plugin.py": MARKER}, {"marker": "marker_plugin"})
    marker = tmp_path / "marker"
    arguments = [
        "convert",
        str(tetrahedron),
        "--pipeline",
        "roundtrip-sparseflex",
        "-o",
        str(out / "out.ply"),
        "--resolution",
        "700",
    ]
    process = subprocess.Popen(
        [sys.executable, "-m", "shapewright", *arguments],
        env={**environment(tmp_path / "site"), "MARKER": str(marker)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=interruptible,
    )
    deadline = time.monotonic() + 120
    while not marker.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.5)  # well inside the conversion, whose kernels run in threads that hold no interpreter lock
    os.killpg(process.pid, signal.SIGINT)
    sent = time.monotonic()
    stdout, stderr = process.communicate(timeout=60)
    assert marker.read_text() == "rep.from_mesh"
    assert (process.returncode, stdout, stderr) == (130, "", "interrupted\n")
    assert time.monotonic() - sent < 20
    assert list(out.iterdir()) == []


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_ctrl_c_while_writing_leaves_no_temporary_and_spares_the_file_that_was_there(
    tetrahedron: Path, out: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, step, interrupted)
    (out / "out.ply").write_bytes(b"precious")
    done = convert(tetrahedron, out / "out.ply", "--overwrite")
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "interrupted\n")
    assert list(out.iterdir()) == [out / "out.ply"]
    assert (out / "out.ply").read_bytes() == b"precious"
