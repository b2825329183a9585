"""One reader for glTF and one for OBJ: what of a file counts, with materials and without."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import trimesh
from gltf_files import SIDES, TETRAHEDRON, Glb, png, tetrahedron
from gltf_validator import assert_valid, missing
from shapewright.errors import MeshError, MeshWarning
from shapewright.mesh_io import load_mesh, load_mesh_with_counts, save_mesh
from shapewright.mesh_readers.gltf import read_gltf
from shapewright.states import Mesh
from shapewright.textured_meshes import load_textured_mesh

DATA = Path(__file__).parents[3] / "shared" / "data" / "meshes"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the shared meshes are not here")
ASSETS = sorted(path.relative_to(DATA).as_posix() for kind in ("*.glb", "*.obj") for path in DATA.rglob(kind))
BARE = {"componentType": 5126, "type": "VEC3"}


def white() -> dict[str, Any]:
    return {"pbrMetallicRoughness": {"baseColorFactor": [1, 1, 1, 1]}}


def stored(tmp_path: Path, glb: Glb) -> Path:
    path = tmp_path / "a.glb"
    path.write_bytes(glb.bytes())
    return path


def loaded(tmp_path: Path, glb: Glb) -> Mesh:
    """The same geometry from both ways to read, without a warning."""
    path = stored(tmp_path, glb)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plain, textured = load_mesh(path), load_textured_mesh(path)
    assert torch.equal(plain.faces, textured.faces)
    assert torch.equal(plain.vertices, textured.vertices)
    return textured


@needs_data
@pytest.mark.parametrize("name", ASSETS)
def test_reading_with_materials_gives_the_geometry_of_reading_without(name: str) -> None:
    plain, counts = load_mesh_with_counts(DATA / name)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        textured = load_textured_mesh(DATA / name)
    assert torch.equal(plain.faces, textured.faces)
    assert torch.equal(plain.vertices, textured.vertices)
    assert (plain.frame, plain.oriented) == (textured.frame, textured.oriented)
    assert plain.attributes.keys() == textured.attributes.keys()
    assert all(torch.equal(value, textured.attributes[key]) for key, value in plain.attributes.items())
    assert [warning.message.counts for warning in caught] == ([counts] if counts else [])


@needs_data
@pytest.mark.parametrize("name", [name for name in ASSETS if name.endswith(".glb")])
def test_triangles_are_those_that_trimesh_reads(name: str) -> None:
    scene: Any = trimesh.load(DATA / name, force="scene", process=False, skip_materials=True)
    expected = []
    for node in scene.graph.nodes_geometry:
        matrix, part = scene.graph[node]
        points = np.asarray(scene.geometry[part].vertices, np.float64) @ matrix[:3, :3].T + matrix[:3, 3]
        faces = np.asarray(scene.geometry[part].faces)
        expected.append(points[faces[:, ::-1] if np.linalg.det(matrix[:3, :3]) < 0 else faces])
    ours = read_gltf(DATA / name)
    found = ours.vertices[ours.corners].reshape(-1, 9)
    wanted = np.concatenate(expected).reshape(-1, 9)
    assert len(found) == len(wanted)
    size = np.ptp(wanted.reshape(-1, 3), axis=0).max()
    rounded = [np.sort(np.round(rows / size * 1e5).sum(axis=1)) for rows in (found, wanted)]
    assert np.abs(rounded[0] - rounded[1]).max() <= 4  # the scene in another order, moved by other sums


# --- geometry ---------------------------------------------------------------------------------------------------------
def test_sparse_accessors_replace_what_they_list(tmp_path: Path) -> None:
    glb = Glb()
    primitive = tetrahedron(glb)
    moved = np.array([[0, 0, 5]], np.float32)
    rows = glb.view(np.array([3], np.uint16).tobytes())
    glb.document["accessors"][primitive["attributes"]["POSITION"]]["sparse"] = {
        "count": 1,
        "indices": {"bufferView": rows, "componentType": 5123},
        "values": {"bufferView": glb.view(moved.tobytes())},
    }
    assert loaded(tmp_path, glb).vertices.tolist() == [[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 5]]


def test_sparse_accessors_may_have_no_base(tmp_path: Path) -> None:
    glb = Glb()
    primitive = tetrahedron(glb)
    accessor = glb.document["accessors"][primitive["attributes"]["POSITION"]]
    del accessor["bufferView"]
    accessor["sparse"] = {
        "count": 3,
        "indices": {"bufferView": glb.view(np.array([1, 2, 3], np.uint8).tobytes()), "componentType": 5121},
        "values": {"bufferView": glb.view(TETRAHEDRON[1:].tobytes())},
    }
    assert loaded(tmp_path, glb).vertices.tolist() == TETRAHEDRON.tolist()


def test_quantised_positions_and_places_are_scaled(tmp_path: Path) -> None:
    glb = Glb()
    primitive = tetrahedron(glb, white())
    glb.document["extensionsRequired"] = ["KHR_mesh_quantization"]
    stretched = np.zeros((4, 4), np.int16)  # rows of 8 bytes, as the format wants them
    stretched[:, :3] = TETRAHEDRON * 32767
    position = glb.accessor(stretched, normalized=True)
    glb.document["accessors"][position]["type"] = "VEC3"
    glb.document["bufferViews"][glb.document["accessors"][position]["bufferView"]]["byteStride"] = 8
    primitive["attributes"]["POSITION"] = position
    primitive["attributes"]["TEXCOORD_0"] = glb.accessor(np.full((4, 2), 65535, np.uint16), normalized=True)
    texture = glb.image(png(np.zeros((2, 2, 3), np.uint8)))
    glb.document["materials"][0]["pbrMetallicRoughness"]["baseColorTexture"] = {"index": texture}
    mesh = loaded(tmp_path, glb)
    assert mesh.vertices.tolist() == TETRAHEDRON.tolist()
    assert mesh.appearance is not None
    assert mesh.appearance.uvs[0].unique(dim=0).flatten(0, 1).unique(dim=0).tolist() == [[1.0, 0.0]]


def test_strips_and_fans_are_triangles(tmp_path: Path) -> None:
    square = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0]], np.float32)
    for mode, order, faces in ((5, [0, 1, 2, 3], [[0, 1, 2], [2, 1, 3]]), (6, [0, 1, 3, 2], [[0, 1, 3], [0, 3, 2]])):
        glb = Glb()
        primitive = {"attributes": {"POSITION": glb.accessor(square)}, "mode": mode}
        primitive["indices"] = glb.accessor(np.array(order, np.uint8))
        glb.document["meshes"] = [{"primitives": [primitive]}]
        mesh = loaded(tmp_path, glb)
        assert sorted(sorted(face) for face in mesh.faces.tolist()) == sorted(sorted(face) for face in faces)
        a, b, c = mesh.corners.unbind(1)
        assert (torch.linalg.cross(b - a, c - a)[:, 2] > 0).all()


def test_instances_are_placed_one_by_one(tmp_path: Path) -> None:
    glb = Glb()
    tetrahedron(glb)
    shifts = np.array([[0, 0, 0], [5, 0, 0], [0, 0, 9]], np.float32)
    sizes = np.array([[1, 1, 1], [2, 2, 2], [1, 1, 1]], np.float32)
    body = {"attributes": {"TRANSLATION": glb.accessor(shifts), "SCALE": glb.accessor(sizes)}}
    glb.document["nodes"] = [
        {"mesh": 0, "translation": [0, 1, 0], "extensions": {"EXT_mesh_gpu_instancing": body}},
    ]
    mesh = loaded(tmp_path, glb)
    assert len(mesh.faces) == 12
    assert mesh.vertices.amax(dim=0).tolist() == [7, 3, 10]


def test_skins_and_morph_targets_are_left_out_with_a_note(tmp_path: Path) -> None:
    glb = Glb()
    primitive = tetrahedron(glb)
    primitive["targets"] = [{"POSITION": glb.accessor(TETRAHEDRON)}]
    glb.document["nodes"] = [{"mesh": 0, "skin": 0}]
    path = stored(tmp_path, glb)
    expected = {"skins (the mesh stays at rest)": 1, "morph targets (the mesh stays at rest)": 1}
    assert load_mesh_with_counts(path)[1] == expected
    with pytest.warns(MeshWarning) as caught:
        mesh = load_textured_mesh(path)
    assert caught[0].message.counts == expected  # type: ignore[union-attr]
    assert mesh.vertices.tolist() == TETRAHEDRON.tolist()


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda d: d["nodes"][0].update(mesh=7), "cannot be read as glb: list index out of range"),
        (lambda d: d["nodes"][0].update(mesh=-1), r"cannot be read as glb: meshes\[-1\]"),
        (lambda d: d["nodes"][0].update(children=[0]), "nodes form a circle"),
        (lambda d: d["accessors"][0].update(count=10**9), "reaches past the end of its buffer"),
        (lambda d: d["accessors"][0].update(count=-1), "reaches past the end of its buffer"),
        (lambda d: d["accessors"].__setitem__(0, {**BARE, "count": 10**9}), "too many elements"),
        (lambda d: d["accessors"][0].update(type="VEC2"), "positions have 2 coordinates"),
        (lambda d: d["accessors"][0].pop("count"), "'count' is missing"),
        (lambda d: d["bufferViews"][0].update(byteLength=10**9), "a buffer ends before"),
        (lambda d: d["accessors"][0].update(componentType="x"), "cannot be read as glb"),
        (lambda d: d.update(meshes={"a": 1}), "cannot be read as glb"),
    ],
)
def test_damaged_documents_are_one_line(tmp_path: Path, spoil: Any, reason: str) -> None:
    glb = Glb()
    tetrahedron(glb, white())
    glb.document["nodes"] = [{"mesh": 0}]
    glb.document["scenes"] = [{"nodes": [0]}]
    spoil(glb.document)
    path = stored(tmp_path, glb)
    for read in (load_mesh, load_textured_mesh):
        with pytest.raises(MeshError, match=reason) as caught:
            read(path)
        assert str(caught.value).startswith(f"{path}: ")
        assert "\n" not in str(caught.value)


def test_a_tree_that_doubles_at_each_level_ends(tmp_path: Path) -> None:
    glb = Glb()
    tetrahedron(glb)
    glb.document["nodes"] = [{"children": [number + 1] * 2} for number in range(60)] + [{"mesh": 0}]
    with pytest.raises(MeshError, match="circle, or are nested too deeply"):
        load_mesh(stored(tmp_path, glb))


def test_a_buffer_that_is_missing_is_named(tmp_path: Path) -> None:
    document = {"asset": {"version": "2.0"}, "buffers": [{"uri": "far.bin", "byteLength": 48}]}
    document["bufferViews"] = [{"buffer": 0, "byteLength": 48}]
    document["accessors"] = [{"bufferView": 0, "componentType": 5126, "type": "VEC3", "count": 4}]
    document |= {"meshes": [{"primitives": [{"attributes": {"POSITION": 0}}]}], "nodes": [{"mesh": 0}]}
    path = tmp_path / "a.gltf"
    path.write_text(json.dumps(document))
    with pytest.raises(MeshError, match=r"a\.gltf: cannot be read as gltf: the buffer far\.bin: No such file"):
        load_mesh(path)


# --- materials --------------------------------------------------------------------------------------------------------
def test_uv_sets_and_texture_transforms_reach_the_corners(tmp_path: Path) -> None:
    glb = Glb()
    first = np.array([[0, 0], [1, 0], [0, 1], [1, 1]], np.float32)
    second = np.full((4, 2), 0.25, np.float32)
    turn = {"offset": [0.5, 0.0], "rotation": np.pi / 2, "scale": [2.0, 1.0]}
    texture = glb.image(png(np.zeros((2, 2, 3), np.uint8)))
    surface = {
        "baseColorTexture": {"index": texture, "extensions": {"KHR_texture_transform": turn}},
        "metallicRoughnessTexture": {"index": texture, "texCoord": 1},
    }
    tetrahedron(glb, {"pbrMetallicRoughness": surface}, TEXCOORD_0=first, TEXCOORD_1=second)
    mesh = loaded(tmp_path, glb)
    look = mesh.appearance
    assert look is not None
    material = look.materials[0]
    assert material.base_color_texture is not None
    assert material.metallic_texture is not None
    u, v = first[SIDES].reshape(-1, 2).T
    turned = np.stack([v + 0.5, 1 - (-2 * u)], axis=1)  # scaled, turned by 90 degrees, moved; then v upward
    assert np.allclose(look.uvs[material.base_color_texture.uv_set].reshape(-1, 2), turned, atol=1e-6)
    assert (look.uvs[material.metallic_texture.uv_set].reshape(-1, 2) == torch.tensor([0.25, 0.75])).all()


def test_colours_of_one_part_leave_the_others_white(tmp_path: Path) -> None:
    glb = Glb()
    tetrahedron(glb, white(), COLOR_0=np.tile(np.array([[65535, 0, 0, 32768]], np.uint16), (4, 1)))
    glb.document["accessors"][1]["normalized"] = True
    tetrahedron(glb, white())
    glb.document["nodes"] = [{"mesh": 0}, {"mesh": 1, "translation": [3, 0, 0]}]
    look = loaded(tmp_path, glb).appearance
    assert look is not None
    assert look.corner_colors is not None
    assert torch.allclose(look.corner_colors[:4], torch.tensor([1.0, 0.0, 0.0, 0.5]), atol=1e-4)
    assert (look.corner_colors[4:] == 1).all()


def test_vertex_colours_are_attributes_too(tmp_path: Path) -> None:
    glb = Glb()
    tetrahedron(glb, white(), COLOR_0=np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [0.5, 0.5, 0.5]], np.float32))
    mesh = loaded(tmp_path, glb)
    grey = [0.735357] * 3  # 0.5 of linear light as sRGB
    expected = torch.tensor([[1, 0, 0, 1], [0, 1, 0, 1], [0, 0, 1, 1], [*grey, 1]])
    assert torch.allclose(mesh.attributes["color"], expected, atol=1e-6)
    assert mesh.appearance is not None
    assert torch.equal(mesh.appearance.corner_colors, mesh.attributes["color"][mesh.faces])


def test_specular_glossiness_gives_its_diffuse_part(tmp_path: Path) -> None:
    glb = Glb()
    older = {"diffuseFactor": [0.5, 0.25, 1, 0.5], "glossinessFactor": 0.25}
    texture = glb.image(png(np.full((2, 2, 4), 128, np.uint8)))
    older["diffuseTexture"] = {"index": texture}
    body = {"extensions": {"KHR_materials_pbrSpecularGlossiness": older}, "alphaMode": "BLEND"}
    tetrahedron(glb, body, TEXCOORD_0=np.zeros((4, 2), np.float32))
    look = loaded(tmp_path, glb).appearance
    assert look is not None
    material = look.materials[0]
    assert material.base_color == pytest.approx((0.735357, 0.537099, 1.0), abs=1e-6)  # linear light as sRGB
    assert material.alpha == 0.5
    assert (material.metallic, material.roughness) == (0.0, 0.75)
    assert material.base_color_texture is not None
    assert material.alpha_texture is not None


def test_a_texture_in_a_format_that_is_not_read_is_named(tmp_path: Path) -> None:
    glb = Glb()
    glb.document["textures"] = [{"extensions": {"KHR_texture_basisu": {"source": 0}}}]
    tetrahedron(glb, {"pbrMetallicRoughness": {"baseColorTexture": {"index": 0}}})
    with pytest.warns(MeshWarning, match=r"dropped 1 texture 0 \(KHR_texture_basisu is not read\)"):
        load_textured_mesh(stored(tmp_path, glb))


# --- normals ----------------------------------------------------------------------------------------------------------
def test_normals_are_turned_with_their_node_and_kept_when_written(tmp_path: Path) -> None:
    glb = Glb()
    normals = np.array([[0, 0, 1], [1, 0, 0], [0, 1, 0], [0.6, 0, 0.8]], np.float32)
    tetrahedron(glb, NORMAL=normals)
    glb.document["nodes"] = [{"mesh": 0, "scale": [-2, 1, 1]}]
    mesh = loaded(tmp_path, glb)
    assert mesh.appearance is not None
    expected = normals * [-0.5, 1, 1]
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    found = torch.zeros(4, 3)
    found[mesh.faces] = mesh.appearance.corner_normals
    order = [int((mesh.vertices == torch.tensor(point * [-2, 1, 1])).all(dim=1).nonzero()) for point in TETRAHEDRON]
    assert torch.allclose(found[order], torch.from_numpy(expected).float(), atol=1e-6)
    save_mesh(mesh, tmp_path / "b.glb")
    again = load_textured_mesh(tmp_path / "b.glb")
    assert again.appearance is not None
    assert torch.allclose(again.appearance.corner_normals, mesh.appearance.corner_normals, atol=1e-6)


def test_normals_that_point_nowhere_become_those_of_the_face(tmp_path: Path) -> None:
    glb = Glb()
    normals = np.array([[0, 0, 0], [np.nan, 0, 0], [0, 1, 0], [0, 1, 0]], np.float32)
    tetrahedron(glb, NORMAL=normals)
    path = stored(tmp_path, glb)
    with pytest.warns(MeshWarning, match="dropped 6 normals that point nowhere"):
        mesh = load_textured_mesh(path)
    assert mesh.appearance is not None
    assert mesh.appearance.corner_normals[0].tolist() == [[0, 0, -1], [0, 1, 0], [0, 0, -1]]
    assert torch.allclose(mesh.appearance.corner_normals.norm(dim=2), torch.ones(4, 3))


def test_obj_normals_places_and_colours_reach_the_corners(tmp_path: Path) -> None:
    (tmp_path / "a.mtl").write_text("newmtl red\nKd 1 0 0\nnewmtl blue\nKd 0 0 1\n")
    (tmp_path / "a.obj").write_text(
        "mtllib a.mtl\nv 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\nv 0 0 2\nvt 0.25 0.5\nvt 0.75 1\nvn 0 0 2\nvn 0 1 0\n"
        "usemtl red\nf 1/1/1 2/2/1 3/-1/2 4/1/2\nusemtl blue\nf 1//2 2//2 5//2\nusemtl nothing\nf 2/1 3/1 5\n"
    )
    with pytest.warns(MeshWarning, match=r"dropped 1 material nothing \(not in the material library\)"):
        mesh = load_textured_mesh(tmp_path / "a.obj")
    look = mesh.appearance
    assert look is not None
    assert look.face_materials.tolist() == [0, 0, 1, -1]
    assert look.uvs[0].tolist() == [
        [[0.25, 0.5], [0.75, 1], [0.75, 1]],
        [[0.25, 0.5], [0.75, 1], [0.25, 0.5]],
        [[0, 0]] * 3,
        [[0.25, 0.5], [0.25, 0.5], [0, 0]],
    ]
    assert look.corner_normals[:3].tolist() == [
        [[0, 0, 1], [0, 0, 1], [0, 1, 0]],
        [[0, 0, 1], [0, 1, 0], [0, 1, 0]],
        [[0, 1, 0]] * 3,
    ]


def test_obj_files_are_found_beside_the_mesh_whatever_path_and_case_they_are_named_by(tmp_path: Path) -> None:
    (tmp_path / "Paint.PNG").write_bytes(png(np.full((2, 2, 3), 9, np.uint8)))
    (tmp_path / "a.mtl").write_text("newmtl m\nmap_Kd C:\\work\\paint.png\n")
    (tmp_path / "a.obj").write_text("mtllib a.mtl\nusemtl m\nv 0 0 0\nv 1 0 0\nv 0 1 0\nvt 0 0\nf 1/1 2/1 3/1\n")
    look = load_textured_mesh(tmp_path / "a.obj").appearance
    assert look is not None
    assert look.materials[0].base_color_texture is not None
    assert (look.materials[0].base_color_texture.pixels == 9).all()


def test_obj_blocks_do_not_change_what_is_painted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.mtl").write_text("newmtl red\nKd 1 0 0\nnewmtl blue\nKd 0 0 1\n")
    rows = ["mtllib a.mtl", *(f"v {n % 7} {n * n % 11} {n % 3}" for n in range(30))]
    rows += [f"vt {n / 30} {1 - n / 30}" for n in range(30)]
    for n in range(28):
        rows += [f"usemtl {('red', 'blue')[n % 2]}", f"vt {n} 0", f"f {n + 1}/-1 {n + 2}/-2 {n + 3}/{n + 3}"]
    (tmp_path / "a.obj").write_text("\n".join(rows) + "\n")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        whole = load_textured_mesh(tmp_path / "a.obj")
        monkeypatch.setattr("shapewright.mesh_readers.polygons.BLOCK_BYTES", 40)
        pieces = load_textured_mesh(tmp_path / "a.obj")
    assert whole.appearance is not None
    assert pieces.appearance is not None
    assert torch.equal(whole.appearance.uvs[0], pieces.appearance.uvs[0])
    assert torch.equal(whole.appearance.face_materials, pieces.appearance.face_materials)
    assert len(whole.appearance.face_materials.unique()) == 2


# --- written again ----------------------------------------------------------------------------------------------------
PAINTED = ("avocado.glb", "alpha_modes.glb", "toy_truck.glb", "birthday_cake.glb", "forest.glb", "menger_sponge3.glb")


@needs_data
@pytest.mark.parametrize("name", [*PAINTED, "flight_helmet.glb", "armchair/armchair.obj"])
def test_assets_are_valid_and_the_same_after_writing(name: str, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MeshWarning)
        first = load_textured_mesh(DATA / name)
        save_mesh(first, tmp_path / "b.glb")
        again = load_textured_mesh(tmp_path / "b.glb")
    one, two = first.appearance, again.appearance
    assert one is not None
    assert two is not None
    assert len(first.faces) == len(again.faces)
    # Primitives are written material by material.
    rows = one.face_materials if one.face_materials is not None else torch.zeros(len(first.faces), dtype=torch.int64)
    order = rows.argsort(stable=True)
    size = (first.vertices.amax(dim=0) - first.vertices.amin(dim=0)).max()
    assert torch.allclose(first.corners[order], again.corners, atol=float(2e-7 * size), rtol=2e-7)
    used = [one.materials[row] for row in rows.unique().tolist() if row >= 0]
    assert [material.name for material in two.materials] == [material.name for material in used]
    for before, after in zip(used, two.materials, strict=True):
        for value in ("alpha_mode", "double_sided", "metallic", "roughness", "alpha", "base_color"):
            assert getattr(before, value) == pytest.approx(getattr(after, value)), value
        for slot in ("base_color", "metallic", "roughness", "normal"):
            old, new = before.texture(slot), after.texture(slot)
            assert (old is None) == (new is None)
            if old is not None and new is not None:
                assert (old.wrap, old.filter) == (new.wrap, new.filter)
                assert torch.equal(old.pixels[..., list(old.channels)], new.pixels[..., list(new.channels)])
    if one.corner_normals is not None:
        assert two.corner_normals is not None
        assert torch.allclose(one.corner_normals[order], two.corner_normals, atol=1e-6)
    assert len(one.uvs) == len(two.uvs) or not any(material.base_color_texture for material in used)
    for old, new in zip(one.uvs, two.uvs, strict=False):
        assert torch.allclose(old[order], new, atol=1e-5)
    if not missing():
        assert_valid(tmp_path / "b.glb")
