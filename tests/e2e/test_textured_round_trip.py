"""Textured mesh, voxel file, textured mesh on the command line, and what ``info`` tells of each."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import trimesh
from in_process import run
from PIL import Image
from safetensors.torch import save_file
from shapewright.state_files import save_state
from shapewright.states import FlexibleDualGrid
from shapewright.textured_meshes import load_textured_mesh

pytest.importorskip("xatlas")
pytest.importorskip("fast_simplification")
SMALL = ("--set", "simplify.faces=400", "--set", "bake.texture_size=128")
RED, BLUE = (220, 30, 30), (30, 30, 220)


@pytest.fixture(scope="module")
def asset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A box, red where x < 0 and blue where x > 0 by the columns of its picture; metal, and rather smooth."""
    picture = Image.new("RGB", (64, 64), RED)
    picture.paste(BLUE, (32, 0, 64, 64))
    box = trimesh.creation.box((2.0, 1.0, 1.0)).subdivide().subdivide()
    uv = (box.vertices[:, :2] / [2.0, 1.0]) + 0.5
    material = trimesh.visual.material.PBRMaterial(baseColorTexture=picture, metallicFactor=1.0, roughnessFactor=0.25)
    box.visual = trimesh.visual.TextureVisuals(uv=uv, material=material)
    path = tmp_path_factory.mktemp("asset") / "box.glb"
    box.export(path)
    return path


def assert_looks_like_the_box(path: Path) -> None:
    mesh = load_textured_mesh(path)
    assert mesh.appearance is not None
    (material,) = mesh.appearance.materials
    (uvs,) = mesh.appearance.uvs
    middles = mesh.vertices[mesh.faces].mean(dim=1)
    lower, upper = mesh.vertices.amin(dim=0), mesh.vertices.amax(dim=0)
    assert torch.allclose(upper - lower, torch.tensor([2.0, 1.0, 1.0], dtype=torch.float64), atol=0.1)
    for slot, wanted in (("metallic", 255), ("roughness", 64)):
        values = at(material.texture(slot), uvs)
        assert (values.float() - wanted).abs().max() <= 2, slot
    colors = at(material.base_color_texture, uvs)
    clear = (middles[:, 0].abs() > 0.2) & (middles[:, 0].abs() < 0.8)  # the picture repeats, so both ends are mixed
    wanted = torch.where(middles[:, :1] < 0, torch.tensor(RED), torch.tensor(BLUE))
    assert int(clear.sum()) > 50
    assert (colors[clear].float() - wanted[clear]).abs().max() <= 3


def at(texture: object, uvs: torch.Tensor) -> torch.Tensor:
    """Texels ``(F, C)`` at the middles of faces."""
    pixels, channels = texture.pixels, list(texture.channels)  # type: ignore[attr-defined]
    middle = uvs.mean(dim=1)
    column = (middle[:, 0] * pixels.shape[1]).long().clamp(0, pixels.shape[1] - 1)
    row = ((1 - middle[:, 1]) * pixels.shape[0]).long().clamp(0, pixels.shape[0] - 1)
    return pixels[row, column][:, channels]


def test_a_textured_mesh_comes_back_with_its_colours_and_its_metal(asset: Path, tmp_path: Path) -> None:
    back = tmp_path / "back.glb"
    done = run("convert", asset, "--pipeline", "roundtrip-textured", "-o", back, "--resolution", 48, *SMALL)
    assert done.returncode == 0, done.stderr
    assert_looks_like_the_box(back)


def test_a_voxel_file_is_baked_to_textures(asset: Path, tmp_path: Path) -> None:
    stored, back = tmp_path / "box.vxz", tmp_path / "back.glb"
    assert run("convert", asset, stored, "--resolution", 48).returncode == 0
    done = run("convert", stored, "--pipeline", "textured-from-o-voxel", "-o", back, *SMALL)
    assert done.returncode == 0, done.stderr
    assert_looks_like_the_box(back)


def test_what_a_format_cannot_hold_is_said(asset: Path, tmp_path: Path) -> None:
    stored = tmp_path / "box.vxz"
    assert run("convert", asset, stored, "--resolution", 16).returncode == 0
    for name, lost in (("a.glb", "metallic"), ("a.ply", "metallic"), ("a.obj", "metallic"), ("a.stl", "colours")):
        done = run("convert", stored, tmp_path / name)
        assert done.returncode == 0
        assert f"note: {name} has no place for {lost}" in done.stderr
        assert "--pipeline textured-from-o-voxel" in done.stderr


def test_a_pipeline_that_starts_elsewhere_is_refused(asset: Path, tmp_path: Path) -> None:
    stored, out = tmp_path / "box.vxz", tmp_path / "out.glb"
    assert run("convert", asset, stored, "--resolution", 16).returncode == 0
    wrong = run("convert", stored, "--pipeline", "roundtrip-sdf", "-o", out)
    assert wrong.returncode == 2
    assert "starts from 'mesh'" in wrong.stderr
    wrong = run("convert", asset, "--pipeline", "textured-from-o-voxel", "-o", out)
    assert wrong.returncode == 2
    assert "starts from 'dualgrid.flexible', files " in wrong.stderr
    wrong = run("convert", asset, "--pipeline", "triposg", "-o", out)
    assert wrong.returncode == 2
    assert "starts from 'image', which convert does not read; `shapewright run triposg` does" in wrong.stderr
    assert not out.exists()


def test_info_tells_what_a_mesh_file_holds(asset: Path, tmp_path: Path) -> None:
    shown = json.loads(run("info", asset, "--json").stdout)
    assert (shown["faces"], shown["open edges"], shown["winding"]) == (192, 0, "consistent")
    (material,) = shown["materials"].values()
    assert material == "192 faces, base_color 64x64, opaque"
    missing = run("info", tmp_path / "none.glb")
    assert missing.returncode == 2
    assert len(missing.stderr.strip().splitlines()) == 1
    other = run("info", tmp_path / "a.txt")
    assert other.returncode == 2
    assert ".glb" in other.stderr


def test_info_tells_what_a_stored_value_or_weights_hold(tmp_path: Path) -> None:
    grid = FlexibleDualGrid(
        torch.tensor([[0, 1, 2, 3]], dtype=torch.int32),
        torch.rand(1, 3),
        torch.ones(1, 3, dtype=torch.bool),
        resolution=8,
    )
    save_state(grid, tmp_path / "grid.safetensors")
    shown = json.loads(run("info", tmp_path / "grid.safetensors", "--json").stdout)
    assert shown["value"] == "dualgrid.flexible"
    assert shown["shapes"]["value.coords"] == "I32 (1, 4)"
    save_file({f"layer.{k}": torch.zeros(2, 3) for k in range(50)}, tmp_path / "weights.safetensors")
    shown = json.loads(run("info", tmp_path / "weights.safetensors", "--json").stdout)
    assert (shown["tensors"], shown["numbers"]) == (50, {"F32": "300"})
    assert "shapes" not in shown
    (tmp_path / "bad.safetensors").write_bytes(b"no header")
    for name, reason in (("bad.safetensors", "damaged"), ("none.safetensors", "no such file")):
        refused = run("info", tmp_path / name)
        assert refused.returncode == 2
        assert reason in refused.stderr
        assert len(refused.stderr.strip().splitlines()) == 1
