"""What a bench runs before it takes times."""

from __future__ import annotations

import warnings
from types import SimpleNamespace
from typing import Any

import pytest
from shapewright import discover, run
from shapewright.bench import worker
from shapewright.bench.worker import Bench
from shapewright.plan import check, roundtrip


@pytest.mark.parametrize("surface", ["solid", "refuse"])
@pytest.mark.parametrize("painted", [False, True])
def test_closed_and_open_shapes_are_warmed_up_once_without_a_word(
    surface: str, painted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both take kernels of their own (the sign of an open mesh), and nothing of it is said about a user's shapes."""
    catalog = discover()
    entry = roundtrip("sdf", "dual-contouring")
    entry["components"]["rep"]["with"] = {"resolution": 64, "surface": surface}
    seen: list[tuple[int, bool]] = []

    def noted(plan: Any, catalog: Any, inputs: Any, **options: Any) -> Any:
        (mesh,) = inputs.values()
        seen.append((len(mesh.faces), mesh.appearance is not None))
        return execute(plan, catalog, inputs, **options)

    execute = run.execute
    monkeypatch.setattr(worker, "execute", noted)
    cell = SimpleNamespace(combination=SimpleNamespace(name="sdf+dual-contouring", entry=entry))
    bench = SimpleNamespace(warm={}, catalog=catalog, _inputs=Bench._inputs)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(2):
            Bench._warm_up(bench, cell, check("pair", entry, catalog), painted=painted)  # type: ignore[arg-type]
    assert seen == [(8, painted), (7, painted)]
    (state,) = bench.warm.values()
    assert (state == "ok") == (surface == "solid")
