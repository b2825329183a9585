"""Random streams: one for each path of names, whatever the names look like when they are written together."""

from __future__ import annotations

from itertools import combinations

import torch
from shapewright.streams import stage_stream, stream


def draw(generator: torch.Generator) -> tuple[float, ...]:
    return tuple(torch.rand(4, generator=generator).tolist())


def test_every_path_of_names_has_draws_of_its_own() -> None:
    paths = [(0,), (1,), (0, "a"), (1, "a"), (0, "a", "b"), (0, "b", "a"), (0, "ab"), (0, "a", "b", ""), (0, "", "ab"),
             (11, "2"), (1, "12"), (1, 1, 2), (112,), (0, "stage"), (0, "stage", "flow")]  # fmt: skip
    draws = {path: draw(stream(*path)) for path in paths}
    assert all(draws[one] != draws[two] for one, two in combinations(paths, 2))
    assert all(draw(stream(*path)) == found for path, found in draws.items())


def test_a_stage_has_a_stream_for_each_seed_name_and_sample() -> None:
    keys = [(seed, stage, sample) for seed in (0, 1) for stage in ("flow", "decode") for sample in (0, 1, "chair")]
    draws = [draw(stage_stream(*key)) for key in keys]
    assert len(set(draws)) == len(keys)
    assert draws == [draw(stage_stream(*key)) for key in keys]
