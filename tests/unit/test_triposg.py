"""TripoSG's networks and sampler: order of rows, caches, gradients, batches, streams, weights, bad input."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from shapewright import ConfigError, StateError
from shapewright.errors import WeightsError
from shapewright.states import Condition, Mesh, SparseLatent, SparseTensor, SurfaceSamples, TokenLatent, Tokens
from shapewright.streams import stream
from shapewright.weights.checkpoint import open_checkpoint
from shapewright.weights.fill import ReadWhenAsked, fill_from, save_weights
from shapewright_plugins.triposg.attention import HeadAttention, softmax_attention
from shapewright_plugins.triposg.dit import TripoSGDiT, TripoSGScribbleDiT
from shapewright_plugins.triposg.dit_config import Config as DiTConfig
from shapewright_plugins.triposg.dit_config import ScribbleConfig
from shapewright_plugins.triposg.field import LatentField
from shapewright_plugins.triposg.hierarchical import Config as MesherConfig
from shapewright_plugins.triposg.hierarchical import HierarchicalMarchingCubes
from shapewright_plugins.triposg.losses import eikonal_loss, field_gradients, normal_loss
from shapewright_plugins.triposg.moe import FeedForward, MixtureOfExperts, MoEConfig, balance_loss, upcycle
from shapewright_plugins.triposg.sampler import Config as SamplerConfig
from shapewright_plugins.triposg.sampler import RectifiedFlowEuler
from shapewright_plugins.triposg.schedule import draw_times, noise_levels, resolution_shift
from shapewright_plugins.triposg.surface_samples import SampleSurface, SampleSurfaceConfig
from shapewright_plugins.triposg.vae import TripoSGVAE
from shapewright_plugins.triposg.vae_config import Config as VAEConfig
from shapewright_plugins.triposg.weights import (
    key_table,
    load_published,
    plain_rows,
    published_rows,
    to_published,
)
from torch import Tensor, nn

VAE = VAEConfig(
    latent_channels=8,
    num_attention_heads=2,
    width_encoder=16,
    width_decoder=16,
    num_layers_encoder=1,
    num_layers_decoder=3,
    tokens=12,
    query_chunk=1000,
)
DIT = DiTConfig(num_attention_heads=2, width=16, in_channels=8, num_layers=5, cross_attention_dim=12, tokens=10)


def randomised(module: nn.Module, seed: int = 0) -> Any:
    """Every parameter drawn, gains near 1: a network whose parts all matter."""
    rng = stream(seed, "parameters")
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            drawn = torch.randn(parameter.shape, generator=rng)
            if "norm" in name and name.endswith("weight"):
                parameter.copy_(1 + 0.2 * drawn)
            else:
                parameter.copy_(drawn * (0.1 if parameter.ndim == 1 else parameter.shape[-1] ** -0.5))
    return module.eval()


@pytest.fixture(scope="module")
def vae() -> TripoSGVAE:
    made: TripoSGVAE = randomised(TripoSGVAE(VAE))
    return made


@pytest.fixture(scope="module")
def dit() -> TripoSGDiT:
    made: TripoSGDiT = randomised(TripoSGDiT(DIT))
    return made


def latent(seed: int = 0, count: int = 1) -> TokenLatent:
    return TokenLatent(torch.randn(count, 12, 8, generator=stream(seed, "latent")))


def condition(count: int = 1, channels: int = 12, seed: int = 0) -> Condition:
    tokens = torch.randn(count, 5, channels, generator=stream(seed, "condition", channels))
    return Condition(tokens, torch.zeros_like(tokens))


def surface(count: int = 100, seed: int = 0) -> SurfaceSamples:
    normals = nn.functional.normalize(torch.randn(count, 3, generator=stream(seed, "surface")), dim=-1)
    return SurfaceSamples(0.7 * normals, normals)


# --- weights ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("parts", [2, 3])
def test_rows_of_published_projections_go_to_their_heads_and_back(parts: int) -> None:
    heads, width, inputs = 3, 4, 5
    published = list(torch.arange(parts * heads * width * inputs).float().view(parts, heads * width, inputs))
    plain = plain_rows(published, heads)
    joined = torch.cat(published)
    for head in range(heads):
        for index in range(parts):
            start = (head * parts + index) * width
            assert torch.equal(plain[index][head * width : (head + 1) * width], joined[start : start + width])
    assert all(torch.equal(a, b) for a, b in zip(published_rows(plain, heads), published, strict=True))


def test_a_published_checkpoint_survives_loading_and_saving(dit: TripoSGDiT, vae: TripoSGVAE) -> None:
    for network, config, kind in ((dit, DIT, TripoSGDiT), (vae, VAE, TripoSGVAE)):
        published = {key: value.clone() for key, value in network.published_state().items()}
        with torch.device("meta"):
            other = kind(config)
        other.load_published(published)
        assert not any(parameter.is_meta for parameter in other.parameters())
        assert all(torch.equal(a, b) for a, b in zip(network.parameters(), other.parameters(), strict=True))
        again = other.published_state()
        assert again.keys() == published.keys()
        assert all(torch.equal(again[key], published[key]) for key in published)


def test_a_network_filled_from_the_meta_device_decodes_the_same(vae: TripoSGVAE) -> None:
    with torch.device("meta"):
        other = TripoSGVAE(VAE)
    other.load_published(vae.published_state())
    points = torch.rand(20, 3, generator=stream(0, "points"))
    assert torch.equal(vae.decode(latent()).state.query(points), other.decode(latent()).state.query(points))


def test_weights_keep_their_dtype(vae: TripoSGVAE) -> None:
    with torch.device("meta"):
        other = TripoSGVAE(VAE)
    other.load_published({key: value.to(torch.bfloat16) for key, value in vae.published_state().items()})
    assert {parameter.dtype for parameter in other.parameters()} == {torch.bfloat16}
    points = torch.rand(20, 3, generator=stream(0, "points"))
    with torch.no_grad():
        wanted = vae.decoder(points[None], vae.prepare(latent().values))
        found = other.decoder(points[None], other.prepare(latent().values)).float()
    assert float((found - wanted).abs().max()) < 0.05 * float(wanted.abs().max())


def test_projections_are_put_in_order_while_they_are_read(
    dit: TripoSGDiT, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Never more than the three of one layer are in memory in the published order, in whatever dtype."""
    files = save_weights(dit, tmp_path / "model.safetensors")
    with torch.device("meta"):
        other = TripoSGDiT(DIT)
    alive: list[weakref.ref[Tensor]] = []
    original = ReadWhenAsked.__getitem__

    def watched(self: ReadWhenAsked, key: str) -> Tensor:
        assert sum(reference() is not None for reference in alive) <= 3
        tensor = original(self, key)
        if any(f".to_{letter}." in key for letter in "kv") or "attn1.to_q" in key:
            alive.append(weakref.ref(tensor))
        return tensor

    monkeypatch.setattr(ReadWhenAsked, "__getitem__", watched)
    fill_from(other, open_checkpoint(files), "flow", dtype=torch.bfloat16)
    assert len(alive) == 5 * DIT.num_layers
    for mine, loaded in zip(dit.parameters(), other.parameters(), strict=True):
        assert torch.equal(mine.bfloat16(), loaded)


def test_all_differences_of_a_checkpoint_are_listed(vae: TripoSGVAE) -> None:
    state = vae.published_state()
    del state["quant.bias"]
    state["post_quant.weight"] = state["post_quant.weight"][:, :-1]
    state["extra"] = torch.zeros(1)
    with pytest.raises(WeightsError) as caught:
        vae.load_published(state)
    message = str(caught.value)
    assert "3 differences" in message
    assert "\n" not in message
    for part in (
        "missing quant.bias (16,)",
        "shape of post_quant.weight is (16, 7), not (16, 8)",
        "unexpected extra (1,)",
    ):
        assert part in message


def test_weights_that_are_no_floats_are_refused(vae: TripoSGVAE) -> None:
    state = {key: value.long() for key, value in vae.published_state().items()}
    with pytest.raises(WeightsError, match="not a float type"):
        vae.load_published(state)


OFFICIAL = [
    (TripoSGVAE, VAEConfig(), 356, 242_662_017),
    (TripoSGDiT, DiTConfig(), 554, 1_439_556_160),
    (TripoSGScribbleDiT, ScribbleConfig(), 743, 1_681_911_616),
]


@pytest.mark.parametrize(("kind", "config", "tensors", "parameters"), OFFICIAL, ids=["vae", "image", "scribble"])
def test_official_sizes_have_the_published_number_of_parameters(
    kind: Any, config: Any, tensors: int, parameters: int
) -> None:
    with torch.device("meta"):
        table = key_table(kind(config))
    assert len(table) == tensors
    assert sum(torch.Size(shape).numel() for shape in table.values()) == parameters


def test_official_keys_and_shapes_are_those_of_the_tables() -> None:
    with torch.device("meta"):
        vae, dit = key_table(TripoSGVAE(VAEConfig())), key_table(TripoSGDiT(DiTConfig()))
    assert vae["encoder.proj_in.weight"] == (512, 54)
    assert vae["encoder.blocks.0.attn2.norm_cross.weight"] == (512,)
    assert vae["encoder.blocks.8.attn1.to_q.weight"] == (512, 512)
    assert vae["quant.weight"] == (128, 512)
    assert vae["decoder.blocks.16.attn2.norm_cross.bias"] == (1024,)
    assert vae["decoder.proj_query.weight"] == (1024, 51)
    assert "decoder.blocks.16.attn1.to_q.weight" not in vae
    assert dit["time_proj.linear_1.weight"] == (8192, 2048)
    assert dit["blocks.20.skip_linear.weight"] == (2048, 4096)
    assert "blocks.10.skip_linear.weight" not in dit
    assert dit["blocks.0.attn2.to_k.weight"] == (2048, 1024)
    assert dit["blocks.0.attn1.norm_q.weight"] == (128,)


# --- autoencoder --------------------------------------------------------------------------------------------------
def test_self_attention_blocks_run_once_a_shape_however_many_points_are_asked(vae: TripoSGVAE) -> None:
    calls = [0] * len(vae.decoder.blocks)

    def count(index: int) -> Any:
        def hook(*_: Any) -> None:
            calls[index] += 1

        return hook

    hooks = [block.register_forward_hook(count(index)) for index, block in enumerate(vae.decoder.blocks)]
    field = replace(VAE, sign="negative-inside")
    vae.config, before = field, vae.config
    try:
        state = vae.decode(latent()).state
        for _ in range(3):
            state.query(torch.zeros(2500, 3))  # three chunks of 1000
    finally:
        vae.config = before
        for hook in hooks:
            hook.remove()
    assert calls == [1, 1, 1, 9]


def test_chunks_of_queries_do_not_matter(vae: TripoSGVAE) -> None:
    points = torch.rand(777, 3, generator=stream(0, "points")) * 2 - 1
    whole = vae.decode(latent()).state.query(points)
    other = TripoSGVAE(replace(VAE, query_chunk=50))
    other.load_state_dict(vae.state_dict())
    assert torch.allclose(other.decode(latent()).state.query(points), whole, atol=1e-5)


def test_a_batch_of_latents_decodes_as_each_alone(vae: TripoSGVAE) -> None:
    both = latent(count=2)
    fields = vae.decode(both).state.unbind()
    points = torch.rand(50, 3, generator=stream(0, "points"))
    assert len(fields) == 2
    for field, each in zip(fields, both.unbind(), strict=True):
        assert torch.allclose(field.query(points), vae.decode(each).state.query(points), atol=1e-5)
    assert not torch.allclose(fields[0].query(points), fields[1].query(points))
    with pytest.raises(StateError, match="holds 2 shapes"):
        vae.decode(both).state.query(points)


@pytest.mark.parametrize("sign", ["negative-inside", "positive-inside"])
def test_what_lies_on_the_border_of_the_box_is_outside(vae: TripoSGVAE, sign: str) -> None:
    points = torch.rand(30, 3, generator=stream(0, "points"))
    raw = TripoSGVAE(replace(VAE, sign=sign))
    raw.load_state_dict(vae.state_dict())
    with torch.no_grad():
        raw.decoder.proj_out.bias.fill_(-50.0 if sign == "negative-inside" else 50.0)  # decode() gives minus that
    auto = TripoSGVAE(VAE)
    auto.load_state_dict(raw.state_dict())
    assert torch.equal(auto.decode(latent()).state.query(points), raw.decode(latent()).state.query(points))
    assert float(auto.decode(latent()).state.query(points).detach().median()) > 0


def test_distances_are_truncated_logits(vae: TripoSGVAE) -> None:
    points = torch.rand(30, 3, generator=stream(0, "points"))
    other = TripoSGVAE(replace(VAE, values="distance", truncation=0.02))
    other.load_state_dict(vae.state_dict())
    logits = vae.decode(latent()).state.query(points)
    assert torch.allclose(other.decode(latent()).state.query(points), 0.02 * (2 * torch.sigmoid(logits) - 1), atol=1e-6)
    assert other.decode(latent()).state.saturation is None


def test_gradients_of_the_field_are_those_of_differences(vae: TripoSGVAE) -> None:
    double = TripoSGVAE(VAE).double()
    double.load_state_dict(vae.state_dict())
    tokens = double.prepare(latent().values.double())
    points = torch.rand(1, 6, 3, generator=stream(0, "points"), dtype=torch.float64) - 0.5

    def function(at: Tensor) -> Tensor:
        return double.decoder(at, tokens, explicit=True)

    _, gradients = field_gradients(function, points)
    for axis in range(3):
        step = torch.zeros(3, dtype=torch.float64)
        step[axis] = 1e-6
        wanted = (function(points + step) - function(points - step)) / 2e-6
        assert torch.allclose(gradients[..., axis], wanted, atol=1e-6, rtol=1e-6)


def test_losses_on_gradients_reach_latents_and_weights_of_all_blocks(vae: TripoSGVAE) -> None:
    values = latent().values.requires_grad_(True)
    field = vae.decode(TokenLatent(values)).state
    points = torch.rand(6, 3, generator=stream(0, "points")).requires_grad_(True)
    _, gradients = field_gradients(field.query, points)
    loss = normal_loss(gradients, torch.ones_like(gradients)) + eikonal_loss(gradients)
    wanted = [values, vae.decoder.blocks[0].attn1.to_q.weight, vae.decoder.blocks[-1].attn2.to_q.weight]
    for found in torch.autograd.grad(loss, wanted):
        assert bool(torch.isfinite(found).all())
        assert float(found.abs().max()) > 0


def test_the_written_out_softmax_is_the_fused_one() -> None:
    q, k, v = (torch.randn(2, 3, n, 8, generator=stream(0, n)) for n in (7, 9, 9))
    assert torch.allclose(softmax_attention(q, k, v), nn.functional.scaled_dot_product_attention(q, k, v), atol=1e-6)


def test_selected_keys_change_the_field_only_where_asked(vae: TripoSGVAE) -> None:
    points = torch.rand(200, 3, generator=stream(0, "points"))
    other = TripoSGVAE(replace(VAE, topk_keys=True))
    other.load_state_dict(vae.state_dict())
    assert not torch.allclose(other.decode(latent()).state.query(points), vae.decode(latent()).state.query(points))


def test_encoding_repeats_with_its_stream_and_follows_the_support(vae: TripoSGVAE) -> None:
    with torch.no_grad():
        first, again, other = (vae.encode(surface(), rng=stream(seed, "encode")).values for seed in (0, 0, 1))
        few = vae.encode(surface(), support=Tokens(5), rng=stream(0, "encode")).values
        many = vae.encode(surface(), support=Tokens(60), rng=stream(0, "encode")).values  # more than points to choose
    assert first.shape == (1, 12, 8)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert few.shape == (1, 5, 8)
    assert many.shape == (1, 60, 8)


def test_a_batch_encodes_as_each_alone(vae: TripoSGVAE) -> None:
    one, two = surface(seed=0), surface(seed=1)
    both = SurfaceSamples(torch.stack([one.points, two.points]), torch.stack([one.normals, two.normals]))
    with torch.no_grad():
        batch = vae.encode(both, rng=[stream(0, "a"), stream(0, "b")]).values
        alone = [vae.encode(each, rng=stream(0, name)).values for each, name in ((one, "a"), (two, "b"))]
    assert torch.allclose(batch, torch.cat(alone), atol=1e-5)


def test_the_posterior_mode_is_the_mean_of_its_samples(vae: TripoSGVAE) -> None:
    other = TripoSGVAE(replace(VAE, posterior="mode"))
    other.load_state_dict(vae.state_dict())
    with torch.no_grad():
        mode, sample = (network.encode(surface(), rng=stream(0, "x")).values for network in (other, vae))
        chosen = torch.arange(12)[None]
        posterior = vae.posterior(torch.cat([surface().points, surface().normals], -1)[None], chosen)
    assert not torch.equal(mode, sample)
    drawn = torch.stack([posterior.sample(stream(seed, "draw")) for seed in range(2000)])
    assert float(((drawn.mean(0) - posterior.mode) / posterior.std).abs().max()) < 0.2


ENCODER_ERRORS: list[tuple[Mapping[str, Any], str]] = [
    ({"source": latent()}, "encodes surface samples"),
    ({"rng": None}, "needs rng"),
    ({"support": Tokens(0)}, "at least 1 token"),
    ({"source": SurfaceSamples(torch.zeros(0, 3), torch.zeros(0, 3))}, "empty"),
    ({"source": SurfaceSamples(torch.zeros(4, 3), torch.zeros(3, 3))}, "as many normals"),
    ({"source": SurfaceSamples(torch.full((4, 3), torch.nan), torch.zeros(4, 3))}, "not finite"),
    ({"rng": [stream(0, "a"), stream(0, "b")]}, "2 random streams were given for 1 samples"),
]


@pytest.mark.parametrize(("changes", "message"), ENCODER_ERRORS, ids=[message for _, message in ENCODER_ERRORS])
def test_what_cannot_be_encoded_is_refused(vae: TripoSGVAE, changes: Mapping[str, Any], message: str) -> None:
    given: dict[str, Any] = {"source": surface(), "rng": stream(0, "x"), **changes}
    with pytest.raises(StateError, match=message) as caught:
        vae.encode(given.pop("source"), **given)
    assert "\n" not in str(caught.value)


def test_latents_of_other_channels_are_refused(vae: TripoSGVAE) -> None:
    for values in (torch.zeros(1, 12, 9), torch.zeros(12, 8), torch.zeros(1, 0, 8)):
        with pytest.raises(StateError, match=r"a latent must be \(B, T, 8\)"):
            vae.decode(TokenLatent(values))
    sparse = SparseLatent(SparseTensor(torch.zeros(1, 4, dtype=torch.int32), torch.zeros(1, 8), 4))
    with pytest.raises(StateError, match="decodes token latents"):
        vae.decode(sparse)


# --- flow transformer ---------------------------------------------------------------------------------------------
def test_samples_repeat_bit_for_bit_and_follow_their_stream(dit: TripoSGDiT) -> None:
    found = [dit.sample(condition(), steps=3, rng=stream(seed, "noise")).values for seed in (0, 0, 1)]
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])
    assert found[0].shape == (1, 10, 8)


def test_a_batch_of_two_gives_what_two_runs_give(dit: TripoSGDiT) -> None:
    both = condition(2)
    batch = dit.sample(both, steps=4, guidance=3.0, rng=[stream(0, "a"), stream(0, "b")]).values
    alone = [dit.sample(one, steps=4, guidance=3.0, rng=stream(0, n)).values for one, n in zip(both.unbind(), "ab")]
    # Bit for bit on the CPU, where a row of a product of many rows does not depend on how many there are.
    assert torch.equal(batch, torch.cat(alone))


def test_one_stream_serves_a_batch_in_order(dit: TripoSGDiT) -> None:
    both = condition(2)
    batch = dit.sample(both, steps=2, rng=stream(0, "a")).values
    first = dit.sample(both.unbind()[0], steps=2, rng=stream(0, "a")).values
    assert torch.allclose(batch[:1], first, atol=1e-5)
    assert not torch.allclose(batch[0], batch[1], atol=1e-2)


def test_guidance_moves_away_from_the_null_condition(dit: TripoSGDiT) -> None:
    noise = TokenLatent(torch.randn(1, 10, 8, generator=stream(0, "noise")))
    plain, same, guided = (dit.sample(condition(), noise=noise, steps=1, guidance=g).values for g in (0.0, 1.0, 3.0))
    null = dit.sample(Condition(condition().null, condition().null), noise=noise, steps=1, guidance=0.0).values
    assert torch.equal(plain, same)
    assert torch.allclose(guided, null + 3 * (plain - null), atol=1e-4)


def test_conditions_are_projected_once_for_all_steps(dit: TripoSGDiT) -> None:
    calls = 0

    def hook(*_: Any) -> None:
        nonlocal calls
        calls += 1

    handle = dit.blocks[0].attn2.to_k.register_forward_hook(hook)
    try:
        dit.sample(condition(), steps=5, guidance=7.0, rng=stream(0, "x"))
    finally:
        handle.remove()
    assert calls == 2  # the condition and its null


def test_any_number_of_tokens_is_sampled_with_the_same_weights(dit: TripoSGDiT) -> None:
    assert dit.sample(condition(), support=Tokens(3), steps=1, rng=stream(0, "x")).values.shape == (1, 3, 8)


def test_tokens_have_no_order(dit: TripoSGDiT) -> None:
    noise = torch.randn(1, 10, 8, generator=stream(0, "noise"))
    order = torch.randperm(10, generator=stream(0, "order"))
    straight = dit.sample(condition(), noise=TokenLatent(noise), steps=2).values
    moved = dit.sample(condition(), noise=TokenLatent(noise[:, order]), steps=2).values
    assert torch.allclose(straight[:, order], moved, atol=1e-5)


def test_two_conditions_are_weighed() -> None:
    config = replace(DIT, use_cross_attention_2=True, cross_attention_2_dim=7)
    network: TripoSGDiT = randomised(TripoSGDiT(config))
    noise = TokenLatent(torch.randn(1, 10, 8, generator=stream(0, "noise")))

    def made(model: TripoSGDiT, second: int) -> Tensor:
        given = condition(channels=7, seed=second)
        return model.sample(condition(), condition_2=given, noise=noise, steps=2, guidance=0).values

    assert not torch.allclose(made(network, 0), made(network, 1))
    blind = TripoSGDiT(replace(config, cross_attention_2_scale=0.0))
    blind.load_state_dict(network.state_dict())
    assert torch.equal(made(blind, 0), made(blind, 1))
    with pytest.raises(StateError, match="wants a second condition"):
        network.sample(condition(), noise=noise, steps=1)


def test_gradients_of_training_reach_every_parameter(dit: TripoSGDiT) -> None:
    x = torch.randn(2, 10, 8, generator=stream(0, "x"))
    loss = dit(x, torch.tensor([10.0, 900.0]), condition(2).tokens).square().mean()
    gradients = torch.autograd.grad(loss, list(dit.parameters()))
    assert all(float(gradient.abs().max()) > 0 for gradient in gradients)


def test_another_attention_can_be_named_for_all_blocks() -> None:
    from shapewright.nn.attention import FullAttention

    own: TripoSGDiT = randomised(TripoSGDiT(DIT))
    other = TripoSGDiT(replace(DIT, attention=FullAttention)).eval()
    state = own.state_dict()
    for block in range(DIT.num_layers):
        there, here = f"blocks.{block}.attn1.attention.", f"blocks.{block}.attn1."
        state[there + "to_qkv.weight"] = torch.cat([state.pop(f"{here}to_{name}.weight") for name in "qkv"])
        for name in ("weight", "bias"):
            state[f"{there}to_out.{name}"] = state.pop(f"{here}to_out.0.{name}")
        for name in "qk":
            state[f"{there}{name}_rms_norm.weight"] = state.pop(f"{here}norm_{name}.weight")
    other.load_state_dict(state)
    given = (torch.randn(2, 10, 8, generator=stream(0, "x")), torch.tensor([10.0, 900.0]), condition(2).tokens)
    assert torch.allclose(own(*given), other(*given), atol=1e-4)


GENERATOR_ERRORS: list[tuple[Mapping[str, Any], str]] = [
    ({"support": Tokens(0)}, "at least 1 token"),
    ({"rng": None}, "needs rng or noise"),
    ({"noise": TokenLatent(torch.zeros(1, 10, 9))}, "noise must be"),
    ({"noise": TokenLatent(torch.zeros(2, 10, 8))}, "noise must be"),
    ({"concat": latent()}, "no latent to concatenate"),
    ({"condition_2": condition()}, "no second condition"),
    ({"condition": replace(condition(), null=torch.zeros(1, 4, 12))}, "guidance 7 needs a null condition"),
    ({"condition": Condition(torch.zeros(1, 0, 12), torch.zeros(1, 0, 12))}, "must hold tokens"),
    ({"condition": condition(channels=9)}, "a context must be"),
    ({"condition": replace(condition(), mask=torch.zeros(1, 5, dtype=torch.bool))}, "attends to all tokens"),
]


@pytest.mark.parametrize(("changes", "message"), GENERATOR_ERRORS, ids=[message for _, message in GENERATOR_ERRORS])
def test_what_cannot_be_sampled_is_refused(dit: TripoSGDiT, changes: Mapping[str, Any], message: str) -> None:
    given: dict[str, Any] = {"condition": condition(), "rng": stream(0, "x"), "steps": 1, **changes}
    with pytest.raises(StateError, match=message) as caught:
        dit.sample(given.pop("condition"), **given)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tokens": 0}, "tokens must be at least 1"),
        ({"width": 15}, "width"),
        ({"moe_blocks": (5,)}, "moe_blocks must lie in 0..4"),
        ({"moe_blocks": (4,), "experts_per_token": 9}, "experts_per_token"),
        ({"use_cross_attention_2": True}, "cross_attention_2_dim"),
    ],
)
def test_options_of_the_transformer_that_cannot_be_are_refused(options: Mapping[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        replace(DIT, **options)


# --- mixture of experts -------------------------------------------------------------------------------------------
def test_a_mixture_is_what_each_token_gets_by_itself() -> None:
    mixture: MixtureOfExperts = randomised(MixtureOfExperts(8, MoEConfig(experts=5, top_k=2)))
    tokens = torch.randn(3, 7, 8, generator=stream(0, "tokens"))
    found = mixture(tokens)
    for token, got in zip(tokens.view(-1, 8), found.view(-1, 8), strict=True):
        probabilities = torch.softmax(mixture.gate(token), dim=-1)
        weights, experts = probabilities.topk(2)
        wanted = mixture.shared(token) + sum(w * mixture.experts[int(e)](token) for w, e in zip(weights, experts))
        assert torch.allclose(got, wanted, atol=1e-5)


def test_an_upcycled_mixture_starts_as_the_dense_layer() -> None:
    dense: FeedForward = randomised(FeedForward(8))
    mixture = MixtureOfExperts(8, MoEConfig(experts=4, top_k=2, norm_topk_prob=True))
    upcycle(mixture, dense, stream(0, "router"))
    tokens = torch.randn(9, 8, generator=stream(0, "tokens"))
    assert torch.allclose(mixture(tokens), dense(tokens), atol=1e-5)


def test_the_balance_loss_counts_mixtures_in_training_and_pulls_the_router() -> None:
    network: TripoSGDiT = randomised(TripoSGDiT(replace(DIT, moe_blocks=(3, 4), experts=4)))
    given = (torch.randn(2, 10, 8, generator=stream(0, "x")), torch.tensor([1.0, 2.0]), condition(2).tokens)
    network(*given)
    with pytest.raises(ConfigError, match="no mixture of experts has run in training mode"):
        balance_loss(network)
    network.train()
    network(*given)
    loss = balance_loss(network, 1.0)
    assert 1.5 < float(loss) < 8  # two mixtures; each is 1 where even and at most 4
    (gradient,) = torch.autograd.grad(loss, [network.blocks[4].ff.gate.weight])
    assert float(gradient.abs().max()) > 0


# --- sampler ------------------------------------------------------------------------------------------------------
def test_the_published_schedule_is_even() -> None:
    levels = noise_levels(50)
    assert torch.allclose(levels, torch.linspace(1, 0, 51), atol=1e-7)
    assert levels[0] == 1
    assert levels[-1] == 0
    assert resolution_shift(2048) == 2.0


def test_a_dynamic_shift_is_the_static_one_by_its_exponential() -> None:
    dynamic, static = noise_levels(7, mu=0.9), noise_levels(7, shift=2.718281828459045**0.9)
    assert torch.allclose(dynamic, static, atol=1e-6)


def test_guidance_is_off_outside_its_interval() -> None:
    asked: list[tuple[float, bool]] = []

    def model(x: Tensor, t: float, *, conditional: bool) -> Tensor:
        asked.append((t, conditional))
        return torch.zeros_like(x)

    sampler = RectifiedFlowEuler(SamplerConfig(guidance_interval=(0.35, 0.85)))
    sampler.integrate(model, torch.zeros(1, 2), steps=5, guidance=3.0)
    assert [round(t, 3) for t, conditional in asked if not conditional] == [0.8, 0.6, 0.4]


def test_half_precision_latents_keep_their_type_and_are_stepped_in_single() -> None:
    noise = torch.full((1, 4), 1.0, dtype=torch.bfloat16)
    found = RectifiedFlowEuler(SamplerConfig()).integrate(
        lambda x, t, *, conditional: torch.ones_like(x), noise, steps=4, guidance=0.0
    )
    assert found.dtype == torch.bfloat16
    assert torch.equal(found, torch.zeros_like(found))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shift": 0.0}, "shift must be positive"),
        ({"use_dynamic_shifting": True}, "needs mu"),
        ({"sigmas": (0.5, 0.7)}, "must descend"),
        ({"sigmas": (1.5, 0.7)}, "must descend"),
        ({"begin_index": -1}, "begin_index"),
        ({"guidance_interval": (0.8, 0.2)}, "guidance_interval"),
    ],
)
def test_schedules_that_cannot_be_are_refused(options: Mapping[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SamplerConfig(**options)


def test_steps_that_cannot_be_are_refused() -> None:
    for options, steps in ((SamplerConfig(), 0), (SamplerConfig(begin_index=3), 3)):
        with pytest.raises(ConfigError, match="step"):
            RectifiedFlowEuler(options).integrate(
                lambda x, t, *, conditional: x, torch.zeros(1), steps=steps, guidance=0
            )


def test_times_of_training_follow_their_law() -> None:
    drawn = draw_times("logit_normal", 20000, stream(0, "times"), mean=0.5, std=0.8)
    logits = torch.logit(drawn)
    assert abs(float(logits.mean()) - 0.5) < 0.02
    assert abs(float(logits.std()) - 0.8) < 0.02
    with pytest.raises(ConfigError, match="density must be one of"):
        draw_times("normal", 1, stream(0, "times"))


# --- all together -------------------------------------------------------------------------------------------------
def test_surface_samples_fill_the_cube_of_the_encoder() -> None:
    corners = torch.tensor([[0.0, 0, 0], [4, 0, 0], [4, 2, 0], [0, 2, 0]])
    mesh = Mesh(corners, torch.tensor([[0, 1, 2], [0, 2, 3]]))
    found = SampleSurface(SampleSurfaceConfig(count=4000)).apply(mesh=mesh, rng=stream(0, "x"))
    assert found.points.dtype == torch.float32
    assert found.points.abs().max() <= 1
    assert torch.allclose(found.points.abs().amax(0), torch.tensor([1.0, 0.5, 0.0]), atol=0.01)
    assert torch.allclose(found.normals, torch.tensor([0.0, 0.0, 1.0]))


def test_a_mesh_goes_to_latents_and_back_to_a_mesh(vae: TripoSGVAE) -> None:
    mesh = Mesh(torch.eye(3).repeat(2, 1)[:4] - 0.2, torch.tensor([[0, 1, 2], [0, 2, 3]]))
    samples = SampleSurface(SampleSurfaceConfig(count=200)).apply(mesh=mesh, rng=stream(0, "s"))
    mesher = HierarchicalMarchingCubes(MesherConfig(coarse_depth=4, fine_depth=4, closed=True))
    with torch.no_grad():
        field = vae.decode(vae.encode(samples, rng=stream(0, "e"))).state
    assert isinstance(field, LatentField)
    made = [mesher.extract(field) for _ in range(2)]
    assert len(made[0].faces)
    assert torch.equal(made[0].vertices, made[1].vertices)
    assert float(made[0].vertices.abs().max()) <= VAE.bounds


def test_attention_refuses_what_it_cannot_split() -> None:
    with pytest.raises(ConfigError, match="heads must divide"):
        HeadAttention(10, 3)
    layer = HeadAttention(8, 2, context_channels=6)
    with pytest.raises(StateError, match=r"a context must be \(B, M, 6\)"):
        layer(torch.zeros(1, 3, 8), torch.zeros(1, 3, 8))
    with pytest.raises(StateError, match="needs a context"):
        layer(torch.zeros(1, 3, 8))
    load_published(layer, to_published(layer))
