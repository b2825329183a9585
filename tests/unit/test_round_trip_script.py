"""benchmarks/round_trip.py on assets made here: figures, pictures, and one line for what cannot be used."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from gltf_files import Glb, png
from PIL import Image

pytest.importorskip("xatlas")
pytest.importorskip("fast_simplification")
SCRIPT = Path(__file__).parents[2] / "benchmarks" / "round_trip.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("round_trip", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["round_trip"] = module
    spec.loader.exec_module(module)
    return module


def painted_box() -> bytes:
    """A box whose picture is red below and green above."""
    x, y, z = np.meshgrid([0, 1], [0, 2], [0, 1], indexing="ij")
    corners = np.stack([x, y, z], -1).reshape(-1, 3).astype(np.float32)
    quads = [[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]]
    index = np.array([[q[0], q[1], q[2], q[0], q[2], q[3]] for q in quads], np.uint16).reshape(-1)
    pixels = np.zeros((16, 16, 3), np.uint8)
    pixels[:8, :, 1], pixels[8:, :, 0] = 200, 200
    glb = Glb()
    texture = glb.image(png(pixels))
    surface = {"baseColorTexture": {"index": texture}, "metallicFactor": 0.0, "roughnessFactor": 0.5}
    glb.document["materials"] = [{"pbrMetallicRoughness": surface}]
    glb.document["samplers"] = [{"wrapS": 33071, "wrapT": 33071}]
    glb.document["textures"][0]["sampler"] = 0
    attributes = {"POSITION": glb.accessor(corners)}
    attributes["TEXCOORD_0"] = glb.accessor(np.stack([corners[:, 0], 1 - corners[:, 1] / 2], 1).astype(np.float32))
    primitive = {"attributes": attributes, "indices": glb.accessor(index), "material": 0}
    glb.document["meshes"] = [{"primitives": [primitive]}]
    return glb.bytes()


def test_a_folder_becomes_a_table_a_page_and_pictures(script: ModuleType, tmp_path: Path, capsys) -> None:
    folder, out = tmp_path / "assets", tmp_path / "out"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "box.glb").write_bytes(painted_box())
    (folder / "broken.glb").write_bytes(painted_box()[:200])
    (folder / "plain.obj").write_text("v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n")
    words = [str(folder), "--out", str(out), "--resolution", "24,32", "--faces", "300", "--texture-size", "64"]
    assert script.main([*words, "--samples", "2000"]) == 0
    rows = {(row["asset"], row["resolution"]): row for row in json.loads((out / "rows.json").read_text())}
    assert set(rows) == {("deep/box", 24), ("deep/box", 32), ("broken", 0), ("plain", 0)}
    assert "damaged or truncated" in rows["broken", 0]["problem"]
    assert rows["plain", 0]["problem"] == "no materials and no colours"
    row = rows["deep/box", 32]
    assert row["problem"] == ""
    assert row["figures"]["f-score@0.005/v1@2k"] > 0.99
    assert row["figures"]["base-color-psnr/v1@2k"] > 20
    assert row["figures"]["roughness-psnr/v1@2k"] > 40
    assert row["bytes"]["vxz"] == (out / "deep_box-32.vxz").stat().st_size
    assert row["bytes"]["glb"] == (out / "deep_box-32.glb").stat().st_size
    steps = {"read", "to-voxels", "write-voxels", "read-voxels", "mesher.extract", "simplify.apply", "bake.apply"}
    assert set(row["seconds"]) == steps | {"write-glb"}
    assert all(seconds > 0 for seconds in row["seconds"].values())
    table = (out / "table.md").read_text().splitlines()
    assert len(table) == 2 + 4
    assert [name in table[0] for name in ("Chamfer L1", "F-score 0.001", "SSIM")] == [True] * 3
    assert "damaged or truncated" in capsys.readouterr().out
    page = (out / "index.html").read_text()
    assert "pictures/deep_box.png" in page
    picture = np.asarray(Image.open(out / "pictures" / "deep_box.png"))
    assert picture.shape == (3 * script.PICTURE, script.VIEWS * script.PICTURE, 3)
    before, after = picture[: script.PICTURE], picture[2 * script.PICTURE :]
    assert np.abs(before.astype(int) - after).mean() < 4  # the box looks the same
    assert (before < 200).any(axis=2).mean() > 0.05  # and is there


def test_a_folder_without_meshes_is_said(script: ModuleType, tmp_path: Path, capsys) -> None:
    assert script.main([str(tmp_path), "--out", str(tmp_path / "out")]) == 1
    assert "no mesh file fits *" in capsys.readouterr().err
