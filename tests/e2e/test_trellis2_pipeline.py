"""The shipped TRELLIS.2 pipelines plan, and run at small sizes with random weights, every stage of them."""

from __future__ import annotations

import pytest
import torch
from shapewright import Mesh, discover, normalise
from shapewright.plan import check
from shapewright.run import build_parts, execute
from shapewright.testing import toys
from shapewright.weights.fill import fill_at_random
from trellis2_small import NAMES, PIPELINES, keep_occupied, shrunk

CATALOG = discover()


@pytest.mark.parametrize("name", NAMES)
def test_shipped_pipelines_plan(name: str) -> None:
    plan = check(name, PIPELINES[name], CATALOG)
    assert plan.tags[plan.output] == "mesh"


@pytest.mark.parametrize("name", NAMES)
def test_pipelines_run_from_input_to_mesh(name: str) -> None:
    if name != "trellis2-reconstruct":
        for package in ("xatlas", "fast_simplification"):
            pytest.importorskip(package, reason="baking needs the extra 'texture'")
    plan = check(name, shrunk(PIPELINES[name]), CATALOG)
    parts = build_parts(plan, CATALOG)
    for alias, part in parts.items():
        if isinstance(part, torch.nn.Module):
            fill_at_random(part.eval(), 1, alias)
    keep_occupied(parts)
    image = torch.zeros(40, 40, 4, dtype=torch.uint8)
    image[8:32, 8:32] = torch.tensor([200, 90, 40, 255], dtype=torch.uint8)
    values = {"image": image, "reference": normalise.normalise(toys.sphere())[0]}
    with torch.no_grad():
        run = execute(plan, CATALOG, {key: values[key] for key in plan.inputs}, parts=parts, seed=4)
        again = execute(plan, CATALOG, {key: values[key] for key in plan.inputs}, parts=parts, seed=4)
    mesh = run.output
    assert isinstance(mesh, Mesh)
    assert len(mesh.faces) > 0
    assert mesh.frame.up == "y"
    assert torch.equal(mesh.vertices, again.output.vertices)
    if "bake" in parts:
        assert mesh.appearance is not None
        assert mesh.appearance.materials[0].base_color_texture is not None
