"""Where networks live during a run, told by a recorder in the place of a device."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import toymaker
from shapewright import discover, load_registry
from shapewright.errors import ConfigError
from shapewright.plan import check
from shapewright.residency import POLICIES, Residency
from shapewright.runner import Watch, moved, run_samples, stacked, unbound
from shapewright.states import Condition, Decoded, Frame, FunctionField, Mesh, TokenLatent
from shapewright.weights.empty import on_meta
from shapewright.weights.provide import provide

FAKE = torch.device("cuda", 7)
"""No such device is here: networks stay where they are, and only what the runner asked for is recorded."""
PIPELINES = Path(toymaker.__file__).with_name("pipelines.yaml")


class Recorder:
    """Plays a device: keeps what was asked, and moves nothing."""

    def __init__(self, plan: Any, catalog: Any) -> None:
        self.provided = provide(plan, catalog, random_seed=1)
        self.aliases = {id(part): alias for alias, part in self.provided.parts.items()}
        self.events: list[tuple[str, str, str]] = []
        self.fillers = {alias: self.filler(alias) for alias in self.provided.fillers}

    def filler(self, alias: str) -> Any:
        def fill(part: Any, device: torch.device) -> None:
            self.events.append(("fill", alias, str(device)))
            self.provided.fillers[alias](part, torch.device("cpu"))

        return fill

    def place(self, part: Any, device: torch.device) -> None:
        self.events.append(("place", self.aliases[id(part)], str(device)))


@pytest.fixture(scope="module")
def toy() -> Any:
    catalog = discover(points=[], extra=[toymaker])
    return check("toy", load_registry([PIPELINES]).pipeline("toy"), catalog), catalog


def picture(shade: int = 5) -> torch.Tensor:
    return torch.arange(16 * 20 * 3).reshape(16, 20, 3).mul(shade).remainder(256).to(torch.uint8)


def run(plan: Any, catalog: Any, policy: str, shades: tuple[int, ...] = (5,), batch: int = 1) -> tuple[Any, list[Any]]:
    """All stages on the CPU, with residency as asked and every question to it recorded."""
    recorder = Recorder(plan, catalog)
    asked: list[Any] = []
    residency = Residency(recorder.provided.parts, recorder.fillers, policy=policy, place=recorder.place)

    def before(index: int, stage: Any, samples: int) -> None:
        asked.append((stage.id, len(recorder.events)))

    finished = run_samples(
        plan, catalog, [{"image": picture(s)} for s in shades], residency, batch=batch, watch=Watch(before=before)
    )
    assert [sample.failure for sample in finished.samples] == [None] * len(shades)
    return finished, recorder.events


# --- policies, by questions -------------------------------------------------------------------------------------------
def test_keep_brings_everything_at_once_and_moves_nothing_after(toy: Any) -> None:
    recorder = Recorder(*toy)
    residency = Residency(recorder.provided.parts, recorder.fillers, device=FAKE, place=recorder.place)
    residency.ready(["eye"], ["flow", "vae"])
    residency.ready(["flow"], ["vae"])
    residency.finish()
    assert recorder.events == [("fill", alias, "cuda:7") for alias in ("eye", "flow", "vae")]
    assert residency.where("vae") == FAKE


def test_one_at_a_time_parks_what_is_needed_again_and_drops_the_rest(toy: Any) -> None:
    recorder = Recorder(*toy)
    parts = recorder.provided.parts
    residency = Residency(parts, recorder.fillers, policy="one-at-a-time", device=FAKE, place=recorder.place)
    residency.ready(["eye"], ["flow", "eye"])
    residency.ready(["flow"], ["eye"])
    assert (residency.where("eye"), residency.where("flow")) == (torch.device("cpu"), FAKE)
    residency.ready(["eye"], [])
    assert (residency.where("eye"), residency.where("flow"), residency.where("vae")) == (FAKE, None, None)
    assert len(on_meta(parts["flow"])) == 6
    residency.finish()
    assert recorder.events == [
        ("fill", "eye", "cuda:7"),
        ("place", "eye", "cpu"),
        ("fill", "flow", "cuda:7"),
        ("place", "eye", "cuda:7"),
    ]


def test_offload_parks_nothing_and_reads_again(toy: Any) -> None:
    recorder = Recorder(*toy)
    residency = Residency(
        recorder.provided.parts, recorder.fillers, policy="offload", device=FAKE, place=recorder.place
    )
    for now in ("eye", "flow", "eye"):
        residency.ready([now], ["eye", "flow"])
        assert [alias for alias in ("eye", "flow", "vae") if residency.where(alias)] == [now]
    assert recorder.events == [("fill", alias, "cuda:7") for alias in ("eye", "flow", "eye")]


def test_a_network_that_nothing_can_fill_again_is_parked_and_never_dropped(toy: Any) -> None:
    recorder = Recorder(*toy)
    parts = dict(recorder.provided.parts)
    recorder.fillers.pop("eye")
    recorder.provided.fillers["eye"](parts["eye"], torch.device("cpu"))
    residency = Residency(parts, recorder.fillers, policy="offload", device=FAKE, place=recorder.place)
    residency.ready(["eye"])
    residency.ready(["flow"])
    assert recorder.events == [("place", "eye", "cuda:7"), ("place", "eye", "cpu"), ("fill", "flow", "cuda:7")]
    assert on_meta(parts["eye"]) == []


def test_unknown_policies_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"keep, one-at-a-time, offload"):
        Residency({}, policy="all")


# --- policies, by runs ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("policy", POLICIES)
def test_every_policy_gives_the_same_bits(toy: Any, policy: str) -> None:
    kept, _ = run(*toy, "keep")
    other, _ = run(*toy, policy)
    assert torch.equal(kept.samples[0].values["mesh"].vertices, other.samples[0].values["mesh"].vertices)


def test_a_network_stays_while_a_function_that_it_made_is_evaluated(toy: Any) -> None:
    """The last stage reads the field by the autoencoder, although it is a stage of the extractor."""
    recorder = Recorder(*toy)
    parts = recorder.provided.parts
    residency = Residency(parts, recorder.fillers, policy="offload", place=recorder.place)
    there: dict[str, list[str]] = {}

    def after(index: int, record: Any) -> None:
        there[record.id] = [alias for alias in ("eye", "flow", "vae") if not on_meta(parts[alias])]

    run_samples(*toy, [{"image": picture()}], residency, watch=Watch(after=after))
    assert there == {
        "eye.encode": ["eye"],
        "flow.sample": ["flow"],
        "judge.apply": [],
        "vae.decode": ["vae"],
        "mesher.extract": ["vae"],
    }
    assert [event[1] for event in recorder.events] == ["eye", "flow", "vae"]
    assert on_meta(parts["vae"])  # given up after the last stage


def test_several_samples_bring_every_network_once(toy: Any) -> None:
    _, events = run(*toy, "offload", (5, 6, 7))
    assert [event[:2] for event in events] == [("fill", "eye"), ("fill", "flow"), ("fill", "vae")]


def test_loaded_networks_are_in_evaluation_mode_without_gradients(toy: Any) -> None:
    recorder = Recorder(*toy)
    Residency(recorder.provided.parts, recorder.fillers).ready([])
    for alias in ("eye", "flow", "vae"):
        part = recorder.provided.parts[alias]
        assert not part.training
        assert not any(parameter.requires_grad for parameter in part.parameters())


# --- samples ----------------------------------------------------------------------------------------------------------
def test_a_batch_gives_what_single_runs_give(toy: Any) -> None:
    together, _ = run(*toy, "keep", (5, 9, 13), batch=2)
    for shade, sample in zip((5, 9, 13), together.samples, strict=True):
        alone, _ = run(*toy, "keep", (shade,))
        for name in ("z", "mesh"):
            a, b = sample.values[name], alone.samples[0].values[name]
            left, right = (a.values, b.values) if name == "z" else (a.vertices, b.vertices)
            torch.testing.assert_close(left, right, rtol=1e-6, atol=1e-6)
    assert not torch.equal(together.samples[0].values["z"].values, together.samples[1].values["z"].values)


def test_without_batching_several_samples_give_the_bits_of_single_runs(toy: Any) -> None:
    together, _ = run(*toy, "keep", (5, 9))
    for shade, sample in zip((5, 9), together.samples, strict=True):
        alone, _ = run(*toy, "keep", (shade,))
        assert torch.equal(sample.values["z"].values, alone.samples[0].values["z"].values)


def test_a_generator_with_a_single_stream_is_asked_sample_by_sample() -> None:
    catalog = discover(points=[], extra=[toymaker])
    entry = load_registry([PIPELINES]).pipeline("toy", ["components.flow.use=generator/toy-lone-flow"])
    finished, _ = run(check("toy", entry, catalog), catalog, "keep", (5, 9), batch=2)
    assert all(sample.failure is None for sample in finished.samples)


def test_values_are_stacked_moved_and_taken_apart() -> None:
    items = [TokenLatent(torch.full((1, 2, 3), float(index))) for index in range(3)]
    batch = stacked(items)
    assert batch.values.shape == (3, 2, 3)
    assert [part.values[0, 0, 0].item() for part in unbound(batch, 3)] == [0.0, 1.0, 2.0]
    assert unbound((), 2) == [(), ()]
    condition = Condition(torch.zeros(1, 2, 3), torch.zeros(1, 2, 3))
    meta = moved(condition, torch.device("meta"))
    assert meta.tokens.is_meta
    assert meta.null.is_meta
    assert moved(condition, torch.device("cpu")) is condition
    mesh = moved(Mesh(torch.eye(3), torch.tensor([[0, 1, 2]]), attributes={"a": torch.ones(3)}), torch.device("meta"))
    assert mesh.attributes["a"].is_meta
    field = FunctionField(lambda points: points.sum(-1), Frame())
    decoded = moved(Decoded(field), torch.device("meta"))
    assert isinstance(decoded, Decoded)
    assert decoded.state is field
