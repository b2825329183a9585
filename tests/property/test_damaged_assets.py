"""Damaged GLB, OBJ and MTL files are read or refused by a MeshError of one line: nothing else is raised."""

from __future__ import annotations

import json
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gltf_files import Glb, png, tetrahedron
from hypothesis import given, settings
from hypothesis import strategies as st
from shapewright.errors import MeshError
from shapewright.textured_meshes import load_textured_mesh


def asset() -> Glb:
    glb = Glb()
    texture = glb.image(png(np.arange(48, dtype=np.uint8).reshape(4, 4, 3)))
    change = {"KHR_texture_transform": {"offset": [0.1, 0.2], "rotation": 0.3, "scale": [2, 2], "texCoord": 0}}
    reference = {"index": texture, "extensions": change}
    body = {"pbrMetallicRoughness": {"baseColorTexture": reference}, "alphaMode": "MASK", "alphaCutoff": 0.3}
    uvs, normals = np.zeros((4, 2), np.float32), np.ones((4, 3), np.float32)
    primitive = tetrahedron(glb, body, TEXCOORD_0=uvs, NORMAL=normals, COLOR_0=np.ones((4, 4), np.float32))
    rows = glb.view(np.array([3], np.uint16).tobytes())
    glb.document["accessors"][primitive["attributes"]["POSITION"]]["sparse"] = {
        "count": 1,
        "indices": {"bufferView": rows, "componentType": 5123},
        "values": {"bufferView": glb.view(np.array([[0, 0, 5]], np.float32).tobytes())},
    }
    shifts = glb.accessor(np.array([[0, 0, 0], [5, 0, 0]], np.float32))
    instances = {"EXT_mesh_gpu_instancing": {"attributes": {"TRANSLATION": shifts}}}
    glb.document["nodes"] = [{"children": [1], "rotation": [0, 0, 0, 1]}, {"mesh": 0, "extensions": instances}]
    glb.document["samplers"] = [{"magFilter": 9729, "wrapS": 33648}]
    glb.document["textures"][0]["sampler"] = 0
    return glb


def read(data: bytes, name: str) -> None:
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = Path(folder) / name
        path.write_bytes(data)
        try:
            mesh = load_textured_mesh(path)
        except MeshError:
            return
        assert bool(mesh.vertices.isfinite().all())
        assert 0 <= int(mesh.faces.min()) <= int(mesh.faces.max()) < len(mesh.vertices)


WHOLE = asset().bytes()
VALUES: Any = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 9),
    st.sampled_from([2**31, -(2**40), 10**18, 1e308, "", "x", [], {}, [[]]]),
)


def places(body: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where something stands in a document."""
    inner = body.items() if isinstance(body, dict) else enumerate(body) if isinstance(body, list) else ()
    return [path, *(place for key, value in inner for place in places(value, (*path, key)))]


PLACES = places(asset().document)[1:]


def test_the_whole_asset_is_read() -> None:
    read(WHOLE, "a.glb")
    assert len(PLACES) > 100


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(PLACES), VALUES), min_size=1, max_size=3))
def test_documents_with_other_values(changes: list[tuple[tuple[Any, ...], Any]]) -> None:
    glb = asset()
    for place, value in changes:
        body = glb.document
        try:
            for key in place[:-1]:
                body = body[key]
            body[place[-1]] = value
        except (KeyError, IndexError, TypeError):
            continue  # an earlier change took it away
    try:
        data = glb.bytes()
    except (TypeError, AttributeError):
        return
    read(data, "a.glb")


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(WHOLE) - 1), st.integers(0, 255)), max_size=8), st.integers(0, len(WHOLE)))
def test_files_with_other_bytes(changes: list[tuple[int, int]], cut: int) -> None:
    data = bytearray(WHOLE)
    for place, value in changes:
        data[place] = value
    read(bytes(data[: cut if cut % 3 == 0 else len(data)]), "a.glb")


OBJ = b"mtllib a.mtl\nv 0 0 0\nv 1 0 0\nv 0 1 0\nvt 0 1\nvn 0 0 1\nusemtl m\nf 1/1/1 2/1/1 3/1/1\nf 1//1 -1//1 2//1\n"


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(OBJ) - 1), st.sampled_from(b"/ -\n019.vftne\\#\t\x00\xff")), max_size=6))
def test_obj_files_with_other_bytes(changes: list[tuple[int, int]]) -> None:
    data = bytearray(OBJ)
    for place, value in changes:
        data[place] = value
    read(bytes(data), "a.obj")


@pytest.mark.parametrize("line", ["map_Kd", "map_Kd -s", "Kd 1 2", "Kd a b c", "d", "newmtl", "map_Kd .", "Kd nan 0 0"])
def test_material_libraries_with_odd_lines(line: str, tmp_path: Path) -> None:
    (tmp_path / "a.mtl").write_text(f"newmtl m\n{line}\n")
    (tmp_path / "a.obj").write_bytes(OBJ)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mesh = load_textured_mesh(tmp_path / "a.obj")
    assert len(mesh.faces) == 1
    assert json.dumps([material.base_color for material in mesh.appearance.materials])  # type: ignore[union-attr]
