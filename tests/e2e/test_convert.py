"""``shapewright convert`` with the pipelines that ship: what comes out, where it lies, and what the options change."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import numpy as np
import pytest
import torch
from distributions import install
from in_process import assert_refused, run
from shapewright import discover
from shapewright.mesh_io import load_mesh, normalise, save_mesh
from shapewright.plan import check
from shapewright.registry import load_registry
from shapewright.run import execute
from shapewright.states import Mesh
from shapewright_kernels.closest_point import ClosestPointIndex

PIPELINES = ("roundtrip-sdf", "roundtrip-sparseflex", "roundtrip-o-voxel")
SUFFIXES = (".glb", ".obj", ".ply", ".stl")
RESOLUTION = 32
SCALE = 37.0
CELL = SCALE / (RESOLUTION - 2.5)  # the widest cell of the three: up to 1.25 cells of margin on both sides
OUTLINE = [(0.0, 0.0), (1.0, 0.0), (1.0, 0.3), (0.3, 0.3), (0.3, 0.7), (0.0, 0.7)]
VOLUME = SCALE**3 * (1.0 * 0.3 + 0.3 * 0.4) * 0.4


def bracket() -> Mesh:
    """An L-shaped solid, unlike itself along every axis, 37 wide and far from the origin."""
    vertices = [[x, y, z] for z in (0.0, 0.4) for x, y in OUTLINE]
    cap = [[0, 1, 2], [0, 2, 3], [0, 3, 4], [0, 4, 5]]
    faces = [[a, c, b] for a, b, c in cap] + [[a + 6, b + 6, c + 6] for a, b, c in cap]
    for i in range(6):
        j = (i + 1) % 6
        faces += [[i, j, j + 6], [i, j + 6, i + 6]]
    moved = torch.tensor(vertices, dtype=torch.float64) * SCALE + torch.tensor([100.0, -3.0, 7.0])
    return Mesh(moved, torch.tensor(faces))


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("original") / "bracket.obj"
    save_mesh(bracket(), path)
    return path


@pytest.fixture(scope="module")
def converted(original: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Path]:
    """Every pipeline into every format."""
    folder = tmp_path_factory.mktemp("converted")
    paths = {(p, s): folder / f"{p}{s}" for p in PIPELINES for s in SUFFIXES}
    for (pipeline, _), path in paths.items():
        done = run("convert", original, "--pipeline", pipeline, "-o", path, "--resolution", RESOLUTION)
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        assert done.stdout.startswith(f"{path}: ")
    return paths


def volume(mesh: Mesh) -> float:
    a, b, c = mesh.corners.unbind(dim=1)
    return float((a * torch.linalg.cross(b, c)).sum() / 6)


def points_on(mesh: Mesh, each: int) -> np.ndarray:
    """``each`` random points on every face."""
    shares = np.random.default_rng(0).dirichlet([1, 1, 1], size=(len(mesh.faces), each))
    return np.einsum("fkc,fcx->fkx", shares, mesh.corners.numpy()).reshape(-1, 3)


def farthest(points: np.ndarray, mesh: Mesh) -> float:
    return float(ClosestPointIndex(mesh.vertices.numpy(), mesh.faces.numpy()).query(points)[0].max())


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("pipeline", PIPELINES)
def test_the_result_lies_on_the_original_in_its_own_coordinates(
    converted: dict[tuple[str, str], Path], pipeline: str, suffix: str
) -> None:
    result, reference = load_mesh(converted[pipeline, suffix]), bracket()
    assert len(result.faces) > 1000
    assert farthest(points_on(result, 2), reference) < CELL
    assert farthest(points_on(reference, 1000), result) < CELL


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("pipeline", ["roundtrip-sdf", "roundtrip-sparseflex"])
def test_normals_of_a_solid_point_outward(converted: dict[tuple[str, str], Path], pipeline: str, suffix: str) -> None:
    result = load_mesh(converted[pipeline, suffix])
    assert result.oriented
    assert volume(result) == pytest.approx(VOLUME, rel=0.02)  # negative were it inside out


def test_formats_hold_the_same_surface(converted: dict[tuple[str, str], Path]) -> None:
    for pipeline in PIPELINES:
        meshes = [load_mesh(converted[pipeline, suffix]) for suffix in SUFFIXES]
        assert len({len(mesh.faces) for mesh in meshes}) == 1
        for mesh in meshes:
            assert farthest(mesh.vertices.numpy(), meshes[1]) < 1e-6 * SCALE * 100  # float32 at 137 from the origin


def test_an_inward_wound_solid_comes_out_right_side_out(tmp_path: Path) -> None:
    mesh = bracket()
    save_mesh(Mesh(mesh.vertices, mesh.faces.flip(1)), tmp_path / "inward.ply")
    arguments = ("--pipeline", "roundtrip-sdf", "--resolution", RESOLUTION, "-o", tmp_path / "out.ply")
    assert run("convert", tmp_path / "inward.ply", *arguments).returncode == 0
    assert volume(load_mesh(tmp_path / "out.ply")) == pytest.approx(VOLUME, rel=0.02)


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_every_way_to_set_the_resolution_does_the_same(original: Path, tmp_path: Path, pipeline: str) -> None:
    ways = {
        "option": ("--resolution", 20),
        "short": ("--set", "rep.resolution=20"),
        "full": ("--set", "pipeline.components.rep.with.resolution=20"),
        "both": ("--set", "rep.resolution=12", "--resolution", 20),
        "other": ("--resolution", 12),
    }
    written = {}
    for name, way in ways.items():
        path = tmp_path / f"{name}.ply"
        assert run("convert", original, "--pipeline", pipeline, "-o", path, *way).returncode == 0
        written[name] = path.read_bytes()
    assert written["option"] == written["short"] == written["full"] == written["both"]
    assert len(written["other"]) < len(written["option"])


def test_a_pipeline_of_a_users_registry_runs_and_replaces_one_that_ships(original: Path, tmp_path: Path) -> None:
    registry = tmp_path / "mine.yaml"
    registry.write_text(
        dedent("""
            schema: 1
            pipelines:
              blocky: &entry
                inputs: {reference: mesh}
                components:
                  rep: {use: representation/sdf, with: {resolution: 16}}
                  mesher: {use: extractor/marching-cubes}
                stages:
                  - {run: rep.from_mesh, in: {mesh: reference}, out: {state: field}}
                  - {run: mesher.extract, in: {state: field}, out: {mesh: mesh}}
                output: mesh
              roundtrip-o-voxel: *entry
        """)
    )
    catalog = discover()
    plan = check("blocky", load_registry([registry], catalog).pipeline("blocky"), catalog)
    reference, placement = normalise(load_mesh(original))
    wanted = placement.restore(execute(plan, catalog, {"reference": reference}).output)
    for name in ("blocky", "roundtrip-o-voxel"):
        path = tmp_path / f"{name}.ply"
        done = run("convert", original, "--registry", registry, "--pipeline", name, "-o", path)
        assert done.returncode == 0, done.stderr
        result = load_mesh(path, repair=False)
        assert torch.equal(result.vertices, wanted.vertices)
        assert torch.equal(result.faces, wanted.faces)


JITTER_LIGHT = """
    from shapewright.plugin import ComponentSpec, Verb, hookimpl

    @hookimpl
    def register_components():
        verbs = {"apply": Verb({"mesh": "mesh"}, {"mesh": "mesh"})}
        return [ComponentSpec("transform", "jitter", "jitter_heavy:Jitter", verbs)]
"""
JITTER_HEAVY = """
    from dataclasses import dataclass, replace
    import torch
    from shapewright import Transform

    @dataclass(frozen=True)
    class Empty:
        pass

    class Jitter(Transform):
        Config = Empty

        def apply(self, mesh, *, rng):
            noise = torch.rand(mesh.vertices.shape, generator=rng, dtype=torch.float64)
            return replace(mesh, vertices=mesh.vertices + 0.01 * noise)
"""
JITTER_REGISTRY = """
    schema: 1
    pipelines:
      shaken:
        inputs: {reference: mesh}
        components: {shake: {use: transform/jitter}}
        stages: [{run: shake.apply, in: {mesh: reference}, out: {mesh: mesh}}]
        output: mesh
"""


@pytest.fixture
def shaken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    """Options for a third party's random pipeline, installed for this test."""
    site = tmp_path / "site"
    install(
        site, "jitter", {"jitter_light.py": JITTER_LIGHT, "jitter_heavy.py": JITTER_HEAVY}, {"jitter": "jitter_light"}
    )
    monkeypatch.syspath_prepend(str(site))
    (tmp_path / "shaken.yaml").write_text(dedent(JITTER_REGISTRY))
    return ("--registry", str(tmp_path / "shaken.yaml"), "--pipeline", "shaken")


def test_the_seed_decides_random_stages_and_nothing_else(
    original: Path, tmp_path: Path, shaken: tuple[str, ...]
) -> None:
    written = {}
    for name, seed in (("default", ()), ("zero", ("--seed", 0)), ("one", ("--seed", 1)), ("again", ("--seed", 1))):
        path = tmp_path / f"{name}.ply"
        done = run("convert", original, *shaken, "-o", path, *seed)
        assert done.returncode == 0, done.stderr
        written[name] = path.read_bytes()
    assert written["default"] == written["zero"] != written["one"] == written["again"]
    for seed in (0, 1):
        sdf = ("--pipeline", "roundtrip-sdf", "--resolution", 12, "--seed", seed)
        assert run("convert", original, *sdf, "-o", tmp_path / f"sdf{seed}.ply").returncode == 0
    assert (tmp_path / "sdf0.ply").read_bytes() == (tmp_path / "sdf1.ply").read_bytes()


def test_resolution_without_a_representation_is_refused(
    original: Path, tmp_path: Path, shaken: tuple[str, ...]
) -> None:
    done = run("convert", original, *shaken, "-o", tmp_path / "out.ply", "--resolution", 32)
    assert_refused(done, "shaken", "no representation", "--resolution")
    assert not (tmp_path / "out.ply").exists()


def test_an_existing_output_is_replaced_only_when_asked_for(original: Path, tmp_path: Path) -> None:
    output = tmp_path / "kept.ply"
    output.write_bytes(b"precious")
    arguments = ("convert", original, "--pipeline", "roundtrip-o-voxel", "--resolution", 12, "-o", output)
    assert_refused(run(*arguments), str(output), "exists")
    assert output.read_bytes() == b"precious"
    assert run(*arguments, "--overwrite").returncode == 0
    assert len(load_mesh(output).faces) > 100
    assert list(tmp_path.iterdir()) == [output]


def test_a_file_can_be_converted_in_place(original: Path, tmp_path: Path) -> None:
    path = tmp_path / "bracket.obj"
    path.write_bytes(original.read_bytes())
    done = run("convert", path, "--pipeline", "roundtrip-sdf", "--resolution", 24, "-o", path, "--overwrite")
    assert done.returncode == 0, done.stderr
    assert volume(load_mesh(path)) == pytest.approx(VOLUME, rel=0.05)


def test_missing_folders_of_the_output_are_made(original: Path, tmp_path: Path) -> None:
    output = tmp_path / "a" / "b" / "out.stl"
    assert run("convert", original, "--pipeline", "roundtrip-o-voxel", "--resolution", 12, "-o", output).returncode == 0
    assert len(load_mesh(output).faces) > 100
