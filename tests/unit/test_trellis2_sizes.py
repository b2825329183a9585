"""TRELLIS.2's networks at their defaults have the published parameters: keys, shapes, counts (no memory is taken)."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from shapewright import discover
from shapewright.run import build
from shapewright.weights.empty import without_memory
from torch import nn

ENCODER = (64, 128, 256, 512, 1024), (0, 4, 8, 16, 4)
DECODER = (1024, 512, 256, 128, 64), (4, 16, 8, 4, 0)
CATALOG = discover()


def shapes(key: str, **options: Any) -> dict[str, tuple[int, ...]]:
    with without_memory():
        part: nn.Module = build(CATALOG, key, options)
    assert all(parameter.is_meta for parameter in part.parameters())
    state: dict[str, torch.Tensor] = part.published_state()  # type: ignore[operator]
    return {name: tuple(value.shape) for name, value in state.items()}


def count(table: dict[str, tuple[int, ...]]) -> int:
    return sum(torch.Size(shape).numel() for shape in table.values())


def linear(prefix: str, rows: int, columns: int) -> dict[str, tuple[int, ...]]:
    return {f"{prefix}.weight": (rows, columns), f"{prefix}.bias": (rows,)}


def convolution(prefix: str, rows: int, columns: int) -> dict[str, tuple[int, ...]]:
    return {f"{prefix}.weight": (rows, 3, 3, 3, columns), f"{prefix}.bias": (rows,)}


def norm(prefix: str, channels: int) -> dict[str, tuple[int, ...]]:
    return {f"{prefix}.weight": (channels,), f"{prefix}.bias": (channels,)}


def conv_next(prefix: str, width: int) -> dict[str, tuple[int, ...]]:
    return (
        norm(f"{prefix}.norm", width)
        | convolution(f"{prefix}.conv", width, width)
        | linear(f"{prefix}.mlp.0", 4 * width, width)
        | linear(f"{prefix}.mlp.2", width, 4 * width)
    )


def sparse_encoder() -> dict[str, tuple[int, ...]]:
    """The specification's table."""
    table = linear("input_layer", 64, 6) | linear("to_latent", 64, 1024)
    for i, (width, blocks) in enumerate(zip(*ENCODER, strict=True)):
        for j in range(blocks):
            table |= conv_next(f"blocks.{i}.{j}", width)
    for i, (width, following) in enumerate(pairwise(ENCODER[0])):
        move = f"blocks.{i}.{ENCODER[1][i]}"
        table |= norm(f"{move}.norm1", width) | convolution(f"{move}.conv1", following // 8, width)
        table |= convolution(f"{move}.conv2", following, following)
    return table


def sparse_decoder(channels: int, predicts: bool) -> dict[str, tuple[int, ...]]:
    """The specification's table."""
    table = linear("from_latent", 1024, 32) | linear("output_layer", channels, 64)
    for i, (width, blocks) in enumerate(zip(*DECODER, strict=True)):
        for j in range(blocks):
            table |= conv_next(f"blocks.{i}.{j}", width)
    for i, (width, following) in enumerate(pairwise(DECODER[0])):
        move = f"blocks.{i}.{DECODER[1][i]}"
        table |= norm(f"{move}.norm1", width) | convolution(f"{move}.conv1", 8 * following, width)
        table |= convolution(f"{move}.conv2", following, following)
        table |= linear(f"{move}.to_subdiv", 8, width) if predicts else {}
    return table


@pytest.mark.parametrize(
    ("key", "part", "wanted", "tensors", "numbers"),
    [
        ("encoder/trellis2-shape-vae", "encoder", sparse_encoder(), 284, 354_385_392),
        ("encoder/trellis2-shape-vae", "decoder", sparse_decoder(7, True), 292, 474_231_463),
        ("encoder/trellis2-texture-vae", "encoder", sparse_encoder(), 284, 354_385_392),
        ("encoder/trellis2-texture-vae", "decoder", sparse_decoder(6, False), 284, 474_216_006),
    ],
)
def test_sparse_autoencoders_have_the_published_parameters(
    key: str, part: str, wanted: dict[str, tuple[int, ...]], tensors: int, numbers: int
) -> None:
    found = shapes(key, parts=part)
    assert found == wanted
    assert (len(found), count(found)) == (tensors, numbers)


@pytest.mark.parametrize(("part", "numbers"), [("encoder", 59_298_192), ("decoder", 73_671_201)])
def test_structure_autoencoder_has_the_published_parameters(part: str, numbers: int) -> None:
    found = shapes("encoder/trellis2-structure-vae", parts=part)
    assert (len(found), count(found)) == (74, numbers)
    if part == "encoder":
        wanted = {
            "input_layer.weight": (32, 1, 3, 3, 3), "blocks.2.conv.weight": (128, 32, 2, 2, 2),
            "blocks.5.conv.weight": (512, 128, 2, 2, 2), "middle_block.1.conv2.weight": (512, 512, 3, 3, 3),
            "out_layer.0.weight": (512,), "out_layer.2.weight": (16, 512, 3, 3, 3),
        }  # fmt: skip
    else:
        wanted = {
            "input_layer.weight": (512, 8, 3, 3, 3), "middle_block.0.conv1.weight": (512, 512, 3, 3, 3),
            "blocks.2.conv.weight": (1024, 512, 3, 3, 3), "blocks.5.conv.weight": (256, 128, 3, 3, 3),
            "out_layer.0.weight": (32,), "out_layer.2.weight": (1, 32, 3, 3, 3),
        }  # fmt: skip
    assert {name: found.get(name) for name in wanted} == wanted


def flow_table(inputs: int, outputs: int) -> dict[str, tuple[int, ...]]:
    """The specification's table."""
    width, hidden, blocks = 1536, 8192, 30
    table = linear("t_embedder.mlp.0", width, 256) | linear("t_embedder.mlp.2", width, width)
    table |= linear("adaLN_modulation.1", 6 * width, width) | linear("input_layer", width, inputs)
    table |= linear("out_layer", outputs, width)
    for b in range(blocks):
        block = f"blocks.{b}"
        table |= {f"{block}.modulation": (6 * width,)} | norm(f"{block}.norm2", width)
        table |= linear(f"{block}.self_attn.to_qkv", 3 * width, width)
        table |= linear(f"{block}.cross_attn.to_q", width, width) | linear(f"{block}.cross_attn.to_kv", 2 * width, 1024)
        table |= linear(f"{block}.mlp.mlp.0", hidden, width) | linear(f"{block}.mlp.mlp.2", width, hidden)
        for attention in ("self_attn", "cross_attn"):
            table |= linear(f"{block}.{attention}.to_out", width, width)
            table |= {f"{block}.{attention}.{each}_rms_norm.gamma": (12, 128) for each in "qk"}
    return table


@pytest.mark.parametrize(
    ("key", "options", "inputs", "outputs", "numbers"),
    [
        ("generator/trellis2-structure-flow", {}, 8, 8, 1_292_179_976),
        ("generator/trellis2-slat-flow", {}, 32, 32, 1_292_253_728),
        (
            "generator/trellis2-slat-flow",
            {"latent": "trellis2-texture", "in_channels": 64, "concat_channels": 32},
            64,
            32,
            1_292_302_880,
        ),
    ],
)
def test_flow_models_have_the_published_parameters(
    key: str, options: dict[str, Any], inputs: int, outputs: int, numbers: int
) -> None:
    found = shapes(key, **options)
    assert found == flow_table(inputs, outputs)
    assert (len(found), count(found)) == (640, numbers)


def test_dinov3_has_the_published_sizes() -> None:
    found = shapes("conditioner/dinov3")
    assert count(found) == 303_129_600
    assert found["layer.23.attention.q_proj.bias"] == (1024,)
    assert "layer.0.attention.k_proj.bias" not in found
