"""Textures and coordinates that are not as they should be: each ends in a documented value, or in one line."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gltf_files import Glb, png, tetrahedron
from hypothesis import given, settings
from hypothesis import strategies as st
from in_process import run
from PIL import Image
from shapewright.errors import MeshError, MeshWarning
from shapewright.mesh_readers.texture_files import decode_image
from shapewright.normalise import normalise
from shapewright.states import Mesh
from shapewright.textured_meshes import load_textured_mesh
from shapewright_plugins.o_voxel.representation import Config, OVoxel

STRIPES = np.zeros((4, 4, 3), np.uint8)
STRIPES[:, 0, 0], STRIPES[:, 1, 1], STRIPES[:, 2, 2], STRIPES[:, 3] = 255, 255, 255, 255
"""Columns red, green, blue, white."""


def saved(image: Image.Image, format: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def asset(tmp_path: Path, image: bytes, uvs: np.ndarray, sampler: dict[str, int] | None = None) -> Path:
    """A tetrahedron with one picture."""
    glb = Glb()
    texture = glb.image(image, "paint")
    surface = {"baseColorTexture": {"index": texture}, "metallicFactor": 0.0}
    tetrahedron(glb, {"pbrMetallicRoughness": surface}, TEXCOORD_0=uvs.astype(np.float32))
    if sampler is not None:
        glb.document["samplers"] = [sampler]
        glb.document["textures"][0]["sampler"] = 0
    path = tmp_path / "a.glb"
    path.write_bytes(glb.bytes())
    return path


def colours(mesh: Mesh) -> torch.Tensor:
    """Distinct base colours of its voxels, as bytes."""
    placed, _ = normalise(mesh)
    state = OVoxel(Config(resolution=8)).from_mesh(placed)
    return (state.attributes["base_color"] * 255).round().int().unique(dim=0)


# --- coordinates ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("wrap", "u", "expected"),
    [
        (10497, 1.125, [255, 0, 0]),  # repeat
        (10497, -0.125, [255, 255, 255]),
        (10497, 1e6 + 0.375, [0, 255, 0]),
        (33071, 7.0, [255, 255, 255]),  # clamp
        (33071, -7.0, [255, 0, 0]),
        (33648, 1.125, [255, 255, 255]),  # mirror
        (33648, -0.375, [0, 255, 0]),
        (33648, 2.625, [0, 0, 255]),
    ],
)
def test_coordinates_outside_the_picture_are_wrapped_as_the_sampler_says(tmp_path, wrap, u, expected) -> None:
    sampler = {"wrapS": wrap, "wrapT": wrap, "magFilter": 9728, "minFilter": 9728}
    mesh = load_textured_mesh(asset(tmp_path, png(STRIPES), np.full((4, 2), [u, 0.5]), sampler))
    assert colours(mesh).tolist() == [expected]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_coordinates_that_are_no_numbers_become_zero_with_a_count(tmp_path: Path, value: float) -> None:
    uvs = np.full((4, 2), 0.375)
    uvs[0, 1] = value
    with pytest.warns(MeshWarning, match="dropped 3 texture coordinates that are not finite"):
        mesh = load_textured_mesh(asset(tmp_path, png(STRIPES), uvs, {"magFilter": 9728}))
    assert mesh.appearance is not None
    assert bool(mesh.appearance.uvs[0].isfinite().all())
    assert colours(mesh).shape[0] >= 1


def test_huge_coordinates_are_looked_up_without_overflow(tmp_path: Path) -> None:
    uvs = np.array([[3e38, -3e38], [1e30, 1], [-1e20, 0], [0, 0]])
    for wrap in (10497, 33071, 33648):
        mesh = load_textured_mesh(asset(tmp_path, png(STRIPES), uvs, {"wrapS": wrap, "wrapT": wrap}))
        found = colours(mesh)
        assert bool(((found >= 0) & (found <= 255)).all())


def test_faces_without_area_go_before_they_are_painted(tmp_path: Path) -> None:
    (tmp_path / "a.mtl").write_text("newmtl red\nKd 1 0 0\nnewmtl blue\nKd 0 0 1\n")
    (tmp_path / "a.obj").write_text(
        "mtllib a.mtl\nv 0 0 0\nv 1 0 0\nv 0 1 0\nv 0 0 1\nv 0.5 0 0\nusemtl blue\nf 1 5 2\nf 1 1 2\nusemtl red\n"
        "f 1 3 2\nf 1 2 4\nf 1 4 3\nf 2 3 4\n"
    )
    with pytest.warns(MeshWarning, match="dropped 2 zero-area faces"):
        mesh = load_textured_mesh(tmp_path / "a.obj")
    assert mesh.appearance is not None
    assert mesh.appearance.face_materials.tolist() == [0, 0, 0, 0]
    assert colours(mesh).tolist() == [[255, 0, 0]]


def test_a_mesh_without_any_material_has_no_appearance_and_says_so(tmp_path: Path) -> None:
    glb = Glb()
    tetrahedron(glb)
    path = tmp_path / "a.glb"
    path.write_bytes(glb.bytes())
    mesh = load_textured_mesh(path)
    assert mesh.appearance is None
    done = run("convert", path, tmp_path / "a.vxz", "--resolution", "8")
    assert done.returncode == 0
    assert len(done.stderr.strip().splitlines()) == 1
    assert "no materials and no colours; the file holds geometry only" in done.stderr


def test_parts_without_a_material_beside_parts_with_one_take_the_default(tmp_path: Path) -> None:
    glb = Glb()
    tetrahedron(glb, {"pbrMetallicRoughness": {"baseColorFactor": [1, 0, 0, 1]}})
    tetrahedron(glb)
    glb.document["nodes"] = [{"mesh": 0}, {"mesh": 1, "translation": [4, 0, 0]}]
    path = tmp_path / "a.glb"
    path.write_bytes(glb.bytes())
    assert colours(load_textured_mesh(path)).tolist() == [[204, 204, 204], [255, 0, 0]]


# --- files ------------------------------------------------------------------------------------------------------------
def header_of(width: int, height: int) -> bytes:
    """A PNG file that announces its size and has next to nothing in it."""
    good = png(np.zeros((1, 1, 3), np.uint8))
    body = good[12:16] + struct.pack(">II", width, height) + good[24:29]
    return good[:12] + body + struct.pack(">I", zlib.crc32(body)) + good[33:]


MISSING = {
    "text": (b"no image at all!", "not a readable image"),
    "nothing": (b"", "not a readable image"),
    "cut png": (png(np.arange(48 * 48 * 3, dtype=np.uint8).reshape(48, 48, 3))[:200], "not a readable image"),
    "cut jpeg": (png(np.arange(48 * 48 * 3, dtype=np.uint8).reshape(48, 48, 3), "jpeg")[:300], "not a readable image"),
    "huge header": (header_of(1 << 30, 1 << 30), "1073741824 x 1073741824 pixels are too many"),
    "long header": (header_of(40000, 1), "40000 x 1 pixels are too many"),
    "empty header": (header_of(0, 5), "image"),
}


@pytest.mark.parametrize("name", MISSING)
def test_an_image_that_cannot_be_read_is_one_line_and_its_factor_counts(tmp_path: Path, name: str) -> None:
    image, reason = MISSING[name]
    path = asset(tmp_path, image, np.zeros((4, 2)))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        mesh = load_textured_mesh(path)
    assert len(caught) == 1
    assert f"dropped 1 texture paint ({reason}" in str(caught[0].message) or reason in str(caught[0].message)
    assert "\n" not in str(caught[0].message)
    assert colours(mesh).tolist() == [[255, 255, 255]]


def test_missing_texture_files_are_named_once_each(tmp_path: Path) -> None:
    (tmp_path / "a.mtl").write_text("newmtl m\nKd 1 0.5 0\nmap_Kd gone.png\nmap_d gone.png\nmap_Pr other.png\n")
    (tmp_path / "a.obj").write_text("mtllib a.mtl\nusemtl m\nv 0 0 0\nv 1 0 0\nv 0 1 0\nvt 0 0\nf 1/1 2/1 3/1\n")
    with pytest.warns(MeshWarning) as caught:
        mesh = load_textured_mesh(tmp_path / "a.obj")
    reason = "No such file or directory"
    assert caught[0].message.counts == {f"texture gone.png ({reason})": 1, f"texture other.png ({reason})": 1}  # type: ignore[union-attr]
    assert mesh.appearance is not None
    assert mesh.appearance.materials[0].base_color == (1.0, 0.5, 0.0)
    (tmp_path / "a.mtl").unlink()
    with pytest.warns(MeshWarning, match=r"dropped 1 material library a\.mtl \(No such file or directory\)"):
        assert load_textured_mesh(tmp_path / "a.obj").appearance is None


RED = (255, 0, 0)
FORMATS = {
    "cmyk jpeg": (saved(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "jpeg", quality=100), (16, 16, 3), RED),
    "palette": (saved(Image.new("RGB", (8, 8), RED).quantize(4), "png"), (8, 8, 3), RED),
    "grey 16 bits": (png(np.full((8, 8), 32896, np.uint16)), (8, 8, 1), (128,)),
    "grey 16 bits, dark": (png(np.full((8, 8), 200, np.uint16)), (8, 8, 1), (1,)),
    "one bit": (saved(Image.new("1", (8, 8), 1), "png"), (8, 8, 1), (255,)),
    "grey with alpha": (saved(Image.new("LA", (8, 8), (9, 77)), "png"), (8, 8, 2), (9, 77)),
    "clear palette": (saved(Image.new("P", (8, 8), 0), "png", transparency=0), (8, 8, 4), (0, 0, 0, 0)),
    "clear colour": (saved(Image.new("RGB", (8, 8), RED), "png", transparency=RED), (8, 8, 4), (*RED, 0)),
    "float tiff": (saved(Image.fromarray(np.full((8, 8), 0.5, np.float32)), "tiff"), (8, 8, 1), (128,)),
    "webp": (saved(Image.new("RGBA", (8, 8), (*RED, 40)), "webp", lossless=True), (8, 8, 4), (*RED, 40)),
    "bmp": (saved(Image.new("RGB", (8, 8), RED), "bmp"), (8, 8, 3), RED),
}


@pytest.mark.parametrize("name", FORMATS)
def test_every_kind_of_picture_becomes_bytes(name: str) -> None:
    data, shape, value = FORMATS[name]
    pixels = decode_image(data)
    assert tuple(pixels.shape) == shape
    assert (pixels.reshape(-1, shape[2]).int() - torch.tensor(value)).abs().max() <= 1


def test_sixteen_bit_colour_keeps_its_upper_eight(tmp_path: Path) -> None:
    rows = np.zeros((4, 4, 3), ">u2")
    rows[..., 0], rows[..., 1] = 0xFFFF, 0x8080
    raw = b"".join(b"\0" + row.tobytes() for row in rows)
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", 4, 4, 16, 2, 0, 0, 0)), (b"IDAT", zlib.compress(raw)), (b"IEND", b"")]
    data = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )
    assert decode_image(data).reshape(-1, 3).unique(dim=0).tolist() == [[255, 128, 0]]


def test_bands_do_not_change_a_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).integers(0, 256, (37, 23, 4), np.uint8)
    pictures = [png(values), png(values[..., :3]), png(values[..., 0]), png(values[..., 0].astype(np.uint16) * 257)]
    pictures.append(saved(Image.fromarray(values[..., :3]).quantize(32), "png"))
    whole = [decode_image(data) for data in pictures]
    monkeypatch.setattr("shapewright.mesh_readers.texture_files.BAND_PIXELS", 100)
    assert all(torch.equal(decode_image(data), found) for data, found in zip(pictures, whole, strict=True))
    assert np.array_equal(whole[0].numpy(), values)
    assert np.array_equal(whole[3].numpy()[..., 0], values[..., 0])


SOURCES = (png(STRIPES), png(STRIPES, "jpeg"), png(STRIPES, "webp"), png(STRIPES, "gif"), png(STRIPES, "tiff"))


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(SOURCES), st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=6), st.floats(0, 1))
def test_damaged_pictures_are_read_or_refused(source: bytes, changes: list[tuple[float, int]], keep: float) -> None:
    data = bytearray(source[: max(4, int(len(source) * (keep if keep < 0.7 else 1.0)))])
    for place, value in changes:
        data[min(int(place * len(data)), len(data) - 1)] = value
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            pixels = decode_image(bytes(data))
        except MeshError:  # anything else that is raised fails the test
            return
    assert pixels.dtype == torch.uint8
    assert 1 <= pixels.shape[2] <= 4


SIXTEEN_K = """
import resource, struct, zlib
import numpy as np
import torch
from shapewright.materials import Texture
from shapewright.mesh_readers.texture_files import decode_image
from shapewright_plugins.o_voxel.appearance import image_texture
from shapewright_kernels.texture_sampling import sample_texture
size = 16384
packer = zlib.compressobj(1)
row = b"\\0" + (np.arange(size) // 64).astype(np.uint8).tobytes()
body = b"".join(packer.compress(row) for _ in range(size)) + packer.flush()
chunks = [(b"IHDR", struct.pack(">IIBBBBB", size, size, 8, 0, 0, 0, 0)), (b"IDAT", body), (b"IEND", b"")]
data = b"\\x89PNG\\r\\n\\x1a\\n" + b"".join(
    struct.pack(">I", len(b)) + k + b + struct.pack(">I", zlib.crc32(k + b)) for k, b in chunks)
small = image_texture(Texture(torch.zeros(2, 2, 1, dtype=torch.uint8), (0,)))
sample_texture(small, np.zeros((2, 2)), 1.0)
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
before = peak()
pixels = decode_image(data)
decoded = peak() - before
found = sample_texture(image_texture(Texture(pixels, (0,))), np.array([[0.5, 0.5], [0.25, 0.5]]), np.array([0.0, 3.0]))
print(decoded / size**2, (peak() - before) / size**2, *np.round(found.reshape(-1) * 255).astype(int))
"""


@pytest.mark.slow
def test_a_texture_of_16k_takes_two_copies_to_read_and_a_third_to_sample() -> None:
    """Bytes a pixel of a grey picture: Pillow's own and the result; then its smaller copies."""
    done = subprocess.run([sys.executable, "-c", SIXTEEN_K], capture_output=True, text=True, check=True)
    decoded, sampled, middle, quarter = map(float, done.stdout.split())
    assert (middle, quarter) == (128, 64)
    assert decoded < 2.3
    assert sampled < 2.5
