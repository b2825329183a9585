"""TRELLIS.2's networks and steps once more, written from the equations for reading: float64, loops, dictionaries.

Nothing of the product is used here. ``p`` is a state dict with the published keys, ``rows`` a list of ``(b, x, y, z)``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn.functional import conv3d, gelu, group_norm, linear, pad, sigmoid, silu, softplus

Row = tuple[int, int, int, int]
Params = Mapping[str, Tensor]


def norm(x: Tensor, eps: float, weight: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
    """Layer norm over the last dimension."""
    centred = x - x.mean(-1, keepdim=True)
    unit = centred / (centred.square().mean(-1, keepdim=True) + eps).sqrt()
    return unit if weight is None or bias is None else unit * weight + bias


def at(p: Params, name: str) -> tuple[Tensor, Tensor]:
    return p[f"{name}.weight"], p[f"{name}.bias"]


# --- sparse convolutions ----------------------------------------------------------------------------------------------
def sparse_conv(p: Params, name: str, rows: Sequence[Row], x: Tensor) -> Tensor:
    weight, bias = at(p, name)
    place = {row: i for i, row in enumerate(rows)}
    out = bias.repeat(len(rows), 1)
    for i, (b, *xyz) in enumerate(rows):
        for a in range(3):
            for c in range(3):
                for d in range(3):
                    there = place.get((b, xyz[0] + a - 1, xyz[1] + c - 1, xyz[2] + d - 1))
                    if there is not None:
                        out[i] += weight[:, a, c, d] @ x[there]
    return out


def conv_next(p: Params, name: str, rows: Sequence[Row], x: Tensor) -> Tensor:
    h = norm(sparse_conv(p, f"{name}.conv", rows, x), 1e-6, *at(p, f"{name}.norm"))
    return x + linear(silu(linear(h, *at(p, f"{name}.mlp.0"))), *at(p, f"{name}.mlp.2"))


def child(row: Row) -> int:
    return row[1] % 2 + 2 * (row[2] % 2) + 4 * (row[3] % 2)


def parent(row: Row) -> Row:
    return row[0], row[1] // 2, row[2] // 2, row[3] // 2


def space_to_channel(rows: Sequence[Row], x: Tensor) -> tuple[list[Row], Tensor]:
    coarse = sorted({parent(row) for row in rows})
    place = {row: i for i, row in enumerate(coarse)}
    width = x.shape[1]
    out = x.new_zeros(len(coarse), 8 * width)
    for row, values in zip(rows, x, strict=True):
        start = child(row) * width
        out[place[parent(row)], start : start + width] = values
    return coarse, out


def channel_to_space(rows: Sequence[Row], x: Tensor, present: Tensor) -> tuple[list[Row], Tensor]:
    """Parent by parent, children in ascending order."""
    fine, values, width = [], [], x.shape[1] // 8
    for i, (b, *xyz) in enumerate(rows):
        for which in range(8):
            if present[i, which]:
                fine.append((b, 2 * xyz[0] + which % 2, 2 * xyz[1] + which // 2 % 2, 2 * xyz[2] + which // 4))
                values.append(x[i, which * width : (which + 1) * width])
    return fine, torch.stack(values) if values else x.new_zeros(0, width)


def down(p: Params, name: str, rows: Sequence[Row], x: Tensor, width: int) -> tuple[list[Row], Tensor]:
    h = sparse_conv(p, f"{name}.conv1", rows, silu(norm(x, 1e-6, *at(p, f"{name}.norm1"))))
    coarse, h = space_to_channel(rows, h)
    h = sparse_conv(p, f"{name}.conv2", coarse, silu(norm(h, 1e-6)))
    gathered = space_to_channel(rows, x)[1]
    return coarse, h + gathered.reshape(len(coarse), width, -1).mean(-1)


def up(
    p: Params, name: str, rows: Sequence[Row], x: Tensor, width: int, given: Tensor | None
) -> tuple[list[Row], Tensor, Tensor | None]:
    logits = linear(x, *at(p, f"{name}.to_subdiv")) if f"{name}.to_subdiv.weight" in p else None
    present = given if given is not None else logits
    assert present is not None
    h = sparse_conv(p, f"{name}.conv1", rows, silu(norm(x, 1e-6, *at(p, f"{name}.norm1"))))
    fine, h = channel_to_space(rows, h, present > 0)
    _, skip = channel_to_space(rows, x, present > 0)
    h = sparse_conv(p, f"{name}.conv2", fine, silu(norm(h, 1e-6)))
    return fine, h + skip.repeat_interleave(width // skip.shape[1], 1), logits


def encode(
    p: Params, widths: Sequence[int], blocks: Sequence[int], rows: list[Row], x: Tensor
) -> tuple[list[Row], Tensor, Tensor]:
    """Rows, mean and log variance."""
    h = linear(x, *at(p, "input_layer"))
    for i, count in enumerate(blocks):
        for j in range(count):
            h = conv_next(p, f"blocks.{i}.{j}", rows, h)
        if i + 1 < len(widths):
            rows, h = down(p, f"blocks.{i}.{count}", rows, h, widths[i + 1])
    mean, logvar = linear(norm(h, 1e-5), *at(p, "to_latent")).chunk(2, dim=1)
    return rows, mean, logvar


def decode(
    p: Params, widths: Sequence[int], blocks: Sequence[int], rows: list[Row], x: Tensor,
    guides: Sequence[Mapping[Row, Tensor]] = (),
) -> tuple[list[Row], Tensor, list[tuple[list[Row], Tensor | None]]]:  # fmt: skip
    """Rows, output and each level's rows with their logits. ``guides`` say which children each voxel has."""
    h = linear(x, *at(p, "from_latent"))
    levels = []
    for i, count in enumerate(blocks):
        for j in range(count):
            h = conv_next(p, f"blocks.{i}.{j}", rows, h)
        if i + 1 < len(widths):
            given = torch.stack([guides[i][row] for row in rows]) if guides else None
            coarse = rows
            rows, h, logits = up(p, f"blocks.{i}.{count}", rows, h, widths[i + 1], given)
            levels.append((coarse, logits))
    return rows, linear(norm(h, 1e-5), *at(p, "output_layer")), levels


def children_of(fine: Sequence[Row], times: int) -> list[dict[Row, Tensor]]:
    """Which children of each coarser voxel exist, coarsest first."""
    found = []
    rows = list(fine)
    for _ in range(times):
        level: dict[Row, Tensor] = {}
        for row in rows:
            level.setdefault(parent(row), torch.zeros(8, dtype=torch.float64))[child(row)] = 1
        found.append(level)
        rows = sorted(level)
    return found[::-1]


def dual_grid_channels(raw: Tensor, margin: float = 0.5) -> tuple[Tensor, Tensor, Tensor]:
    """Vertices, flags and split weights of the shape decoder's seven channels."""
    return (1 + 2 * margin) * sigmoid(raw[:, :3]) - margin, raw[:, 3:6] > 0, softplus(raw[:, 6:])


# --- structure autoencoder --------------------------------------------------------------------------------------------
def channel_norm(x: Tensor, eps: float, weight: Tensor, bias: Tensor) -> Tensor:
    return norm(x.movedim(1, -1), eps, weight, bias).movedim(-1, 1)


def dense_block(p: Params, name: str, x: Tensor) -> Tensor:
    h = conv3d(silu(channel_norm(x, 1e-5, *at(p, f"{name}.norm1"))), *at(p, f"{name}.conv1"), padding=1)
    return x + conv3d(silu(channel_norm(h, 1e-5, *at(p, f"{name}.norm2"))), *at(p, f"{name}.conv2"), padding=1)


def output_layer(p: Params, x: Tensor, kind: str) -> Tensor:
    weight, bias = at(p, "out_layer.0")
    h = channel_norm(x, 1e-5, weight, bias) if kind == "layer" else group_norm(x, 32, weight, bias, 1e-5)
    return conv3d(silu(h), *at(p, "out_layer.2"), padding=1)


def pixel_shuffle(x: Tensor) -> Tensor:
    batch, channels, *size = x.shape
    out = x.new_zeros(batch, channels // 8, *(2 * side for side in size))
    for c in range(channels // 8):
        for i in range(2):
            for j in range(2):
                for k in range(2):
                    out[:, c, i::2, j::2, k::2] = x[:, 8 * c + 4 * i + 2 * j + k]
    return out


def structure_encode(
    p: Params, widths: Sequence[int], blocks: int, middle: int, kind: str, x: Tensor
) -> tuple[Tensor, Tensor]:
    """Mean and log variance."""
    h, place = conv3d(x, *at(p, "input_layer"), padding=1), 0
    for level in range(len(widths)):
        for _ in range(blocks):
            h, place = dense_block(p, f"blocks.{place}", h), place + 1
        if level + 1 < len(widths):
            h, place = conv3d(h, *at(p, f"blocks.{place}.conv"), stride=2), place + 1
    for i in range(middle):
        h = dense_block(p, f"middle_block.{i}", h)
    mean, logvar = output_layer(p, h, kind).chunk(2, dim=1)
    return mean, logvar


def structure_decode(p: Params, widths: Sequence[int], blocks: int, middle: int, kind: str, z: Tensor) -> Tensor:
    """Logits of occupancy."""
    h, place = conv3d(z, *at(p, "input_layer"), padding=1), 0
    for i in range(middle):
        h = dense_block(p, f"middle_block.{i}", h)
    for level in range(len(widths)):
        for _ in range(blocks):
            h, place = dense_block(p, f"blocks.{place}", h), place + 1
        if level + 1 < len(widths):
            h, place = pixel_shuffle(conv3d(h, *at(p, f"blocks.{place}.conv"), padding=1)), place + 1
    return output_layer(p, h, kind)


# --- flow transformers ------------------------------------------------------------------------------------------------
def embedded_time(p: Params, t: Tensor) -> Tensor:
    frequencies = torch.exp(-math.log(10000) * torch.arange(128, dtype=torch.float64) / 128)
    angles = t[:, None] * frequencies
    h = linear(torch.cat([angles.cos(), angles.sin()], dim=1), *at(p, "t_embedder.mlp.0"))
    return linear(silu(h), *at(p, "t_embedder.mlp.2"))


def place_code(xyz: Tensor, channels: int) -> Tensor:
    """Absolute: sines, then cosines, of each axis; zeros behind."""
    count = channels // 3 // 2
    parts = []
    for axis in range(3):
        angles = xyz[:, axis : axis + 1] * torch.tensor([10000 ** (-i / count) for i in range(count)])
        parts += [angles.sin(), angles.cos()]
    code = torch.cat(parts, dim=1).double()
    return pad(code, (0, channels - code.shape[1]))


def turned(values: Tensor, xyz: Tensor, first: float, base: float) -> Tensor:
    """Rotary: ``(N, heads, d)``, channels ``2 i`` and ``2 i + 1`` as a complex number each."""
    half = values.shape[-1] // 2
    count = half // 3
    phases = torch.zeros(len(values), half, dtype=torch.float64)
    for axis in range(3):
        for i in range(count):
            phases[:, axis * count + i] = xyz[:, axis] * first / base ** (i / count)
    numbers = torch.view_as_complex(values.reshape(*values.shape[:-1], half, 2).contiguous())
    return torch.view_as_real(numbers * torch.polar(torch.ones_like(phases), phases)[:, None]).flatten(-2)


def rms(p: Params, name: str, values: Tensor) -> Tensor:
    if f"{name}.gamma" not in p:
        return values
    length = values.norm(dim=-1, keepdim=True).clamp_min(1e-12)
    return values / length * p[f"{name}.gamma"] * math.sqrt(values.shape[-1])


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    weights = torch.einsum("qhd,khd->hqk", q, k) / math.sqrt(q.shape[-1])
    return torch.einsum("hqk,khd->qhd", weights.softmax(-1), v).flatten(1)


def flow_sample(
    p: Params, tokens: Tensor, xyz: Tensor, t: Tensor, condition: Tensor, *, heads: int, blocks: int, rope: bool,
    rope_freq: tuple[float, float] = (1.0, 10000.0),
) -> Tensor:  # fmt: skip
    """Velocity of one sample's tokens ``(N, Cin)``; ``t`` is a number, ``condition (L, Cc)``."""
    h = linear(tokens, *at(p, "input_layer"))
    width = h.shape[1]
    if not rope:
        h = h + place_code(xyz, width)
    time = embedded_time(p, t.reshape(1))[0]
    shared = "adaLN_modulation.1.weight" in p
    for b in range(blocks):
        name = f"blocks.{b}"
        if shared:
            mod = linear(silu(time), *at(p, "adaLN_modulation.1")) + p[f"{name}.modulation"]
        else:
            mod = linear(silu(time), *at(p, f"{name}.adaLN_modulation.1"))
        shift1, scale1, gate1, shift2, scale2, gate2 = mod.chunk(6)
        x = norm(h, 1e-6) * (1 + scale1) + shift1
        q, k, v = linear(x, *at(p, f"{name}.self_attn.to_qkv")).reshape(len(h), 3, heads, -1).unbind(1)
        q, k = rms(p, f"{name}.self_attn.q_rms_norm", q), rms(p, f"{name}.self_attn.k_rms_norm", k)
        if rope:
            q, k = turned(q, xyz, *rope_freq), turned(k, xyz, *rope_freq)
        h = h + gate1 * linear(attend(q, k, v), *at(p, f"{name}.self_attn.to_out"))
        x = norm(h, 1e-6, *at(p, f"{name}.norm2"))
        q = linear(x, *at(p, f"{name}.cross_attn.to_q")).reshape(len(h), heads, -1)
        k, v = linear(condition, *at(p, f"{name}.cross_attn.to_kv")).reshape(len(condition), 2, heads, -1).unbind(1)
        q, k = rms(p, f"{name}.cross_attn.q_rms_norm", q), rms(p, f"{name}.cross_attn.k_rms_norm", k)
        h = h + linear(attend(q, k, v), *at(p, f"{name}.cross_attn.to_out"))
        x = norm(h, 1e-6) * (1 + scale2) + shift2
        x = linear(gelu(linear(x, *at(p, f"{name}.mlp.mlp.0")), approximate="tanh"), *at(p, f"{name}.mlp.mlp.2"))
        h = h + gate2 * x
    return linear(norm(h, 1e-5), *at(p, "out_layer"))


# --- sampling ---------------------------------------------------------------------------------------------------------
def integrate(
    model: Callable[[Tensor, float, bool], Tensor], noise: Tensor, *, steps: int, guidance: float, rescale: float,
    interval: tuple[float, float], rescale_t: float, samples: Tensor | None = None, sigma: float = 1e-5,
) -> Tensor:  # fmt: skip
    """From noise to data. ``samples``: which sample each row belongs to, ``None`` of dense ``(B, ...)``."""
    times = []
    for i in range(steps + 1):
        even = 1 + i * (-1 / steps) if i < steps else 0.0
        times.append(rescale_t * even / (1 + (rescale_t - 1) * even))
    x = noise
    for t, after in pairwise(times):
        inside = interval[0] <= t <= interval[1]
        g = guidance if inside else 1.0
        if g == 1:
            v = model(x, t, True)
        elif g == 0:
            v = model(x, t, False)
        else:
            plus = model(x, t, True)
            v = g * plus + (1 - g) * model(x, t, False)
            if rescale:
                left = sigma + (1 - sigma) * t
                start, wanted = (1 - sigma) * x - left * v, (1 - sigma) * x - left * plus
                ratio = spread(wanted, samples) / spread(start, samples)
                v = ((1 - sigma) * x - (rescale * start * ratio + (1 - rescale) * start)) / left
        x = x - (t - after) * v
    return x


def spread(x: Tensor, samples: Tensor | None) -> Tensor:
    """Deviation of each sample: unbiased if dense, of the population if sparse."""
    out = torch.zeros_like(x)
    for b in range(len(x)) if samples is None else samples.unique().tolist():
        chosen = torch.tensor([b]) if samples is None else (samples == b).nonzero().flatten()
        part = x[chosen]
        out[chosen] = part.std(unbiased=samples is None)
    return out
