"""Meshes of trimesh come in with what they look like, and go out again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image
from shapewright import from_trimesh, load_mesh, to_trimesh
from shapewright.errors import MeshError, MeshWarning
from shapewright.materials import Texture
from shapewright.states import Mesh
from shapewright.textured_meshes import load_textured_mesh

MESHES = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "meshes"


def area(mesh: Mesh) -> float:
    a, b, c = mesh.corners.unbind(1)
    return float(torch.linalg.cross(b - a, c - a).norm(dim=1).sum())


def box(**visual: object) -> trimesh.Trimesh:
    return trimesh.Trimesh(*(lambda b: (b.vertices, b.faces))(trimesh.creation.box((2.0, 1.0, 1.0))), **visual)


def test_geometry_is_taken_exactly() -> None:
    made = from_trimesh(box())
    assert made.vertices.dtype == torch.float64
    assert (len(made.vertices), len(made.faces), made.oriented) == (8, 12, True)
    assert made.appearance is None
    assert not made.attributes
    back = to_trimesh(made)
    assert isinstance(back, trimesh.Trimesh)
    assert np.array_equal(back.vertices, made.vertices.numpy())
    assert np.array_equal(back.faces, made.faces.numpy())
    assert back.volume == pytest.approx(2.0)


def test_colours_of_vertices_come_and_go() -> None:
    colors = np.arange(32, dtype=np.uint8).reshape(8, 4) * 8
    made = from_trimesh(box(vertex_colors=colors))
    assert torch.equal(torch.round(made.attributes["color"] * 255).to(torch.uint8), torch.from_numpy(colors))
    back = to_trimesh(made)
    assert isinstance(back, trimesh.Trimesh)
    assert np.array_equal(back.visual.vertex_colors, colors)


def test_colours_of_faces_become_colours_of_their_corners() -> None:
    colors = np.full((12, 4), 255, np.uint8)
    colors[:, 0] = np.arange(12) * 20
    look = from_trimesh(box(face_colors=colors)).appearance
    assert look is not None
    assert look.corner_colors is not None
    assert torch.allclose(look.corner_colors[:, :, 0] * 255, torch.arange(12.0)[:, None].expand(12, 3) * 20, atol=1e-3)


def test_a_scene_is_one_mesh_with_all_its_materials_where_its_parts_stand() -> None:
    picture = Image.new("RGB", (4, 2), (200, 100, 50))
    painted = box()
    metal = trimesh.visual.material.PBRMaterial(
        name="metal",
        baseColorTexture=picture,
        baseColorFactor=[1.0, 0.5, 0.0, 1.0],
        metallicFactor=0.25,
        doubleSided=True,
    )
    metal.doubleSided = True
    painted.visual = trimesh.visual.TextureVisuals(uv=painted.vertices[:, :2], material=metal)
    old = box()
    plain = trimesh.visual.material.SimpleMaterial(diffuse=[51, 102, 153, 255])
    old.visual = trimesh.visual.TextureVisuals(uv=old.vertices[:, :2], material=plain)
    scene = trimesh.Scene([painted])
    scene.add_geometry(old, transform=trimesh.transformations.translation_matrix([10, 0, 0]))
    made = from_trimesh(scene)
    assert made.vertices.amax(dim=0).tolist() == [11.0, 0.5, 0.5]
    look = made.appearance
    assert look is not None
    by_name = sorted(look.materials, key=lambda material: material.metallic, reverse=True)
    assert by_name[0].base_color == pytest.approx((1.0, 0.7354, 0.0), abs=2e-3)  # linear 0.5, kept by trimesh in 8 bits
    assert (by_name[0].metallic, by_name[0].double_sided) == (0.25, True)
    texture = by_name[0].base_color_texture
    assert isinstance(texture, Texture)
    assert texture.pixels.tolist() == [[[200, 100, 50]] * 4] * 2
    assert by_name[1].base_color == pytest.approx((0.2, 0.4, 0.6))  # not linear light
    right = made.vertices[made.faces].mean(dim=1)[:, 0] > 5
    assert look.face_materials is not None
    assert {look.materials[row].metallic for row in look.face_materials[right].tolist()} == {0.0}


def test_materials_go_out_as_a_scene() -> None:
    painted = box()
    material = trimesh.visual.material.PBRMaterial(baseColorTexture=Image.new("RGB", (2, 2), (9, 8, 7)))
    painted.visual = trimesh.visual.TextureVisuals(uv=painted.vertices[:, :2], material=material)
    out = to_trimesh(from_trimesh(painted))
    assert isinstance(out, trimesh.Scene)
    (part,) = out.geometry.values()
    assert part.visual.material.baseColorTexture.getpixel((0, 0))[:3] == (9, 8, 7)
    assert from_trimesh(out).vertices.amax(dim=0).tolist() == [1.0, 0.5, 0.5]


def test_what_is_dropped_is_a_warning_and_other_things_are_refused() -> None:
    doubled = trimesh.Trimesh([[0, 0, 0], [1, 0, 0], [0, 1, 0]], [[0, 1, 2], [0, 1, 2]], process=False)
    with pytest.warns(MeshWarning, match="1 duplicate face"):
        assert len(from_trimesh(doubled).faces) == 1
    with pytest.raises(MeshError, match="not str"):
        from_trimesh("a.obj")  # type: ignore[arg-type]
    with pytest.raises(MeshError, match="not PointCloud"):
        from_trimesh(trimesh.PointCloud(np.eye(3)))
    with pytest.raises(MeshError):
        from_trimesh(trimesh.Trimesh(np.zeros((3, 3)), [[0, 1, 2]], process=False))


@pytest.mark.skipif(not MESHES.is_dir(), reason="needs ../shared/data")
@pytest.mark.filterwarnings("ignore::shapewright.errors.MeshWarning")
@pytest.mark.parametrize("name", ["avocado.glb", "spot.off", "wingnut.obj"])
def test_real_files_are_the_same_through_trimesh(name: str) -> None:
    through, direct = from_trimesh(trimesh.load(MESHES / name, process=False)), load_mesh(MESHES / name)
    assert len(through.faces) == len(direct.faces)
    assert area(through) == pytest.approx(area(direct), rel=1e-6)
    if name.endswith(".glb"):
        look, known = through.appearance, load_textured_mesh(MESHES / name).appearance
        assert look is not None
        assert known is not None
        assert look.materials[0].roughness == known.materials[0].roughness
        mine, theirs = look.materials[0].base_color_texture, known.materials[0].base_color_texture
        assert mine is not None
        assert theirs is not None
        assert torch.equal(mine.pixels[:, :, :3], theirs.pixels[:, :, :3])
