"""Images of every storage come out as upright bytes with three or four channels; what is no picture is one line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from shapewright.errors import ImageError
from shapewright.images import load_image

RGB = np.random.default_rng(0).integers(0, 256, (12, 16, 3)).astype(np.uint8)
GRAY = RGB[..., 0]


def saved(path: Path, image: Image.Image, **options: object) -> Path:
    image.save(path, **options)
    return path


def test_colours_come_through_unchanged(tmp_path: Path) -> None:
    image = load_image(saved(tmp_path / "a.png", Image.fromarray(RGB)))
    assert image.dtype == torch.uint8
    assert np.array_equal(image.numpy(), RGB)


def test_alpha_is_a_fourth_channel_and_is_not_multiplied_in(tmp_path: Path) -> None:
    pixels = np.dstack([RGB, np.full((12, 16), 40, np.uint8)])
    assert np.array_equal(load_image(saved(tmp_path / "a.png", Image.fromarray(pixels))).numpy(), pixels)


def test_gray_with_and_without_alpha_becomes_colour(tmp_path: Path) -> None:
    gray = load_image(saved(tmp_path / "l.png", Image.fromarray(GRAY))).numpy()
    assert np.array_equal(gray, np.repeat(GRAY[..., None], 3, 2))
    both = Image.merge("LA", (Image.fromarray(GRAY), Image.fromarray(GRAY)))
    la = load_image(saved(tmp_path / "la.png", both)).numpy()
    assert np.array_equal(la, np.repeat(GRAY[..., None], 4, 2))
    black = load_image(saved(tmp_path / "one.png", Image.fromarray(GRAY > 128))).numpy()
    assert set(np.unique(black)) == {0, 255}


def test_sixteen_bits_are_rounded_to_eight(tmp_path: Path) -> None:
    deep = GRAY.astype(np.uint16) * 257
    deep[0, :3] = [128, 129, 65535]
    image = load_image(saved(tmp_path / "a.png", Image.fromarray(deep)))
    assert image.shape == (12, 16, 3)
    assert image[0, :3, 0].tolist() == [0, 1, 255]
    assert np.array_equal(image.numpy()[1:, :, 1], GRAY[1:])
    tiff = load_image(saved(tmp_path / "a.tiff", Image.fromarray(deep)))
    assert torch.equal(tiff, image)


def test_palettes_keep_their_transparent_colour(tmp_path: Path) -> None:
    image = Image.new("P", (16, 12))
    image.putpalette([10, 20, 30, 200, 100, 50] + [0] * 756)
    image.putdata([index % 2 for index in range(16 * 12)])
    plain = load_image(saved(tmp_path / "p.png", image))
    assert plain[0, :2].tolist() == [[10, 20, 30], [200, 100, 50]]
    clear = load_image(saved(tmp_path / "t.png", image, transparency=0))
    assert clear[0, :2].tolist() == [[10, 20, 30, 0], [200, 100, 50, 255]]


def test_cmyk_becomes_rgb(tmp_path: Path) -> None:
    image = Image.new("CMYK", (16, 12), (0, 255, 255, 0))
    red = load_image(saved(tmp_path / "a.jpg", image, quality=100)).float().mean(dim=(0, 1))
    assert red[0] > 240
    assert red[1:].max() < 15


def test_floats_must_lie_between_zero_and_one(tmp_path: Path) -> None:
    values = GRAY.astype(np.float32) / 255
    assert np.array_equal(load_image(saved(tmp_path / "f.tiff", Image.fromarray(values))).numpy()[..., 2], GRAY)
    with pytest.raises(ImageError, match="tone-map"):
        load_image(saved(tmp_path / "g.tiff", Image.fromarray(values * 3)))


def test_pictures_are_turned_as_the_camera_says(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera stood on its side: rows are columns
    turned = load_image(saved(tmp_path / "a.png", Image.fromarray(RGB), exif=exif))
    assert np.array_equal(turned.numpy(), np.rot90(RGB, -1))


def test_of_several_frames_the_first_is_read(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (16, 12), colour) for colour in ("red", "blue")]
    path = saved(tmp_path / "a.gif", frames[0], save_all=True, append_images=frames[1:])
    assert load_image(path)[0, 0, :3].tolist() == [255, 0, 0]


@pytest.mark.parametrize("size", [(1, 1), (7, 100), (100, 7)])
def test_pictures_without_room_for_a_shape_are_refused(tmp_path: Path, size: tuple[int, int]) -> None:
    with pytest.raises(ImageError, match="too few"):
        load_image(saved(tmp_path / "a.png", Image.new("RGB", size)))


def test_pictures_of_nothing_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="fully transparent"):
        load_image(saved(tmp_path / "a.png", Image.new("RGBA", (16, 12))))


def test_files_that_are_no_pictures_are_refused_in_one_line(tmp_path: Path) -> None:
    whole = saved(tmp_path / "whole.png", Image.fromarray(RGB)).read_bytes()
    photo = saved(tmp_path / "photo.jpg", Image.fromarray(RGB)).read_bytes()
    cases = {
        "none.png": (None, "no such file"),
        "empty.png": (b"", "not an image"),
        "text.png": (b"hello", "not an image"),
        "cut.png": (whole[: len(whole) // 2], "cannot be read"),
        "cut.jpg": (photo[:-80], "cannot be read"),
        "huge.png": (whole[:16] + (100_000).to_bytes(4, "big") * 2 + whole[24:], ""),
    }
    for name, (content, wanted) in cases.items():
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(ImageError) as caught:
            load_image(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value)
        assert wanted in str(caught.value), name
        assert "\n" not in str(caught.value)
    with pytest.raises(ImageError, match="is a folder"):
        load_image(tmp_path)
