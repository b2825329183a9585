"""Layers of sparse networks: norms, resampling, sampling, blocks, the point encoder, and their helpers."""

from __future__ import annotations

import pytest
import torch
from shapewright import nn as networks
from shapewright.errors import ConfigError, StateError
from shapewright.nn.resampling import pool_rows
from shapewright.states import SparseTensor
from sparse_voxels import random_sparse


def test_every_public_name_resolves() -> None:
    for name in networks.__all__:
        assert getattr(networks, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = networks.nothing


# --- norms ------------------------------------------------------------------------------------------------------------
def _scrambled(module: torch.nn.Module) -> torch.nn.Module:
    rng = torch.Generator().manual_seed(0)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, generator=rng)
    return module


@pytest.mark.parametrize(("groups", "channels"), [(1, 5), (4, 12), (8, 8), (32, 64)])
def test_sparse_group_norm_is_the_dense_one_of_each_sample(groups: int, channels: int) -> None:
    x = random_sparse(0, channels, 4, 3)
    module = _scrambled(networks.SparseGroupNorm32(groups, channels))
    wanted = [
        torch.nn.functional.group_norm(item.feats.t()[None], groups, module.weight, module.bias, 1e-5)[0].t()
        for item in x.unbind()
    ]
    torch.testing.assert_close(module(x).feats, torch.cat(wanted))


def test_sparse_group_norm_survives_empty_samples_and_single_voxels() -> None:
    coords = torch.tensor([[1, 0, 0, 0], [3, 0, 0, 0], [3, 1, 0, 0]], dtype=torch.int32)
    x = SparseTensor(coords, torch.randn(3, 4, generator=torch.Generator().manual_seed(0)), 2, 5)
    module = networks.SparseGroupNorm32(2, 4)
    found = module(x).feats
    alone = module(SparseTensor(coords[:1] * 0, x.feats[:1], 2)).feats
    torch.testing.assert_close(found[:1], alone)
    assert module(SparseTensor(coords[:0], x.feats[:0], 2, 5)).feats.shape == (0, 4)


def test_norms_work_in_float32_inside_half_types() -> None:
    x = random_sparse(1, 16, 4, 2)
    large = x.replace(x.feats * 300).feats.half()  # squares overflow float16
    for module in (networks.SparseGroupNorm32(4, 16), networks.SparseLayerNorm32(16)):
        found = module(x.replace(large)).feats
        assert found.dtype == torch.float16
        torch.testing.assert_close(found.float(), module(x.replace(large.float())).feats, atol=2e-3, rtol=2e-3)


def test_channel_norm_acts_on_dimension_one() -> None:
    x = torch.randn(2, 6, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    found = networks.ChannelLayerNorm32(6)(x)
    torch.testing.assert_close(found.mean(1), torch.zeros(2, 3, 4, 5), atol=1e-6, rtol=0)
    torch.testing.assert_close(found, torch.nn.functional.layer_norm(x.movedim(1, -1), (6,)).movedim(-1, 1))


def test_rms_norm_by_hand() -> None:
    module = networks.MultiHeadRMSNorm(2, 1)
    torch.testing.assert_close(module(torch.tensor([[[3.0, 4.0]]])), torch.tensor([[[0.6, 0.8]]]) * 2**0.5)
    assert module(torch.zeros(1, 1, 2)).tolist() == [[[0.0, 0.0]]]
    far = torch.tensor([[[30000.0, 60000.0]]]).half()  # whose length float16 does not hold
    torch.testing.assert_close(module(far).float(), module(far.float()), atol=2e-3, rtol=2e-3)
    with pytest.raises(StateError, match="gamma is"):
        module(torch.zeros(1, 2, 2))


@pytest.mark.parametrize("kind", [networks.GroupNorm32, networks.SparseGroupNorm32])
def test_channels_not_divisible_by_groups_are_told(kind: type) -> None:
    with pytest.raises(ConfigError, match=r"channels \(10\) must be divisible by groups \(4\)"):
        kind(4, 10)


# --- resampling -------------------------------------------------------------------------------------------------------
PAIR = SparseTensor(
    torch.tensor([[0, 0, 0, 0], [0, 1, 1, 0], [0, 3, 3, 3]], dtype=torch.int32), torch.tensor([[1.0], [3.0], [-5.0]]), 4
)


@pytest.mark.parametrize(
    ("mode", "wanted"),
    [("mean", [2.0, -5.0]), ("sum", [4.0, -5.0]), ("max", [3.0, -5.0]), ("mean-with-zero", [4 / 3, -2.5])],
)
def test_pooling_by_hand(mode: str, wanted: list[float]) -> None:
    coarse, level = networks.downsample(PAIR, 2, mode)
    torch.testing.assert_close(coarse.feats.flatten(), torch.tensor(wanted))
    assert coarse.coords.tolist() == [[0, 0, 0, 0], [0, 1, 1, 1]]
    assert coarse.resolution == 2
    assert level.children.tolist() == [0, 3, 7]
    assert networks.upsample(coarse, level).feats.flatten().tolist() == coarse.feats[[0, 0, 1]].flatten().tolist()


def test_pooling_adds_in_float64() -> None:
    feats = torch.tensor([[1e8], [1.0], [-1e8], [1.0]])
    coords = torch.tensor([[0, 0, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0], [0, 1, 1, 1]], dtype=torch.int32)
    for mode, wanted in (("sum", 2.0), ("mean", 0.5), ("mean-with-zero", 0.4)):
        coarse, _ = networks.downsample(SparseTensor(coords, feats, 2), 2, mode)  # type: ignore[arg-type]
        assert coarse.feats.item() == pytest.approx(wanted)


@pytest.mark.parametrize("mode", ["mean", "sum", "max", "mean-with-zero"])
def test_pooling_is_differentiable(mode: str) -> None:
    x = random_sparse(0, 2, 4, 2, dtype=torch.float64)
    level = networks.Structure.of(x).coarser(2)
    assert torch.autograd.gradcheck(lambda feats: pool_rows(feats, level, mode), x.feats.requires_grad_())


@pytest.mark.parametrize("factor", [2, 3])
def test_channels_return_to_where_they_came_from(factor: int) -> None:
    x = random_sparse(2, 3, 7, 2)
    packed, level = networks.spatial_to_channel(x, factor)
    assert packed.feats.shape == (len(level.structure), 3 * factor**3)
    back = networks.channel_to_spatial(packed, level)
    assert torch.equal(back.feats, x.feats)
    assert torch.equal(back.coords, x.coords)
    sorted_rows, _ = networks.sort_rows(networks.channel_to_spatial_where(packed, level.subdivision))
    assert torch.equal(sorted_rows.coords, x.coords)
    assert torch.equal(sorted_rows.feats, x.feats)


def test_children_are_counted_x_fastest_where_they_are_chosen_and_z_fastest_where_all_are_made() -> None:
    x = SparseTensor(torch.tensor([[0, 1, 0, 0]], dtype=torch.int32), torch.ones(1, 1), 2)
    present = torch.zeros(1, 8, dtype=torch.bool)
    present[0, [1, 6]] = True
    assert networks.upsample_where(x, present).coords.tolist() == [[0, 3, 0, 0], [0, 2, 1, 1]]
    fine = networks.subdivide(x)
    assert fine.coords[:3].tolist() == [[0, 2, 0, 0], [0, 2, 0, 1], [0, 2, 1, 0]]
    assert fine.resolution == 4


def test_empty_tensors_pass_through_every_level() -> None:
    x = SparseTensor(torch.empty(0, 4, dtype=torch.int32), torch.empty(0, 8), 4, 2)
    coarse, level = networks.downsample(x)
    packed, _ = networks.spatial_to_channel(x)
    for found, channels in (
        (coarse, 8), (packed, 64), (networks.upsample(coarse, level), 8), (networks.subdivide(x), 8),
        (networks.channel_to_spatial(packed, level), 8),
        (networks.channel_to_spatial_where(x, torch.empty(0, 8, dtype=torch.bool)), 1),
    ):  # fmt: skip
        assert found.feats.shape == (0, channels)
        assert found.batch_size == 2


def test_bad_input_of_resampling_is_told() -> None:
    x = random_sparse(0, 6)
    with pytest.raises(ConfigError, match="mode must be one of mean"):
        networks.downsample(x, 2, "median")  # type: ignore[arg-type]
    with pytest.raises(StateError, match="factor must be at least 2"):
        networks.downsample(x, 1)
    with pytest.raises(StateError, match="6 channels, not divisible by 8"):
        networks.channel_to_spatial_where(x, torch.ones(len(x.coords), 8, dtype=torch.bool))
    with pytest.raises(StateError, match="present must be bool"):
        networks.upsample_where(x, torch.ones(len(x.coords), 7, dtype=torch.bool))
    with pytest.raises(StateError, match="mask must be bool"):
        networks.keep(x, torch.ones(3))
    _, level = networks.downsample(x)
    with pytest.raises(StateError, match="structure was made for other voxels"):
        networks.upsample(x, level)


# --- sampling ---------------------------------------------------------------------------------------------------------
def test_trilinear_values_reproduce_a_linear_field_inside() -> None:
    x = random_sparse(0, 1, 6, 2, 1.1, torch.float64)
    slope = torch.tensor([[1.0], [2.0], [-3.0]], dtype=torch.float64)
    x = x.replace((x.coords[:, 1:] + 0.5).double() @ slope + 10 * x.coords[:, :1])
    rng = torch.Generator().manual_seed(0)
    points = torch.rand(50, 3, generator=rng, dtype=torch.float64) * 5 + 0.5
    samples = torch.arange(50) % 2
    torch.testing.assert_close(networks.sample_voxels(x, points, samples), points @ slope + 10 * samples[:, None])
    nearest = networks.sample_voxels(x, points, samples, "nearest")
    torch.testing.assert_close(nearest, (points.floor() + 0.5) @ slope + 10 * samples[:, None])


def test_sampling_is_differentiable_in_features_and_points() -> None:
    x = random_sparse(1, 2, 3, 1, 0.6, torch.float64)
    points = torch.rand(6, 3, generator=torch.Generator().manual_seed(3), dtype=torch.float64) * 2 + 0.51
    leaves = (x.feats.requires_grad_(), points.requires_grad_())
    assert torch.autograd.gradcheck(lambda feats, at: networks.sample_voxels(x.replace(feats), at), leaves)


def test_sampling_of_nothing_is_zero() -> None:
    x = SparseTensor(torch.empty(0, 4, dtype=torch.int32), torch.empty(0, 2), 4)
    assert networks.sample_voxels(x, torch.ones(3, 3)).tolist() == [[0.0, 0.0]] * 3


# --- blocks -----------------------------------------------------------------------------------------------------------
def test_channel_to_space_block_follows_a_given_level_before_its_own_prediction() -> None:
    x = random_sparse(0, 16, 6, 2)
    down, up = networks.SparseResBlockS2C3d(16, 32), networks.SparseResBlockC2S3d(32, 16)
    coarse, level = down(x)
    assert coarse.feats.shape == (len(level.structure), 32)
    fine, structure, logits = up(coarse, level=level)
    assert torch.equal(fine.coords, x.coords)
    assert structure is level.fine
    assert logits.feats.shape == (len(coarse.coords), 8)
    free, _, logits = up(coarse)
    assert len(free.coords) == int((logits.feats > 0).sum())


def test_channel_to_space_block_takes_the_subdivision_of_a_caller() -> None:
    x = random_sparse(0, 16, 4)
    block = networks.SparseResBlockC2S3d(16, 8, pred_subdiv=False)
    assert not any(key.startswith("to_subdiv") for key in block.state_dict())
    logits = torch.full((len(x.coords), 8), -1.0)
    logits[:, 2] = 1.0
    fine, _, predicted = block(x, subdivision=logits)
    assert predicted is None
    assert torch.equal(fine.coords[:, 2], x.coords[:, 2] * 2 + 1)
    with pytest.raises(StateError, match="needs level or subdivision"):
        block(x)


def test_residual_blocks_begin_as_their_skip() -> None:
    """The last layer of the branch is zero at initialisation."""
    x = random_sparse(0, 16, 4, 2)
    assert torch.equal(networks.SparseConvNeXtBlock3d(16)(x).feats, x.feats)
    assert torch.equal(networks.SparseResBlock3d(16)(x).feats, x.feats)
    coarse, _ = networks.SparseResBlockDownsample3d(16)(x)
    torch.testing.assert_close(coarse.feats, networks.downsample(x)[0].feats)


def test_pruning_everything_leaves_an_empty_tensor_that_later_blocks_take() -> None:
    block = networks.SubdivideGroupNormBlock3d(8, 8, groups=4, pruning=True)
    fine, _, logits = block(random_sparse(0, 8, 4, 2))
    assert len(fine.coords) == len(logits)
    empty = networks.prune(fine, logits - 1)
    assert len(empty.coords) == 0
    again, _, _ = block(empty)
    assert again.feats.shape == (0, 8)
    assert again.resolution == 16


@pytest.mark.parametrize(("channels", "out"), [(16, 12), (3, 16), (16, 48)])
def test_widths_that_cannot_be_divided_are_told(channels: int, out: int) -> None:
    with pytest.raises(ConfigError):
        networks.SparseResBlockS2C3d(channels, out)


# --- point encoder ----------------------------------------------------------------------------------------------------
def test_point_encoder_pools_within_voxels_whatever_the_order() -> None:
    rng = torch.Generator().manual_seed(0)
    points = torch.rand(40, 6, generator=rng) - 0.5
    voxels = ((points[:, :3] + 0.5) * 3).floor().int()
    coords = torch.unique(torch.nn.functional.pad(voxels, (1, 0)), dim=0)
    encoder = networks.LocalPoolPointNet(6, 8, 4, 3)
    found = encoder(points, coords, 3).feats
    order = torch.randperm(len(points), generator=rng)
    shuffled = torch.randperm(len(coords), generator=rng)
    torch.testing.assert_close(encoder(points[order], coords[shuffled], 3).feats, found[shuffled])


def test_point_encoder_names_a_point_without_a_voxel() -> None:
    coords = torch.zeros(1, 4, dtype=torch.int32)
    with pytest.raises(StateError, match="such as point 1 in"):
        networks.LocalPoolPointNet(3, 4, 4, 1)(torch.tensor([[-0.4, -0.4, -0.4], [0.4, 0.4, 0.4]]), coords, 4)


# --- helpers ----------------------------------------------------------------------------------------------------------
def test_posterior_by_hand() -> None:
    posterior = networks.DiagonalGaussian.split(torch.tensor([[1.0, -2.0, 0.0, 100.0]]))
    assert posterior.logvar.tolist() == [[0.0, 20.0]]
    assert posterior.sample(noise=torch.tensor([[0.5, 0.0]])).tolist() == [[1.5, -2.0]]
    assert float(posterior.kl((0, 1))) == pytest.approx((0.5 + 0.5 * (4 + float(torch.tensor(20.0).exp()) - 21)) / 2)
    draws = [posterior.sample(torch.Generator().manual_seed(1)) for _ in range(2)]
    assert torch.equal(*draws)
    with pytest.raises(StateError, match="needs rng or noise"):
        posterior.sample()
    with pytest.raises(StateError, match="noise is"):
        posterior.sample(noise=torch.zeros(3))
    with pytest.raises(StateError, match="not as many means"):
        networks.DiagonalGaussian.split(torch.zeros(2, 5))


def test_feed_forward_takes_tensors_and_sparse_tensors() -> None:
    x, module = random_sparse(0, 6), networks.FeedForward(6, 2.5)
    assert {key: tuple(value.shape) for key, value in module.state_dict().items()} == {
        "mlp.0.weight": (15, 6), "mlp.0.bias": (15,), "mlp.2.weight": (6, 15), "mlp.2.bias": (6,),
    }  # fmt: skip
    assert torch.equal(module(x).feats, module(x.feats))
    with pytest.raises(StateError, match="x has 5 channels but the layer takes 6"):
        module(torch.ones(2, 5))
    with pytest.raises(ConfigError, match="activation must be one of"):
        networks.FeedForward(6, activation="swish")  # type: ignore[arg-type]


def test_sparse_linear_and_activations_act_on_features() -> None:
    x = random_sparse(0, 6)
    linear = networks.SparseLinear(6, 3)
    torch.testing.assert_close(linear(x).feats, torch.nn.functional.linear(x.feats, linear.weight, linear.bias))
    torch.testing.assert_close(networks.SparseGELU()(x).feats, torch.nn.functional.gelu(x.feats, approximate="tanh"))
    assert torch.equal(networks.SparseSiLU()(x).feats, torch.nn.functional.silu(x.feats))
    with pytest.raises(StateError, match="feats has 6 channels but the layer takes 4"):
        networks.SparseLinear(4, 3)(x)


def test_cast_products_leaves_norms_in_float32() -> None:
    block = networks.SparseConvNeXtBlock3d(8)
    networks.cast_products(block, torch.bfloat16)
    kinds = {key: value.dtype for key, value in block.state_dict().items()}
    assert {key for key, kind in kinds.items() if kind == torch.float32} == {"norm.weight", "norm.bias"}
    x = networks.cast_values(random_sparse(0, 8), torch.bfloat16)
    assert block(x).feats.dtype == torch.bfloat16
    with pytest.raises(ConfigError, match="dtype must be a float type"):
        networks.cast_products(block, torch.int32)


def test_checkpointed_block_has_the_same_gradients() -> None:
    x, block = random_sparse(0, 8), networks.SparseResBlock3d(8)
    torch.nn.init.normal_(block.conv2.weight, generator=torch.Generator().manual_seed(0))
    structure = networks.Structure.of(x)
    found = []
    for enabled in (False, True):
        block.zero_grad()
        networks.checkpoint(block, x, structure, enabled=enabled).feats.square().sum().backward()
        found.append([parameter.grad.clone() for parameter in block.parameters() if parameter.grad is not None])
    assert len(found[0]) == 6
    torch.testing.assert_close(found[1], found[0])
    with pytest.raises(ConfigError, match="ratio must lie between"):
        networks.checkpointed_blocks(1.5, 3)
