"""Writers, atomic saving, normalisation and the content hash."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from shapewright.errors import MeshError, OutputExistsError, ShapewrightError
from shapewright.mesh_io import WRITABLE, content_hash, load_mesh, load_mesh_with_counts, normalise, save_mesh
from shapewright.states import Frame, Mesh

FACES = torch.tensor([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])
EXACT = {".obj", ".off", ".ply"}


def tetrahedron(dtype: torch.dtype = torch.float64, **more: object) -> Mesh:
    vertices = torch.tensor([[0.1, 0.2, 0.3], [1.7, 0.2, 0.3], [0.1, 1 / 3, 0.3], [0.1, 0.2, 2.9]], dtype=torch.float64)
    return Mesh(vertices.to(dtype), FACES, **more)  # type: ignore[arg-type]


def glb_document(path: Path) -> dict:
    content = path.read_bytes()
    return json.loads(content[20 : 20 + int.from_bytes(content[12:16], "little")])


@pytest.mark.parametrize("suffix", WRITABLE)
def test_every_format_round_trips_positions_faces_and_winding(tmp_path, suffix):
    path = tmp_path / f"a{suffix.upper() if suffix == '.obj' else suffix}"
    mesh = tetrahedron()
    save_mesh(mesh, path)
    again, counts = load_mesh_with_counts(path)
    assert counts == {}
    if suffix == ".stl":  # shares no vertices, so their order is that of the faces
        assert torch.allclose(again.corners, mesh.corners, atol=1e-6)
    else:
        assert torch.equal(again.faces, mesh.faces)
        wanted = mesh.vertices if suffix in EXACT else mesh.vertices.float().double()
        assert torch.equal(again.vertices, wanted)
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("suffix", [".glb", ".ply", ".obj"])
def test_vertex_colours_round_trip(tmp_path, suffix):
    color = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [0.2, 0.4, 0.6]])
    save_mesh(tetrahedron(attributes={"color": color}), tmp_path / f"a{suffix}")
    again = load_mesh(tmp_path / f"a{suffix}").attributes["color"]
    assert torch.allclose(again[:, :3], color, atol=1 / 255)


def test_glb_says_double_sided_only_where_the_winding_means_nothing(tmp_path):
    for oriented in (True, False):
        path = tmp_path / f"{oriented}.glb"
        save_mesh(tetrahedron(oriented=oriented), path)
        assert glb_document(path)["materials"][0]["doubleSided"] is not oriented


def test_glb_is_laid_out_as_the_format_demands(tmp_path):
    path = tmp_path / "a.glb"
    save_mesh(tetrahedron(torch.float32, attributes={"color": torch.rand(4, 3)}), path)
    content = path.read_bytes()
    assert int.from_bytes(content[8:12], "little") == len(content)
    assert len(content) % 4 == 0
    document = glb_document(path)
    assert all(view["byteOffset"] % 4 == 0 for view in document["bufferViews"])
    assert document["accessors"][0]["max"] == pytest.approx([1.7, 1 / 3, 2.9])


def test_stl_normals_follow_the_winding(tmp_path):
    save_mesh(tetrahedron(), tmp_path / "a.stl")
    rows = np.frombuffer((tmp_path / "a.stl").read_bytes()[84:], np.dtype([("n", "<f4", 3), ("rest", "V38")]))
    assert rows["n"][0].tolist() == [0, 0, -1]


@pytest.mark.parametrize("name", ["a.xyz", "a", "a.gltf"])
def test_unknown_extensions_list_the_known_ones(tmp_path, name):
    with pytest.raises(MeshError, match=r"written as \.glb, \.obj, \.ply, \.stl, \.off"):
        save_mesh(tetrahedron(), tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_existing_files_are_kept_unless_overwriting_is_asked_for(tmp_path):
    path = tmp_path / "a.obj"
    path.write_text("mine")
    with pytest.raises(OutputExistsError, match=r"a\.obj exists"):
        save_mesh(tetrahedron(), path)
    assert path.read_text() == "mine"
    save_mesh(tetrahedron(), path, overwrite=True)
    assert len(load_mesh(path).faces) == 4


def test_a_file_that_appears_while_writing_is_not_overwritten(tmp_path, monkeypatch):
    path = tmp_path / "a.obj"
    real = os.fsync
    from shapewright import mesh_writers

    writer = mesh_writers.write_obj

    def slow(mesh: Mesh, file: object) -> None:
        writer(mesh, file)  # type: ignore[arg-type]
        path.write_text("theirs")

    monkeypatch.setitem(mesh_writers.WRITERS, ".obj", slow)
    with pytest.raises(OutputExistsError):
        save_mesh(tetrahedron(), path)
    assert path.read_text() == "theirs"
    assert len(list(tmp_path.iterdir())) == 1
    assert os.fsync is real


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_failing_disk_leaves_the_old_file_and_no_half_one(tmp_path, monkeypatch, step):
    path = tmp_path / "a.ply"
    path.write_text("old")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, step, full)
    with pytest.raises(ShapewrightError, match=r"cannot write .*a\.ply: No space left on device") as caught:
        save_mesh(tetrahedron(), path, overwrite=True)
    assert "\n" not in str(caught.value)
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.ply"]


def test_an_interrupt_while_writing_leaves_nothing(tmp_path, monkeypatch):
    from shapewright import mesh_writers

    def interrupted(mesh: Mesh, file: object) -> None:
        file.write(b"half")  # type: ignore[attr-defined]
        raise KeyboardInterrupt

    monkeypatch.setitem(mesh_writers.WRITERS, ".ply", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save_mesh(tetrahedron(), tmp_path / "a.ply")
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_place_of_the_folder_is_one_clear_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ShapewrightError, match="cannot write"):
        save_mesh(tetrahedron(), tmp_path / "file" / "a.obj")
    (tmp_path / "folder.obj").mkdir()
    with pytest.raises(MeshError, match="is a folder"):
        save_mesh(tetrahedron(), tmp_path / "folder.obj", overwrite=True)


def test_meshes_that_no_reader_would_accept_are_not_written(tmp_path):
    broken = tetrahedron()
    broken.vertices[1, 2] = float("nan")
    cases = {
        "1 of 4 vertices are not finite": broken,
        "without faces": Mesh(torch.zeros(3, 3), torch.zeros(0, 3, dtype=torch.int64)),
        "outside 0 .. 3": Mesh(tetrahedron().vertices, torch.tensor([[0, 1, 4]])),
        "colours must be": tetrahedron(attributes={"color": torch.zeros(3, 3)}),
    }
    for reason, mesh in cases.items():
        with pytest.raises(MeshError, match=reason):
            save_mesh(mesh, tmp_path / "a.ply")
    huge = Mesh(tetrahedron().vertices * 1e300, FACES)
    for suffix in (".glb", ".stl"):
        with pytest.raises(MeshError, match="beyond the range of float32"):
            save_mesh(huge, tmp_path / f"a{suffix}")
    assert list(tmp_path.iterdir()) == []
    save_mesh(huge, tmp_path / "a.ply")
    assert torch.equal(load_mesh(tmp_path / "a.ply").vertices, huge.vertices)


# --- normalisation ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e12])
def test_normalised_shapes_fill_the_unit_box_and_come_back(scale):
    mesh = Mesh((tetrahedron().vertices + 7) * scale, FACES, Frame(up="z"))
    unit, placement = normalise(mesh)
    assert unit.frame == Frame(up="z")
    assert unit.vertices.abs().max() == 0.5
    extent = unit.vertices.amax(0) - unit.vertices.amin(0)
    assert extent.max() == pytest.approx(1)
    assert torch.allclose(unit.vertices.amax(0) + unit.vertices.amin(0), torch.zeros(3).double(), atol=1e-12)
    back = placement.restore(unit)
    assert torch.allclose(back.vertices, mesh.vertices, rtol=1e-14, atol=0)
    assert back.frame.extent == pytest.approx((2.6 * scale,) * 3)
    assert torch.allclose(placement.place(mesh).vertices, unit.vertices, atol=1e-15)


def test_flat_shapes_and_unreferenced_vertices_normalise():
    square = Mesh(torch.tensor([[0.0, 0, 5], [2, 0, 5], [2, 1, 5], [100, 100, 100]]), torch.tensor([[0, 1, 2]]))
    unit, placement = normalise(square)
    assert unit.vertices[:3].tolist() == [[-0.5, -0.25, 0], [0.5, -0.25, 0], [0.5, 0.25, 0]]
    assert unit.vertices.dtype == torch.float64
    assert placement.scale == 2
    assert placement.centre == (1, 0.5, 5)


def test_shapes_without_extent_or_with_holes_in_their_numbers_are_refused():
    point = torch.zeros(3, 3)
    for vertices, faces, reason in (
        (point, FACES[:1] * 0, "one point"),
        (point, FACES[:0], "without faces"),
        (point + float("nan"), torch.tensor([[0, 1, 2]]), "non-finite"),
        (
            torch.tensor([[-1.7e308], [1.7e308], [0]], dtype=torch.float64).expand(3, 3),
            torch.tensor([[0, 1, 2]]),
            "float64",
        ),
    ):
        with pytest.raises(MeshError, match=reason):
            normalise(Mesh(vertices, faces))


def test_the_content_hash_sees_geometry_and_nothing_else():
    mesh = tetrahedron()
    same = content_hash(Mesh(mesh.vertices.clone(), mesh.faces.clone(), Frame(up="z"), oriented=False))
    assert content_hash(mesh) == same
    assert len(same) == 64
    moved = mesh.vertices.clone()
    moved[0, 0] = np.nextafter(0.1, 1)
    assert content_hash(Mesh(moved, FACES)) != same
    assert content_hash(Mesh(mesh.vertices, FACES[:, [1, 2, 0]])) != same
    zeros = torch.zeros(3, 3)
    assert content_hash(Mesh(zeros, FACES[:1])) == content_hash(Mesh(-zeros, FACES[:1]))
    # Pinned: a change of the hash would orphan every cached result.
    pinned = "ca535f388cfe5ae2bde9ecbda89d93704f6d687541a01aa1e8de145d1e795542"
    assert content_hash(Mesh(torch.eye(3), torch.tensor([[0, 1, 2]]))) == pinned
