"""A textured mesh to a voxel file and back on the command line."""

from __future__ import annotations

import io
import json
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from in_process import run
from PIL import Image
from shapewright.errors import MeshWarning
from shapewright.mesh_io import load_mesh
from shapewright.textured_meshes import load_textured_mesh


def textured_glb(image: bytes | None = None, uvs: np.ndarray | None = None) -> bytes:
    """A tetrahedron, one picture: its left half red, its right half blue."""
    corners = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], "<f4")
    index = np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]], "<u4")
    uvs = np.full((4, 2), 0.25, "<f4") if uvs is None else uvs.astype("<f4")
    if image is None:
        buffer = io.BytesIO()
        pixels = np.zeros((8, 8, 3), np.uint8)
        pixels[:, :4, 0], pixels[:, 4:, 2] = 255, 255
        Image.fromarray(pixels).save(buffer, "png")
        image = buffer.getvalue()
    parts = [corners.tobytes(), index.tobytes(), uvs.tobytes(), image + b"\0" * (-len(image) % 4)]
    starts = np.cumsum([0, *map(len, parts)]).tolist()
    document = {
        "asset": {"version": "2.0"},
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0}],
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0, "TEXCOORD_0": 2}, "indices": 1, "material": 0}]}],
        "materials": [{"pbrMetallicRoughness": {"baseColorTexture": {"index": 0}, "roughnessFactor": 0.25}}],
        "textures": [{"source": 0, "sampler": 0}],
        "samplers": [{"magFilter": 9728, "wrapS": 33071, "wrapT": 33648}],
        "images": [{"bufferView": 3, "mimeType": "image/png", "name": "halves"}],
        "accessors": [
            {"bufferView": 0, "componentType": 5126, "count": 4, "type": "VEC3", "min": [0, 0, 0], "max": [1, 1, 1]},
            {"bufferView": 1, "componentType": 5125, "count": 12, "type": "SCALAR"},
            {"bufferView": 2, "componentType": 5126, "count": 4, "type": "VEC2"},
        ],
        "bufferViews": [
            {"buffer": 0, "byteOffset": starts[k], "byteLength": len(part)} for k, part in enumerate(parts)
        ],
        "buffers": [{"byteLength": starts[-1]}],
    }
    text = json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    binary = b"".join(parts)
    head = struct.pack("<III", 0x46546C67, 2, 28 + len(text) + len(binary))
    return head + struct.pack("<II", len(text), 0x4E4F534A) + text + struct.pack("<II", len(binary), 0x4E4942) + binary


@pytest.fixture
def asset(tmp_path: Path) -> Path:
    path = tmp_path / "asset.glb"
    path.write_bytes(textured_glb())
    return path


def test_a_material_is_read_with_its_sampler(asset: Path) -> None:
    mesh = load_textured_mesh(asset)
    assert mesh.appearance is not None
    material = mesh.appearance.materials[0]
    texture = material.base_color_texture
    assert texture is not None
    assert (texture.filter, texture.wrap) == ("nearest", ("clamp", "mirror"))
    assert (material.roughness, material.metallic, material.alpha_mode) == (0.25, 1.0, "opaque")
    assert torch.equal(mesh.faces, load_mesh(asset).faces)
    assert mesh.appearance.uvs[0].tolist() == [[[0.25, 0.75]] * 3] * 4  # v upward


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (textured_glb(image=b"no image at all!"), "dropped 1 texture halves"),
        (textured_glb(uvs=np.full((4, 2), np.nan)), "12 texture coordinates that are not finite"),
    ],
)
def test_what_is_broken_about_textures_is_a_warning(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "a.glb"
    path.write_bytes(content)
    with pytest.warns(MeshWarning, match=message):
        mesh = load_textured_mesh(path)
    assert len(mesh.faces) == 4
    assert mesh.appearance is not None


def test_a_textured_mesh_goes_into_a_voxel_file_and_back(asset: Path, tmp_path: Path) -> None:
    stored, back = tmp_path / "asset.vxz", tmp_path / "back.ply"
    assert run("convert", str(asset), str(stored), "--resolution", "32").returncode == 0
    shown = json.loads(run("info", str(stored), "--json").stdout)
    assert shown["resolution"] == 32
    assert shown["attributes"]["base_color"] == "3 bytes"
    assert run("convert", str(stored), str(back)).returncode == 0
    mesh = load_mesh(back)
    extent = mesh.vertices.amax(dim=0) - mesh.vertices.amin(dim=0)
    assert torch.allclose(extent, torch.ones(3, dtype=torch.float64), atol=0.1)
    assert torch.allclose(mesh.attributes["color"][:, :3], torch.tensor([1.0, 0.0, 0.0]))


def test_a_mesh_without_material_is_stored_with_a_word_about_it(tmp_path: Path) -> None:
    path = tmp_path / "a.obj"
    path.write_text("v 0 0 0\nv 1 0 0\nv 0 1 0\nv 0 0 1\nf 1 3 2\nf 1 2 4\nf 1 4 3\nf 2 3 4\n")
    result = run("convert", str(path), str(tmp_path / "a.vxz"), "--resolution", "16")
    assert result.returncode == 0
    assert "no materials" in result.stderr


def test_a_damaged_file_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "a.vxz"
    path.write_bytes(b"VXZ\0\0\0\0\x99{}")
    result = run("convert", str(path), str(tmp_path / "a.glb"))
    assert result.returncode == 2
    assert "truncated or damaged" in result.stderr
    assert not (tmp_path / "a.glb").exists()
