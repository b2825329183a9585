"""Metrics of appearance: figures of constructed differences, what is left out, and SSIM against another package."""

from __future__ import annotations

import math
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from shapewright.errors import ConfigError, MeshError, MissingExtraError
from shapewright.interfaces import MeshPair
from shapewright.materials import Appearance, Material, Texture
from shapewright.states import Frame, Mesh
from shapewright_plugins.appearance import perceptual, rendered
from shapewright_plugins.appearance.pbr_attributes import Config, PbrAttributes
from shapewright_plugins.appearance.pictures import YAWS, cameras, pictures
from shapewright_plugins.appearance.rendered import RenderedMaterials, RenderedNormals
from shapewright_plugins.appearance.similarity import similarity_inside, similarity_map
from shapewright_plugins.appearance.surface_samples import channels

ORANGE = (0.8, 0.4, 0.2)


def square(z: float = 0.0) -> Mesh:
    """Four triangles around the centre, in the plane z."""
    points = [[-0.5, -0.5, z], [0.5, -0.5, z], [0.5, 0.5, z], [-0.5, 0.5, z], [0.0, 0.0, z]]
    faces = [[0, 1, 4], [1, 2, 4], [2, 3, 4], [3, 0, 4]]
    return Mesh(torch.tensor(points, dtype=torch.float64), torch.tensor(faces))


def coloured(mesh: Mesh, **values: Any) -> Mesh:
    """One material all over: attributes at the vertices."""
    look = {"base_color": ORANGE, "metallic": 0.25, "roughness": 0.5, "alpha": 1.0} | values
    count = len(mesh.vertices)
    return replace(mesh, attributes={k: torch.tensor(v).reshape(1, -1).expand(count, -1) for k, v in look.items()})


def with_materials(mesh: Mesh, *materials: Material, rows: list[int] | None = None) -> Mesh:
    chosen = None if rows is None else torch.tensor(rows)
    return replace(mesh, appearance=Appearance(materials, chosen))


def joined(*parts: Mesh) -> Mesh:
    start = np.cumsum([0] + [len(part.vertices) for part in parts])
    faces = [part.faces + int(first) for part, first in zip(parts, start, strict=False)]
    attributes = {name: torch.cat([part.attributes[name] for part in parts]) for name in parts[0].attributes}
    return Mesh(torch.cat([part.vertices for part in parts]), torch.cat(faces), attributes=attributes)


def cube(size: float) -> Mesh:
    corners = torch.tensor([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)], dtype=torch.float64) - 0.5
    faces = [[0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5], [0, 4, 5], [0, 5, 1], [2, 3, 7], [2, 7, 6], [0, 2, 6],
             [0, 6, 4], [1, 5, 7], [1, 7, 3]]  # fmt: skip
    return Mesh(corners * size, torch.tensor(faces))


def measure(predicted: Mesh, reference: Mesh, samples: int = 2000) -> dict[str, float]:
    values = PbrAttributes(Config(samples=samples)).measure(MeshPair(predicted, reference, "shape"))
    return {name.partition("/")[0]: value for name, value in values.items()}


# --- metric/pbr-attributes --------------------------------------------------------------------------------------------
def test_known_differences_give_known_decibels() -> None:
    reference = coloured(square())
    result = coloured(square(0.01), base_color=(0.7, 0.3, 0.1), metallic=0.35, roughness=0.6, alpha=0.99)
    found = measure(result, reference)
    assert found["base-color-psnr"] == pytest.approx(20, abs=1e-4)
    assert found["metallic-psnr"] == pytest.approx(20, abs=1e-4)
    assert found["roughness-psnr"] == pytest.approx(20, abs=1e-4)
    assert found["alpha-psnr"] == pytest.approx(40, abs=1e-4)
    decoded = [
        [(v / 12.92) if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in c] for c in (ORANGE, (0.7, 0.3, 0.1))
    ]
    error = np.mean((np.array(decoded[0]) - np.array(decoded[1])) ** 2)
    assert found["base-color-linear-psnr"] == pytest.approx(-10 * math.log10(error), abs=1e-4)
    assert found["samples-without-material"] == 0


def test_a_shape_with_materials_is_a_hundred_decibels_from_itself() -> None:
    mesh = coloured(square())
    found = measure(mesh, mesh)
    assert {value for name, value in found.items() if name.endswith("psnr")} == {100.0}


def test_values_come_from_textures_corners_and_vertices_alike() -> None:
    """The same look by four ways of storing it; a gradient, so that places matter."""
    plain = square()
    ramp = (plain.vertices[:, :1].float() + 0.5).expand(-1, 3)
    vertices = replace(plain, attributes={"base_color": ramp})
    tinted = replace(plain, attributes={"color": ramp})
    white = Material(base_color=(1.0, 1.0, 1.0))
    corners = replace(plain, appearance=Appearance((white,), corner_colors=ramp[plain.faces]))
    pixels = (torch.arange(256).reshape(1, 256, 1).expand(256, 256, 3)).to(torch.uint8)
    uvs = plain.corners[:, :, :2].float() + 0.5
    image = Texture(pixels.contiguous(), wrap=("clamp", "clamp"))
    textured = replace(plain, appearance=Appearance((replace(white, base_color_texture=image),), uvs=(uvs,)))
    for mesh in (tinted, corners, textured):
        for pair in ((mesh, vertices), (vertices, mesh)):
            found = measure(*pair)
            assert found["base-color-psnr"] > 52  # half a step of a byte
    mirrored = replace(vertices, attributes={"base_color": 1 - ramp})
    assert measure(mirrored, vertices)["base-color-psnr"] == pytest.approx(-10 * math.log10(1 / 3), abs=0.2)


def test_only_channels_that_both_meshes_have_are_compared() -> None:
    colours = replace(square(), attributes={"color": torch.full((5, 3), 0.5)})
    everything = coloured(square())
    assert channels(colours) == {"base_color"}
    assert channels(replace(square(), attributes={"color": torch.full((5, 4), 0.5)})) == {"base_color", "alpha"}
    assert channels(with_materials(square(), Material())) == channels(everything)
    found = measure(everything, colours)
    assert {name for name in found if name.endswith("psnr")} == {"base-color-psnr", "base-color-linear-psnr"}


@pytest.mark.parametrize("metric", [PbrAttributes(Config(samples=500)), RenderedMaterials(rendered.Config(size=32))])
def test_without_an_appearance_on_either_side_there_is_no_figure(metric: Any) -> None:
    plain, painted = square(), coloured(square())
    smooth = replace(plain, appearance=Appearance(corner_normals=torch.ones(4, 3, 3)))
    for predicted, reference in ((plain, painted), (painted, plain), (plain, plain), (smooth, painted)):
        assert metric.measure(MeshPair(predicted, reference, "shape")) == {}


def test_samples_where_nothing_is_said_are_left_out_and_counted() -> None:
    orange = Material(base_color=ORANGE)
    half = with_materials(square(), orange, rows=[0, 0, -1, -1])
    found = measure(coloured(square()), half)
    assert found["samples-without-material"] == pytest.approx(0.5, abs=0.04)
    assert found["base-color-psnr"] == 100.0  # the default grey of the other half does not count
    broken = coloured(square())
    broken.attributes["roughness"] = torch.tensor([0.5, 0.5, 0.5, 0.5, math.nan])[:, None]
    found = measure(broken, coloured(square()))
    assert found == {"samples-without-material": 1.0}


def test_inner_samples_have_figures_of_their_own() -> None:
    outer, inner = coloured(cube(1.0)), coloured(cube(0.6))
    reference = joined(outer, inner)
    result = joined(outer, coloured(cube(0.6), base_color=(0.7, 0.3, 0.1)))
    found = measure(result, reference)
    share = 0.36 / 1.36
    assert found["base-color-psnr-inner"] == pytest.approx(20, abs=1e-3)
    assert found["base-color-psnr"] == pytest.approx(20 - 10 * math.log10(share), abs=0.3)
    assert "base-color-psnr-inner" not in measure(outer, outer)


def test_alpha_counts_as_its_mode_says() -> None:
    solid = with_materials(square(), Material(alpha=0.3, alpha_mode="opaque"))
    masked = with_materials(square(), Material(alpha=0.3, alpha_mode="mask"))
    blended = with_materials(square(), Material(alpha=0.3, alpha_mode="blend"))
    assert measure(masked, solid)["alpha-psnr"] == 0.0
    assert measure(blended, solid)["alpha-psnr"] == pytest.approx(-10 * math.log10(0.49), abs=1e-5)


def test_colours_of_the_sheet_that_faces_alike_are_taken() -> None:
    """Two sheets at one place, seen from either side: the one that faces the same way is the closest."""
    up, down = coloured(square()), coloured(square(), base_color=(0.1, 0.1, 0.9))
    down = replace(down, faces=down.faces.flip(1), vertices=down.vertices + torch.tensor([0.0, 0.0, 0.02]))
    both = joined(up, down)
    assert measure(both, replace(up, vertices=up.vertices + torch.tensor([0, 0, 0.01])))["base-color-psnr"] == 100.0


def test_storage_order_changes_no_figure() -> None:
    shape = joined(coloured(cube(1.0)), coloured(cube(0.6), base_color=(0.1, 0.9, 0.2)))
    shape.attributes["metallic"] = (shape.vertices[:, :1] + 0.5).float()
    result = replace(
        shape, vertices=shape.vertices * 0.97, attributes={**shape.attributes, "roughness": torch.rand(16, 1)}
    )
    place = torch.randperm(16, generator=torch.Generator().manual_seed(0))
    new = torch.empty_like(place)
    new[place] = torch.arange(16)

    def stored_otherwise(mesh: Mesh) -> Mesh:
        attributes = {name: value[place] for name, value in mesh.attributes.items()}
        rows = new[mesh.faces].flip(0).roll(1, dims=1)
        return replace(mesh, vertices=mesh.vertices[place], faces=rows, attributes=attributes)

    one, other = measure(result, shape), measure(stored_otherwise(result), stored_otherwise(shape))
    assert one == pytest.approx(other, abs=1e-6)


def test_meshes_that_cannot_be_measured_are_refused() -> None:
    empty = coloured(Mesh(torch.zeros(0, 3), torch.zeros(0, 3, dtype=torch.int64)))
    flat = coloured(Mesh(torch.zeros(3, 3), torch.tensor([[0, 1, 2]])))
    infinite = coloured(replace(square(), vertices=square().vertices * math.inf))
    for bad in (empty, flat, infinite):
        with pytest.raises(MeshError, match="the result"):
            measure(bad, coloured(square()))
    with pytest.raises(ConfigError, match="at least 1"):
        Config(samples=0)


# --- SSIM -------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("size", [(40, 53, 3), (11, 12, 1)])
def test_similarity_is_that_of_scikit_image(size: tuple[int, int, int]) -> None:
    metrics = pytest.importorskip("skimage.metrics")
    rng = np.random.default_rng(0)
    first = rng.random(size)
    second = np.clip(first + rng.normal(size=size) * 0.1, 0, 1)
    _, wanted = metrics.structural_similarity(
        first, second, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=1.0,
        channel_axis=2, full=True,
    )  # fmt: skip
    assert np.abs(wanted.mean(axis=2) - similarity_map(first, second)).max() < 1e-12


def test_similarity_of_a_part_is_that_of_the_whole_picture() -> None:
    rng = np.random.default_rng(1)
    first, second = rng.random((50, 60, 3)), rng.random((50, 60, 3))
    mask = np.zeros((50, 60), np.bool_)
    mask[20:31, 7:50] = rng.random((11, 43)) > 0.5
    total, count = similarity_inside(first, second, mask)
    assert count == mask.sum()
    assert total == pytest.approx(similarity_map(first, second)[mask].sum(), rel=1e-12)
    assert similarity_inside(first, second, np.zeros_like(mask)) == (0.0, 0)


# --- pictures ---------------------------------------------------------------------------------------------------------
def test_cameras_see_all_of_the_box_from_above_and_turn_with_the_up_axis() -> None:
    corners = np.array([[x, y, z, 1] for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (-0.5, 0.5)])
    for up, height in (("y", 1), ("z", 2)):
        found = cameras(up)
        assert len(found) == len(YAWS) == 4
        for camera in found:
            local = corners @ camera.world_to_camera.T
            assert np.abs(local[:, :2] / -local[:, 2:3] * np.asarray(camera.focal)).max() < 0.5
            eye = camera.camera_to_world[:3, 3]
            assert eye[height] / np.linalg.norm(eye) == pytest.approx(0.5)
    eye = cameras("y")[0].camera_to_world[:3, 3]
    assert eye[0] > 0
    assert eye[2] > 0
    assert eye[2] > eye[0]


def test_normals_of_a_turned_square_cost_what_they_should() -> None:
    """A face that is seen as another face: the squared difference of two known unit vectors."""
    upright = Mesh(
        torch.tensor([[-0.4, 0, -0.4], [0.4, 0, -0.4], [0.4, 0, 0.4], [-0.4, 0, 0.4]]),
        torch.tensor([[0, 2, 1], [0, 3, 2]]),
    )
    slope = math.tan(math.radians(10))
    tilted = replace(upright, vertices=upright.vertices + upright.vertices[:, :1] * torch.tensor([0.0, slope, 0.0]))
    metric = RenderedNormals(rendered.Config(size=128))
    found = metric.measure(MeshPair(tilted, upright, "shape"))
    both = 2 * (1 - math.cos(math.radians(10))) / 12
    assert found["rendered-normal-psnr/v1@128px"] < -10 * math.log10(both) + 0.01  # and the silhouettes differ
    assert found["rendered-normal-psnr/v1@128px"] > 15
    same = metric.measure(MeshPair(upright, upright, "shape"))
    assert same == {"rendered-normal-psnr/v1@128px": 100.0, "rendered-normal-ssim/v1@128px": pytest.approx(1.0)}


def test_pictures_of_known_colours_give_known_decibels() -> None:
    reference = coloured(cube(0.8))
    result = coloured(cube(0.8), base_color=(0.7, 0.3, 0.1), metallic=0.35)
    found = RenderedMaterials(rendered.Config(size=64)).measure(MeshPair(result, reference, "shape"))
    values = {name.partition("/")[0]: value for name, value in found.items()}
    assert values["rendered-base-color-psnr"] == pytest.approx(20, abs=1e-3)
    assert values["rendered-metallic-psnr"] == pytest.approx(20, abs=1e-3)
    assert values["rendered-roughness-psnr"] == values["rendered-alpha-psnr"] == 100.0
    assert 15 < values["rendered-shaded-psnr"] < 40
    assert 0.5 < values["rendered-base-color-ssim"] < 1


def test_what_is_clear_lets_the_grey_through() -> None:
    clear = coloured(square(), alpha=0.25)
    found = pictures(MeshPair(clear, clear, "shape"), materials=True, size=32)
    assert found is not None
    plane = found.planes["base_color"].reference[found.mask]
    assert plane == pytest.approx(np.broadcast_to(np.array(ORANGE) * 0.25 + 0.375, plane.shape), abs=1e-6)
    assert (found.planes["base_color"].reference[~found.mask] == 0.5).all()
    assert (found.planes["alpha"].reference[~found.mask] == 0).all()


def test_the_reference_is_drawn_once_and_out_of_sight_is_no_figure() -> None:
    memo: dict[str, Any] = {}
    reference = coloured(cube(0.5))
    metric = RenderedMaterials(rendered.Config(size=32))
    metric.measure(MeshPair(coloured(cube(0.4)), reference, "shape", reference_memo=memo))
    assert [name for name in memo if "pictures" in name] == ["reference/appearance/pictures/True/32/y"]
    kept = memo["reference/appearance/pictures/True/32/y"]
    metric.measure(MeshPair(coloured(cube(0.3)), reference, "shape", reference_memo=memo))
    assert memo["reference/appearance/pictures/True/32/y"] is kept
    far = replace(square(), vertices=square().vertices + 50)
    assert RenderedNormals(rendered.Config(size=32)).measure(MeshPair(far, far, "shape")) == {}
    empty = Mesh(torch.zeros(0, 3), torch.zeros(0, 3, dtype=torch.int64), Frame())
    with pytest.raises(MeshError, match="has no faces"):
        RenderedNormals(rendered.Config(size=32)).measure(MeshPair(empty, square(), "shape"))


# --- LPIPS ------------------------------------------------------------------------------------------------------------
def test_asking_for_lpips_without_it_names_the_extra_or_the_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(perceptual, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"shapewright\[lpips\]"):
        rendered.Config(lpips=True)
    monkeypatch.setattr(perceptual, "find_spec", lambda name: object())
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(ConfigError, match=r"alexnet-owt-7be5be79\.pth"):
        rendered.Config(lpips=True)


def test_lpips_gets_whole_pictures_from_minus_one_to_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Network(torch.nn.Module):
        def __init__(self, **options: Any) -> None:
            super().__init__()
            assert options == {"net": "alex", "version": "0.1", "verbose": False}

        def forward(self, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
            assert first.shape == second.shape == (4, 3, 32, 32)
            assert first.dtype == torch.float32
            assert float(first.min()) >= -1
            assert float(first.max()) <= 1
            assert float(first[:, :, 0, 0].abs().max()) == 0  # the grey behind everything
            return (first - second).abs().mean(dim=(1, 2, 3), keepdim=True)

    package = ModuleType("lpips")
    package.LPIPS = Network  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "lpips", package)
    monkeypatch.setattr(perceptual, "find_spec", lambda name: package)
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / perceptual.BACKBONE).touch()
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    config = rendered.Config(size=32, lpips=True)
    pair = MeshPair(coloured(cube(0.5), base_color=(0.7, 0.3, 0.1)), coloured(cube(0.5)), "shape")
    found = RenderedNormals(config).measure(pair) | RenderedMaterials(config).measure(pair)
    assert found["rendered-normal-lpips/v1@32px"] == 0.0
    assert 0 < found["rendered-base-color-lpips/v1@32px"] < 0.2
    assert found["rendered-shaded-lpips/v1@32px"] > 0
    assert not any("lpips" in name for name in RenderedNormals(rendered.Config(size=32)).measure(pair))
