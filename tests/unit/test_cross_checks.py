"""The extras ``scatter`` and ``kaolin``: what is computed here without them is what they compute, where they import."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
import torch
from shapewright.nn import Structure
from shapewright.nn.resampling import pool_rows
from shapewright_kernels.flexicubes import flexicubes
from shapewright_kernels.flexicubes_tables import CORNERS
from torch import Tensor


@pytest.fixture
def scatter() -> Any:
    return pytest.importorskip("torch_scatter", reason="the extra `scatter` is not installed")


@pytest.fixture
def kaolin() -> Any:
    return pytest.importorskip("kaolin.ops.conversions", reason="the extra `kaolin` is not installed")


def voxels(count: int) -> Tensor:
    rng = torch.Generator().manual_seed(5)
    cells = torch.randperm(2 * 16**3, generator=rng)[:count].sort().values
    return torch.stack([cells // 16**3, cells // 256 % 16, cells // 16 % 16, cells % 16], 1).int()


@pytest.mark.parametrize(("mode", "factor"), list(product(["mean", "sum", "max"], [2, 4])))
def test_pooling_of_voxels_is_that_of_torch_scatter(scatter: Any, mode: str, factor: int) -> None:
    coords = voxels(1500)
    level = Structure(coords, 2).coarser(factor)
    ours = torch.randn(len(coords), 7, generator=torch.Generator().manual_seed(6)).requires_grad_()
    theirs = ours.detach().clone().requires_grad_()
    pooled = pool_rows(ours, level, mode)  # type: ignore[arg-type]
    wanted = scatter.scatter(theirs, level.rows, dim=0, reduce=mode)
    torch.testing.assert_close(pooled, wanted, atol=1e-6, rtol=1e-5)
    pull = torch.randn(pooled.shape, generator=torch.Generator().manual_seed(7))
    (pooled * pull).sum().backward()
    (wanted * pull).sum().backward()
    assert ours.grad is not None
    torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("training", [False, True])
def test_flexicubes_are_those_of_kaolin(kaolin: Any, training: bool) -> None:
    cells = 9
    rng = torch.Generator().manual_seed(3)
    points = torch.cartesian_prod(*[torch.arange(cells + 1.0)] * 3)
    ids = torch.cartesian_prod(*[torch.arange(cells)] * 3)
    cubes = ((ids[:, None] + torch.from_numpy(CORNERS)) * torch.tensor([(cells + 1) ** 2, cells + 1, 1])).sum(2)
    sdf = (points - cells / 2).norm(dim=1) - 3 + 0.3 * torch.randn(len(points), generator=rng)
    shifted = points / cells - 0.5 + 0.02 * torch.randn(points.shape, generator=rng)
    raw = {name: torch.randn(len(ids), width, generator=rng) for name, width in (("a", 8), ("b", 12), ("c", 1))}
    found = flexicubes(shifted, sdf, cubes, ids, cells, raw["a"], raw["b"], raw["c"][:, 0], training=training)
    vertices, faces, l_dev = kaolin.FlexiCubes(device="cpu")(
        shifted, sdf, cubes, cells, beta=raw["b"], alpha=raw["a"], gamma_f=raw["c"][:, 0], training=training
    )
    assert torch.equal(found.faces, faces)
    torch.testing.assert_close(found.vertices, vertices, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(found.l_dev, l_dev, atol=1e-6, rtol=1e-5)
