"""TripoSG by the command line: small random weights in the official layout, from files to files."""

from __future__ import annotations

import json
import pickle
import shutil
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from in_process import Done, assert_refused, run
from PIL import Image
from safetensors.torch import load_file, save_file
from shapewright import Frame, Mesh, discover, save_mesh
from shapewright.mesh_io import load_mesh
from shapewright.plan import check
from shapewright.registry import load_registry
from shapewright.run import build_parts
from shapewright.state_files import save_state
from shapewright.states import Condition
from shapewright.testing import toys
from shapewright.weights.empty import on_meta, without_memory
from shapewright.weights.fill import fill_at_random, published_state, save_weights

pytest.importorskip("transformers", reason="the conditioners need the extra 'conditioners'")

DINO = {
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "image_size": 70,
    "crop": 56,
    "shortest_edge": 64,
}
CLIP = {
    "vocab_size": 60, "hidden_size": 20, "intermediate_size": 40, "num_hidden_layers": 1, "num_attention_heads": 2,
    "projection_dim": 16, "bos_token_id": 58, "eos_token_id": 59,
}  # fmt: skip
FLOW = {"num_attention_heads": 2, "width": 16, "in_channels": 4, "num_layers": 3, "tokens": 12}
VAE = {
    "latent_channels": 4, "num_attention_heads": 2, "width_encoder": 16, "width_decoder": 16, "num_layers_encoder": 1,
    "num_layers_decoder": 2, "embed_frequency": 2, "tokens": 12,
}  # fmt: skip
FLASH = {"depth": 5, "min_resolution": 15, "closed": "true"}
NESTED = {"lattice": "nested", "coarse_depth": 3, "fine_depth": 4, "closed": "true"}
SMALL: dict[str, dict[str, dict[str, Any]]] = {
    "triposg": {"dino": DINO, "flow": {**FLOW, "cross_attention_dim": 24}, "vae": VAE, "mesher": FLASH},
    "triposg-scribble": {
        "dino": DINO,
        "clip": CLIP,
        "flow": {**FLOW, "cross_attention_dim": 20, "cross_attention_2_dim": 24},
        "vae": VAE,
        "mesher": NESTED,
    },
    "triposg-reconstruct": {"points": {"count": 300}, "vae": VAE, "mesher": NESTED},
}
STEPS = ("--set", "stages.2.with.steps=2")
FOLDERS = {
    "dino": "image_encoder_dinov2/model.safetensors",
    "clip": "text_encoder/model.safetensors",
    "flow": "transformer/diffusion_pytorch_model.safetensors",
    "vae": "vae/diffusion_pytorch_model.safetensors",
}


def small(pipeline: str) -> list[str]:
    """``--set`` for networks of a second's work."""
    options = [f"{alias}.{name}={value}" for alias, part in SMALL[pipeline].items() for name, value in part.items()]
    steps = [] if pipeline == "triposg-reconstruct" else list(STEPS)
    return [text for option in options for text in ("--set", option)] + steps


def networks(pipeline: str) -> dict[str, Any]:
    """The learned components of the small pipeline with random weights."""
    catalog = discover()
    overrides = tuple(text for text in small(pipeline) if text != "--set")
    plan = check(pipeline, load_registry((), catalog).pipeline(pipeline, overrides), catalog)
    with without_memory():
        parts = build_parts(plan, catalog)
    made = {alias: parts[alias] for alias in FOLDERS if alias in parts}
    for alias, part in made.items():
        fill_at_random(part, 5, alias)
    with torch.no_grad():
        made["vae"].decoder.proj_out.weight *= 8  # so that the field has both signs
    return made


def write_repository(folder: Path, pipeline: str) -> None:
    """``model_index.json``, a sub-folder a component, the transformer in shards, the tokenizer's files."""
    made = networks(pipeline)
    folder.mkdir(parents=True)
    index = {"_class_name": "TripoSGPipeline", **{FOLDERS[alias].split("/")[0]: ["x", "y"] for alias in made}}
    (folder / "model_index.json").write_text(json.dumps(index))
    for alias, part in made.items():
        save_weights(part, folder / FOLDERS[alias], shard_bytes=9000 if alias == "flow" else None)
        (folder / FOLDERS[alias]).with_name("config.json").write_text(json.dumps({"_class_name": "Tripo2VAEModel"}))
    if "clip" in made:
        letters = "abcdefghijklmnopqrstuvwxyz"
        words = [*letters, *(f"{letter}</w>" for letter in letters)]
        vocabulary = {word: index for index, word in enumerate(words)}
        vocabulary |= {"<|startoftext|>": 58, "<|endoftext|>": 59}
        (folder / "tokenizer").mkdir()
        (folder / "tokenizer" / "vocab.json").write_text(json.dumps(vocabulary))
        (folder / "tokenizer" / "merges.txt").write_text("#version: 0.2\n")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    write_repository(folder / "VAST-AI" / "TripoSG", "triposg")
    write_repository(folder / "VAST-AI" / "TripoSG-scribble", "triposg-scribble")
    return folder


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SHAPEWRIGHT_WEIGHTS", raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def picture(path: Path, shade: int = 60, mode: str = "RGBA", side: int = 48) -> Path:
    """A ball with a shaded stripe, transparent around it where the mode has alpha."""
    y, x = np.mgrid[:side, :side]
    inside = (x - side / 2) ** 2 + (y - side / 2) ** 2 < (0.36 * side) ** 2
    colours = np.stack([(5 * x + shade) % 256, (3 * y) % 256, np.full_like(x, shade), 255 * inside], axis=2)
    Image.fromarray(colours.astype(np.uint8)).convert(mode).save(path)
    return path


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return picture(tmp_path / "ball.png")


def made(done: Done) -> Done:
    assert done.returncode == 0, done.stderr
    return done


def triposg(image: Path, output: Path, weights: Path, *more: object) -> Done:
    return run(
        "run", "triposg", "--image", image, "-o", output, "--weights", weights, "--device", "cpu", "--quiet",
        *small("triposg"), *more,
    )  # fmt: skip


# --- whole pipelines --------------------------------------------------------------------------------------------------
def test_an_image_becomes_a_mesh_file_from_weights_in_the_official_layout(
    image: Path, weights: Path, tmp_path: Path
) -> None:
    shards = list((weights / "VAST-AI" / "TripoSG" / "transformer").glob("*-of-*.safetensors"))
    assert len(shards) > 1
    made(triposg(image, tmp_path / "out.glb", weights, "--json", tmp_path / "card.json"))
    mesh = load_mesh(tmp_path / "out.glb")
    assert len(mesh.faces) > 20
    assert float(mesh.vertices.abs().max()) <= 1.005 + 1e-6
    card = json.loads((tmp_path / "card.json").read_text())
    assert [stage["id"] for stage in card["stages"]] == [
        "cut.apply", "dino.encode", "flow.sample", "vae.decode", "mesher.extract",
    ]  # fmt: skip
    assert card["entry"]["components"]["flow"]["with"]["tokens"] == 12


def test_seeds_repeat_bit_for_bit_and_others_differ(image: Path, weights: Path, tmp_path: Path) -> None:
    for name, seed in (("a", 42), ("b", 42), ("c", 43)):
        made(triposg(image, tmp_path / f"{name}.glb", weights, "--seed", seed))
    a, b, c = ((tmp_path / f"{name}.glb").read_bytes() for name in "abc")
    assert a == b
    assert a != c


def test_extractor_and_sampler_are_swapped_by_name(image: Path, weights: Path, tmp_path: Path) -> None:
    # Options of the published extractor that the other one does not have must go with it.
    swap = ["--set", "components.mesher={use: extractor/hierarchical-marching-cubes, with: {coarse_depth: 3, "]
    swap[1] += "fine_depth: 4, closed: true}}"
    heun = ("--set", "flow.sampler={use: sampler/rectified-flow-heun, with: {shift: 2.0}}")
    made(triposg(image, tmp_path / "plain.glb", weights, "--keep-stages", tmp_path / "plain"))
    common = ("--image", image, "--weights", weights, "--device", "cpu", "--quiet")
    kept = [text for text in small("triposg") if not text.startswith("mesher.")]
    kept = [text for text, following in zip(kept, [*kept[1:], ""], strict=True) if (text, following) != ("--set",) * 2]
    made(run("run", "triposg", *common, *kept, *swap, "-o", tmp_path / "nested.glb", "--keep-stages", tmp_path / "n"))
    made(triposg(image, tmp_path / "heun.glb", weights, *heun, "--keep-stages", tmp_path / "h"))
    plain, nested, heun_z = (
        load_file(next((tmp_path / folder).rglob("z.safetensors"))) for folder in ("plain", "n", "h")
    )
    assert all(torch.equal(plain[key], nested[key]) for key in plain)
    assert any(not torch.equal(plain[key], heun_z[key]) for key in plain)
    assert not torch.equal(load_mesh(tmp_path / "plain.glb").vertices, load_mesh(tmp_path / "nested.glb").vertices)


def test_two_images_give_what_two_runs_give(weights: Path, tmp_path: Path) -> None:
    images = [picture(tmp_path / f"{name}.png", shade) for name, shade in (("a", 20), ("b", 200))]
    common = ("--weights", weights, "--device", "cpu", "--quiet", *small("triposg"))

    def kept(name: str) -> tuple[object, ...]:
        return "-o", tmp_path / name, "--keep-stages", tmp_path / f"{name}-stages"

    (tmp_path / "alone").mkdir()
    for path in images:
        made(run("run", "triposg", "--image", path, *common, *kept("alone")))
    pair = [text for path in images for text in ("--image", path)]
    for batch in (1, 2):
        made(run("run", "triposg", *pair, *common, *kept(f"both{batch}"), "--batch", batch))
        for path in images:
            got, wanted = (
                load_file(tmp_path / f"{name}-stages" / path.stem / "z.safetensors")
                for name in (f"both{batch}", "alone")
            )
            for key in wanted:
                assert torch.equal(got[key], wanted[key])
            mesh = f"{path.stem}.glb"
            assert (tmp_path / f"both{batch}" / mesh).read_bytes() == (tmp_path / "alone" / mesh).read_bytes()


def test_a_scribble_and_a_prompt_become_a_mesh(weights: Path, tmp_path: Path) -> None:
    drawing = picture(tmp_path / "drawing.png", mode="RGB")
    common = ("--image", drawing, "--weights", weights, "--device", "cpu", "--quiet", *small("triposg-scribble"))
    for name, prompt in (("chair", "a chair"), ("cup", "a cup"), ("again", "a chair")):
        folder = tmp_path / name
        made(
            run(
                "run", "triposg-scribble", *common, "--prompt", prompt, "-o", tmp_path / f"{name}.glb", "--keep-stages",
                folder,
            )
        )  # fmt: skip
    chair, cup, again = (
        load_file(next((tmp_path / name).rglob("z.safetensors"))) for name in ("chair", "cup", "again")
    )
    assert all(torch.equal(chair[key], again[key]) for key in chair)
    assert any(not torch.equal(chair[key], cup[key]) for key in chair)
    assert len(load_mesh(tmp_path / "chair.glb").faces) > 0


def test_a_reconstructed_mesh_lies_in_the_frame_of_its_input(weights: Path, tmp_path: Path) -> None:
    ball = toys.sphere()
    moved = Mesh(ball.vertices * 6 + torch.tensor([10.0, -20.0, 30.0]).double(), ball.faces, Frame())
    save_mesh(moved, tmp_path / "ball.obj")
    done = run(
        "run", "triposg-reconstruct", "--mesh", tmp_path / "ball.obj", "-o", tmp_path / "out.obj", "--weights", weights,
        "--device", "cpu", "--quiet", *small("triposg-reconstruct"), "--keep-stages", tmp_path / "stages",
    )  # fmt: skip
    made(done)
    cube = load_mesh(next((tmp_path / "stages").rglob("cube.glb"))).vertices.double()
    low, high = moved.vertices.amin(0), moved.vertices.amax(0)
    wanted = cube * float((high - low).max()) / 2 + (low + high) / 2
    found = load_mesh(tmp_path / "out.obj").vertices.double()
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-4)


# --- weights ----------------------------------------------------------------------------------------------------------
def test_the_command_weights_lists_what_is_needed_how_large_and_where(weights: Path) -> None:
    done = run("weights", "triposg", "--offline")
    assert done.returncode == 1
    for text in ("VAST-AI/TripoSG", "image_encoder_dinov2", "transformer", "vae", "MIT", "Apache-2.0", "missing"):
        assert text in done.stdout
    needs = json.loads(run("weights", "triposg", "--offline", "--json").stdout)
    assert {need["component"]: need["bytes"] for need in needs} == {
        "dino": 4 * 304_368_640, "flow": 4 * 1_439_556_160, "vae": 4 * 242_662_017,
    }  # fmt: skip
    found = made(run("weights", "triposg", "--weights", weights, "--verify", *small("triposg")))
    assert "missing" not in found.stdout
    assert "keys, shapes and checksums fit" in found.stderr
    scribble = json.loads(run("weights", "triposg-scribble", "--offline", "--json").stdout)
    assert sum(need["bytes"] for need in scribble) == 2 * (1_681_911_616 + 242_662_017 + 304_368_640 + 123_650_304)


@pytest.mark.parametrize("pipeline", ["triposg", "triposg-scribble"])
def test_weights_come_out_as_they_went_in(pipeline: str, weights: Path) -> None:
    """What a fresh network was filled with is what it saves: rows of attention and names of the libraries included."""
    from shapewright.weights.checkpoint import open_checkpoint
    from shapewright.weights.fill import fill_from

    folder = weights / "VAST-AI" / ("TripoSG" if pipeline == "triposg" else "TripoSG-scribble")
    for alias, part in networks(pipeline).items():
        files = sorted((folder / FOLDERS[alias]).parent.glob("*.safetensors"))
        stored = {key: value for file in files for key, value in load_file(file).items()}
        fill_from(part, open_checkpoint(files), alias)
        saved = published_state(part)
        assert set(saved) == set(stored)
        assert all(torch.equal(saved[key], stored[key]) for key in stored)


@pytest.fixture
def own(weights: Path, tmp_path: Path) -> Path:
    """A copy of the image model's weights that a test may damage."""
    shutil.copytree(weights / "VAST-AI" / "TripoSG", tmp_path / "own" / "TripoSG")
    return tmp_path / "own"


def refused(image: Path, own: Path, *wanted: str) -> None:
    output = image.parent / "none.glb"
    done = triposg(image, output, own)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr
    for text in wanted:
        assert text in done.stderr, done.stderr
    assert not output.exists()


def test_missing_truncated_and_pickled_weights_are_refused_before_anything_runs(image: Path, own: Path) -> None:
    shard = sorted((own / "TripoSG" / "transformer").glob("*-of-*.safetensors"))[1]
    vae = own / "TripoSG" / "vae" / "diffusion_pytorch_model.safetensors"
    whole, part = vae.read_bytes(), shard.read_bytes()
    shard.unlink()
    refused(image, own, "flow", "lacks 1 of", shard.name)
    shard.write_bytes(part)
    vae.write_bytes(whole[:-40])
    refused(image, own, "vae", "cut short", "fetch it again")
    vae.unlink()
    vae.with_suffix(".bin").write_bytes(pickle.dumps({"a": 1}))
    refused(image, own, "is a pickle", "convert-weights")
    vae.write_bytes(pickle.dumps({"a": 1}))
    refused(image, own, "is a pickle")
    shutil.rmtree(own / "TripoSG" / "image_encoder_dinov2")
    refused(image, own, "dino", "no sub-folder 'image_encoder_dinov2'")


def test_all_wrong_keys_shapes_and_dtypes_are_listed_at_once(image: Path, own: Path) -> None:
    path = own / "TripoSG" / "vae" / "diffusion_pytorch_model.safetensors"
    state = load_file(path)
    shape = tuple(state["post_quant.weight"].shape)
    state["post_quant.weight"] = state["post_quant.weight"][:, :-1].contiguous()
    state["quant.bias"] = state["quant.bias"].long()
    state["extra.weight"] = torch.zeros(2)
    del state["decoder.proj_out.bias"]
    save_file(state, path)
    refused(
        image, own, "4 differences", "missing decoder.proj_out.bias (1,)", "unexpected extra.weight (2,)",
        f"shape of post_quant.weight is ({shape[0]}, {shape[1] - 1}), not {shape}", "dtype of quant.bias is I64",
    )  # fmt: skip


def test_without_weights_it_says_where_to_put_them(image: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    refused(image, tmp_path / "empty", "lacks the weights of 3 component(s)", "--weights DIR", "5.", "MIT")


# --- bad input --------------------------------------------------------------------------------------------------------
def test_pictures_without_an_object_are_refused_in_one_line(weights: Path, tmp_path: Path) -> None:
    Image.new("RGBA", (40, 40), (9, 9, 9, 0)).save(tmp_path / "clear.png")
    Image.new("RGBA", (1, 1), (9, 9, 9, 255)).save(tmp_path / "dot.png")
    (tmp_path / "text.png").write_text("no image")
    picture(tmp_path / "cmyk.jpg", mode="CMYK")
    picture(tmp_path / "palette.png", mode="RGB")
    for name, wanted in (
        ("clear.png", "fully transparent"),
        ("dot.png", "1x1 pixels are too few"),
        ("text.png", "is not an image"),
        ("absent.png", "no such file"),
        ("cmyk.jpg", "no alpha channel"),
        ("palette.png", "no alpha channel"),
    ):
        assert_refused(triposg(tmp_path / name, tmp_path / "out.glb", weights), wanted)
    assert not (tmp_path / "out.glb").exists()


def deep_png(pixels: Any) -> bytes:
    """``(H, W, 4)`` uint8 as a PNG of 16 bits a channel."""
    rows = b"".join(b"\0" + (row.astype(">u2") * 257).astype(">u2").tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], 16, 6, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks
    )


@pytest.mark.parametrize("kind", ["16 bits", "palette", "gray with alpha"])
def test_pictures_of_other_kinds_become_meshes(kind: str, image: Path, weights: Path, tmp_path: Path) -> None:
    pixels, path = np.asarray(Image.open(image)), tmp_path / "other.png"
    if kind == "16 bits":
        path.write_bytes(deep_png(pixels))  # Pillow writes none
    elif kind == "palette":
        Image.fromarray(pixels).quantize(32).save(path)
    else:
        Image.fromarray(pixels).convert("LA").save(path)
    made(triposg(path, tmp_path / "out.glb", weights))
    assert len(load_mesh(tmp_path / "out.glb").faces) > 20


def test_weights_of_a_dtype_that_nothing_computes_in_want_one_to_be_named(image: Path, own: Path) -> None:
    path = own / "TripoSG" / "vae" / "diffusion_pytorch_model.safetensors"
    save_file({key: value.to(torch.float8_e4m3fn) for key, value in load_file(path).items()}, path)
    refused(image, own, "vae", "F8_E4M3", "ask for a dtype")


def test_impossible_options_are_refused_in_one_line(image: Path, weights: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.glb"
    for option, wanted in (
        ("flow.tokens=0", "tokens must be at least 1, not 0"),
        ("vae.tokens=0", "tokens must be at least 1, not 0"),
        ("stages.2.with.steps=0", "steps"),
        ("stages.2.with.guidance=.nan", "guidance must be finite"),
    ):
        assert_refused(triposg(image, output, weights, "--set", option), wanted)
    assert not output.exists()


def test_guidance_without_a_null_condition_is_refused_in_one_line(weights: Path, tmp_path: Path) -> None:
    save_state(Condition(torch.zeros(1, 5, 24), torch.zeros(1, 0, 24)), tmp_path / "cond.safetensors")
    common = ("--input", f"cond={tmp_path / 'cond.safetensors'}", "--weights", weights, "--device", "cpu", "--quiet")
    done = run("run", "triposg", *common, *small("triposg"), "-o", tmp_path / "out.glb")
    assert_refused(done, "needs a null condition", "use guidance 1")


# --- official sizes ---------------------------------------------------------------------------------------------------
def _norm(width: int) -> dict[str, tuple[int, ...]]:
    return {"weight": (width,), "bias": (width,)}


def _linear(out: int, inner: int, bias: bool = True) -> dict[str, tuple[int, ...]]:
    return {"weight": (out, inner)} | ({"bias": (out,)} if bias else {})


def _under(table: dict[str, Any], name: str, part: dict[str, Any]) -> None:
    table |= {f"{name}.{key}": shape for key, shape in part.items()}


def _attention(width: int, context: int, normed: int = 0) -> dict[str, Any]:
    table: dict[str, Any] = {"to_q.weight": (width, width)}
    table |= {f"to_{name}.weight": (width, context) for name in "kv"}
    table |= {f"norm_{name}.weight": (normed,) for name in "qk" if normed}
    _under(table, "to_out.0", _linear(width, width))
    return table


def _feed_forward(table: dict[str, Any], prefix: str, width: int) -> None:
    _under(table, f"{prefix}.norm3", _norm(width))
    _under(table, f"{prefix}.ff.net.0.proj", _linear(4 * width, width))
    _under(table, f"{prefix}.ff.net.2", _linear(width, 4 * width))


def vae_table() -> dict[str, Any]:
    """Section 11 of the specification, written out."""
    table: dict[str, Any] = {}
    for part, width, crossing, blocks in (("encoder", 512, 0, range(1, 9)), ("decoder", 1024, 16, range(16))):
        for block in blocks:
            _under(table, f"{part}.blocks.{block}.norm1", _norm(width))
            _under(table, f"{part}.blocks.{block}.attn1", _attention(width, width))
            _feed_forward(table, f"{part}.blocks.{block}", width)
        cross = f"{part}.blocks.{crossing}"
        _under(table, f"{cross}.norm2", _norm(width))
        _under(table, f"{cross}.attn2", _attention(width, width))
        _under(table, f"{cross}.attn2.norm_cross", _norm(width))
        _feed_forward(table, cross, width)
        _under(table, f"{part}.norm_out", _norm(width))
    _under(table, "encoder.proj_in", _linear(512, 54))
    _under(table, "quant", _linear(128, 512))
    _under(table, "post_quant", _linear(1024, 64))
    _under(table, "decoder.proj_query", _linear(1024, 51))
    _under(table, "decoder.proj_out", _linear(1, 1024))
    return table


def flow_table(context: int, second: int = 0) -> dict[str, Any]:
    """The same for the transformer; ``second`` for the scribble model."""
    table: dict[str, Any] = {}
    _under(table, "time_proj.linear_1", _linear(8192, 2048))
    _under(table, "time_proj.linear_2", _linear(2048, 8192))
    _under(table, "proj_in", _linear(2048, 64))
    _under(table, "proj_out", _linear(64, 2048))
    _under(table, "norm_out", _norm(2048))
    for block in range(21):
        prefix = f"blocks.{block}"
        for norm in ("norm1", "norm2", *(["norm2_2"] if second else [])):
            _under(table, f"{prefix}.{norm}", _norm(2048))
        _under(table, f"{prefix}.attn1", _attention(2048, 2048, 128))
        _under(table, f"{prefix}.attn2", _attention(2048, context, 128))
        if second:
            _under(table, f"{prefix}.attn2_2", _attention(2048, second, 128))
        _feed_forward(table, prefix, 2048)
        if block > 10:
            _under(table, f"{prefix}.skip_linear", _linear(2048, 4096))
            _under(table, f"{prefix}.skip_norm", _norm(2048))
    return table


def dinov2_table() -> dict[str, Any]:
    """Names of the published DINOv2-Large."""
    table: dict[str, Any] = {
        "embeddings.cls_token": (1, 1, 1024),
        "embeddings.mask_token": (1, 1024),
        "embeddings.position_embeddings": (1, 1370, 1024),
        "embeddings.patch_embeddings.projection.weight": (1024, 3, 14, 14),
        "embeddings.patch_embeddings.projection.bias": (1024,),
    }
    for layer in range(24):
        prefix = f"encoder.layer.{layer}"
        for name in ("attention.query", "attention.key", "attention.value", "output.dense"):
            _under(table, f"{prefix}.attention.{name}", _linear(1024, 1024))
        for index in "12":
            _under(table, f"{prefix}.norm{index}", _norm(1024))
            table[f"{prefix}.layer_scale{index}.lambda1"] = (1024,)
        _under(table, f"{prefix}.mlp.fc1", _linear(4096, 1024))
        _under(table, f"{prefix}.mlp.fc2", _linear(1024, 4096))
    _under(table, "layernorm", _norm(1024))
    return table


def clip_table() -> dict[str, Any]:
    """Names of the text half of CLIP-L with its projection."""
    table: dict[str, Any] = {
        "text_model.embeddings.token_embedding.weight": (49408, 768),
        "text_model.embeddings.position_embedding.weight": (77, 768),
        "text_projection.weight": (768, 768),
    }
    for layer in range(12):
        prefix = f"text_model.encoder.layers.{layer}"
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            _under(table, f"{prefix}.self_attn.{name}", _linear(768, 768))
        for index in "12":
            _under(table, f"{prefix}.layer_norm{index}", _norm(768))
        _under(table, f"{prefix}.mlp.fc1", _linear(3072, 768))
        _under(table, f"{prefix}.mlp.fc2", _linear(768, 3072))
    _under(table, "text_model.final_layer_norm", _norm(768))
    return table


TABLES = {
    ("triposg", "dino"): (dinov2_table(), 439, 304_368_640),
    ("triposg", "flow"): (flow_table(1024), 554, 1_439_556_160),
    ("triposg", "vae"): (vae_table(), 356, 242_662_017),
    ("triposg-scribble", "clip"): (clip_table(), 197, 123_650_304),
    ("triposg-scribble", "flow"): (flow_table(768, 1024), 743, 1_681_911_616),
}


@pytest.mark.parametrize(("pipeline", "alias"), TABLES, ids=["-".join(key) for key in TABLES])
def test_official_sizes_have_every_published_key_and_shape(pipeline: str, alias: str) -> None:
    """The components as the shipped registry configures them, on the meta device."""
    catalog = discover()
    plan = check(pipeline, load_registry((), catalog).pipeline(pipeline), catalog)
    with torch.device("meta"):
        part = build_parts(plan, catalog)[alias]
    table, tensors, parameters = TABLES[pipeline, alias]
    assert on_meta(part)
    assert {key: tuple(value.shape) for key, value in published_state(part).items()} == table
    assert len(table) == tensors
    assert sum(torch.Size(shape).numel() for shape in table.values()) == parameters
