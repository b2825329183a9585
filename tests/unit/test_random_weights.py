"""Random weights keep signals at their size."""

from __future__ import annotations

import pytest
from shapewright.weights.fill import fill_at_random
from torch import nn


@pytest.mark.parametrize(
    ("layer", "fan_in"), [(nn.Linear(900, 300), 900), (nn.Conv3d(8, 64, 3), 8 * 27), (nn.Embedding(500, 64), 64)]
)
def test_matrices_have_a_variance_of_one_over_their_fan_in(layer: nn.Module, fan_in: int) -> None:
    fill_at_random(layer, 0, "layer")
    weight = layer.get_parameter("weight").detach()
    assert float(weight.var()) * fan_in == pytest.approx(1, rel=0.05)
    assert abs(float(weight.mean())) < 0.05 * fan_in**-0.5


def test_scales_are_near_one_and_biases_near_zero_and_nothing_is_zero() -> None:
    norm = nn.LayerNorm(2000)
    fill_at_random(norm, 0, "norm")
    norm.requires_grad_(False)
    assert float(norm.weight.mean()) == pytest.approx(1, abs=0.01)
    assert float(norm.bias.mean()) == pytest.approx(0, abs=0.01)
    assert (norm.weight != 1).all()
    assert (norm.bias != 0).all()
    assert float(norm.bias.abs().max()) < 0.2
