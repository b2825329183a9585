"""The band of hierarchical extraction follows the slopes that it sees: fewer evaluations, and no surface lost."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from shapewright.states import Frame, FunctionField
from shapewright.streams import stream
from shapewright_kernels.marching_cubes import marching_cubes_sparse
from shapewright_plugins.triposg.field import SATURATION, LatentField
from shapewright_plugins.triposg.hierarchical import Config, HierarchicalMarchingCubes
from shapewright_plugins.triposg.vae import TripoSGVAE
from shapewright_plugins.triposg.vae_config import Config as VAEConfig
from torch import Tensor

FRAME = Frame((-1.005,) * 3, (1.005,) * 3)
COARSE, FINE = 4, 6
CELL = 2.01 / 2**COARSE
Distance = Callable[[Tensor], Tensor]


def ball(points: Tensor) -> Tensor:
    return torch.linalg.vector_norm(points - 0.1, dim=-1) - 0.62


def sheet(x: float, y: float, z: float, cells: float) -> Distance:
    """A disc that is thinner than a coarse cell."""
    normal = torch.nn.functional.normalize(torch.tensor([x, y, z]).float(), dim=0)
    return lambda p: torch.maximum((p @ normal - 0.013).abs() - cells * CELL / 2, p.norm(dim=-1) - 0.7)


def rod(cells: float) -> Distance:
    axis = torch.nn.functional.normalize(torch.tensor([1.0, 0.7, 0.3]), dim=0)
    return lambda p: torch.maximum(
        (p - (p @ axis)[..., None] * axis).norm(dim=-1) - cells * CELL / 2, p.norm(dim=-1) - 0.7
    )


def dots(cells: float) -> Distance:
    """Small balls anywhere between the points of the lattice."""
    centres = torch.rand(25, 3, generator=stream(0, "dots")) * 1.6 - 0.8
    return lambda p: torch.cdist(p.reshape(-1, 3), centres).amin(1).reshape(p.shape[:-1]) - cells * CELL / 2


def slit(cells: float) -> Distance:
    """A ball cut through by a gap that is thinner than a coarse cell."""
    return lambda p: torch.maximum(p.norm(dim=-1) - 0.7, cells * CELL / 2 - (p[..., 0] * 0.8 + p[..., 1] * 0.6).abs())


SHAPES: dict[str, Distance] = {
    "ball": ball,
    **{f"sheet along a diagonal, {t} cells": sheet(1, 1, 1, t) for t in (0.4,)},
    **{f"sheet along an axis, {t} cells": sheet(1, 0, 0, t) for t in (0.4,)},
    **{f"oblique sheet, {t} cells": sheet(2, -1, 3, t) for t in (0.4,)},
    **{f"{made.__name__}, {t} cells": made(t) for t in (0.5,) for made in (rod, dots, slit)},
}
PROFILES: dict[str, Callable[[Tensor], Tensor]] = {
    "as steep everywhere": lambda v: v,
    "flat from 6 on": lambda v: 6 * torch.tanh(v / 6),
    "flat from 12 on": lambda v: 8 * torch.atan(v / 8),
    "flatter inside": lambda v: torch.where(v < 0, v / 5, v),
    "flatter outside": lambda v: torch.where(v > 0, v / 5, v),
    "steepest at the surface": lambda v: v.sign() * v.abs().sqrt(),
}


def extracted(field: FunctionField, margin: float | None) -> tuple[np.ndarray, np.ndarray, int]:  # type: ignore[type-arg]
    config = Config(coarse_depth=COARSE, fine_depth=FINE, margin=margin)
    found = HierarchicalMarchingCubes(config).samples(field)
    return *marching_cubes_sparse(found.coords, found.values, 0.0), found.evaluations


def assert_same_surface(field: FunctionField) -> float:
    """The share of evaluations that the margin leaves."""
    default = Config().margin
    vertices, faces, evaluations = extracted(field, default)
    wanted_vertices, wanted_faces, of_band = extracted(field, None)
    assert np.array_equal(faces, wanted_faces)
    assert np.array_equal(vertices, wanted_vertices)
    return evaluations / of_band


@pytest.mark.parametrize("shape", SHAPES)
def test_the_margin_loses_no_surface_that_the_whole_band_finds(shape: str) -> None:
    """Logits of 20 to 300 a unit: a coarse step changes them by 2.5 to 38 where the band ends at 8.3."""
    for profile in PROFILES.values():
        for slope in (20.0, 70.0, 300.0):
            assert_same_surface(LatentField(lambda p, s=slope, f=profile: f(s * SHAPES[shape](p)), FRAME, SATURATION))  # type: ignore[misc]


@pytest.mark.parametrize("frequencies", [2, 8])
def test_the_margin_loses_nothing_of_decoded_fields(frequencies: int) -> None:
    """Small decoders with random weights, flat to steep; with eight frequencies the lattice is too coarse for them."""
    sizes = VAEConfig(
        latent_channels=4, num_attention_heads=2, width_encoder=16, width_decoder=16, num_layers_encoder=1,
        num_layers_decoder=2, embed_frequency=frequencies,
    )  # fmt: skip
    for seed in range(1):
        vae, rng = TripoSGVAE(sizes).eval(), stream(seed, "margin", frequencies)
        with torch.no_grad():
            for name, parameter in vae.named_parameters():
                scale = 0.2 if parameter.ndim == 1 else parameter.shape[-1] ** -0.5
                is_gain = "norm" in name and name.endswith("weight")
                parameter.copy_(torch.randn(parameter.shape, generator=rng) * scale + (1.0 if is_gain else 0.0))
            for steep in (1.0, 30.0):
                vae.decoder.proj_out.weight *= steep
                context = vae.prepare(torch.randn(1, 12, 4, generator=stream(seed, "latent")))
                # Both signs, whatever the weights: the median becomes the level.
                offset = float(vae.decoder(torch.rand(1, 500, 3, generator=rng) * 2 - 1, context).median())
                assert_same_surface(
                    LatentField(lambda p, c=context, o=offset, v=vae: v.decoder(p[None], c)[0] - o, FRAME, SATURATION)  # type: ignore[misc]
                )


def test_the_margin_saves_most_of_the_band() -> None:
    assert assert_same_surface(LatentField(lambda p: 30 * ball(p), FRAME, SATURATION)) < 0.7


def test_a_margin_is_no_more_than_the_band_and_a_given_band_is_followed() -> None:
    field = LatentField(lambda p: 600 * ball(p), FRAME, SATURATION)  # a step is more than the band: all of it counts
    assert assert_same_surface(field) == 1.0
    asked = Config(coarse_depth=COARSE, fine_depth=FINE, band=3.0)
    given = HierarchicalMarchingCubes(asked).samples(field)
    assert given.evaluations < extracted(field, None)[2]
