"""Several samples in one run: each keeps its own random numbers, and one that fails takes no other with it."""

from __future__ import annotations

from functools import wraps
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import toymaker
from shapewright import discover, load_registry
from shapewright.errors import StateError
from shapewright.plan import check
from shapewright.residency import Residency
from shapewright.run import named_outputs
from shapewright.runner import run_samples
from shapewright.weights.provide import provide

PIPELINES = Path(toymaker.__file__).with_name("pipelines.yaml")
PICTURE = torch.arange(16 * 20 * 3).reshape(16, 20, 3).to(torch.uint8)


@pytest.fixture(scope="module")
def toy() -> Any:
    catalog = discover(points=[], extra=[toymaker])
    return check("toy", load_registry([PIPELINES]).pipeline("toy"), catalog), catalog


def latents(toy: Any, images: list[Any], **options: Any) -> list[Any]:
    plan, catalog = toy
    provided = provide(plan, catalog, random_seed=1)
    residency = Residency(provided.parts, provided.fillers)
    samples = run_samples(plan, catalog, [{"image": image} for image in images], residency, **options).samples
    return [None if sample.failure else sample.values["z"].values for sample in samples]


def test_named_samples_draw_by_their_names_whatever_is_in_the_run(toy: Any) -> None:
    one, two = latents(toy, [PICTURE, PICTURE], names=["chair", "table"])
    assert not torch.equal(one, two)
    assert torch.equal(latents(toy, [PICTURE], names=["table"])[0], two)
    same = latents(toy, [PICTURE, PICTURE])  # without names every sample gets what it would get alone
    assert torch.equal(same[0], same[1])


def test_a_sample_that_fails_in_a_batch_fails_alone(toy: Any) -> None:
    found = latents(toy, [PICTURE, None, PICTURE], batch=3)
    assert found[1] is None
    assert found[0] is not None
    assert torch.equal(found[0], found[2])
    torch.testing.assert_close(found[0], latents(toy, [PICTURE])[0])


def test_a_batch_that_fails_is_repeated_one_by_one(toy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, catalog = toy
    stage = next(stage for stage in plan.stages if plan.parts[stage.component].spec.kind == "generator")
    cls = catalog.load(plan.parts[stage.component].spec.key)
    verb, sizes = getattr(cls, stage.verb), []

    @wraps(verb)
    def only_alone(self: Any, condition: Any, *rest: Any, **options: Any) -> Any:
        sizes.append(len(condition.tokens))
        if sizes[-1] > 1:
            raise RuntimeError("too many at once")
        return verb(self, condition, *rest, **options)

    monkeypatch.setattr(cls, stage.verb, only_alone)
    found = latents(toy, [PICTURE, PICTURE, PICTURE], batch=3)
    assert sizes == [3, 1, 1, 1]
    assert all(torch.equal(latent, found[0]) for latent in found)


def test_a_value_of_another_tag_than_declared_is_refused(toy: Any) -> None:
    plan, _ = toy
    stage = plan.stages[-1]
    name = next(iter(stage.outputs.values()))
    with pytest.raises(StateError, match=f"was declared {plan.tags[name]!r} but is 'support.grid'"):
        named_outputs(plan, stage, SimpleNamespace(tag="support.grid"))
