"""Renderer, baking and textured GLB files: what is looked up where, and that viewers get it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from gltf_validator import assert_valid
from shapewright import save_mesh
from shapewright.errors import ConfigError, MeshError, StateError
from shapewright.materials import Appearance, Material, Texture
from shapewright.states import PBR_LAYOUT, Frame, Mesh, SparseTensor, VoxelAttributes
from shapewright_kernels.cameras import look_at, orthographic
from shapewright_kernels.coordinate_index import CoordinateIndex
from shapewright_kernels.texel_lookup import nearest_voxels
from shapewright_kernels.texture_bake import fill_between, sparse_trilinear
from shapewright_plugins.appearance.bake import BakePbr, _alpha_mode
from shapewright_plugins.appearance.bake import Config as BakeConfig
from shapewright_plugins.appearance.lookup import Surface
from shapewright_plugins.appearance.renderer import Config, Raster


def square(z: float = 0.0, alpha: float = 1.0, mode: str = "opaque") -> tuple[torch.Tensor, torch.Tensor, Material]:
    points = torch.tensor([[-1.0, -1, z], [1, -1, z], [1, 1, z], [-1, 1, z]], dtype=torch.float64)
    return (
        points,
        torch.tensor([[0, 1, 2], [0, 2, 3]]),
        Material(base_color=(1.0, 0.0, 0.0), alpha=alpha, alpha_mode=mode),
    )


def front(size: float = 4.0) -> object:
    return orthographic(look_at((0, 0, 5), (0, 0, 0)), extent=size)


def ball() -> Mesh:
    import trimesh

    made = trimesh.creation.icosphere(3, 0.4)
    points = torch.from_numpy(np.asarray(made.vertices))
    attributes = {
        "base_color": (points / 0.8 + 0.5).float(),
        "metallic": torch.full((len(points), 1), 0.3),
        "roughness": torch.full((len(points), 1), 0.7),
        "alpha": torch.ones(len(points), 1),
    }
    return Mesh(points, torch.from_numpy(np.asarray(made.faces, np.int64)), attributes=attributes)


def at_centres(mesh: Mesh) -> tuple[np.ndarray, object]:
    look = Surface(mesh).at(np.arange(len(mesh.faces)), np.full((len(mesh.faces), 3), 1 / 3))
    return mesh.corners.mean(dim=1).numpy(), look


def test_a_square_is_where_it_is() -> None:
    points, faces, material = square()
    images = Raster(Config(size=8, buffers=("base_color", "alpha", "face_id"))).render(
        Mesh(points, faces, appearance=Appearance((material,))), front()
    )
    mask = torch.zeros(8, 8)
    mask[2:6, 2:6] = 1
    assert torch.equal(images["mask"][0, :, :, 0], mask)
    assert torch.equal(images["depth"][0, :, :, 0], mask * 5)
    assert torch.equal(images["normal"][0, :, :, 2], mask)
    assert torch.equal(images["base_color"][0], mask[:, :, None] * torch.tensor([1.0, 0, 0]))
    assert set(images["face_id"].unique().tolist()) == {-1, 0, 1}


def test_texture_rows_run_downward_and_fine_textures_are_averaged() -> None:
    points, faces, _ = square()
    pixels = torch.zeros(2, 2, 3, dtype=torch.uint8)
    pixels[0, 0] = 255  # upper left
    uvs = (points[faces][:, :, :2].float() + 1) / 2
    material = Material(base_color=(1.0, 1, 1), base_color_texture=Texture(pixels, filter="nearest"))
    mesh = Mesh(points, faces, appearance=Appearance((material,), uvs=(uvs,)))
    image = Raster(Config(size=8)).render(mesh, front(2.0))["base_color"][0, :, :, 0]
    expected = torch.zeros(8, 8)
    expected[:4, :4] = 1
    assert torch.equal(image, expected)
    checks = ((torch.arange(256)[:, None] + torch.arange(256)) % 2 * 255).to(torch.uint8)[:, :, None].expand(-1, -1, 3)
    fine = replace(material, base_color_texture=Texture(checks.contiguous()))
    mesh = Mesh(points, faces, appearance=Appearance((fine,), uvs=(uvs,)))
    image = Raster(Config(size=8)).render(mesh, front(2.0))["base_color"][0]
    assert float((image - 0.5).abs().max()) < 0.01


def test_what_lies_behind_clear_faces_shows_through() -> None:
    near, faces, clear = square(1.0, 0.25, "blend")
    far, _, _ = square(0.0)
    blue = Material(base_color=(0.0, 0.0, 1.0))
    rows = torch.tensor([0, 0, 1, 1])
    mesh = Mesh(torch.cat([near, far]), torch.cat([faces, faces + 4]), appearance=Appearance((clear, blue), rows))
    image = Raster(Config(size=8)).render(mesh, front())
    assert torch.allclose(image["base_color"][0, 4, 4], torch.tensor([0.25, 0.0, 0.75]))
    assert float(image["alpha"][0, 4, 4, 0]) == 1.0
    cut = replace(clear, alpha_mode="mask")
    mesh = replace(mesh, appearance=Appearance((cut, blue), rows))
    image = Raster(Config(size=8)).render(mesh, front())
    assert torch.allclose(image["base_color"][0, 4, 4], torch.tensor([0.0, 0.0, 1.0]))
    solid = replace(clear, alpha_mode="opaque")
    mesh = replace(mesh, appearance=Appearance((solid, blue), rows))
    assert torch.allclose(
        Raster(Config(size=8)).render(mesh, front())["base_color"][0, 4, 4], torch.tensor([1.0, 0, 0])
    )


def test_brighter_materials_are_brighter_and_colours_stay_in_range() -> None:
    mesh = ball()
    means = []
    for value in (0.2, 0.8):
        look = Appearance((Material(base_color=(value,) * 3),))
        color = Raster(Config(size=32, views=1)).render(replace(mesh, attributes={}, appearance=look))["color"]
        assert 0 <= float(color.min()) <= float(color.max()) <= 1
        means.append(float(color.mean()))
    assert means[1] > means[0] + 0.1


def test_trilinear_lookup_is_exact_for_linear_values_and_skips_what_is_missing() -> None:
    grid = np.stack(np.meshgrid(*[np.arange(4)] * 3, indexing="ij"), -1).reshape(-1, 3)
    coords = np.concatenate([np.zeros((64, 1), np.int32), grid + 2], axis=1).astype(np.int32)
    values = ((grid + 2.5) @ np.array([1.0, 2.0, 3.0]))[:, None].astype(np.float32)
    places = np.random.default_rng(0).uniform(2.6, 5.4, (1000, 3))
    found, there = sparse_trilinear(CoordinateIndex(coords), values, places)
    assert there.all()
    assert np.abs(found[:, 0] - places @ [1, 2, 3]).max() < 1e-5
    one, there = sparse_trilinear(CoordinateIndex(coords[:1]), values[:1], places)
    assert (one[there] == values[0]).all()
    assert not there.all()
    again = sparse_trilinear(CoordinateIndex(coords), values, places, threads=1)[0]
    assert np.array_equal(found, again)


def test_texels_between_charts_continue_them() -> None:
    image = np.zeros((37, 64, 2), np.float32)
    known = np.zeros((37, 64), bool)
    known[10:12, 5:9] = known[30, 60] = True
    image[10:12, 5:9], image[30, 60] = 0.25, 0.75
    fill_between(image, known, rings=3)
    assert (image[10:12, 5:9] == 0.25).all()
    assert np.allclose(image[7:15, 2:12], 0.25)
    assert image.min() >= 0.2499
    assert image.max() <= 0.7501


def test_attributes_of_vertices_become_textures() -> None:
    mesh = BakePbr(BakeConfig(texture_size=512)).apply(mesh=ball())
    centres, look = at_centres(mesh)
    assert len(mesh.faces) == 1280
    assert np.abs(look.base_color - (centres / 0.8 + 0.5)).max() < 6e-3  # type: ignore[attr-defined]
    assert np.allclose(look.metallic, 0.3, atol=2e-3)  # type: ignore[attr-defined]
    assert np.allclose(look.roughness, 0.7, atol=2e-3)  # type: ignore[attr-defined]
    assert mesh.appearance is not None
    assert mesh.appearance.materials[0].alpha_mode == "opaque"


def test_a_mesh_without_materials_is_baked_as_the_default_one() -> None:
    _, look = at_centres(BakePbr(BakeConfig(texture_size=64)).apply(mesh=replace(ball(), attributes={})))
    assert np.allclose(look.base_color, 0.8)  # type: ignore[attr-defined]
    assert np.allclose(look.roughness, 0.5, atol=2e-3)  # type: ignore[attr-defined]


def voxels(alpha: float) -> VoxelAttributes:
    """The colour of a place is the place, on the voxels around a ball."""
    grid = torch.cartesian_prod(*[torch.arange(64)] * 3)
    centres = (grid + 0.5) / 64 - 0.5
    near = (centres.norm(dim=1) - 0.4).abs() < 0.04
    rest = torch.tensor([0.3, 0.7, alpha]).expand(int(near.sum()), 3)
    feats = torch.cat([centres[near] + 0.5, rest], dim=1)
    coords = torch.cat([torch.zeros(len(feats), 1, dtype=torch.int32), grid[near].int()], dim=1)
    return VoxelAttributes(SparseTensor(coords, feats, 64), dict(PBR_LAYOUT), Frame())


@pytest.mark.parametrize(("alpha", "mode"), [(1.0, "opaque"), (0.5, "blend"), (0.0, "mask")])
def test_voxels_become_textures_and_opacity_is_told(alpha: float, mode: str) -> None:
    mesh = BakePbr(BakeConfig(texture_size=256)).apply(mesh=replace(ball(), attributes={}), source=voxels(alpha))
    centres, look = at_centres(mesh)
    assert np.abs(look.base_color - (centres + 0.5)).max() < 6e-3  # type: ignore[attr-defined]
    assert np.allclose(look.alpha, alpha, atol=3e-3)  # type: ignore[attr-defined]
    assert mesh.appearance is not None
    assert mesh.appearance.materials[0].alpha_mode == mode


def test_texels_of_a_changed_mesh_ask_the_surface_where_the_voxels_are() -> None:
    mesh = replace(ball(), attributes={})
    grown = replace(mesh, vertices=mesh.vertices * 1.15)  # beyond the voxels
    config = BakeConfig(texture_size=256)
    away = BakePbr(config).apply(mesh=grown, source=voxels(1.0))
    snapped = BakePbr(config).apply(mesh=grown, source=voxels(1.0), surface=mesh)
    centres, look = at_centres(snapped)
    assert np.abs(look.base_color - (centres / 1.15 + 0.5)).max() < 6e-3  # type: ignore[attr-defined]
    _, far = at_centres(away)
    assert np.abs(far.base_color - (centres / 1.15 + 0.5)).max() > 6e-3  # type: ignore[attr-defined]


def test_a_mesh_baked_to_itself_and_from_a_copy_look_the_same() -> None:
    mesh = ball()
    config = BakeConfig(texture_size=128)
    own, copy = BakePbr(config).apply(mesh=mesh), BakePbr(config).apply(mesh=mesh, source=replace(mesh))
    assert own.appearance is not None
    assert copy.appearance is not None
    one, two = (look.materials[0].base_color_texture for look in (own.appearance, copy.appearance))
    assert one is not None
    assert two is not None
    assert int((one.pixels.int() - two.pixels.int()).abs().max()) <= 1


def test_faces_smaller_than_a_texel_have_their_colour() -> None:
    points = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]], dtype=torch.float64)
    speck = points * 1e-4 + torch.tensor([0.0, 0.0, 0.5])
    colors = torch.tensor([[1.0, 0, 0]] * 3 + [[0.0, 1, 0]] * 3)
    mesh = Mesh(torch.cat([points, speck]), torch.tensor([[0, 1, 2], [3, 4, 5]]), attributes={"color": colors})
    _, look = at_centres(BakePbr(BakeConfig(texture_size=64)).apply(mesh=mesh))
    assert np.allclose(look.base_color, [[1, 0, 0], [0, 1, 0]], atol=1e-2)  # type: ignore[attr-defined]


@pytest.mark.parametrize("share", [0.0, 0.02, 0.5])
def test_the_alpha_mode_follows_how_much_is_half_clear(share: float) -> None:
    """A cut-out with soft rims is a mask for viewers, glass is blended, and a few stray voxels change nothing."""
    full = voxels(1.0)
    rows = torch.arange(len(full.values.feats))
    feats = full.values.feats.clone()
    feats[:, -1] = (rows % 2).float()  # half of it clear
    feats[rows < share * len(rows), -1] = 0.5
    source = replace(full, values=replace(full.values, feats=feats))
    nearest = _alpha_mode(feats[:, -1].numpy())
    assert nearest == ("blend" if share == 0.5 else "mask")
    assert _alpha_mode(np.ones(10_000, np.float32)) == "opaque"
    stray = np.ones(100_000, np.float32)
    stray[:5] = 0.5
    assert _alpha_mode(stray) == "opaque"
    for mode in ("opaque", "mask", "blend"):
        made = BakePbr(BakeConfig(texture_size=64, alpha_mode=mode)).apply(
            mesh=replace(ball(), attributes={}), source=source
        )
        assert made.appearance is not None
        assert made.appearance.materials[0].alpha_mode == mode
        assert (made.appearance.materials[0].alpha_texture is None) == (mode == "opaque")


def test_solid_faces_stay_opaque_beside_clear_ones(tmp_path: Path) -> None:
    full = voxels(1.0)
    feats = full.values.feats.clone()
    feats[full.values.coords[:, 1] >= 40, -1] = 0.4  # the side of large x is glass
    source = replace(full, values=replace(full.values, feats=feats))
    mesh = BakePbr(BakeConfig(texture_size=256)).apply(mesh=replace(ball(), attributes={}), source=source)
    assert mesh.appearance is not None
    assert [material.alpha_mode for material in mesh.appearance.materials] == ["opaque", "blend"]
    rows = mesh.appearance.face_materials
    assert rows is not None
    place = (mesh.corners[:, :, 0] + 0.5) * 64
    assert bool((rows[(place > 42).all(dim=1)] == 1).all())
    assert bool((rows[(place < 38).all(dim=1)] == 0).all())
    centres, look = at_centres(mesh)
    assert np.allclose(look.alpha[centres[:, 0] > 0.16], 0.4, atol=0.01)  # type: ignore[attr-defined]
    save_mesh(mesh, tmp_path / "a.glb")
    found = document(tmp_path / "a.glb")
    assert [entry.get("alphaMode", "OPAQUE") for entry in found["materials"]] == ["OPAQUE", "BLEND"]  # type: ignore[attr-defined]
    assert len(found["images"]) == 2, "both materials share them"  # type: ignore[arg-type]


def test_nearest_voxels_are_those_of_all() -> None:
    rng = np.random.default_rng(1)
    coords = np.unique(rng.integers(-5, 25, (300, 3)), axis=0)
    coords = coords[rng.permutation(len(coords))]
    index = CoordinateIndex(np.concatenate([np.zeros((len(coords), 1), np.int64), coords], axis=1))
    places = rng.uniform(-9, 29, (500, 3))
    rows = nearest_voxels(index, places, reach=6)
    distances = np.linalg.norm(places[:, None] - (coords + 0.5)[None], axis=2)
    found = rows >= 0
    assert found.mean() > 0.9
    assert np.allclose(distances[found, rows[found]], distances.min(axis=1)[found])
    assert distances.min(axis=1)[~found].min(initial=99) > 6
    assert np.array_equal(rows, nearest_voxels(index, places, reach=6, threads=1))


def test_baking_says_what_it_lacks() -> None:
    bare = replace(ball(), attributes={})
    with pytest.raises(MeshError, match="without faces"):
        BakePbr(BakeConfig()).apply(mesh=replace(bare, faces=bare.faces[:0]))
    full = voxels(1.0)
    with pytest.raises(StateError, match="roughness"):
        BakePbr(BakeConfig(texture_size=64)).apply(
            mesh=bare, source=replace(full, layout={"base_color": slice(0, 3), "metallic": slice(3, 4)})
        )
    for options in ({"texture_size": 8}, {"unwrap": "hand"}, {"chart_angle": 90.0}):
        with pytest.raises(ConfigError, match=next(iter(options))):
            BakeConfig(**options)
    with pytest.raises(ConfigError):
        Config(buffers=("colour",))
    with pytest.raises(ConfigError, match="cameras"):
        Raster(Config(size=8)).render(bare, [1.0])


def document(path: Path) -> dict[str, object]:
    data = path.read_bytes()
    found: dict[str, object] = json.loads(data[20 : 20 + int.from_bytes(data[12:16], "little")])
    return found


def several_materials() -> Mesh:
    mesh = ball()
    count = len(mesh.faces)
    pixels = torch.arange(8 * 8 * 4, dtype=torch.int64).reshape(8, 8, 4).to(torch.uint8)
    grey = torch.full((4, 4, 1), 200, dtype=torch.uint8)
    materials = (
        Material("a", base_color_texture=Texture(pixels), alpha_texture=Texture(pixels, (3,)), alpha_mode="blend"),
        Material("b", alpha=0.5, alpha_mode="mask", double_sided=True, roughness_texture=Texture(grey, (0,))),
        Material("c", metallic=1.0, emissive=(1.0, 0.5, 0.0)),
    )
    uvs = torch.rand(count, 3, 2, generator=torch.Generator().manual_seed(0))
    look = Appearance(materials, torch.arange(count) % 4 - 1, (uvs,), torch.rand(count, 3, 4), mesh.corners.float())
    return replace(mesh, attributes={}, appearance=look)


def test_a_textured_glb_holds_materials_and_reads_back(tmp_path: Path) -> None:
    import trimesh

    mesh = several_materials()
    save_mesh(mesh, tmp_path / "a.glb")
    found = document(tmp_path / "a.glb")
    materials = found["materials"]
    assert isinstance(materials, list)
    assert [entry.get("alphaMode", "OPAQUE") for entry in materials] == ["OPAQUE", "BLEND", "MASK", "OPAQUE"]
    assert [entry["doubleSided"] for entry in materials] == [False, False, True, False]
    assert materials[2]["pbrMetallicRoughness"]["baseColorFactor"][3] == 0.5
    scene = trimesh.load(tmp_path / "a.glb", force="scene", process=False)
    assert sum(len(part.faces) for part in scene.geometry.values()) == len(mesh.faces)
    part = next(part for part in scene.geometry.values() if part.visual.material.name == "a")
    pixels = np.asarray(part.visual.material.baseColorTexture)
    assert np.array_equal(pixels, mesh.appearance.materials[0].base_color_texture.pixels.numpy())  # type: ignore[union-attr]
    rows = np.arange(len(mesh.faces)) % 4 == 1
    assert np.allclose(part.visual.uv[part.faces], mesh.appearance.uvs[0].numpy()[rows], atol=1e-6)  # type: ignore[union-attr]
    assert np.allclose(part.vertices[part.faces], mesh.corners.numpy()[rows], atol=1e-6)


def test_textured_glb_files_pass_the_validator(tmp_path: Path) -> None:
    save_mesh(several_materials(), tmp_path / "a.glb")
    found = assert_valid(tmp_path / "a.glb")
    assert found["materialCount"] == 4
    assert found["hasTextures"]
