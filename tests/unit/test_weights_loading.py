"""Weights into components: nothing copied, everything compared, what was loaded can be saved again."""

from __future__ import annotations

import json
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from shapewright.errors import OutputExistsError, WeightsError
from shapewright.weights.checkpoint import file_sha256, open_checkpoint, verify_sha256
from shapewright.weights.empty import empty, on_meta, parameter_bytes, without_memory
from shapewright.weights.fill import fill_at_random, fill_from, published_state, save_weights
from torch import nn
from toymaker.networks import VAE, Eye, EyeConfig, Flow, FlowConfig, VAEConfig


def filled(seed: int = 1) -> Flow:
    flow = Flow(FlowConfig())
    fill_at_random(flow, seed, "flow")
    return flow


def hollow(config: FlowConfig | None = None) -> Flow:
    with without_memory():
        return Flow(config or FlowConfig())


def stored(part: nn.Module, folder: Path, **options: object) -> list[Path]:
    files = save_weights(part, folder / "model.safetensors", **options)  # type: ignore[arg-type]
    return [file for file in files if file.suffix == ".safetensors"]


# --- without memory ---------------------------------------------------------------------------------------------------
def test_parameters_built_without_memory_are_on_meta_and_buffers_are_real() -> None:
    with without_memory():
        eye = Eye(EyeConfig())
    assert set(on_meta(eye)) == {"linear.weight", "linear.bias"}
    torch.testing.assert_close(eye.positions, Eye(EyeConfig()).positions)
    assert on_meta(Eye(EyeConfig())) == []


def test_emptied_networks_keep_their_buffers_and_can_be_filled_again(tmp_path: Path) -> None:
    eye = Eye(EyeConfig())
    files = stored(eye, tmp_path)
    before = {key: value.clone() for key, value in eye.state_dict().items()}
    positions = eye.positions.clone()
    size = parameter_bytes(eye)
    empty(eye)
    assert on_meta(eye) == ["linear.weight", "linear.bias"]
    assert parameter_bytes(eye) == size
    fill_from(eye, open_checkpoint(files), "eye")
    assert torch.equal(eye.positions, positions)
    for key, value in eye.state_dict().items():
        assert torch.equal(value, before[key])


# --- loading ----------------------------------------------------------------------------------------------------------
def test_a_saved_network_loads_bit_for_bit_and_saves_the_same_file(tmp_path: Path) -> None:
    flow = filled()
    files = stored(flow, tmp_path)
    loaded = hollow()
    fill_from(loaded, open_checkpoint(files), "flow")
    for key, value in flow.state_dict().items():
        assert torch.equal(value, loaded.state_dict()[key])
    (again,) = stored(loaded, tmp_path / "again")
    assert again.read_bytes() == files[0].read_bytes()


def test_files_hold_published_names_and_order(tmp_path: Path) -> None:
    flow = filled()
    (file,) = stored(flow, tmp_path)
    state = load_file(file)
    assert set(state) == {"qkv.weight", "qkv.bias", "norm.weight", "norm.bias", "outer.weight", "outer.bias"}
    assert torch.equal(state["qkv.weight"], flow.inner.weight.flip(0))
    assert not torch.equal(state["qkv.weight"], flow.inner.weight)


def test_tensors_of_the_file_become_the_parameters_without_a_copy(tmp_path: Path) -> None:
    vae = VAE(VAEConfig())
    files = stored(vae, tmp_path)
    with without_memory():
        loaded = VAE(VAEConfig())
    fill_from(loaded, open_checkpoint(files), "vae")
    mapped = Path("/proc/self/maps")
    if not mapped.exists():
        pytest.skip("no /proc here")
    address = loaded.radius.weight.data_ptr()
    for line in mapped.read_text().splitlines():
        low, high = (int(end, 16) for end in line.split()[0].split("-"))
        if low <= address < high:
            assert str(files[0]) in line
            return
    pytest.fail("the parameter lies in no mapping")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_a_dtype_is_taken_by_all_but_what_must_stay_float32(tmp_path: Path, dtype: torch.dtype) -> None:
    flow = filled()
    files = stored(flow, tmp_path)
    loaded = hollow()
    fill_from(loaded, open_checkpoint(files), "flow", dtype=dtype)
    assert (loaded.inner.weight.dtype, loaded.outer.bias.dtype, loaded.norm.weight.dtype) == (
        dtype,
        dtype,
        torch.float32,
    )
    assert torch.equal(loaded.inner.weight, flow.inner.weight.to(dtype))


def test_without_a_dtype_that_of_the_file_is_kept(tmp_path: Path) -> None:
    files = stored(filled().to(torch.float16), tmp_path)
    loaded = hollow()
    fill_from(loaded, open_checkpoint(files), "flow")
    assert {value.dtype for value in loaded.parameters()} == {torch.float16}


def test_loading_one_tensor_in_another_dtype_never_holds_two_copies_of_all(tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    """At most one tensor of the file's dtype is alive when the next is read."""
    files = stored(filled(), tmp_path)
    checkpoint = open_checkpoint(files)
    alive: list[weakref.ref[torch.Tensor]] = []
    original = type(checkpoint).reader

    @contextmanager
    def watched(self, device="cpu") -> Iterator[Callable[[str], torch.Tensor]]:  # type: ignore[no-untyped-def]
        with original(self, device) as read:

            def reading(key: str) -> torch.Tensor:
                assert sum(reference() is not None for reference in alive) <= 1
                tensor = read(key)
                if not key.startswith("norm."):  # those stay as they are, without a copy
                    alive.append(weakref.ref(tensor))
                return tensor

            yield reading

    monkeypatch.setattr(type(checkpoint), "reader", watched)
    fill_from(hollow(), checkpoint, "flow", dtype=torch.bfloat16)
    assert len(alive) == 4


@pytest.mark.parametrize("shard_bytes", [1, 300, 700])
def test_shards_load_like_one_file(tmp_path: Path, shard_bytes: int) -> None:
    flow = filled()
    files = stored(flow, tmp_path, shard_bytes=shard_bytes)
    assert len(files) > 1
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    assert set(index["weight_map"]) == set(published_state(flow))
    assert index["metadata"]["total_size"] == sum(v.numel() * 4 for v in published_state(flow).values())
    loaded = hollow()
    fill_from(loaded, open_checkpoint(files), "flow")
    for key, value in flow.state_dict().items():
        assert torch.equal(value, loaded.state_dict()[key])


def test_keys_of_other_networks_in_one_file_are_told_apart_by_prefix(tmp_path: Path) -> None:
    flow = filled()
    state = published_state(flow)
    save_file(
        {**{f"flow.{k}": v.contiguous() for k, v in state.items()}, "vae.weight": torch.ones(3)},
        tmp_path / "a.safetensors",
    )
    loaded = hollow()
    fill_from(loaded, open_checkpoint([tmp_path / "a.safetensors"], "flow."), "flow")
    assert torch.equal(loaded.outer.weight, flow.outer.weight)
    with pytest.raises(WeightsError, match=r"none of the 7 keys.*starts with 'dit.'"):
        open_checkpoint([tmp_path / "a.safetensors"], "dit.")


# --- what does not fit ------------------------------------------------------------------------------------------------
def test_all_differences_are_told_at_once(tmp_path: Path) -> None:
    state = {key: value.contiguous() for key, value in published_state(filled()).items()}
    del state["outer.bias"], state["norm.weight"]
    state["qkv.weight"] = torch.zeros(16, 9)
    state["qkv.bias"] = torch.zeros(16, dtype=torch.int64)
    state["ema.decay"] = torch.zeros(1)
    save_file(state, tmp_path / "model.safetensors")
    part = hollow()
    with pytest.raises(WeightsError) as caught:
        fill_from(part, open_checkpoint([tmp_path / "model.safetensors"]), "toy: flow")
    text = str(caught.value)
    assert "toy: flow" in text
    assert "does not fit Flow (5 differences)" in text
    for wanted in (
        "missing outer.bias (8,)",
        "missing norm.weight (16,)",
        "shape of qkv.weight is (16, 9), not (16, 8)",
        "dtype of qkv.bias is I64, not a float type",
        "unexpected ema.decay (1,)",
    ):
        assert wanted in text
    assert len(on_meta(part)) == 6  # nothing was loaded


def test_patterns_of_keys_may_be_left_over_but_no_parameter_may_be_missing(tmp_path: Path) -> None:
    state = {key: value.contiguous() for key, value in published_state(filled()).items()}
    save_file({**state, "rope.0.phases": torch.zeros(3)}, tmp_path / "more.safetensors")
    fill_from(hollow(), open_checkpoint([tmp_path / "more.safetensors"]), "flow", ignore=["rope.*"])
    del state["outer.bias"]
    save_file(state, tmp_path / "less.safetensors")
    with pytest.raises(WeightsError, match=r"missing outer.bias"):
        fill_from(hollow(), open_checkpoint([tmp_path / "less.safetensors"]), "flow", ignore=["outer.*"])


def test_a_long_list_of_differences_ends_with_their_number(tmp_path: Path) -> None:
    save_file({f"layer.{index}": torch.zeros(1) for index in range(200)}, tmp_path / "model.safetensors")
    with pytest.raises(WeightsError, match=r"206 differences") as caught:
        fill_from(hollow(), open_checkpoint([tmp_path / "model.safetensors"]), "flow")
    assert str(caught.value).endswith("and 166 more")


@pytest.mark.parametrize("keep", [0, 5, 40, -1])
def test_files_that_were_cut_short_are_refused_when_opened(tmp_path: Path, keep: int) -> None:
    (file,) = stored(filled(), tmp_path)
    content = file.read_bytes()
    file.write_bytes(content[:keep])
    with pytest.raises(WeightsError, match="damaged, cut short or no safetensors file"):
        open_checkpoint([file])


def test_disguised_files_are_named_for_what_they_are(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    torch.save(filled().state_dict(), path)
    with pytest.raises(WeightsError, match=r"is a pickle.*convert-weights"):
        open_checkpoint([path])
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n")
    with pytest.raises(WeightsError, match=r"is a pointer.*fetch the real file"):
        open_checkpoint([path])


def test_overlapping_shards_are_refused(tmp_path: Path) -> None:
    for name in ("a", "b"):
        save_file({"x": torch.zeros(1)}, tmp_path / f"{name}.safetensors")
    with pytest.raises(WeightsError, match=r"x is in a.safetensors and in b.safetensors"):
        open_checkpoint([tmp_path / "a.safetensors", tmp_path / "b.safetensors"])


def test_checksums_are_compared(tmp_path: Path) -> None:
    (file,) = stored(filled(), tmp_path)
    digest = file_sha256(file)
    verify_sha256([file], {"": digest.upper()})
    verify_sha256([file], {file.name: digest})
    with pytest.raises(WeightsError, match="changed or badly copied"):
        verify_sha256([file], {"": "0" * 64})
    with pytest.raises(WeightsError, match="not among"):
        verify_sha256([file], {"other.safetensors": digest})


# --- saving, random ---------------------------------------------------------------------------------------------------
def test_saving_refuses_what_is_in_the_way_and_what_is_empty(tmp_path: Path) -> None:
    flow = filled()
    stored(flow, tmp_path)
    with pytest.raises(OutputExistsError):
        stored(flow, tmp_path)
    stored(flow, tmp_path, overwrite=True)
    with pytest.raises(WeightsError, match="no values to save"):
        save_weights(hollow(), tmp_path / "x.safetensors")
    with pytest.raises(WeightsError, match=r"written as .safetensors"):
        save_weights(flow, tmp_path / "x.bin")


def test_one_file_replaces_the_index_of_an_earlier_sharded_copy(tmp_path: Path) -> None:
    flow = filled()
    stored(flow, tmp_path, shard_bytes=1)
    stored(flow, tmp_path)
    assert not (tmp_path / "model.safetensors.index.json").exists()


def test_tied_weights_are_written_as_tensors_of_their_own(tmp_path: Path) -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Linear(3, 3)
            self.second = nn.Linear(3, 3)
            self.second.weight = self.first.weight

    tied = Tied()
    (file,) = stored(tied, tmp_path)
    state = load_file(file)
    assert torch.equal(state["first.weight"], state["second.weight"])


def test_random_weights_depend_on_seed_name_and_key_alone() -> None:
    first, second, other = filled(1), hollow(), filled(2)
    torch.manual_seed(99)
    before = torch.random.get_rng_state()
    fill_at_random(second, 1, "flow")
    assert torch.equal(before, torch.random.get_rng_state())
    for key, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[key])
        assert not torch.equal(value, other.state_dict()[key])
        assert bool((value != 0).all())
    assert abs(float(first.norm.weight.detach().mean()) - 1) < 0.05
