"""glTF keeps factors and vertex colours as linear light; meshes in memory have all colours as sRGB."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from shapewright.errors import MeshWarning
from shapewright.materials import Appearance, Material
from shapewright.mesh_io import load_mesh, save_mesh
from shapewright.states import Mesh
from shapewright.textured_meshes import load_textured_mesh

HALF = 0.21404114
"""Linear light of sRGB 0.5 (IEC 61966-2-1)."""


def tetrahedron(**more: object) -> Mesh:
    vertices = torch.tensor([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], dtype=torch.float64)
    faces = torch.tensor([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])
    return Mesh(vertices, faces, **more)  # type: ignore[arg-type]


def document(path: Path) -> dict[str, object]:
    data = path.read_bytes()
    length = int.from_bytes(data[12:16], "little")
    found: dict[str, object] = json.loads(data[20 : 20 + length])
    return found


@pytest.mark.parametrize("name", ["color", "base_color"])
def test_vertex_colours_are_linear_in_the_file_and_srgb_here(tmp_path: Path, name: str) -> None:
    shades = torch.tensor([[0.0, 0.5, 1.0], [0.02, 0.04, 0.06], [0.25, 0.5, 0.75], [1.0, 1.0, 1.0]])
    save_mesh(tetrahedron(attributes={name: shades}), tmp_path / "a.glb")
    stored = next(iter(trimesh.load(tmp_path / "a.glb").geometry.values())).visual.vertex_attributes["color"]
    assert stored[0, :3].tolist() == pytest.approx([0, 65535 * HALF, 65535], abs=1)
    assert torch.allclose(load_mesh(tmp_path / "a.glb").attributes["color"][:, :3], shades, atol=1.5e-4)


def test_factors_are_linear_in_the_file_and_srgb_here(tmp_path: Path) -> None:
    look = Appearance((Material(base_color=(0.5, 0.0, 1.0), alpha=0.5, alpha_mode="blend", emissive=(0.5, 0.0, 0.0)),))
    save_mesh(tetrahedron(appearance=look), tmp_path / "a.glb")
    material = document(tmp_path / "a.glb")["materials"][0]  # type: ignore[index]
    assert material["pbrMetallicRoughness"]["baseColorFactor"] == pytest.approx([HALF, 0, 1, 0.5], abs=1e-7)
    assert material["emissiveFactor"] == pytest.approx([HALF, 0, 0], abs=1e-7)
    back = load_textured_mesh(tmp_path / "a.glb").appearance
    assert back is not None
    assert back.materials[0].base_color == pytest.approx((0.5, 0.0, 1.0))
    assert back.materials[0].emissive == pytest.approx((0.5, 0.0, 0.0))
    assert back.materials[0].alpha == 0.5


def test_colours_of_corners_are_linear_in_the_file_and_srgb_here(tmp_path: Path) -> None:
    shades = torch.from_numpy(np.linspace(0.0, 1.0, 36).reshape(4, 3, 3))
    save_mesh(tetrahedron(appearance=Appearance((Material(),), corner_colors=shades)), tmp_path / "a.glb")
    back = load_textured_mesh(tmp_path / "a.glb").appearance
    assert back is not None
    assert back.corner_colors is not None
    assert torch.allclose(back.corner_colors[:, :, :3].double(), shades, atol=1.5e-4)


def test_colours_of_ply_stay_as_they_are(tmp_path: Path) -> None:
    shades = torch.tensor([[0.0, 0.5, 1.0], [0.2, 0.4, 0.6], [0.25, 0.5, 0.75], [1.0, 1.0, 1.0]])
    save_mesh(tetrahedron(attributes={"color": shades}), tmp_path / "a.ply")
    assert torch.allclose(load_mesh(tmp_path / "a.ply").attributes["color"][:, :3], shades, atol=0.002)


def test_formats_without_materials_say_that_they_leave_them_out(tmp_path: Path) -> None:
    painted = tetrahedron(appearance=Appearance((Material(base_color=(1.0, 0.0, 0.0)),)))
    save_mesh(painted, tmp_path / "a.glb")
    with pytest.warns(MeshWarning, match=r"a\.obj: dropped 1 materials \(a \.glb keeps them\)"):
        save_mesh(painted, tmp_path / "a.obj")
