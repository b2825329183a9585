"""TRELLIS.2 from the command line: every pipeline with small networks, from files in the published layout to files."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from in_process import Done, assert_refused, run
from safetensors.torch import load_file, save_file
from shapewright import Mesh, save_mesh
from shapewright.state_files import load_state
from shapewright.testing import toys
from shapewright.textured_meshes import load_textured_mesh as load_mesh
from trellis2_small import NAMES, write_picture, write_registry, write_weights

TEXTURED = [name for name in NAMES if name != "trellis2-reconstruct"]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights, registry, pictures and a mesh, once for all tests."""
    folder = tmp_path_factory.mktemp("trellis2")
    write_weights(folder / "weights")
    write_registry(folder / "small.yaml")
    for name, shade in (("cup", 0), ("jar", 60)):
        write_picture(folder / f"{name}.png", shade)
    ball = toys.sphere()
    save_mesh(Mesh(ball.vertices * 3 + torch.tensor([5.0, -1.0, 0.0]), ball.faces, ball.frame), folder / "ball.glb")
    return folder


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SHAPEWRIGHT_WEIGHTS", raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def given(name: str, home: Path) -> list[Any]:
    inputs: list[Any] = []
    if name != "trellis2-reconstruct":
        inputs += ["--image", home / "cup.png"]
    if name in ("trellis2-texturing", "trellis2-reconstruct"):
        inputs += ["--mesh", home / "ball.glb"]
    return inputs


def call(home: Path, name: str, output: Path, *more: Any, inputs: list[Any] | None = None) -> Done:
    return run(
        "run", name, *(given(name, home) if inputs is None else inputs), "-o", output, "--weights", home / "weights",
        "--registry", home / "small.yaml", "--device", "cpu", "--quiet", *more,
    )  # fmt: skip


def baking() -> None:
    for package in ("xatlas", "fast_simplification"):
        pytest.importorskip(package, reason="baking needs the extra 'texture'")


@pytest.mark.parametrize("name", NAMES)
def test_every_pipeline_runs_from_files_to_a_file_and_repeats(name: str, home: Path, tmp_path: Path) -> None:
    if name in TEXTURED:
        baking()
    for file in ("a.glb", "b.glb"):
        done = call(home, name, tmp_path / file, "--seed", 42)
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "a.glb").read_bytes() == (tmp_path / "b.glb").read_bytes()
    mesh = load_mesh(tmp_path / "a.glb")
    assert len(mesh.faces) > 0
    assert bool(mesh.vertices.isfinite().all())
    if name in TEXTURED:
        assert mesh.appearance is not None
        material = mesh.appearance.materials[0]
        assert material.base_color_texture is not None
        assert material.metallic_texture is not None
        assert material.roughness_texture is not None
    if name in ("trellis2-texturing", "trellis2-reconstruct"):
        ball = load_mesh(home / "ball.glb")
        low, high = ball.vertices.amin(0), ball.vertices.amax(0)
        within = 0.02 if name == "trellis2-texturing" else 3.0  # random weights keep no shape, but its place
        torch.testing.assert_close(mesh.vertices.amin(0), low, rtol=0, atol=within)
        torch.testing.assert_close(mesh.vertices.amax(0), high, rtol=0, atol=within)


def test_texturing_changes_materials_only(home: Path, tmp_path: Path) -> None:
    baking()
    assert call(home, "trellis2-texturing", tmp_path / "out.glb").returncode == 0
    before, after = load_mesh(home / "ball.glb"), load_mesh(tmp_path / "out.glb")
    assert len(after.faces) == len(before.faces)
    areas = []
    for mesh in (before, after):
        a, b, c = mesh.vertices[mesh.faces.long()].unbind(1)
        areas.append(torch.linalg.cross(b - a, c - a).norm(dim=1).sort().values)
    torch.testing.assert_close(areas[1], areas[0], rtol=1e-3, atol=1e-5)
    places = [mesh.vertices[mesh.faces.long()].reshape(-1, 3) for mesh in (before, after)]
    assert float(torch.cdist(*places).min(dim=1).values.max()) < 1e-4, "every corner is where it was"


def test_texturing_keeps_texture_coordinates_on_request(home: Path, tmp_path: Path) -> None:
    """The published choice; new charts are the default, since they also serve coordinates that tile or overlap."""
    baking()
    assert call(home, "trellis2-texturing", tmp_path / "first.glb").returncode == 0
    inputs = ["--image", home / "jar.png", "--mesh", tmp_path / "first.glb"]
    kept = call(home, "trellis2-texturing", tmp_path / "kept.glb", "--set", "bake.keep_uvs=true", inputs=inputs)
    assert kept.returncode == 0, kept.stderr
    before, after = (load_mesh(tmp_path / f"{name}.glb").appearance for name in ("first", "kept"))
    assert before is not None
    assert after is not None

    def sorted_rows(uvs: torch.Tensor) -> torch.Tensor:
        return torch.unique((uvs.reshape(-1, 2) * 4096).round().int(), dim=0)

    assert torch.equal(sorted_rows(before.uvs[0]), sorted_rows(after.uvs[0]))


@pytest.mark.parametrize("name", ["trellis2-512", "trellis2-1024"])
def test_a_batch_gives_what_single_runs_give(name: str, home: Path, tmp_path: Path) -> None:
    """Values of all stages, to rounding; voxels exactly."""
    baking()
    pictures = [part for each in ("cup", "jar") for part in ("--image", home / f"{each}.png")]
    together = call(home, name, tmp_path / "both", "--batch", 2, "--keep-stages", tmp_path / "batch", inputs=pictures)
    assert together.returncode == 0, together.stderr
    for each in ("cup", "jar"):
        done = call(home, name, tmp_path / f"{each}.glb", "--keep-stages", tmp_path / "alone",
                    inputs=["--image", home / f"{each}.png"])  # fmt: skip
        assert done.returncode == 0, done.stderr
        for value in ("z_shape", "z_texture"):
            got = load_state(tmp_path / "batch" / each / f"{value}.safetensors").values
            wanted = load_state(tmp_path / "alone" / each / f"{value}.safetensors").values
            assert torch.equal(got.coords, wanted.coords)
            torch.testing.assert_close(got.feats, wanted.feats, rtol=2e-2, atol=2e-2)  # bfloat16 weights
    cup = load_state(tmp_path / "batch" / "cup" / "z_shape.safetensors").values
    jar = load_state(tmp_path / "batch" / "jar" / "z_shape.safetensors").values
    assert cup.coords.shape != jar.coords.shape or not torch.equal(cup.feats, jar.feats)


@pytest.mark.parametrize("residency", ["one-at-a-time", "offload"])
def test_residency_changes_no_bit_and_the_card_tells_memory(residency: str, home: Path, tmp_path: Path) -> None:
    baking()
    assert call(home, "trellis2-1024", tmp_path / "keep.glb").returncode == 0
    card_file = tmp_path / "card.json"
    done = call(home, "trellis2-1024", tmp_path / "other.glb", "--residency", residency, "--json", card_file)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "keep.glb").read_bytes() == (tmp_path / "other.glb").read_bytes()
    card = json.loads(card_file.read_text())
    assert card["residency"] == residency
    assert {"structure.sample", "shape_512.sample", "shape_1024.sample", "texture.sample", "shape_vae.decode"} <= {
        stage["id"] for stage in card["stages"]
    }
    assert all(stage["host_bytes"] >= 0 for stage in card["stages"])


def test_a_run_can_start_from_latents(home: Path, tmp_path: Path) -> None:
    """Without image, flows and their weights: only decoders are wanted then."""
    baking()
    first = call(home, "trellis2-512", tmp_path / "whole.glb", "--keep-stages", tmp_path / "kept")
    assert first.returncode == 0, first.stderr
    few = tmp_path / "few" / "microsoft" / "TRELLIS.2-4B" / "ckpts"
    few.mkdir(parents=True)
    for name in ("shape_dec_next_dc_f16c32_fp16", "tex_dec_next_dc_f16c32_fp16"):
        shutil.copy(home / "weights/microsoft/TRELLIS.2-4B/ckpts" / f"{name}.safetensors", few)
    kept = tmp_path / "kept" / "cup"
    done = run(
        "run", "trellis2-512", "--input", f"z_shape={kept / 'z_shape.safetensors'}", "--input",
        f"z_texture={kept / 'z_texture.safetensors'}", "-o", tmp_path / "again.glb", "--weights", tmp_path / "few",
        "--registry", home / "small.yaml", "--device", "cpu", "--quiet",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "again.glb").read_bytes() == (tmp_path / "whole.glb").read_bytes()


# --- what cannot be done ----------------------------------------------------------------------------------------------
def test_an_opaque_picture_and_a_missing_one_are_told(home: Path, tmp_path: Path) -> None:
    from PIL import Image

    Image.open(home / "cup.png").convert("RGB").save(tmp_path / "opaque.png")
    done = call(home, "trellis2-512", tmp_path / "out.glb", inputs=["--image", tmp_path / "opaque.png"])
    assert_refused(done, "no transparency", "matting")
    done = call(home, "trellis2-512", tmp_path / "out.glb", inputs=["--image", tmp_path / "none.png"])
    assert_refused(done, "none.png")
    done = call(home, "trellis2-texturing", tmp_path / "out.glb", inputs=["--mesh", home / "ball.glb"])
    assert_refused(done, "image (--image FILE)")
    assert not (tmp_path / "out.glb").exists()


def test_missing_weights_are_named_with_the_gate_of_the_image_network(home: Path, tmp_path: Path) -> None:
    """At official sizes: nothing is allocated to find out."""
    done = run("run", "trellis2-1024", "--image", home / "cup.png", "-o", tmp_path / "out.glb", "--offline")
    assert done.returncode == 2
    for wanted in (
        "lacks the weights of 8 component(s)", "facebook/dinov3-vitl16-pretrain-lvd1689m", "DINOv3 License (gated)",
        "ss_flow_img_dit_1_3B_64_bf16", "microsoft/TRELLIS-image-large", "--weights DIR",
    ):  # fmt: skip
        assert wanted in done.stderr
    assert "Traceback" not in done.stderr


def test_a_gated_repository_says_how_to_get_in(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys
    import types

    class GatedRepoError(Exception):
        pass

    def snapshot_download(repo_id: str, **options: Any) -> str:
        if options["local_files_only"]:
            raise FileNotFoundError("nothing is cached")
        raise GatedRepoError(f"401 Client Error: access to model {repo_id} is restricted")

    hub = types.ModuleType("huggingface_hub")
    hub.snapshot_download = snapshot_download  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    monkeypatch.delenv("HF_HUB_OFFLINE")
    shutil.copytree(home / "weights" / "microsoft", tmp_path / "w" / "microsoft")
    done = run(
        "run", "trellis2-512", "--image", home / "cup.png", "-o", tmp_path / "out.glb", "--weights", tmp_path / "w",
        "--registry", home / "small.yaml", "--quiet",
    )  # fmt: skip
    assert done.returncode == 2
    assert "lacks the weights of 1 component(s)" in done.stderr
    assert "accept its terms on its page and log in" in done.stderr


def test_files_of_another_network_are_told_key_by_key(home: Path, tmp_path: Path) -> None:
    """The 512 model of textures in the place of that of shapes, a folder of another system, a stray key."""
    folder = tmp_path / "w"
    shutil.copytree(home / "weights", folder)
    files = folder / "microsoft" / "TRELLIS.2-4B" / "ckpts"
    shape = files / "slat_flow_img2shape_dit_1_3B_512_bf16.safetensors"

    def refusal() -> str:
        done = run(
            "run", "trellis2-512", "--image", home / "cup.png", "-o", tmp_path / "out.glb", "--weights", folder,
            "--registry", home / "small.yaml", "--quiet",
        )  # fmt: skip
        assert done.returncode == 2, done.stdout
        assert "Traceback" not in done.stderr
        return done.stderr

    state = load_file(shape)
    shutil.copy(files / "slat_flow_imgshape2tex_dit_1_3B_512_bf16.safetensors", shape)
    assert "shape of input_layer.weight is (24, 8), not (24, 4)" in refusal()
    save_file({**state, "rope_phases": torch.zeros(4)}, shape)
    assert "unexpected rope_phases" in refusal(), "only the dense model's table is passed over"
    save_file({key: value for key, value in state.items() if key != "out_layer.bias"}, shape)
    assert "missing out_layer.bias" in refusal()
    shape.unlink()
    assert shape.name in refusal()
