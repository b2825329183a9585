"""What display meshes show of materials: how it is found, packed, kept when meshes get coarser, and kept small."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import zlib
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from in_process import assert_refused, run
from PIL import Image
from report_runs import bumpy_sphere, cell, painted, write_run
from shapewright import Mesh, save_mesh
from shapewright.materials import Appearance, Material, Texture
from shapewright.report.display_mesh import DisplayMesh, DisplayMeshError, decode, encode
from shapewright.report.mesh_paint import TextureLimits, paint_of
from shapewright.report.notebook import mesh_page
from shapewright.report.paint import Paint, PaintMaterial
from shapewright.report.simplification import simplified
from shapewright.report.textures import fitting_sizes, packed, resized, resized_bands, smaller
from shapewright.report.views import MOST_PAINTED_FACES, display_mesh
from shapewright_plugins.appearance.lookup import Surface

RED, GREEN, BLUE, YELLOW = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0)
QUARTERS = torch.tensor([[RED, GREEN], [BLUE, YELLOW]], dtype=torch.uint8)
"""Red is upper left, green upper right, blue lower left."""


def pixels(image: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(image)))


def quad(appearance: Appearance | None = None, **attributes: torch.Tensor) -> Mesh:
    """The unit square in the xy plane, facing +z."""
    corners = torch.tensor([[0.0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], dtype=torch.float64)
    faces = torch.tensor([[0, 1, 2], [0, 2, 3]])
    return Mesh(corners, faces, attributes=attributes, appearance=appearance)


def textured(material: Material) -> Mesh:
    """The square with texture coordinates that are its positions."""
    plain = quad()
    return quad(Appearance((material,), uvs=(plain.corners[:, :, :2].float(),)))


def seen(paint: Paint, face: int, weights: np.ndarray) -> np.ndarray:
    """Red, green, blue and alpha in 0..1 at a point of a face, as the page's script mixes them; the nearest texel."""
    material = paint.materials[paint.face_materials[face]]
    color = np.ones(4) if paint.colors is None else weights @ (paint.colors[face] / 255)
    if material.image >= 0:
        assert paint.uvs is not None
        image = pixels(paint.images[material.image])
        u, v = weights @ paint.uvs[face]
        row, column = int((1 - v) % 1 * image.shape[0]), int(u % 1 * image.shape[1])
        texel = image[row, column] / 255
        color = color * np.append(texel, np.ones(4 - len(texel)))
    if material.alpha == "opaque":
        color[3] = 1.0
    if material.alpha == "mask":
        color[3] = color[3] >= material.cutoff
    return color


@settings(max_examples=30, deadline=None)
@given(st.integers(3, 40), st.integers(1, 70), st.integers(0, 2**32 - 1), st.booleans(), st.booleans())
def test_packing_keeps_the_paint_of_every_corner(
    vertices: int, faces: int, seed: int, with_uvs: bool, with_colors: bool
) -> None:
    rng = np.random.default_rng(seed)
    points = rng.permutation(np.unique(rng.integers(0, 50, (vertices, 3)), axis=0)) / 50.0
    triangles = rng.integers(0, len(points), (faces, 3))
    materials = tuple(PaintMaterial(alpha=mode, wrap=("mirror", "clamp")) for mode in ("opaque", "blend"))
    paint = Paint(
        materials,
        rng.integers(0, 2, faces),
        (b"one", b"", b"three"),
        np.asarray(rng.integers(-3000, 5000, (faces, 3, 2)) / 1024, np.float32) if with_uvs else None,
        rng.integers(0, 256, (faces, 3, 4)).astype(np.uint8) if with_colors else None,
    )
    edges = rng.integers(0, len(points), (5, 2))
    mesh = DisplayMesh(points, triangles, edges, edges[:2], rng.uniform(0, 1, len(points)), True, 99, paint)
    back = decode(encode(mesh))
    assert back.paint is not None
    assert back.paint.materials == materials
    assert back.paint.images == paint.images
    assert (back.paint.uvs is None, back.paint.colors is None) == (not with_uvs, not with_colors)

    def corners(found: DisplayMesh) -> list[tuple[float, ...]]:
        assert found.paint is not None
        columns = [np.round(found.vertices[found.faces] * 50)]
        columns += [] if found.paint.uvs is None else [np.round(found.paint.uvs * 1024)]
        columns += [] if found.paint.colors is None else [found.paint.colors.astype(float)]
        rows = np.concatenate(columns, axis=2)
        turned = [min(tuple(np.roll(row, k, axis=0).ravel()) for k in range(3)) for row in rows]
        return sorted((*row, float(m)) for row, m in zip(turned, found.paint.face_materials, strict=True))

    assert corners(back) == corners(mesh)
    first, second = (np.sort(np.round(m.vertices[m.boundary].sum(axis=1), 3), axis=0) for m in (mesh, back))
    assert np.allclose(first, second, atol=2e-3)


def test_meshes_without_paint_are_written_as_they_always_were() -> None:
    """Recorded from the version before paint: folders of earlier runs stay readable, and so do new ones for it."""
    content = zlib.decompress(encode(bumpy_sphere(9, 0.05, hole=True)))
    assert sha256(content).hexdigest() == "2ccad9c16f9ba2eb4af6e697773b2d85144f7b59dfe2523cb860b1724c0923c7"


@pytest.mark.parametrize("damage", ["short", "no description", "foreign material", "too many images", "wild row"])
def test_damaged_paint_is_refused(damage: str) -> None:
    data = zlib.decompress(encode(painted(bumpy_sphere(6))))
    start = data.index(b'{"materials"')
    damaged = {
        "short": data[:-1],
        "no description": data[:start] + b"[" + data[start + 1 :],
        "foreign material": data.replace(b'"alpha":"opaque"', b'"alpha":"absent"'),
        "too many images": data.replace(b'"image":0', b'"image":7'),
        "wild row": data[: start - 5] + b"\xff" + data[start - 4 :],
    }[damage]
    assert damaged != data
    with pytest.raises(DisplayMeshError):
        decode(zlib.compress(damaged))


def test_the_picture_lies_on_the_faces_the_right_way_round() -> None:
    paint = paint_of(textured(Material(base_color=(1.0, 1.0, 1.0), base_color_texture=Texture(QUARTERS))))
    assert paint is not None
    lower_right = seen(paint, 0, np.array([0.1, 0.8, 0.1]))
    upper_left = seen(paint, 1, np.array([0.1, 0.1, 0.8]))
    assert (lower_right[:3] * 255).tolist() == list(YELLOW)
    assert (upper_left[:3] * 255).tolist() == list(RED)


@pytest.mark.parametrize("mode", ["opaque", "mask", "blend"])
@pytest.mark.parametrize("grey", [False, True])
def test_paint_is_what_the_renderer_looks_up(mode: str, grey: bool) -> None:
    """Factor times texture times the colours of corners, alpha by its mode, two materials and a face without one."""
    rng = np.random.default_rng(5)
    image = torch.from_numpy(rng.integers(0, 256, (4, 4, 4)).astype(np.uint8))
    channels = (1, 1, 1) if grey else (2, 0, 1)
    nearest = Texture(image, channels, filter="nearest")
    material = Material(
        base_color=(0.9, 0.8, 0.7), alpha=0.8, base_color_texture=nearest,
        alpha_texture=Texture(image, (3,), filter="nearest"), alpha_mode=mode,
    )  # fmt: skip
    sphere = bumpy_sphere(8)
    count = len(sphere.faces)
    look = Appearance(
        (material, Material(base_color=(0.2, 0.4, 0.6), alpha=0.5, alpha_mode="blend")),
        torch.from_numpy(rng.integers(-1, 2, count)),
        (torch.from_numpy(rng.uniform(-2, 3, (count, 3, 2)).astype(np.float32)),),
        torch.from_numpy(rng.uniform(0, 1, (count, 3, 4)).astype(np.float32)),
    )
    mesh = Mesh(torch.from_numpy(sphere.vertices), torch.from_numpy(sphere.faces), appearance=look)
    paint = paint_of(mesh)
    assert paint is not None
    weights = np.array([0.3, 0.5, 0.2])
    wanted = Surface(mesh).at(np.arange(count), np.tile(weights, (count, 1)))
    found = np.stack([seen(paint, face, weights) for face in range(count)])
    shown = wanted.alpha[:, 0] > 0.02  # what is clear keeps no colour
    assert shown.sum() > 0.4 * count
    assert np.allclose(found[shown, :3], wanted.base_color[shown], atol=0.008)
    if mode != "mask":
        assert np.allclose(found[:, 3], wanted.alpha[:, 0], atol=0.008)
    else:
        assert (np.abs(found[:, 3] - wanted.alpha[:, 0]) > 0.5).mean() < 0.02, "only where alpha is rounded"


def test_attributes_of_vertices_count_as_the_renderer_counts_them() -> None:
    values = torch.tensor([[0.1, 0.2, 0.3], [0.4, 0.5, 0.6], [0.7, 0.8, 0.9], [1.0, 0.0, 0.5]])
    alpha = torch.tensor([[1.0], [0.5], [1.0], [1.0]])
    mesh = quad(base_color=values, alpha=alpha)
    paint = paint_of(mesh)
    assert paint is not None
    assert paint.colors is not None
    expected = torch.cat([values, alpha], dim=1)[mesh.faces].numpy()
    assert np.allclose(paint.colors / 255, expected, atol=0.5 / 255 + 1e-6)
    assert {material.alpha for material in paint.materials} == {"blend", "opaque"}
    assert [paint.materials[row].alpha for row in paint.face_materials] == ["blend", "opaque"]


def test_a_mesh_without_any_colour_has_no_paint() -> None:
    assert paint_of(quad()) is None
    assert paint_of(quad(metallic=torch.ones(4, 1))) is None
    assert paint_of(quad(Appearance())) is None
    assert display_mesh(quad()).paint is None


def test_blending_with_nothing_to_see_through_is_opaque() -> None:
    white = torch.full((4, 4, 4), 255, dtype=torch.uint8)
    clear = white.clone()
    clear[0, 0, 3] = 0
    found = []
    for image in (white, clear):
        color, alpha = Texture(image), Texture(image, (3,))
        paint = paint_of(textured(Material(base_color_texture=color, alpha_texture=alpha, alpha_mode="blend")))
        assert paint is not None
        found.append(paint.materials[0].alpha)
    assert found == ["opaque", "blend"]


def test_materials_and_pictures_that_are_alike_are_kept_once() -> None:
    image = torch.full((8, 8, 3), 90, dtype=torch.uint8)
    materials = tuple(Material(name, (0.1 * k, 0.5, 1.0), base_color_texture=Texture(image.clone()))
                      for k, name in enumerate("abc"))  # fmt: skip
    plain = quad()
    look = Appearance(materials, torch.tensor([0, 2]), (plain.corners[:, :, :2].float(),))
    paint = paint_of(quad(look))
    assert paint is not None
    assert len(paint.materials) == len(paint.images) == 1
    assert paint.colors is not None
    assert paint.colors[:, 0, 0].tolist() == [0, 51], "the factors are in the corners"


def test_an_alpha_texture_with_other_coordinates_counts_at_the_corners() -> None:
    image = torch.tensor([[[255], [0]], [[102], [51]]], dtype=torch.uint8)
    plain = quad()
    uv = plain.corners[:, :, :2].float()
    material = Material(
        base_color_texture=Texture(QUARTERS), alpha_texture=Texture(image, (0,), uv_set=1), alpha_mode="blend"
    )
    inside = uv * 0.5 + 0.25
    paint = paint_of(quad(Appearance((material,), uvs=(uv, inside))))
    assert paint is not None
    assert paint.colors is not None
    assert paint.colors[:, :, 3].tolist() == [[102, 51, 0], [102, 0, 255]]
    assert pixels(paint.images[0]).shape == (2, 2, 3)


@pytest.mark.parametrize("wrap", ["repeat", "mirror"])
def test_coordinates_far_away_are_moved_by_whole_periods(wrap: str) -> None:
    image = torch.from_numpy(np.random.default_rng(1).integers(0, 256, (8, 8, 3)).astype(np.uint8))
    plain = quad()
    uv = plain.corners[:, :, :2].float()
    texture = Texture(image, wrap=(wrap, wrap))
    far = uv + torch.tensor([1000.0, -4000.0])
    paints = [paint_of(quad(Appearance((Material(base_color_texture=texture),), uvs=(u,)))) for u in (uv, far)]
    assert paints[0] is not None
    assert paints[1] is not None
    assert paints[0].uvs is not None
    assert paints[1].uvs is not None
    assert np.allclose((paints[0].uvs - paints[1].uvs) % 2 % 2, 0, atol=1e-3)
    assert np.abs(paints[1].uvs).max() <= 64


# --- pictures ---------------------------------------------------------------------------------------------------------
def test_palettes_are_kept_exactly_and_photographs_nearly() -> None:
    rng = np.random.default_rng(0)
    palette = rng.integers(0, 256, (16, 16, 3)).astype(np.uint8)
    assert (pixels(packed(palette)) == palette).all()
    y, x = np.mgrid[0:256, 0:256] / 256
    smooth = np.stack([x, y, 0.5 + 0.3 * np.sin(9 * x * y)], axis=2)
    photograph = (255 * np.clip(smooth + rng.normal(0, 0.05, smooth.shape), 0, 1)).astype(np.uint8)
    file = packed(photograph)
    assert len(file) < 0.5 * photograph.shape[0] * photograph.shape[1]
    assert np.abs(pixels(file).astype(int) - photograph).mean() < 12


def test_clear_texels_lend_no_colour_when_a_picture_gets_smaller() -> None:
    image = np.zeros((8, 8, 4), np.uint8)
    image[:, 1::2] = (200, 100, 50, 255)  # every other column clear and black
    small = resized(image, 4, 4)
    assert np.abs(small[:, :, :3].astype(int) - [200, 100, 50]).max() <= 2
    assert np.abs(small[:, :, 3].astype(int) - 128).max() <= 1


def test_large_pictures_are_reduced_a_band_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shapewright.report.textures._BAND", 5000)
    y, x = np.mgrid[0:517, 0:389]
    picture = np.stack([y / 3, x / 2, (x + y) / 4, np.full(x.shape, 200)], axis=2).astype(np.uint8)
    asked: list[int] = []

    def band(rows: slice) -> np.ndarray:
        asked.append(len(picture[rows]))
        return picture[rows]

    small = resized_bands(band, picture.shape[:2], 40, 30)
    assert sum(asked) == 517
    assert max(asked) < 20
    away = np.abs(small.astype(int) - resized(picture, 40, 30))
    assert away.max() <= 5, "the last texels of a size that does not divide count a little more"
    assert away.mean() < 1


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 16384), st.integers(1, 16384)), min_size=1, max_size=40))
def test_pictures_keep_to_both_limits(sizes: list[tuple[int, int]]) -> None:
    found = fitting_sizes(sizes, 512, 512 * 1024)
    assert all(max(size) <= 512 for size in found)
    assert sum(h * w for h, w in found) <= 512 * 1024 + 512 * len(sizes)
    assert all(h <= full_h and w <= full_w for (h, w), (full_h, full_w) in zip(found, sizes, strict=True))


def test_textures_of_a_display_mesh_are_bounded_in_bytes() -> None:
    """Noise is the worst there is; what users have is a fifth of it."""
    rng = np.random.default_rng(2)
    images = [torch.from_numpy(rng.integers(0, 256, (700, 700, 3)).astype(np.uint8)) for _ in range(3)]
    materials = tuple(Material(base_color_texture=Texture(image)) for image in images)
    sphere = bumpy_sphere(6)
    count = len(sphere.faces)
    look = Appearance(materials, torch.arange(count) % 3, (torch.rand(count, 3, 2),))
    mesh = Mesh(torch.from_numpy(sphere.vertices), torch.from_numpy(sphere.faces), appearance=look)
    shapes = {}
    for name, limits in (("stored", TextureLimits()), ("tiny", TextureLimits(64, 64 * 64))):
        paint = paint_of(mesh, limits)
        assert paint is not None
        assert len(paint.images) == 3
        shapes[name] = sum(pixels(image).shape[0] * pixels(image).shape[1] for image in paint.images)
        assert name == "tiny" or sum(map(len, paint.images)) <= limits.texels
    assert 0.9 * 512 * 1024 < shapes["stored"] <= 512 * 1024
    assert shapes["tiny"] <= 64 * 64


def test_a_packed_picture_gets_smaller_down_to_a_limit() -> None:
    image = packed(np.random.default_rng(3).integers(0, 256, (256, 128, 4)).astype(np.uint8))
    half, least = smaller(image, 0.25), smaller(image, 1e-6)
    assert pixels(half).shape == (128, 64, 4)
    assert pixels(least).shape == (64, 32, 4)
    assert smaller(image, 1.0) == image


# --- coarser meshes ---------------------------------------------------------------------------------------------------
def _two_pieces(steps: int) -> DisplayMesh:
    """A ball whose left half shows the left of a picture and whose right half shows the right; the seam is at x = 0."""
    sphere = bumpy_sphere(steps)
    corners = sphere.vertices[sphere.faces]
    left = corners.mean(axis=1)[:, 0] < 0
    uvs = corners[:, :, 1:] * 0.35 + 0.5
    uvs[:, :, 0] = uvs[:, :, 0] * 0.4 + np.where(left, 0.05, 0.55)[:, None]
    colors = np.full((len(corners), 3, 4), 255, np.uint8)
    colors[:, :, 0] = np.clip((corners[:, :, 1] + 0.5) * 255, 0, 255)
    image = packed(np.zeros((4, 4, 3), np.uint8))
    paint = Paint((PaintMaterial(image=0),), np.zeros(len(corners), np.int64), (image,), uvs.astype(np.float32), colors)
    return replace(sphere, paint=paint)


@pytest.mark.parametrize("again", [False, True])
def test_a_coarser_mesh_keeps_to_the_pieces_of_its_picture(again: bool) -> None:
    fine = _two_pieces(60)
    if again:  # as a page does it: vertices of the stored mesh are split at seams
        fine = decode(encode(fine))
    coarse = simplified(fine, 900)
    assert len(coarse.faces) <= 900
    assert coarse.paint is not None
    assert coarse.paint.uvs is not None
    u = coarse.paint.uvs[:, :, 0]
    assert ((u < 0.46).all(axis=1) | (u > 0.54).all(axis=1)).all(), "no face runs across both pieces"
    corners = coarse.vertices[coarse.faces]
    side = u.mean(axis=1) > 0.5
    clear = np.abs(corners[:, :, 0]).min(axis=1) > 0.12
    assert (side[clear] == (corners[clear].mean(axis=1)[:, 0] > 0)).all()
    wanted = corners[:, :, 2] * 0.35 + 0.5
    away = np.abs(coarse.paint.uvs[:, :, 1] - wanted)
    assert np.median(away) < 1e-3
    assert away.max() < 0.06, "at most about a cell of the coarser mesh, at the seam"


def test_colours_of_a_coarser_mesh_are_those_of_its_vertices() -> None:
    fine = _two_pieces(60)
    assert fine.paint is not None
    fine = replace(fine, paint=replace(fine.paint, materials=(PaintMaterial(),), uvs=None, images=()))
    coarse = simplified(fine, 700)
    assert coarse.paint is not None
    assert coarse.paint.colors is not None
    heights = coarse.vertices[coarse.faces][:, :, 1]
    assert np.abs(coarse.paint.colors[:, :, 0] - np.clip((heights + 0.5) * 255, 0, 255)).max() <= 1


def test_more_vertices_stay_where_colours_meet() -> None:
    sphere = bumpy_sphere(90)
    colors = np.full((len(sphere.faces), 3, 4), 255, np.uint8)
    colors[sphere.vertices[sphere.faces][:, :, 1] > 0.1, 0] = 0  # a border at y = 0.1
    paint = Paint((PaintMaterial(),), np.zeros(len(sphere.faces), np.int64), colors=colors)
    counts = []
    for mesh in (sphere, replace(sphere, paint=paint)):
        coarse = simplified(mesh, 2000)
        assert len(coarse.faces) <= 2000
        counts.append(int((np.abs(coarse.vertices[:, 1] - 0.1) < 0.02).sum()))
    assert counts[1] > 2 * counts[0]


def test_a_painted_mesh_is_stored_with_its_own_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shapewright.report.views.MOST_FACES", 300)
    monkeypatch.setattr("shapewright.report.views.MOST_PAINTED_FACES", 600)
    assert MOST_PAINTED_FACES == 60_000
    sphere = bumpy_sphere(40)
    mesh = Mesh(torch.from_numpy(sphere.vertices), torch.from_numpy(sphere.faces))
    tinted = replace(mesh, attributes={"color": torch.rand(len(mesh.vertices), 3)})
    assert 150 < len(display_mesh(mesh).faces) <= 300 < len(display_mesh(tinted).faces) <= 600


# --- pages ------------------------------------------------------------------------------------------------------------
def test_a_page_keeps_below_its_size_with_smaller_pictures(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    meshes = {
        f"views/{k}.swdm": painted(bumpy_sphere(12), rng.integers(0, 256, (256, 256, 3)).astype(np.uint8))
        for k in range(40)
    }
    cells = [cell("alpha+cubes", f"shape-{k}", 16, 0.1, view=place) for k, place in enumerate(meshes)]
    folder = write_run(tmp_path / "run", cells, meshes)
    assert sum(path.stat().st_size for path in (folder / "views").iterdir()) * 4 / 3 > 2.5e6
    code = (
        "import sys\nfrom shapewright.cli import main\n"
        f"try:\n    main(['report', {str(folder)!r}, '--megabytes', '2'])\n"
        "except SystemExit as end:\n    assert not end.code\n"
        "print(sorted({'torch', 'numba', 'trimesh'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]", "pictures are made smaller without torch"
    assert 1e6 < (folder / "report.html").stat().st_size < 2e6


def test_the_page_says_whether_anything_is_painted(tmp_path: Path) -> None:
    view = "views/m.swdm"
    for name, mesh in (("plain", bumpy_sphere(8)), ("painted", painted(bumpy_sphere(8)))):
        folder = write_run(tmp_path / name, [cell("a+b", "s", 8, 0.1, view=view, reference_view=view)], {view: mesh})
        assert run("report", folder).returncode == 0
        text = (folder / "report.html").read_text(encoding="utf-8")
        data = json.loads(text.partition('id="data">')[2].partition("</script>")[0])
        assert data["materials"] is (name == "painted")
        assert ('id="show-boundary" checked' in text) == (name == "plain"), "open edges would cover the colours"


def test_a_mesh_file_becomes_a_page_with_its_materials(tmp_path: Path) -> None:
    source = tmp_path / "square <1>.glb"
    save_mesh(textured(Material(base_color_texture=Texture(QUARTERS))), source)
    done = run("report", source)
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "square <1>.html").read_text(encoding="utf-8")
    assert "<title>square &lt;1&gt;.glb</title>" in text
    assert 'id="material"' in text
    assert "4 vertices, 2 faces" in text
    assert "2 faces" in done.stdout


def test_a_page_of_a_mesh_without_materials_has_no_switch_for_them() -> None:
    assert 'id="material"' not in mesh_page(quad(), "plain")


def test_a_mesh_that_cannot_be_shown_as_a_page_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "broken.glb").write_bytes(b"glTF")
    save_mesh(quad(), tmp_path / "square.obj")
    assert_refused(run("report", tmp_path / "broken.glb"), "broken.glb")
    assert_refused(run("report", tmp_path / "absent.glb"), "no such file")
    assert_refused(run("report", tmp_path / "square.obj", "-o", tmp_path / "square.obj"), "the mesh itself")
    assert_refused(run("report", tmp_path / "square.obj", "-o", tmp_path), "is a folder")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broken.glb", "square.obj"]
