"""Rotary codes by hand: which channels are turned, by which angle, and which way."""

from __future__ import annotations

import math

import pytest
import torch
from shapewright.nn.positions import rotary_phases, rotate


@pytest.mark.parametrize("pairs", ["adjacent", "halves"])
def test_a_quarter_turn_takes_the_first_channel_of_a_pair_to_the_second(pairs: str) -> None:
    values = torch.arange(1.0, 9.0).reshape(1, 1, 8)
    angles = torch.tensor([[math.pi / 2, 0.0, math.pi / 2, 0.0]])
    found = rotate(values, torch.cos(angles), torch.sin(angles), pairs).flatten()  # type: ignore[arg-type]
    wanted = [-2.0, 1, 3, 4, -6, 5, 7, 8] if pairs == "adjacent" else [-5.0, 2, -7, 4, 1, 6, 3, 8]
    torch.testing.assert_close(found, torch.tensor(wanted))


def test_phases_go_axis_by_axis_from_the_fastest_frequency_and_leave_the_rest_alone() -> None:
    cosine, sine = rotary_phases(torch.tensor([[2.0, 3.0, 5.0]]), 14, base=16.0)
    wanted = torch.tensor([[2.0, 0.5, 3.0, 0.75, 5.0, 1.25, 0.0]])  # 16^(-1/2) = 1/4
    torch.testing.assert_close(cosine, torch.cos(wanted))
    torch.testing.assert_close(sine, torch.sin(wanted))
    slower, _ = rotary_phases(torch.tensor([[2.0, 3.0, 5.0]]), 14, first=0.5, base=16.0)
    torch.testing.assert_close(slower, torch.cos(wanted / 2))


def test_turned_products_know_which_of_two_tokens_comes_first() -> None:
    generator = torch.Generator().manual_seed(1)
    query, key = torch.randn(2, 1, 4, generator=generator, dtype=torch.float64).unbind(0)
    for pairs in ("adjacent", "halves"):
        at = [
            rotate(vector[None], *rotary_phases(torch.tensor([[place]]), 4, dtype=torch.float64), pairs)[0]  # type: ignore[arg-type]
            for vector, place in ((query, 3.0), (key, 1.0), (query, 7.0), (key, 5.0), (query, 1.0), (key, 3.0))
        ]
        ahead, moved, behind = ((at[k] * at[k + 1]).sum() for k in (0, 2, 4))
        torch.testing.assert_close(ahead, moved)
        assert abs(ahead - behind) > 1e-3
