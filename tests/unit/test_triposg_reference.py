"""The flow transformer of odd sizes against the equations of the specification, written out on published weights."""

from __future__ import annotations

import math

import pytest
import torch
from shapewright.streams import stream
from shapewright_plugins.triposg.dit import TripoSGDiT
from shapewright_plugins.triposg.dit_config import Config
from torch import Tensor

State = dict[str, Tensor]


def linear(x: Tensor, state: State, key: str) -> Tensor:
    product = x @ state[f"{key}.weight"].T
    return product + state[f"{key}.bias"] if f"{key}.bias" in state else product


def norm(x: Tensor, state: State, key: str) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    scaled = centred / torch.sqrt(centred.square().mean(-1, keepdim=True) + 1e-5)
    return scaled * state[f"{key}.weight"] + state[f"{key}.bias"]


def gelu(x: Tensor) -> Tensor:
    return 0.5 * x * (1 + torch.erf(x / math.sqrt(2)))


def head_norm(x: Tensor, gain: Tensor) -> Tensor:
    return x / torch.sqrt(x.square().mean(-1, keepdim=True) + 1e-6) * gain


def attention(x: Tensor, context: Tensor | None, state: State, key: str, heads: int) -> Tensor:
    """Section 2.2, head by head: projections are joined, then split by head, then into queries, keys and values."""
    source = x if context is None else context
    q, k, v = (linear(s, state, f"{key}.to_{n}") for s, n in ((x, "q"), (source, "k"), (source, "v")))
    width, answers = q.shape[-1] // heads, []
    for head in range(heads):
        if context is None:
            joined = torch.cat([q, k, v], dim=-1)[..., head * 3 * width : (head + 1) * 3 * width]
            one, two, three = joined.split(width, dim=-1)
        else:
            one = q[..., head * width : (head + 1) * width]
            two, three = torch.cat([k, v], dim=-1)[..., head * 2 * width : (head + 1) * 2 * width].split(width, dim=-1)
        one, two = (head_norm(part, state[f"{key}.norm_{n}.weight"]) for part, n in ((one, "q"), (two, "k")))
        answers.append(torch.softmax(one @ two.transpose(-1, -2) / math.sqrt(width), dim=-1) @ three)
    return linear(torch.cat(answers, dim=-1), state, f"{key}.to_out.0")


def feed_forward(x: Tensor, state: State, key: str) -> Tensor:
    return linear(gelu(linear(x, state, f"{key}.net.0.proj")), state, f"{key}.net.2")


def mixture(x: Tensor, state: State, key: str, config: Config) -> Tensor:
    """Section 6, token by token."""
    result = feed_forward(x, state, f"{key}.shared") if config.shared_expert else torch.zeros_like(x)
    for sample in range(x.shape[0]):
        for token in range(x.shape[1]):
            here = x[sample, token]
            shares = torch.softmax(state[f"{key}.gate.weight"] @ here, dim=0)
            best = sorted(range(config.experts), key=lambda e, s=shares: -float(s[e]))[: config.experts_per_token]
            total = sum(shares[e] for e in best) if config.norm_topk_prob else 1.0
            for e in best:
                result[sample, token] += shares[e] / total * feed_forward(here, state, f"{key}.experts.{e}")
    return result


def reference(config: Config, state: State, x: Tensor, t: Tensor, first: Tensor, second: Tensor | None) -> Tensor:
    """Section 5."""
    heads, half = config.num_attention_heads, config.width // 2
    angles = t[:, None] * torch.exp(-math.log(10000) * torch.arange(half, dtype=x.dtype) / half)
    time = linear(torch.cat([angles.sin(), angles.cos()], dim=1), state, "time_proj.linear_1")
    h = torch.cat([linear(gelu(time), state, "time_proj.linear_2")[:, None], linear(x, state, "proj_in")], dim=1)
    stack = []
    for block in range(config.num_layers):
        key = f"blocks.{block}"
        if block > config.num_layers // 2:
            joined = torch.cat([stack.pop(), h], dim=-1)
            h = norm(linear(joined, state, f"{key}.skip_linear"), state, f"{key}.skip_norm")
        h = h + attention(norm(h, state, f"{key}.norm1"), None, state, f"{key}.attn1", heads)
        crossed = attention(norm(h, state, f"{key}.norm2"), first, state, f"{key}.attn2", heads)
        crossed = crossed * config.cross_attention_scale
        if second is not None:
            more = attention(norm(h, state, f"{key}.norm2_2"), second, state, f"{key}.attn2_2", heads)
            crossed = crossed + config.cross_attention_2_scale * more
        h = h + crossed
        z = norm(h, state, f"{key}.norm3")
        is_mixed = block in config.moe_blocks
        h = h + (mixture(z, state, f"{key}.ff", config) if is_mixed else feed_forward(z, state, f"{key}.ff"))
        if block < config.num_layers // 2:
            stack.append(h)
    return linear(norm(h, state, "norm_out")[:, 1:], state, "proj_out")


BASE = {"in_channels": 5, "cross_attention_dim": 7, "tokens": 4}
SIZES = {
    "one head": Config(num_attention_heads=1, width=6, num_layers=3, **BASE),
    "odd head width": Config(num_attention_heads=2, width=10, num_layers=5, **BASE),
    "heads of two channels": Config(num_attention_heads=7, width=14, num_layers=1, **BASE),
    "even layers": Config(num_attention_heads=3, width=18, num_layers=4, **BASE),
    "scribble": Config(
        num_attention_heads=3, width=30, num_layers=5, use_cross_attention_2=True, cross_attention_2_dim=11,
        cross_attention_scale=0.7, cross_attention_2_scale=0.4, **BASE,
    ),
    "mixture": Config(
        num_attention_heads=2, width=12, num_layers=4, moe_blocks=(0, 3), experts=5, experts_per_token=3, **BASE
    ),
    "mixture of one, renormalised, nothing shared": Config(
        num_attention_heads=2, width=8, num_layers=3, moe_blocks=(2,), experts=3, experts_per_token=1,
        shared_expert=False, norm_topk_prob=True, **BASE,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SIZES)
def test_the_transformer_is_that_of_the_equations(name: str) -> None:
    config, rng = SIZES[name], stream(0, "reference", name)
    network = TripoSGDiT(config).double().eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=rng) * 0.4 + (parameter.ndim == 1) * 0.5)
    x = torch.randn(2, 4, 5, generator=rng).double()
    first = torch.randn(2, 3, 7, generator=rng).double()
    second = torch.randn(2, 6, 11, generator=rng).double() if config.use_cross_attention_2 else None
    times = torch.tensor([0.0, 731.5]).double()
    with torch.no_grad():
        found = network(x, times, first, second)
        wanted = reference(config, network.published_state(), x, times, first, second)
    # The sinusoid of the network is float32, as published.
    torch.testing.assert_close(found, wanted, rtol=2e-4, atol=2e-4)
