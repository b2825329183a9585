"""``shapewright run``, ``weights`` and ``convert-weights`` with a third party's pipeline of learned components."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from distributions import environment
from in_process import Done, assert_refused, run
from safetensors.torch import load_file, save_file
from shapewright.mesh_io import load_mesh
from shapewright.state_files import load_state
from toy_weights import toymaker_installed, write_image, write_repository


@pytest.fixture(scope="module", autouse=True)
def _installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with toymaker_installed(tmp_path_factory.mktemp("site")):
        yield


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    write_repository(folder / "toymaker" / "toy", shard_bytes=300)
    return folder


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SHAPEWRIGHT_WEIGHTS", raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return write_image(tmp_path / "chair.png", 3)


def made(done: Done) -> None:
    assert done.returncode == 0, done.stderr


# --- runs -------------------------------------------------------------------------------------------------------------
def test_an_image_becomes_a_mesh_and_progress_is_told(image: Path, weights: Path, tmp_path: Path) -> None:
    done = run("run", "toy", "--image", image, "-o", tmp_path / "out.glb", "--weights", weights, "--device", "cpu")
    made(done)
    assert done.stdout.startswith(f"{tmp_path / 'out.glb'}: 6 vertices, 8 faces in ")
    lines = done.stderr.splitlines()
    assert [line for line in lines if line.startswith("[")] == [
        "[1/5] eye.encode",
        "[2/5] flow.sample",
        "[3/5] judge.apply",
        "[4/5] vae.decode",
        "[5/5] mesher.extract",
    ]
    assert sum("read " in line for line in lines) == 3
    assert len(load_mesh(tmp_path / "out.glb").faces) == 8


def test_seeds_repeat_bit_for_bit_and_other_seeds_differ(image: Path, weights: Path, tmp_path: Path) -> None:
    shutil.copy(image, tmp_path / "renamed.png")
    for name, seed, source in (("a", 5, "chair.png"), ("b", 5, "renamed.png"), ("c", 6, "chair.png")):
        made(
            run(
                "run",
                "toy",
                "--image",
                tmp_path / source,
                "-o",
                tmp_path / f"{name}.glb",
                "--weights",
                weights,
                "--seed",
                seed,
            )
        )
    assert (tmp_path / "a.glb").read_bytes() == (tmp_path / "b.glb").read_bytes()
    assert (tmp_path / "a.glb").read_bytes() != (tmp_path / "c.glb").read_bytes()


@pytest.mark.parametrize("batch", [1, 2])
def test_several_images_give_what_single_runs_give(weights: Path, tmp_path: Path, batch: int) -> None:
    images = [write_image(tmp_path / f"{name}.png", shade) for name, shade in (("a", 3), ("b", 90))]
    images.append(write_image(tmp_path / "more" / "a.png", 200) if (tmp_path / "more").mkdir() is None else images[0])
    together = [part for image in images for part in ("--image", image)]
    done = run("run", "toy", *together, "-o", tmp_path / "out", "--weights", weights, "--batch", batch, "--quiet")
    made(done)
    assert done.stderr == ""
    for image, name in zip(images, ("a", "b", "a-2"), strict=True):
        alone = tmp_path / f"alone-{name}.glb"
        made(run("run", "toy", "--image", image, "-o", alone, "--weights", weights, "--quiet"))
        if batch == 1:
            assert (tmp_path / "out" / f"{name}.glb").read_bytes() == alone.read_bytes()
        else:
            got, wanted = load_mesh(tmp_path / "out" / f"{name}.glb"), load_mesh(alone)
            torch.testing.assert_close(got.vertices, wanted.vertices, rtol=0, atol=1e-6)


@pytest.mark.parametrize("residency", ["one-at-a-time", "offload"])
def test_residency_and_dtype_are_options(image: Path, weights: Path, tmp_path: Path, residency: str) -> None:
    common = ("--image", image, "--weights", weights, "--quiet")
    made(run("run", "toy", *common, "-o", tmp_path / "keep.glb"))
    made(run("run", "toy", *common, "-o", tmp_path / "other.glb", "--residency", residency))
    assert (tmp_path / "keep.glb").read_bytes() == (tmp_path / "other.glb").read_bytes()
    made(run("run", "toy", *common, "-o", tmp_path / "half.glb", "--dtype", "bfloat16"))
    half, full = load_mesh(tmp_path / "half.glb").vertices, load_mesh(tmp_path / "keep.glb").vertices
    assert not torch.equal(half, full)
    torch.testing.assert_close(half, full, rtol=0, atol=0.02)


def test_the_card_says_what_ran_what_it_cost_and_where_weights_came_from(
    image: Path, weights: Path, tmp_path: Path
) -> None:
    card_file = tmp_path / "card.json"
    made(run(
        "run", "toy", "--image", image, "-o", tmp_path / "out.glb", "--weights", weights, "--json", card_file,
        "--set", "stages.1.with.steps=4", "--seed", 9, "--residency", "offload", "--device", "cpu",
    ))  # fmt: skip
    card = json.loads(card_file.read_text())
    assert (card["schema"], card["pipeline"], card["seed"], card["device"]) == (1, "toy", 9, "cpu")
    assert card["entry"]["stages"][1]["with"] == {"steps": 4}
    assert [stage["id"] for stage in card["stages"]][:2] == ["eye.encode", "flow.sample"]
    for stage in card["stages"]:
        assert stage["seconds"] >= 0
        assert stage["host_bytes"] >= 0
        assert stage["device_bytes"] is None
    assert card["peak_memory_bytes"] == max(stage["host_bytes"] for stage in card["stages"])
    assert card["samples"][0]["status"] == "ok"
    assert card["weights"]["flow"]["license"] == "MIT"
    assert all(Path(file).is_file() for file in card["weights"]["flow"]["files"])
    assert len(card["weights"]["flow"]["files"]) > 1
    assert [event["component"] for event in card["residency_log"] if event["action"] == "read"] == [
        "eye",
        "flow",
        "vae",
    ]


def test_a_mesh_becomes_latents_in_a_file(weights: Path, tmp_path: Path) -> None:
    mesh = tmp_path / "box.off"
    mesh.write_text("OFF\n4 4 0\n0 0 0\n2 0 0\n0 2 0\n0 0 2\n3 0 2 1\n3 0 1 3\n3 0 3 2\n3 1 2 3\n")
    made(run("run", "toy-encode", "--mesh", mesh, "-o", tmp_path / "z.safetensors", "--weights", weights))
    latent = load_state(tmp_path / "z.safetensors")
    assert latent.tag == "latent.tokens"
    assert latent.values.shape == (1, 4, 8)


def test_values_of_stages_are_kept_and_a_run_can_start_from_them(image: Path, weights: Path, tmp_path: Path) -> None:
    common = ("--weights", weights, "--quiet")
    kept = tmp_path / "kept"
    done = run("run", "toy", "--image", image, "-o", tmp_path / "a.glb", *common[:2], "--keep-stages", kept)
    made(done)
    assert "not kept, since no file holds a function: field" in done.stderr
    assert sorted(p.name for p in (kept / "chair").iterdir()) == [
        "cond.safetensors", "judged.safetensors", "mesh.glb", "mesh.safetensors", "z.safetensors",
    ]  # fmt: skip
    made(run("run", "toy", "--input", f"z={kept / 'chair' / 'z.safetensors'}", "-o", tmp_path / "b.glb", *common))
    assert (tmp_path / "a.glb").read_bytes() == (tmp_path / "b.glb").read_bytes()


def test_only_the_weights_that_are_used_are_needed(image: Path, weights: Path, tmp_path: Path) -> None:
    made(
        run(
            "run",
            "toy",
            "--image",
            image,
            "-o",
            tmp_path / "a.glb",
            "--weights",
            weights,
            "--keep-stages",
            tmp_path / "k",
        )
    )
    part = tmp_path / "part"
    shutil.copytree(weights / "toymaker" / "toy" / "vae", part / "toy" / "vae")
    z = tmp_path / "k" / "chair" / "z.safetensors"
    made(run("run", "toy", "--input", f"z={z}", "-o", tmp_path / "b.glb", "--weights", part))
    assert (tmp_path / "a.glb").read_bytes() == (tmp_path / "b.glb").read_bytes()


def test_random_weights_repeat_and_need_no_files(image: Path, tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        done = run("run", "toy", "--image", image, "-o", tmp_path / f"{name}.glb", "--random-weights", seed)
        made(done)
        assert "random weights: the result is noise" in done.stderr
    assert (tmp_path / "a.glb").read_bytes() == (tmp_path / "b.glb").read_bytes()
    assert (tmp_path / "a.glb").read_bytes() != (tmp_path / "c.glb").read_bytes()


# --- failures ---------------------------------------------------------------------------------------------------------
def test_one_bad_sample_spoils_no_other(weights: Path, tmp_path: Path) -> None:
    images = [
        write_image(tmp_path / "good.png", 3),
        write_image(tmp_path / "bad.png", 4, size=(20, 13)),
        write_image(tmp_path / "fine.png", 5),
    ]
    card = tmp_path / "card.json"
    given = [part for image in images for part in ("--image", image)]
    done = run(
        "run", "toy", *given, "-o", tmp_path / "out", "--weights", weights, "--quiet", "--json", card, "--batch", 3
    )
    assert done.returncode == 1
    assert done.stderr == "error: bad: stage eye.encode: the toy is afraid of images of 13 rows\n"
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["fine.glb", "good.glb"]
    assert [sample["status"] for sample in json.loads(card.read_text())["samples"]] == ["ok", "failed", "ok"]


def test_a_failed_stage_loses_nothing_that_was_kept(image: Path, weights: Path, tmp_path: Path) -> None:
    done = run(
        "run", "toy", "--image", image, "-o", tmp_path / "a.glb", "--weights", weights, "--set", "judge.refuse=true",
        "--keep-stages", tmp_path / "kept", "--quiet",
    )  # fmt: skip
    assert_refused(done, "stage judge.apply: the judge refuses")
    assert not (tmp_path / "a.glb").exists()
    z = tmp_path / "kept" / "chair" / "z.safetensors"
    made(run("run", "toy", "--input", f"z={z}", "-o", tmp_path / "a.glb", "--weights", weights))


def test_an_unforeseen_failure_is_one_line_and_the_whole_story_on_request(
    image: Path, weights: Path, tmp_path: Path
) -> None:
    common = (
        "run",
        "toy",
        "--image",
        image,
        "-o",
        tmp_path / "a.glb",
        "--weights",
        weights,
        "--quiet",
        "--set",
        "judge.crash=true",
    )
    done = run(*common)
    assert done.returncode == 1
    assert done.stderr == "error: chair: stage judge.apply: ZeroDivisionError: the judge fell ill\n"
    assert "Traceback" in run(*common, "--debug").stderr


def test_a_failed_write_leaves_the_old_file(
    image: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "out" / "a.glb"
    target.parent.mkdir()
    target.write_bytes(b"old")
    assert_refused(run("run", "toy", "--image", image, "-o", target, "--weights", weights), "exists")

    def full(source: object, destination: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    done = run("run", "toy", "--image", image, "-o", target, "--weights", weights, "--overwrite", "--quiet")
    assert_refused(done, "cannot write", "No space left")
    assert target.read_bytes() == b"old"
    assert [path.name for path in target.parent.iterdir()] == ["a.glb"]


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        ((), "wants image (--image FILE); missing: image"),
        (("--mesh", "x.obj", "--image", "IMAGE"), "takes no mesh (--mesh)"),
        (("--image", "nowhere.png"), "nowhere.png: no such file"),
        (("--image", "IMAGE", "--image", "IMAGE"), "2 inputs give 2 results"),
        (("--image", "IMAGE", "--device", "tpu"), "device 'tpu' is unknown"),
        (("--image", "IMAGE", "--device", "cuda:9"), "device 'cuda:9' is not here"),
        (("--image", "IMAGE", "--input", "zz=a"), "'zz' is no value of it; did you mean 'z'?"),
        (("--image", "IMAGE", "--input", "zz"), "write it as NAME=FILE"),
        (("--image", "IMAGE", "--set", "flow.mixer=ssa"), "trained with 'mean' as mixer, not 'ssa'"),
        (("--image", "IMAGE", "--set", "flow.tokens=0", "--random-weights", "0"), "tokens must be at least 1, not 0"),
        (("--image", "IMAGE", "--set", "stages.1.with.stepz=3"), "did you mean 'steps'?"),
        (("--image", "IMAGE", "--weights", "nowhere"), "--weights nowhere: there is no such folder"),
        (("--image", "IMAGE", "-o", "a.txt"), "are written as .glb"),
    ],
)
def test_bad_requests_are_refused_in_one_line(
    image: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], wanted: str
) -> None:
    monkeypatch.chdir(tmp_path)
    given = [str(image) if part == "IMAGE" else part for part in arguments]
    done = run("run", "toy", "-o", "out.glb", "--weights", weights, "--quiet", *given)
    assert done.returncode == 2, done.stderr
    assert wanted in done.stderr.replace("\n", " ")
    assert "Traceback" not in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["chair.png"]


def test_latents_of_networks_not_trained_for_one_another_are_refused(image: Path, tmp_path: Path) -> None:
    done = run("run", "toy-unsuited", "--image", image, "-o", tmp_path / "a.safetensors", "--random-weights", 0)
    assert_refused(done, "function")
    done = run(
        "run",
        "toy",
        "--image",
        image,
        "-o",
        tmp_path / "a.glb",
        "--random-weights",
        0,
        "--set",
        "flow.statistics=another",
    )
    assert_refused(done, "takes latents of", "they need weights trained for one another")


# --- weights that are missing or wrong --------------------------------------------------------------------------------
def test_without_weights_the_line_says_what_to_do(image: Path, tmp_path: Path) -> None:
    done = run("run", "toy", "--image", image, "-o", tmp_path / "a.glb", "--offline")
    assert done.returncode == 2
    for wanted in (
        "lacks the weights of 3 component(s)",
        "eye: toymaker/toy (eye)",
        "flow:",
        "vae:",
        "1 kB, MIT",
        "--weights DIR",
        "--random-weights 0",
    ):
        assert wanted in done.stderr


def broken(weights: Path, folder: Path) -> Path:
    shutil.copytree(weights / "toymaker" / "toy", folder / "toy")
    return folder / "toy"


def test_wrong_files_are_told_with_all_their_differences(image: Path, weights: Path, tmp_path: Path) -> None:
    toy = broken(weights, tmp_path / "w")
    file = toy / "eye" / "model.safetensors"
    state = load_file(file)

    def refusal() -> str:
        done = run("run", "toy", "--image", image, "-o", tmp_path / "a.glb", "--weights", tmp_path / "w", "--quiet")
        assert done.returncode == 2
        assert "Traceback" not in done.stderr
        return done.stderr

    save_file({"linear.weight": torch.zeros(8, 4), "lin.bias": torch.zeros(8)}, file)
    text = refusal()
    for wanted in ("toy: eye", "3 differences", "shape of linear.weight", "missing linear.bias", "unexpected lin.bias"):
        assert wanted in text
    save_file({key: value.to(torch.int32) for key, value in state.items()}, file)
    assert "dtype of linear.weight is I32, not a float type" in refusal()
    save_file(state, file)
    file.write_bytes(file.read_bytes()[:-3])
    assert "damaged, cut short" in refusal()
    file.unlink()
    torch.save(state, toy / "eye" / "pytorch_model.bin")
    assert "convert-weights" in refusal()
    (toy / "eye" / "pytorch_model.bin").unlink()
    assert "holds no .safetensors file" in refusal()
    (toy / "eye").rmdir()
    assert "has no sub-folder 'eye'; it has flow, vae" in refusal()


def test_missing_shards_are_all_named(image: Path, weights: Path, tmp_path: Path) -> None:
    toy = broken(weights, tmp_path / "w")
    shards = sorted((toy / "flow").glob("*-of-*.safetensors"))
    for shard in shards[:2]:
        shard.unlink()
    done = run("run", "toy", "--image", image, "-o", tmp_path / "a.glb", "--weights", tmp_path / "w", "--quiet")
    assert_refused(done, f"lacks 2 of {len(shards)} shards: {shards[0].name}, {shards[1].name}")
    (toy / "flow" / "diffusion_pytorch_model.safetensors.index.json").write_text("[1")
    done = run("run", "toy", "--image", image, "-o", tmp_path / "a.glb", "--weights", tmp_path / "w", "--quiet")
    assert_refused(done, "is not the index of a sharded checkpoint")


# --- where weights are looked for -------------------------------------------------------------------------------------
@pytest.mark.parametrize("layout", ["owner", "name", "itself", "cache", "environment", "registry"])
def test_weights_are_found_in_every_documented_place(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layout: str
) -> None:
    source = weights / "toymaker" / "toy"
    arguments: list[Any] = ["--weights", weights]
    if layout == "name":
        shutil.copytree(source, tmp_path / "toy")
        arguments = ["--weights", tmp_path]
    elif layout == "itself":
        arguments = ["--weights", source]
    elif layout == "cache":
        cache = tmp_path / "models--toymaker--toy"
        shutil.copytree(source, cache / "snapshots" / "abc123")
        (cache / "refs").mkdir()
        (cache / "refs" / "main").write_text("abc123\n")
        arguments = ["--weights", tmp_path]
    elif layout == "environment":
        monkeypatch.setenv("SHAPEWRIGHT_WEIGHTS", os.pathsep.join([str(tmp_path / "none"), str(weights)]))
        arguments = []
    elif layout == "registry":
        (tmp_path / "mine.yaml").write_text(f"schema: 1\ndefaults:\n  weights: {{folders: ['{weights}']}}\n")
        arguments = ["--registry", tmp_path / "mine.yaml"]
    done = run("weights", "toy", "--json", *arguments)
    made(done)
    needs = json.loads(done.stdout)
    assert [(need["component"], need["state"]) for need in needs] == [
        ("eye", "found"),
        ("flow", "found"),
        ("vae", "found"),
    ]
    assert all(Path(file).is_file() for need in needs for file in need["files"])
    assert needs[0]["revision"] == ("abc123" if layout == "cache" else "")


def test_the_list_of_weights_says_size_licence_and_place(weights: Path) -> None:
    done = run("weights", "toy", "--weights", weights, "--verify")
    made(done)
    assert "toymaker/toy (eye)" in done.stdout
    assert "MIT" in done.stdout
    assert "CC0" in done.stdout
    assert f"folders searched: {weights}" in done.stdout
    assert "keys, shapes and checksums fit" in done.stderr
    missing = run("weights", "toy", "--offline")
    assert missing.returncode == 1
    assert "missing: toymaker/toy (flow)" in missing.stdout
    assert run("weights", "roundtrip-sdf").stdout == "roundtrip-sdf needs no weights\n"


def test_the_hub_is_asked_for_the_pinned_revision_and_what_is_needed_only(
    image: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[str, Any]] = []
    snapshot = tmp_path / "hub" / "snapshots" / "0123abc"

    def snapshot_download(repo_id: str, **options: Any) -> str:
        asked.append({"repo": repo_id, **options})
        if options["local_files_only"] and not snapshot.exists():
            raise FileNotFoundError("nothing is cached")
        if not snapshot.exists():
            shutil.copytree(weights / "toymaker" / "toy", snapshot)
        return str(snapshot)

    hub = types.ModuleType("huggingface_hub")
    hub.snapshot_download = snapshot_download  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    monkeypatch.delenv("HF_HUB_OFFLINE")
    arguments = [
        "run",
        "toy",
        "--image",
        image,
        "--quiet",
        *(p for a in ("eye", "flow", "vae") for p in ("--set", f"components.{a}.weights.revision=0123abc")),
    ]
    refused = run(*arguments, "-o", tmp_path / "a.glb", "--offline")
    assert refused.returncode == 2
    assert "--offline forbids" in refused.stderr
    assert all(each["local_files_only"] for each in asked)
    asked.clear()
    made(run(*arguments, "-o", tmp_path / "a.glb", "--json", tmp_path / "card.json"))
    assert {each["repo"] for each in asked} == {"toymaker/toy"}
    assert {each["revision"] for each in asked} == {"0123abc"}
    assert asked[0]["allow_patterns"][0] == "eye/*.safetensors"
    assert [each["local_files_only"] for each in asked] == [True, False, True, True]
    assert json.loads((tmp_path / "card.json").read_text())["weights"]["vae"]["revision"] == "0123abc"
    shutil.rmtree(snapshot)
    pinned = run("weights", "toy", "--download", *arguments[5:])
    assert pinned.returncode == 0
    assert "warning" not in pinned.stderr
    shutil.rmtree(snapshot)
    loose = run("weights", "toy", "--download")
    assert loose.returncode == 0
    assert loose.stderr == (
        "warning: toymaker/toy is not pinned to a revision, and may change; 0123abc was fetched; "
        "--set components.NAME.weights.revision=0123abc keeps to it\n"
    )
    assert run("weights", "toy", "--download").stderr == ""  # it is in the cache now


def test_without_the_hub_client_its_extra_is_named(
    image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    done = run("run", "toy", "--image", image, "-o", tmp_path / "a.glb")
    assert done.returncode == 2
    assert "pip install 'shapewright[hub]'" in done.stderr


# --- convert-weights --------------------------------------------------------------------------------------------------
def test_a_pickle_becomes_safetensors_that_run(image: Path, weights: Path, tmp_path: Path) -> None:
    toy = broken(weights, tmp_path / "w")
    file = toy / "eye" / "model.safetensors"
    state = load_file(file)
    file.unlink()
    checkpoint = tmp_path / "eye.ckpt"
    torch.save({"epoch": 3, "state_dict": state, "optimizer": {"state": {}}}, checkpoint)
    done = run("convert-weights", checkpoint, file)
    made(done)
    assert done.stdout.startswith(f"{file}: 2 tensors, ")
    for key, value in load_file(file).items():
        assert torch.equal(value, state[key])
    made(run("run", "toy", "--image", image, "-o", tmp_path / "a.glb", "--weights", tmp_path / "w"))
    assert_refused(run("convert-weights", checkpoint, file), "exists")
    made(run("convert-weights", checkpoint, file, "--overwrite", "--key", "state_dict", "--dtype", "float16"))
    assert {value.dtype for value in load_file(file).values()} == {torch.float16}


class _Evil:
    def __reduce__(self) -> Any:
        return (os.system, ("touch /tmp/shapewright-was-here",))


def test_code_in_a_checkpoint_is_not_run(tmp_path: Path) -> None:
    path = tmp_path / "evil.ckpt"
    torch.save({"state_dict": {"w": torch.zeros(1)}, "extra": _Evil()}, path)
    done = run("convert-weights", path, tmp_path / "out.safetensors")
    assert_refused(done, "holds more than tensors (", "system); it was not opened further")
    assert "weights_only" not in done.stderr  # torch's own text advises to switch the protection off
    assert not Path("/tmp/shapewright-was-here").exists()
    assert not (tmp_path / "out.safetensors").exists()


def test_files_that_are_no_checkpoints_are_refused_in_one_line(tmp_path: Path) -> None:
    for name, content in (("empty.ckpt", b""), ("text.ckpt", b"hello"), ("cut.ckpt", b"PK\x03\x04rest")):
        (tmp_path / name).write_bytes(content)
        assert_refused(run("convert-weights", tmp_path / name, tmp_path / "out.safetensors"), name)
    assert_refused(run("convert-weights", tmp_path / "none.ckpt", tmp_path / "o.safetensors"), "no such file")
    torch.save({"state_dict": {"w": torch.zeros(1)}}, tmp_path / "good.ckpt")
    assert_refused(run("convert-weights", tmp_path / "good.ckpt", tmp_path / "out.bin"), "written as .safetensors")
    assert_refused(
        run("convert-weights", tmp_path / "good.ckpt", tmp_path / "o.safetensors", "--key", "ema"), "no 'ema' in it"
    )
    torch.save({"epoch": 3}, tmp_path / "numbers.ckpt")
    assert_refused(
        run("convert-weights", tmp_path / "numbers.ckpt", tmp_path / "o.safetensors"), "holds no tensors by name"
    )


@pytest.mark.parametrize("arguments", [("run", "--help"), ("weights", "roundtrip-sdf"), ("convert-weights", "--help")])
def test_asking_stays_light(arguments: tuple[str, ...]) -> None:
    """Listing weights and help import no torch, so they answer at once."""
    code = (
        "import sys; from shapewright.cli import main\n"
        f"try: main({list(arguments)!r})\n"
        "except SystemExit as end: print(end.code, 'torch' in sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment(), check=True)
    assert done.stderr.split() == ["0", "False"]
