"""Folders of meshes and meshes inside installed packages."""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path

import pytest
import torch
from shapewright.errors import ConfigError, MeshError, MeshWarning, MissingExtraError
from shapewright.host import discover
from shapewright.mesh_io import save_mesh
from shapewright.run import build
from shapewright.states import Mesh
from shapewright_plugins import datasets
from shapewright_plugins.datasets import packaged
from shapewright_plugins.datasets.folder import Config, Folder
from shapewright_plugins.datasets.packaged import PybulletObjects
from shapewright_plugins.datasets.samples import split_of

SHARED = Path(__file__).parents[3] / "shared" / "data" / "meshes"
TETRAHEDRON = "v 0 0 0\nv {size} 0 0\nv 0 1 0\nv 0 0 1\nf 1 3 2\nf 1 2 4\nf 1 4 3\nf 2 3 4\n"


def tetrahedron(path: Path, size: float = 1.0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(TETRAHEDRON.format(size=size))
    return path


@pytest.fixture
def meshes(tmp_path: Path) -> Path:
    root = tmp_path / "meshes"
    tetrahedron(root / "b.obj")
    tetrahedron(root / "chairs" / "a.obj", 2)
    (root / "broken.obj").write_text("v nan 0 0\nv 0 1 0\nv 0 0 1\nf 1 2 3\n")
    save_mesh(Mesh(torch.eye(3), torch.tensor([[0, 1, 2]])), root / "b.ply")
    save_mesh(Mesh(torch.eye(3), torch.tensor([[0, 1, 2], [0, 1, 2]])), root / "chairs" / "twice.GLB")
    (root / "notes.txt").write_text("no mesh")
    tetrahedron(root / ".cache" / "hidden.obj")
    return root


def test_registering_the_data_sets_imports_nothing_heavy():
    specs = {spec.key: spec for spec in datasets.register_components()}
    assert set(specs) == {"dataset/stress-suite", "dataset/folder", "dataset/pybullet-objects"}
    catalog = discover([], extra=[datasets])
    assert [status.state for status in catalog.plugins] == ["ok"]
    for key in specs:
        assert catalog.load(key).Config is not None
    assert len(build(catalog, "dataset/stress-suite", {}).ids()) == 20


def test_a_folder_lists_every_mesh_by_its_path_in_a_stable_order(meshes):
    assert Folder(Config(str(meshes))).ids() == ("b.obj", "b.ply", "broken", "chairs/a", "chairs/twice")


def test_a_broken_file_raises_when_loaded_and_stops_no_other(meshes):
    folder = Folder(Config(str(meshes)))
    with pytest.raises(MeshError, match=r"broken\.obj: no usable face"):
        folder.load("broken")
    sample = folder.load("chairs/a")
    assert sample.tags == {"closed"}
    assert len(sample.content) == 64
    assert sample.split == split_of("chairs/a")


def test_repairs_are_warned_about_and_noted(meshes):
    with pytest.warns(MeshWarning, match="1 duplicate faces") as caught:
        sample = Folder(Config(str(meshes))).load("chairs/twice")
    assert len(caught) == 1
    assert sample.notes == ("dropped 1 duplicate faces",)
    assert sample.tags == {"open"}


def test_what_the_topology_of_a_file_says_is_a_tag(tmp_path):
    book = "v 0 0 0\nv 0 0 1\nv 1 0 0\nv -1 1 0\nv -1 -1 0\nf 1 2 3\nf 1 2 4\nf 1 2 5\n"  # three pages on one edge
    (tmp_path / "book.obj").write_text(book)
    folder = Folder(Config(str(tmp_path)))
    assert folder.load("book").tags == {"open", "non-manifold"}
    (tmp_path / "manifest.json").write_text(json.dumps({"files": [{"file": "book.obj", "tags": ["closed", "thin"]}]}))
    assert Folder(Config(str(tmp_path))).load("book").tags == {"closed", "thin"}  # what a person wrote stands


@pytest.mark.parametrize(
    ("pattern", "ids"),
    [
        ("*.ply", ("b",)),
        ("chairs/*", ("chairs/a", "chairs/twice")),
        ("b.*", ("b.obj", "b.ply")),
        ("chairs/*.obj", ("chairs/a",)),
    ],
)
def test_a_pattern_selects_files(meshes, pattern, ids):
    assert Folder(Config(str(meshes), pattern)).ids() == ids


@pytest.mark.parametrize("place", ["inside", "above", "named"])
def test_the_manifest_gives_tags_licence_split_and_changes(meshes, place):
    entry = {"tags": ["nonmanifold", "open"], "license": "CC0-1.0", "split": "test", "change": "rotated"}
    where = {"inside": meshes, "above": meshes.parent, "named": meshes.parent / "other"}[place]
    where.mkdir(exist_ok=True)
    file = {"inside": "b.obj", "above": "meshes/b.obj", "named": "../meshes/b.obj"}[place]
    source = where / ("manifest.json" if place != "named" else "list.json")
    source.write_text(json.dumps({"version": 1, "meshes": [{"file": file, **entry}]}))
    folder = Folder(Config(str(meshes), manifest=str(source) if place == "named" else ""))
    sample = folder.load("b.obj")
    assert sample.tags == {"nonmanifold", "non-manifold", "open"}
    assert (sample.license, sample.split, sample.notes) == ("CC0-1.0", "test", ("changed: rotated",))
    assert folder.load("chairs/a").license == ""


def test_wrong_folders_and_manifests_are_one_clear_line(meshes, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.json").write_text("{")
    cases = [
        (Config(), "needs the option path"),
        (Config(str(tmp_path / "absent")), "not there"),
        (Config(str(meshes / "b.obj")), "is a file"),
        (Config(str(tmp_path / "empty")), r"holds no file that ends in \.obj"),
        (Config(str(meshes), "*.xyz"), "matches '\\*.xyz'"),
    ]
    for config, reason in cases:
        with pytest.raises(ConfigError, match=reason):
            Folder(config).ids()
    for manifest, reason in ((tmp_path / "absent.json", "no manifest"), (tmp_path / "bad.json", "cannot be read")):
        with pytest.raises(ConfigError, match=reason):
            Folder(Config(str(meshes), manifest=str(manifest))).load("b.obj")
    with pytest.raises(ConfigError, match="did you mean 'chairs/a'"):
        Folder(Config(str(meshes))).load("chair/a")


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared meshes are not here")
def test_the_shared_meshes_are_a_folder():
    folder = Folder(Config(str(SHARED)))
    assert len(folder.ids()) == 35
    assert "armchair/armchair" in folder.ids()
    sample = folder.load("armchair/armchair")
    assert {"closed", "quads"} <= sample.tags
    assert sample.license == "CC-BY-4.0"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MeshWarning)
        assert {"non-manifold", "open"} <= folder.load("hair_layers").tags


# --- packages ---------------------------------------------------------------------------------------------------------
@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A distribution of the same layout as the real one, not importable."""
    site = tmp_path / "site"
    objects = site / "pybullet_data" / "random_urdfs"
    files = [tetrahedron(objects / f"{number:03}" / f"{number:03}.obj", 1 + number) for number in range(4)]
    tetrahedron(objects / "004" / "004.obj", 2)  # the bytes of 001 again
    tetrahedron(objects / "005" / "005_collision.obj", 9)
    (objects / "168").mkdir()
    (objects / "168" / "168.obj").write_text("v nan nan nan\nv nan nan nan\nv nan nan nan\nf 1 2 3\n")
    tetrahedron(site / "pybullet_data" / "duck.obj", 7)
    (site / "pybullet.py").write_text("raise RuntimeError('must not be imported')")
    info = site / "pybullet-3.2.7.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: pybullet\nVersion: 3.2.7\n")
    paths = [path.relative_to(site).as_posix() for path in site.rglob("*") if path.is_file()]
    (info / "RECORD").write_text("".join(f"{path},,\n" for path in paths))
    monkeypatch.syspath_prepend(str(site))
    return files[0].parent.parent


def test_objects_inside_a_package_are_found_without_importing_it(wheel):
    dataset = PybulletObjects(packaged.Config())
    assert dataset.ids() == ("000", "001", "002", "003", "168")  # one copy of equal bytes, no collision shapes
    sample = dataset.load("003")
    assert sample.mesh.vertices.max() == 4
    assert sample.license == "Zlib"
    assert "overlapping-parts" in sample.tags
    assert "closed" in sample.tags
    assert "pybullet" not in sys.modules


def test_an_object_without_a_finite_vertex_raises_and_the_others_load(wheel):
    dataset = PybulletObjects(packaged.Config())
    with pytest.raises(MeshError, match=r"168\.obj: no usable face is left"):
        dataset.load("168")
    assert len(dataset.load("000").mesh.faces) == 4


def test_a_missing_package_names_the_extra_that_installs_it(monkeypatch):
    monkeypatch.setattr(PybulletObjects, "package", "a-package-that-nobody-has")
    with pytest.raises(MissingExtraError, match=r"pip install 'shapewright\[datasets\]'"):
        PybulletObjects(packaged.Config()).ids()


def test_a_package_without_its_meshes_says_so(wheel, monkeypatch):
    monkeypatch.setattr(PybulletObjects, "patterns", ("elsewhere/*",))
    with pytest.raises(ConfigError, match=r"pybullet 3\.2\.7 holds none of its meshes"):
        PybulletObjects(packaged.Config()).ids()


def test_splits_are_pinned_and_near_their_shares():
    assert [split_of(id) for id in ("000", "022", "061")] == ["train", "val", "test"]
    found = [split_of(f"{number:04}") for number in range(10_000)]
    assert found.count("train") / 1e4 == pytest.approx(0.8, abs=0.015)
    assert found.count("val") / 1e4 == pytest.approx(0.1, abs=0.015)
