"""Sampling of latents as a whole equals the equations: statistics, times, both branches, samples of unequal size."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import trellis2_reference as reference
from shapewright import GridLatent, SparseLatent, SparseTensor, StateError, Voxels, discover
from shapewright.run import build
from shapewright.states import Condition
from shapewright.weights.fill import fill_at_random
from shapewright_plugins.trellis2.flow import LatentFlow
from torch import Tensor

CATALOG = discover()
NETWORK: dict[str, Any] = {
    "model_channels": 24, "cond_channels": 10, "num_blocks": 1, "num_heads": 2, "mlp_ratio": 2.0, "out_channels": 4,
}  # fmt: skip
MEAN, STD = [0.5, -1.0, 2.0, 0.0], [2.0, 0.5, 1.5, 3.0]
BESIDE_MEAN, BESIDE_STD = [-0.2, 0.7, 1.0], [0.3, 2.0, 1.2]
SETTINGS = {"guidance_rescale": 0.5, "guidance_interval": [0.3, 0.9], "rescale_t": 3.0}
SAMPLER = {"use": "sampler/trellis2-euler", "with": SETTINGS}
ROWS = [(0, 2, 0, 3), (1, 0, 1, 1), (1, 0, 3, 0), (1, 2, 2, 2), (1, 3, 3, 3), (1, 3, 3, 4)]
COORDS = torch.tensor(ROWS, dtype=torch.int32)
SAMPLES = COORDS[:, 0].long()
STEPS, GUIDANCE = 4, 3.5


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def condition() -> Condition:
    return Condition(drawn(1, 2, 5, 10), drawn(2, 2, 3, 10))


def filled(key: str, options: dict[str, Any]) -> tuple[Any, dict[str, Tensor]]:
    part = build(CATALOG, key, options)
    fill_at_random(part, 5, "flow")
    return part, {name: value.detach().double() for name, value in part.network.state_dict().items()}


def sparse_velocity(exact: dict[str, Tensor], beside: Tensor | None) -> Any:
    def model(x: Tensor, t: float, conditional: bool) -> Tensor:
        tokens = x if beside is None else torch.cat([x, beside], dim=1)
        seen = condition().tokens if conditional else condition().null
        assert seen is not None
        out = torch.zeros_like(x)
        for sample in range(2):
            mine = sample == SAMPLES
            out[mine] = reference.flow_sample(
                exact, tokens[mine], COORDS[mine, 1:], torch.tensor(1000 * t, dtype=torch.float64),
                seen[sample].double(), heads=2, blocks=1, rope=True,
            )  # fmt: skip
        return out

    return model


def integrated(model: Any, noise: Tensor, samples: Tensor | None) -> Tensor:
    return reference.integrate(
        model, noise.double(), steps=STEPS, guidance=GUIDANCE, rescale=0.5, interval=(0.3, 0.9), rescale_t=3.0,
        samples=samples,
    )  # fmt: skip


def latent(feats: Tensor, order: Tensor | None = None) -> SparseLatent:
    order = torch.arange(len(ROWS)) if order is None else order
    return SparseLatent(SparseTensor(COORDS[order], feats[order], 5, 2))


SHUFFLED = torch.tensor([0, 4, 2, 5, 1, 3])


@pytest.mark.parametrize("order", [None, SHUFFLED], ids=["in order", "noise in another order"])
def test_a_shape_latent_follows_the_equations(order: Tensor | None) -> None:
    options = NETWORK | {"in_channels": 4, "mean": MEAN, "std": STD, "sampler": SAMPLER}
    part, exact = filled("generator/trellis2-slat-flow", options)
    noise = drawn(3, len(ROWS), 4)
    found = part.sample(
        condition(), support=Voxels(COORDS, 5, 2), noise=latent(noise, order), steps=STEPS, guidance=GUIDANCE
    )
    wanted = integrated(sparse_velocity(exact, None), noise, SAMPLES)
    wanted = wanted * torch.tensor(STD).double() + torch.tensor(MEAN).double()
    assert torch.equal(found.values.coords, COORDS)
    torch.testing.assert_close(found.values.feats.double(), wanted, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("order", [None, SHUFFLED], ids=["in order", "shape in another order"])
def test_a_texture_latent_sees_the_normalised_shape(order: Tensor | None) -> None:
    options = NETWORK | {
        "latent": "trellis2-texture", "in_channels": 7, "concat_channels": 3, "mean": MEAN, "std": STD,
        "concat_mean": BESIDE_MEAN, "concat_std": BESIDE_STD, "sampler": SAMPLER,
    }  # fmt: skip
    part, exact = filled("generator/trellis2-slat-flow", options)
    noise, shape = drawn(3, len(ROWS), 4), drawn(4, len(ROWS), 3)
    found = part.sample(
        condition(), support=Voxels(COORDS, 5, 2), concat=latent(shape, order), noise=latent(noise), steps=STEPS,
        guidance=GUIDANCE,
    )  # fmt: skip
    normalised = (shape.double() - torch.tensor(BESIDE_MEAN).double()) / torch.tensor(BESIDE_STD).double()
    wanted = integrated(sparse_velocity(exact, normalised), noise, SAMPLES)
    wanted = wanted * torch.tensor(STD).double() + torch.tensor(MEAN).double()
    torch.testing.assert_close(found.values.feats.double(), wanted, rtol=1e-3, atol=1e-3)


def test_a_structure_latent_follows_the_equations() -> None:
    options = NETWORK | {"in_channels": 4, "resolution": 3, "sampler": SAMPLER}
    part, exact = filled("generator/trellis2-structure-flow", options)
    noise = drawn(3, 2, 4, 3, 3, 3)
    found = part.sample(condition(), noise=GridLatent(noise), steps=STEPS, guidance=GUIDANCE)
    cells = torch.cartesian_prod(*[torch.arange(3)] * 3)

    def model(x: Tensor, t: float, conditional: bool) -> Tensor:
        seen = condition().tokens if conditional else condition().null
        assert seen is not None
        samples = [
            reference.flow_sample(
                exact, x[sample].flatten(1).T, cells, torch.tensor(1000 * t, dtype=torch.float64),
                seen[sample].double(), heads=2, blocks=1, rope=True,
            )
            for sample in range(2)
        ]  # fmt: skip
        return torch.stack(samples).transpose(1, 2).reshape(x.shape)

    torch.testing.assert_close(found.values.double(), integrated(model, noise, None), rtol=1e-3, atol=1e-3)


def test_a_seed_draws_each_sample_from_its_own_stream() -> None:
    """What a sample's stream gives is its noise: nothing of another sample, nothing scaled."""
    options = NETWORK | {"in_channels": 4, "mean": MEAN, "std": STD, "sampler": SAMPLER}
    part, _ = filled("generator/trellis2-slat-flow", options)
    place = {"support": Voxels(COORDS, 5, 2), "steps": STEPS}
    rng = [torch.Generator().manual_seed(seed) for seed in (7, 8)]
    noise = torch.cat([drawn(7, 1, 4), drawn(8, 5, 4)])
    drawn_inside = part.sample(condition(), rng=rng, **place).values.feats
    assert torch.equal(drawn_inside, part.sample(condition(), noise=latent(noise), **place).values.feats)


def test_a_network_refuses_a_shape_on_other_voxels() -> None:
    part, _ = filled(
        "generator/trellis2-slat-flow",
        NETWORK | {"in_channels": 7, "concat_channels": 3, "mean": MEAN, "std": STD, "concat_mean": BESIDE_MEAN,
                   "concat_std": BESIDE_STD},
    )  # fmt: skip
    network: LatentFlow = part.network
    x = SparseTensor(COORDS, drawn(1, 6, 4), 5, 2)
    other = SparseTensor(COORDS[SHUFFLED], drawn(2, 6, 3), 5, 2)
    with pytest.raises(StateError, match="voxels of x"):
        network(x, torch.ones(2), condition().tokens, concat=other)
