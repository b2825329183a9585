"""Materials on voxels: hand-computed lookups, the voxel set, threads, and odd input."""

from __future__ import annotations

import numpy as np
import pytest
from shapewright_kernels.flexible_dual_grid import mesh_to_flexible_dual_grid
from shapewright_kernels.texture_sampling import CLAMP, MIRROR, REPEAT, ImageTexture, mipmaps, sample_texture
from shapewright_kernels.voxel_attributes import MASK, SurfaceMaterial, quantised, sample_materials

UNIT = [[0.0, 0.0, 0.0], [1.0, 1.0, 1.0]]
SQUARE = np.array([[0.0, 0.0, 0.51], [1.0, 0.0, 0.51], [1.0, 1.0, 0.51], [0.0, 1.0, 0.51]])
FACES = np.array([[0, 1, 2], [0, 2, 3]])
UVS = SQUARE[:, :2][FACES][:, None]


def soup(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    centres = rng.uniform(0.1, 0.9, (count, 1, 3))
    corners = np.clip(centres + rng.normal(0, 0.08, (count, 3, 3)), 0.0, 1.0)
    corners[: count // 8] = rng.uniform(0, 1, (count // 8, 3, 3))
    return corners.reshape(-1, 3), np.arange(3 * count).reshape(-1, 3)


@pytest.mark.parametrize(
    ("wrap", "u", "wanted"),
    [(REPEAT, 1.125, 10), (REPEAT, -0.125, 40), (CLAMP, 1.9, 40), (CLAMP, -3.0, 10), (MIRROR, 1.125, 40),
     (MIRROR, -0.125, 10), (REPEAT, 1e30, None), (MIRROR, np.nan, 10)],
)  # fmt: skip
def test_texels_beyond_the_border_wrap(wrap: int, u: float, wanted: int | None) -> None:
    image = np.array([10, 20, 30, 40], np.uint8).reshape(1, 4, 1)
    found = sample_texture(ImageTexture(image, (0,), False, (wrap, wrap)), np.array([[u, 0.5]]))[0, 0] * 255
    assert np.isfinite(found) if wanted is None else found == pytest.approx(wanted)


def test_rows_run_from_top_to_bottom_and_channels_are_chosen() -> None:
    image = np.zeros((2, 2, 3), np.uint8)
    image[0, 1, 2] = 255  # upper right, blue
    texture = ImageTexture(image, (2,), False)
    assert sample_texture(texture, np.array([[0.75, 0.75], [0.75, 0.25]]))[:, 0].tolist() == [1.0, 0.0]


def test_mipmaps_are_box_means_rounded_down() -> None:
    image = np.array([[1, 2, 9, 9], [2, 2, 9, 9], [0, 0, 255, 255], [0, 0, 255, 254]], np.uint8)[:, :, None]
    mips, starts = mipmaps(image)
    assert mips.tolist() == [1, 9, 0, 254, 66]
    assert starts.tolist() == [0, 4, 5]
    texture = ImageTexture(image, (0,))
    middle = np.array([[0.5, 0.5]])
    assert sample_texture(texture, middle, 2.0)[0, 0] * 255 == pytest.approx(66)
    assert sample_texture(texture, middle, 9.0)[0, 0] * 255 == pytest.approx(66)
    assert sample_texture(texture, middle, 1.25)[0, 0] * 255 == pytest.approx(0.75 * 66 + 0.25 * 66)


@pytest.mark.parametrize("resolution", [7, 48])
def test_voxels_are_those_of_the_dual_grid(resolution: int) -> None:
    vertices, faces = soup(60)
    voxels = sample_materials(vertices, faces, [SurfaceMaterial()], grid_size=resolution, aabb=UNIT)
    grid = mesh_to_flexible_dual_grid(vertices, faces, grid_size=resolution, aabb=UNIT)
    assert np.array_equal(voxels.coords, grid.coords)
    assert np.allclose(voxels["base_color"], 0.8)
    assert np.allclose(voxels["roughness"], 0.5)


def test_threads_change_nothing() -> None:
    vertices, faces = soup(80, 3)
    rng = np.random.default_rng(1)
    image = ImageTexture(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8), (0, 1, 2))
    materials = [SurfaceMaterial(textures={"base_color": image}), SurfaceMaterial((1, 0, 0))]
    options = {"face_materials": np.arange(80) % 3 - 1, "uvs": rng.uniform(-2, 2, (80, 1, 3, 2)), "grid_size": 64}
    one, three = (sample_materials(vertices, faces, materials, aabb=UNIT, threads=t, **options) for t in (1, 3))
    assert np.array_equal(one.values, three.values)
    assert np.array_equal(one.coords, three.coords)


def test_a_picture_lands_where_its_coordinates_say() -> None:
    image = np.zeros((16, 16, 3), np.uint8)
    image[:8, :, 0], image[8:, :, 1] = 255, 255  # the upper half red, the lower green
    material = SurfaceMaterial((1, 1, 1), textures={"base_color": ImageTexture(image, (0, 1, 2), False)})
    voxels = sample_materials(SQUARE, FACES, [material], uvs=UVS, grid_size=16, aabb=UNIT)
    upper = voxels.coords[:, 1] >= 8
    assert upper.any()
    assert not upper.all()
    assert np.array_equal(voxels["base_color"], np.where(upper[:, None], [1, 0, 0], [0, 1, 0]).astype(np.float32))


def test_masked_alpha_is_decided_before_averaging() -> None:
    image = np.full((4, 4, 1), 100, np.uint8)
    image[:, 2:] = 200
    material = SurfaceMaterial(textures={"alpha": ImageTexture(image, (0,), False)}, alpha_mode=MASK)
    voxels = sample_materials(SQUARE, FACES, [material], uvs=UVS, grid_size=8, aabb=UNIT)
    assert np.array_equal(voxels["alpha"][:, 0], (voxels.coords[:, 0] >= 4).astype(np.float32))


def test_corner_colours_multiply() -> None:
    colors = np.broadcast_to(np.array([0.5, 1.0, 0.0, 0.25]), (2, 3, 4))
    material = SurfaceMaterial((0.8, 0.4, 1.0), alpha_mode=2)
    voxels = sample_materials(SQUARE, FACES, [material], corner_colors=colors, grid_size=4, aabb=UNIT)
    assert np.allclose(voxels["base_color"], [0.4, 0.4, 0.0])
    assert np.allclose(voxels["alpha"], 0.25)


def test_a_face_without_area_does_not_count_beside_others() -> None:
    vertices = np.concatenate([SQUARE, [[0.1, 0.5, 0.51], [0.9, 0.5, 0.51], [0.5, 0.5, 0.51]]])
    faces = np.concatenate([FACES, [[4, 5, 6]]])
    materials = [SurfaceMaterial((1, 1, 1)), SurfaceMaterial((0, 0, 0))]
    rows = np.array([0, 0, 1])
    voxels = sample_materials(vertices, faces, materials, face_materials=rows, grid_size=16, aabb=UNIT)
    assert voxels["base_color"].min() > 0.99
    assert np.isfinite(voxels.values).all()


def test_bytes_are_truncated() -> None:
    assert quantised(np.array([-0.1, 0.999, 1.0, 2.0])).tolist() == [0, 254, 255, 255]
    assert quantised(np.array([-1.0, 0.0, 1.0]), signed=True).tolist() == [0, 127, 255]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"face_materials": np.array([0, 5])}, "face_materials must be"),
        ({"uvs": np.zeros((2, 3, 2))}, "uvs must be"),
        ({"attributes": ("gloss",)}, "attributes are some of"),
        ({"distance_unit": 0.0}, "distance_unit"),
    ],
)
def test_bad_arguments_are_named(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sample_materials(SQUARE, FACES, [SurfaceMaterial()], grid_size=4, aabb=UNIT, **changes)


def test_an_image_without_mipmaps_is_refused() -> None:
    with pytest.raises(ValueError, match="no mipmaps"):
        ImageTexture(np.zeros((4, 8, 3), np.uint8), (0, 1, 2))
