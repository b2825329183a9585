"""Which file an entry means, what is said where none is, and what an entry may say."""

from __future__ import annotations

import shutil
import sys
import types
from pathlib import Path
from typing import Any

import pytest
import torch
import toymaker
from safetensors.torch import save_file
from shapewright import discover, load_registry
from shapewright.errors import PlanError, WeightsError
from shapewright.plan import check, started_from
from shapewright.weights.entry import problems, read_entry
from shapewright.weights.fill import fill_from, save_weights
from shapewright.weights.locate import NotFoundError, Places, locate, weights_folders
from shapewright.weights.provide import provide
from torch import nn
from toy_weights import write_repository

PIPELINES = Path(toymaker.__file__).with_name("pipelines.yaml")


def put(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        save_file({"w": torch.zeros(1)}, folder / name)


def chosen(root: Path, **entry: Any) -> list[str]:
    found = locate(read_entry({"repo": "a/b", **entry}), Places((root,), hub=False))
    return [str(path.relative_to(root)) for path in found.files]


# --- choice of file ---------------------------------------------------------------------------------------------------
def test_usual_names_come_before_others(tmp_path: Path) -> None:
    put(tmp_path, "b/vae/model.safetensors", "b/vae/model.fp16.safetensors", "b/unet/only.safetensors")
    assert chosen(tmp_path, subfolder="vae") == ["b/vae/model.safetensors"]
    assert chosen(tmp_path, subfolder="unet") == ["b/unet/only.safetensors"]
    assert chosen(tmp_path, subfolder="vae", file="model.fp16.safetensors") == ["b/vae/model.fp16.safetensors"]


def test_several_files_without_a_usual_name_want_a_choice(tmp_path: Path) -> None:
    put(tmp_path, "b/x.safetensors", "b/y.safetensors")
    with pytest.raises(WeightsError, match=r"holds x.safetensors, y.safetensors; choose one with 'file:'"):
        chosen(tmp_path)


def test_a_file_below_the_repository_is_found_also_where_the_folder_is_the_repository(tmp_path: Path) -> None:
    """Some systems publish one folder of checkpoints instead of a folder a component."""
    put(tmp_path / "one", "a/b/ckpts/flow_bf16.safetensors")
    put(tmp_path / "two", "ckpts/flow_bf16.safetensors")
    assert chosen(tmp_path / "one", file="ckpts/flow_bf16.safetensors") == ["a/b/ckpts/flow_bf16.safetensors"]
    assert chosen(tmp_path / "two", file="ckpts/flow_bf16.safetensors") == ["ckpts/flow_bf16.safetensors"]


def test_paths_are_files_or_folders_relative_to_a_weights_folder_or_absolute(tmp_path: Path) -> None:
    put(tmp_path, "mine/x.safetensors")
    for path in ("mine", "mine/x.safetensors"):
        found = locate(read_entry({"path": path}), Places((tmp_path,), hub=False))
        assert found.files == (tmp_path / "mine" / "x.safetensors",)
        assert found.folder == tmp_path / "mine"
    absolute = locate(read_entry({"path": str(tmp_path / "mine")}), Places(hub=False))
    assert absolute.files == (tmp_path / "mine" / "x.safetensors",)


def test_the_first_folder_that_has_it_wins(tmp_path: Path) -> None:
    put(tmp_path / "first", "b/model.safetensors")
    put(tmp_path / "second", "b/model.safetensors")
    places = Places((tmp_path / "none", tmp_path / "first", tmp_path / "second"), hub=False)
    assert locate(read_entry({"repo": "a/b"}), places).files == (tmp_path / "first" / "b" / "model.safetensors",)


def test_nothing_found_names_what_was_wanted_and_where(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"a/b \(vae\) at 0123abc is not in .*"):
        chosen(tmp_path, subfolder="vae", revision="0123abc")


def test_other_uris_are_resolved_by_plugins(tmp_path: Path) -> None:
    put(tmp_path, "x.safetensors")
    asked: list[tuple[str, bool]] = []

    def resolve(uri: str, cache: Path, offline: bool) -> Path | None:
        asked.append((uri, offline))
        return tmp_path / "x.safetensors" if uri == "shelf://x" else None

    found = locate(read_entry({"uri": "shelf://x"}), Places(offline=True), resolve)
    assert found.files == (tmp_path / "x.safetensors",)
    assert asked == [("shelf://x", True)]
    with pytest.raises(NotFoundError, match="no plugin resolves shelf://y"):
        locate(read_entry({"uri": "shelf://y"}), Places(), resolve)


# --- entries ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("entry", "wanted"),
    [
        ({"repo": "a/b", "path": "c"}, "name two places"),
        ({"subfolder": "x"}, "no place is named"),
        ({"repo": "justaname"}, "not of the form owner/name"),
        ({"repo": "a/b", "revision": 12345}, "put it in quotes"),
        ({"repo": "a/b", "subfolder": "../x"}, "leaves the folder"),
        ({"repo": "a/b", "file": "/x.safetensors"}, "leaves the folder"),
        ({"repo": "a/b", "file": "x.ckpt"}, "convert-weights"),
        ({"repo": "a/b", "ignore": "rope"}, "wants a list of patterns"),
        ({"repo": "a/b", "size": "5 GB"}, "wants bytes"),
        ({"repo": "a/b", "sha256": "123"}, "not 64 hexadecimal digits"),
        ({"repo": "a/b", "format": "pickle"}, "only safetensors is read"),
    ],
)
def test_wrong_entries_are_told_when_a_pipeline_is_planned(entry: dict[str, Any], wanted: str) -> None:
    (line,) = problems(entry)
    assert wanted in line
    catalog = discover(points=[], extra=[toymaker])
    toy = load_registry([PIPELINES]).pipeline("toy-encode")
    toy["components"]["vae"]["weights"] = entry
    with pytest.raises(PlanError, match=r"components.vae.weights: "):
        check("toy-encode", toy, catalog)


def test_good_entries_have_no_problem() -> None:
    assert problems({}) == []
    assert problems({"trained_with": {"attention": "attention/a"}}) == []
    assert problems({"repo": "a/b", "sha256": {"x.safetensors": "0" * 64}, "files": ["t/*"], "size": 5}) == []


# --- plans ------------------------------------------------------------------------------------------------------------
def test_everything_is_checked_before_a_tensor_is_read_and_parts_see_their_folder(tmp_path: Path) -> None:
    catalog = discover(points=[], extra=[toymaker])
    plan = check("toy", load_registry([PIPELINES]).pipeline("toy"), catalog)
    repository = write_repository(tmp_path / "toy")
    provided = provide(plan, catalog, places=Places((tmp_path,), hub=False))
    assert all(
        parameter.is_meta for alias in ("eye", "flow", "vae") for parameter in provided.parts[alias].parameters()
    )
    assert provided.parts["vae"].files == ["eye", "flow", "model_index.json", "vae"]
    assert set(provided.fillers) == {"eye", "flow", "vae"}
    shutil.rmtree(repository / "flow")
    shutil.rmtree(repository / "eye")
    with pytest.raises(WeightsError, match="has no sub-folder"):
        provide(plan, catalog, places=Places((tmp_path,), hub=False))


def test_trained_with_is_compared_with_defaults_too() -> None:
    catalog = discover(points=[], extra=[toymaker])
    entry = load_registry([PIPELINES]).pipeline("toy")
    entry["components"]["flow"]["weights"]["trained_with"] = {"mixer": "ssa"}
    with pytest.raises(PlanError, match="trained with 'ssa' as mixer, not 'mean'"):
        provide(check("toy", entry, catalog), catalog, random_seed=0)
    entry["components"]["flow"]["weights"]["trained_with"] = {"mixture": "ssa"}
    with pytest.raises(PlanError, match="has no option 'mixture'"):
        provide(check("toy", entry, catalog), catalog, random_seed=0)


def test_a_plan_started_from_a_value_keeps_what_its_output_needs() -> None:
    catalog = discover(points=[], extra=[toymaker])
    plan = check("toy", load_registry([PIPELINES]).pipeline("toy"), catalog)
    short = started_from(plan, ["judged"])
    assert [stage.id for stage in short.stages] == ["vae.decode", "mesher.extract"]
    assert dict(short.inputs) == {"judged": "latent.tokens"}
    assert set(short.parts) == {"vae", "mesher"}
    assert [stage.id for stage in started_from(plan, []).stages] == [stage.id for stage in plan.stages]
    with pytest.raises(PlanError, match="did you mean 'judged'"):
        started_from(plan, ["juged"])


# --- memory -----------------------------------------------------------------------------------------------------------
def anonymous_bytes() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) * 1024
    pytest.skip("this system does not tell anonymous memory apart")


def test_loading_takes_no_memory_beside_the_file_and_converting_takes_the_result_only(tmp_path: Path) -> None:
    if not Path("/proc/self/status").exists():
        pytest.skip("no /proc here")
    from shapewright.weights.checkpoint import open_checkpoint
    from shapewright.weights.empty import without_memory

    def network() -> nn.Sequential:
        return nn.Sequential(*(nn.Linear(2048, 2048, bias=False) for _ in range(6)))

    whole = 6 * 2048 * 2048 * 4
    files = save_weights(network(), tmp_path / "model.safetensors")
    with without_memory():
        mapped, converted = network(), network()
    before = anonymous_bytes()
    fill_from(mapped, open_checkpoint(files), "mapped")
    # Reads every page without a converted copy, whose memory an allocator may keep.
    assert max(float(parameter.detach().amax()) for parameter in mapped.parameters()) < 1
    assert anonymous_bytes() - before < whole / 3
    before = anonymous_bytes()
    fill_from(converted, open_checkpoint(files), "converted", dtype=torch.bfloat16)
    assert anonymous_bytes() - before < whole * 0.7


@pytest.mark.parametrize(
    ("variable", "places", "wanted"),
    [
        ("", Places(offline=True), "and --offline forbids"),
        ("", Places(offline=True, refusal="without --download it is not fetched"), "and without --download"),
        ("1", Places(), "and the variable HF_HUB_OFFLINE forbids"),
    ],
)
def test_the_reason_why_nothing_is_fetched_is_the_one_that_holds(
    variable: str, places: Places, wanted: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nothing_there(*_: object, **options: object) -> str:
        raise FileNotFoundError("not in the cache") if options["local_files_only"] else AssertionError("fetched")

    hub = types.ModuleType("huggingface_hub")
    hub.snapshot_download = nothing_there  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    monkeypatch.setenv("HF_HUB_OFFLINE", variable)
    with pytest.raises(NotFoundError, match=wanted):
        locate(read_entry({"repo": "a/b"}), places)


def test_a_folder_that_was_given_must_be_one(tmp_path: Path) -> None:
    put(tmp_path, "x.safetensors")
    with pytest.raises(WeightsError, match=r"x\.safetensors: is a file; name the folder it lies in"):
        weights_folders((tmp_path / "x.safetensors",))
    with pytest.raises(WeightsError, match="nowhere: there is no such folder"):
        weights_folders((tmp_path / "nowhere",))
    assert weights_folders((tmp_path,))[0] == tmp_path
