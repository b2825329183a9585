"""TRELLIS.2's networks equal the equations (``trellis2_reference``) at many widths, depths and structures.

Cases are answered by the parity handlers, so that these are tried with more than the stored golden cases hold.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import trellis2_reference as reference
from shapewright.parity import Answer, GoldenCase
from shapewright.weights.fill import fill_at_random
from shapewright_plugins.trellis2 import parity, parity_flow, parity_networks
from shapewright_plugins.trellis2.flow import LatentFlow, StructureFlow
from shapewright_plugins.trellis2.sparse_unet import SparseUnetDecoder, SparseUnetEncoder, UnetConfig
from shapewright_plugins.trellis2.structure_networks import StructureConfig, StructureDecoder, StructureEncoder
from torch import Tensor, nn
from trellis2_reference import Params, Row

TOLERANCE = {"rtol": 2e-4, "atol": 5e-5}


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def weights(network: nn.Module, seed: int) -> tuple[dict[str, Tensor], Params]:
    """Random values of all parameters, as they are and in float64."""
    fill_at_random(network, seed, "reference")
    state = {key: value.detach() for key, value in network.state_dict().items()}
    return state, {key: value.double() for key, value in state.items()}


def case(
    component: str, config: Mapping[str, Any], params: Mapping[str, Tensor], inputs: Mapping[str, Tensor], *,
    outputs: Mapping[str, Tensor] | None = None,
) -> GoldenCase:  # fmt: skip
    return GoldenCase("made", Path("made"), "trellis2", component, config, "", 0, 0, {}, params, inputs, outputs or {})


def same(found: Tensor, wanted: Tensor) -> None:
    torch.testing.assert_close(found.double(), wanted, **TOLERANCE)


def tensor(rows: list[Row]) -> Tensor:
    return torch.tensor(rows, dtype=torch.int32).reshape(-1, 4)


# --- structures -------------------------------------------------------------------------------------------------------
def scattered(seed: int, resolution: int, count: int, batch: int = 0) -> list[Row]:
    codes = torch.randperm(resolution**3, generator=torch.Generator().manual_seed(seed))[:count].sort().values.tolist()
    return [(batch, c // resolution**2, c // resolution % resolution, c % resolution) for c in codes]


STRUCTURES: dict[str, list[Row]] = {
    "one voxel at the lower corner": [(0, 0, 0, 0)],
    "one voxel at the upper corner": [(0, 7, 7, 7)],
    "unequal samples": [(0, 3, 0, 5), *scattered(1, 8, 40, batch=1)],
    "all borders": [(0, x, y, z) for x in (0, 7) for y in (0, 3, 7) for z in (0, 4, 7)],
    "full block": [(0, x, y, z) for x in range(3) for y in range(4) for z in range(2)],
    "odd resolution": scattered(2, 11, 50),
    "a line": [(0, 5, 5, z) for z in range(8)],
}
SIZES: dict[str, tuple[list[int], list[int]]] = {
    "published proportions": ([8, 16, 32], [0, 1, 2]),
    "equal widths": ([8, 8], [1, 0]),
    "blocks first": ([16, 16, 8], [2, 0, 1]),
    "one move, wide": ([8, 64], [0, 1]),
}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("structure", STRUCTURES)
def test_sparse_encoder_follows_the_equations(structure: str, size: str) -> None:
    rows, (widths, blocks) = STRUCTURES[structure], SIZES[size]
    network = SparseUnetEncoder(UnetConfig(6, 3, tuple(widths), tuple(blocks)))
    state, exact = weights(network, 3)
    vertices, flags = drawn(1, len(rows), 3).sigmoid(), drawn(2, len(rows), 3) > 0
    config = {"model_channels": widths, "num_blocks": blocks, "latent_channels": 3, "block_type": [],
              "down_block_type": [], "block_args": [{}]}  # fmt: skip
    inputs = {"coords": tensor(rows), "vertices": vertices, "intersected": flags}
    answer = parity_networks.shape_encoder_case(case("FlexiDualGridVaeEncoder", config, state, inputs))
    feats = torch.cat([vertices.double() - 0.5, flags.double() - 0.5], dim=1)
    coarse, mean, logvar = reference.encode(exact, widths, blocks, rows, feats)
    assert answer.values["coords"].tolist() == [list(row) for row in coarse]
    same(answer.values["mean"], mean)
    same(answer.values["logvar"], logvar)


@dataclass(frozen=True)
class Decoding:
    config: dict[str, Any]
    state: dict[str, Tensor]
    exact: Params
    widths: list[int]
    blocks: list[int]


def decoding(size: str, channels: int, predicts: bool, seed: int = 5, bias: float = 0.0) -> Decoding:
    widths, blocks = SIZES[size][0][::-1], SIZES[size][1][::-1]
    network = SparseUnetDecoder(UnetConfig(channels, 3, tuple(widths), tuple(blocks), pred_subdiv=predicts))
    fill_at_random(network, seed, "reference")
    for name, parameter in network.named_parameters():
        if name.endswith("to_subdiv.bias"):
            parameter.data += bias
    state = {key: value.detach() for key, value in network.state_dict().items()}
    config = {"model_channels": widths, "num_blocks": blocks, "latent_channels": 3, "block_type": [],
              "up_block_type": [], "block_args": [{}], "out_channels": channels, "pred_subdiv": predicts,
              "resolution": 16 * 2 ** (len(widths) - 1)}  # fmt: skip
    return Decoding(config, state, {key: value.double() for key, value in state.items()}, widths, blocks)


SOME = {name: STRUCTURES[name] for name in ("one voxel at the upper corner", "odd resolution", "all borders")} | {
    "unequal samples": [(0, 3, 0, 5), *scattered(1, 8, 12, batch=1)]
}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("structure", SOME)
def test_shape_decoder_follows_the_equations(structure: str, size: str) -> None:
    rows, made = SOME[structure][:20], decoding(size, 7, True, bias=-0.3)
    latent = drawn(3, len(rows), 3)
    fine, raw, levels = reference.decode(made.exact, made.widths, made.blocks, rows, latent.double())
    assert min(float(logits.abs().min()) for _, logits in levels if logits is not None) > 1e-5, (
        "no logit may be on edge"
    )
    names = ["coords", "raw", "vertices", "intersected", "quad_lerp"]
    names += [f"sub{i}.{what}" for i in range(len(levels)) for what in ("coords", "logits")]
    names += [f"upsample{i + 1}" for i in range(len(levels))]
    outputs = dict.fromkeys(names, torch.empty(0))
    inputs = {"coords": tensor(rows), "feats": latent}
    given = case("FlexiDualGridVaeDecoder", made.config, made.state, inputs, outputs=outputs)
    found = parity_networks.shape_decoder_case(given).values
    assert found["coords"].tolist() == [list(row) for row in fine]
    same(found["raw"], raw)
    vertices, flags, lerp = reference.dual_grid_channels(raw)
    same(found["vertices"], vertices)
    same(found["quad_lerp"], lerp)
    sure = raw[:, 3:6].abs() > 1e-3
    assert torch.equal(found["intersected"][sure], flags[sure])
    for i, (coarse, logits) in enumerate(levels):
        assert logits is not None
        assert found[f"sub{i}.coords"].tolist() == [list(row) for row in coarse]
        same(found[f"sub{i}.logits"], logits)
        after = levels[i + 1][0] if i + 1 < len(levels) else fine
        assert found[f"upsample{i + 1}"].tolist() == [list(row) for row in after]


def test_a_sample_that_is_pruned_away_leaves_the_others_alone() -> None:
    """The first latent channel decides here which voxels have children: all of a voxel, or none."""
    made = decoding("equal widths", 7, True)
    state = dict(made.state)
    state["from_latent.weight"] = state["from_latent.weight"].clone()
    state["from_latent.weight"][0] = torch.tensor([1.0, 0.0, 0.0])
    state["from_latent.bias"] = torch.zeros_like(state["from_latent.bias"])
    state["blocks.0.0.to_subdiv.weight"] = torch.zeros_like(state["blocks.0.0.to_subdiv.weight"])
    state["blocks.0.0.to_subdiv.weight"][:, 0] = 1.0
    state["blocks.0.0.to_subdiv.bias"] = torch.zeros(8)
    latent = drawn(4, 4, 3)
    latent[:, 0] = torch.tensor([-1.0, 1.0, -1.0, 1.0])
    rows: list[Row] = [(0, 1, 1, 1), (1, 0, 0, 0), (1, 0, 0, 1), (1, 7, 7, 7)]
    outputs = dict.fromkeys(("coords", "raw", "mesh0.vertices", "mesh1.vertices"), torch.empty(0))

    def decoded(chosen: slice, values: Tensor) -> Mapping[str, Tensor]:
        inputs = {"coords": tensor(rows[chosen]), "feats": values}
        given = case("FlexiDualGridVaeDecoder", made.config, state, inputs, outputs=outputs)
        return parity_networks.shape_decoder_case(given).values

    both, alone = decoded(slice(0, 4), latent), decoded(slice(1, 4), latent[1:])
    assert [row[0] for row in both["coords"].tolist()] == [1] * 16
    assert torch.equal(both["coords"], alone["coords"])
    torch.testing.assert_close(both["raw"], alone["raw"], **TOLERANCE)
    assert both["mesh0.vertices"].shape == (0, 3)
    assert both["mesh1.vertices"].shape == (16, 3)
    nothing = decoded(slice(0, 4), -latent.abs())
    assert nothing["coords"].shape == (0, 4)
    assert nothing["raw"].shape == (0, 7)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("structure", STRUCTURES)
def test_texture_decoder_follows_guides_and_encoded_voxels(structure: str, size: str) -> None:
    fine, made = STRUCTURES[structure], decoding(size, 6, False)
    moves = len(made.widths) - 1
    guides = reference.children_of(fine, moves)
    top = sorted(guides[0])
    latent = drawn(6, len(top), 3)
    rows, wanted, _ = reference.decode(made.exact, made.widths, made.blocks, top, latent.double(), guides)
    levels = [sorted(level) for level in guides]
    inputs = {"coords": tensor(top), "feats": latent, "fine_coords": tensor(fine),
              "cached_latent_coords": tensor(top), "cached_latent": latent}  # fmt: skip
    for i, level in enumerate(levels):
        inputs |= {f"sub{i}.coords": tensor(level)}
        inputs |= {f"sub{i}.logits": torch.stack([guides[i][row] for row in level]).float() - 0.5}
    # Guides come in the order that the shape decoder made them: parents one by one, not sorted.
    order = list(range(len(top)))
    for i in range(1, moves):
        before = [levels[i - 1][k] for k in order]
        present = torch.stack([guides[i - 1][row] for row in before])
        made_rows, _ = reference.channel_to_space(before, torch.zeros(len(before), 8), present)
        order = [levels[i].index(row) for row in made_rows]
        inputs[f"sub{i}.coords"], inputs[f"sub{i}.logits"] = (
            inputs[f"sub{i}.{what}"][order] for what in ("coords", "logits")
        )
    outputs = dict.fromkeys(("guided", "guided_coords", "cached"), torch.empty(0))
    given = case("SparseUnetVaeDecoder", made.config, made.state, inputs, outputs=outputs)
    found = parity_networks.texture_decoder_case(given).values
    assert found["guided_coords"].tolist() == [list(row) for row in rows]
    same(found["guided"], wanted)
    place = {row: i for i, row in enumerate(rows)}
    same(found["cached"], wanted[[place[row] for row in fine]])


# --- structure autoencoder --------------------------------------------------------------------------------------------
DENSE: dict[str, tuple[list[int], int, int, str, int]] = {
    "published proportions": ([4, 8, 12], 2, 2, "layer", 8),
    "no residual blocks": ([6, 10], 0, 1, "layer", 6),
    "group norm": ([32, 64], 1, 0, "group", 4),
    "one level": ([5], 1, 1, "layer", 3),
}


@pytest.mark.parametrize("name", DENSE)
def test_structure_autoencoder_follows_the_equations(name: str) -> None:
    widths, blocks, middle, kind, side = DENSE[name]
    config = {"latent_channels": 3, "channels": widths, "num_res_blocks": blocks, "num_res_blocks_middle": middle,
              "norm_type": kind}  # fmt: skip
    encoder = StructureEncoder(StructureConfig(1, 3, tuple(widths), blocks, middle, kind))
    state, exact = weights(encoder, 7)
    x = (drawn(1, 2, 1, side, side, side) > 0).float()
    found = parity_networks.structure_encoder_case(
        case("SparseStructureEncoder", config | {"in_channels": 1}, state, {"x": x})
    ).values
    mean, logvar = reference.structure_encode(exact, widths, blocks, middle, kind, x.double())
    same(found["mean"], mean)
    same(found["logvar"], logvar)

    back = widths[::-1]
    decoder = StructureDecoder(StructureConfig(1, 3, tuple(back), blocks, middle, kind))
    state, exact = weights(decoder, 8)
    z = drawn(2, *mean.shape)
    made = case("SparseStructureDecoder", config | {"out_channels": 1, "channels": back}, state,
                {"z": z, "x": x, "mean": mean.float(), "logvar": logvar.float()})  # fmt: skip
    answer = parity_networks.structure_decoder_case(made).values
    logits = reference.structure_decode(exact, back, blocks, middle, kind, z.double())
    same(answer["logits"], logits)
    chance, truth = logits.sigmoid(), x.double()
    same(answer["bce"], -(truth * chance.log() + (1 - truth) * (1 - chance).log()).mean())
    same(answer["l1"], (chance - truth).abs().mean())
    same(answer["dice"], 1 - (2 * (chance * truth).sum() + 1) / (chance.sum() + truth.sum() + 1))
    same(answer["kl"], 0.5 * (mean**2 + logvar.exp() - logvar - 1).mean())


# --- flow transformers ------------------------------------------------------------------------------------------------
FLOWS: dict[str, dict[str, Any]] = {
    "published proportions": {
        "model_channels": 48, "num_heads": 4, "num_blocks": 3, "mlp_ratio": 5.3334, "pe_mode": "rope",
        "share_mod": True, "qk_rms_norm": True, "qk_rms_norm_cross": True,
    },
    "leftover channels": {
        "model_channels": 32, "num_heads": 2, "num_blocks": 2, "mlp_ratio": 4, "pe_mode": "rope", "share_mod": False,
        "qk_rms_norm": True, "qk_rms_norm_cross": False,
    },
    "absolute, own modulation": {
        "model_channels": 40, "num_heads": 5, "num_blocks": 2, "mlp_ratio": 2.5, "pe_mode": "ape", "share_mod": False,
        "qk_rms_norm": False, "qk_rms_norm_cross": True,
    },
    "one head by its channels": {
        "model_channels": 24, "num_head_channels": 24, "num_blocks": 1, "mlp_ratio": 3, "pe_mode": "rope",
        "share_mod": True, "qk_rms_norm": False, "qk_rms_norm_cross": False,
    },
    "other frequencies": {
        "model_channels": 24, "num_heads": 2, "num_blocks": 1, "mlp_ratio": 3, "pe_mode": "rope",
        "rope_freq": [2.0, 100.0], "share_mod": True, "qk_rms_norm": True, "qk_rms_norm_cross": True,
    },
}  # fmt: skip


def heads(options: Mapping[str, Any]) -> int:
    return int(options.get("num_heads") or options["model_channels"] // options["num_head_channels"])


@pytest.mark.parametrize("concat", [False, True])
@pytest.mark.parametrize("name", FLOWS)
def test_latent_flow_follows_the_equations(name: str, concat: bool) -> None:
    """Samples of unequal voxel counts (one has a single voxel), conditions of unequal length, one time a sample."""
    channels, beside = 4, 3 if concat else 0
    options = FLOWS[name] | {"in_channels": channels + beside, "out_channels": channels, "cond_channels": 10,
                             "resolution": 8}  # fmt: skip
    rows = [*scattered(4, 8, 9), (1, 7, 0, 7), *scattered(5, 16, 20, batch=2)]
    state, exact = weights(LatentFlow(parity.flow_config(options)), 9)
    x, other = drawn(1, len(rows), channels), drawn(2, len(rows), 3)
    t = torch.tensor([1000.0, 37.5, 612.3])
    conditions = [drawn(10 + i, length, 10) for i, length in enumerate((5, 1, 8))]
    inputs = {"coords": tensor(rows), "feats": x, "t": t} | {f"cond{i}": c for i, c in enumerate(conditions)}
    if concat:
        inputs["concat_cond"] = other
    found = parity.latent_flow_case(case("SLatFlowModel", options, state, inputs)).values["y"]
    for sample in range(3):
        mine = tensor(rows)[:, 0] == sample
        tokens = torch.cat([x, other], dim=1) if concat else x
        wanted = reference.flow_sample(
            exact, tokens[mine].double(), tensor(rows)[mine, 1:], t[sample].double(), conditions[sample].double(),
            heads=heads(options), blocks=options["num_blocks"], rope=options["pe_mode"] == "rope",
            rope_freq=tuple(options.get("rope_freq", (1.0, 10000.0))),
        )  # fmt: skip
        torch.testing.assert_close(found[mine].double(), wanted, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", FLOWS)
def test_structure_flow_follows_the_equations(name: str) -> None:
    """The grid's cells run with z fastest; its rotary codes know no ``rope_freq``, as published."""
    options = FLOWS[name] | {"in_channels": 3, "out_channels": 5, "cond_channels": 10, "resolution": 3}
    state, exact = weights(StructureFlow(parity.flow_config(options)), 11)
    x, t, condition = drawn(1, 2, 3, 3, 3, 3), torch.tensor([900.0, 12.0]), drawn(2, 2, 6, 10)
    inputs = {"x": x, "t": t, "cond": condition}
    found = parity.structure_flow_case(case("SparseStructureFlowModel", options, state, inputs)).values["y"]
    cells = torch.tensor([(a, b, c) for a in range(3) for b in range(3) for c in range(3)])
    for sample in range(2):
        tokens = torch.stack([x[sample, :, a, b, c] for a, b, c in cells.tolist()])
        wanted = reference.flow_sample(
            exact, tokens.double(), cells, t[sample].double(), condition[sample].double(), heads=heads(options),
            blocks=options["num_blocks"], rope=options["pe_mode"] == "rope",
        )  # fmt: skip
        got = torch.stack([found[sample, :, a, b, c] for a, b, c in cells.tolist()])
        torch.testing.assert_close(got.double(), wanted, rtol=1e-3, atol=1e-3)


# --- samplers ---------------------------------------------------------------------------------------------------------
SAMPLING: dict[str, dict[str, Any]] = {
    "structure": {"steps": 12, "guidance_strength": 7.5, "guidance_rescale": 0.7, "guidance_interval": [0.6, 1.0],
                  "rescale_t": 5.0},
    "shape": {"steps": 12, "guidance_strength": 7.5, "guidance_rescale": 0.5, "guidance_interval": [0.6, 1.0],
              "rescale_t": 3.0},
    "border": {"steps": 6, "guidance_strength": 7.5, "guidance_rescale": 0.5, "guidance_interval": [0.6, 1.0],
               "rescale_t": 3.0},
    "texture, guided": {"steps": 12, "guidance_strength": 3.0, "guidance_rescale": 0.0,
                        "guidance_interval": [0.6, 0.9], "rescale_t": 3.0},
    "null branch": {"steps": 5, "guidance_strength": 0.0, "guidance_interval": [0.3, 0.9], "rescale_t": 1.5},
    "full rescale": {"steps": 4, "guidance_strength": 2.0, "guidance_rescale": 1.0},
    "library defaults": {},
}  # fmt: skip


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("name", SAMPLING)
def test_samplers_follow_the_equations(name: str, sparse: bool) -> None:
    options = SAMPLING[name]
    config = {"sigma_min": 1e-5, "sparse": sparse} | options
    rows = [*scattered(1, 4, 5), *scattered(2, 4, 14, batch=1)]
    samples = tensor(rows)[:, 0].long()
    noise = drawn(1, len(rows), 4) if sparse else drawn(1, 2, 4, 3, 3, 3)
    a, b, condition, null = drawn(2, 4) * 0.3, drawn(3, 4), drawn(4, 2, 5, 4), drawn(5, 2, 5, 4)
    inputs = {"noise": noise, "a": a, "b": b, "cond": condition, "neg_cond": null, "coords": tensor(rows)}
    found: Answer = parity_flow.sampler_case(case("FlowEulerGuidanceIntervalSampler", config, {}, inputs))

    def model(x: Tensor, t: float, conditional: bool) -> Tensor:
        mean = (condition if conditional else null).double().mean(1)
        drift = b.double() * torch.sin(torch.tensor(1000 * t / 300, dtype=torch.float64))
        if sparse:
            return a.double() * x + drift + mean[samples] + 0.1 * torch.tanh(x)
        wide = (slice(None), None, None, None)
        return a.double()[wide] * x + drift[wide] + mean[:, :, None, None, None] + 0.1 * torch.tanh(x)

    wanted = reference.integrate(
        model, noise.double(), steps=options.get("steps", 50), guidance=options.get("guidance_strength", 3.0),
        rescale=options.get("guidance_rescale", 0.0), interval=tuple(options.get("guidance_interval", (0.0, 1.0))),
        rescale_t=options.get("rescale_t", 1.0), samples=samples if sparse else None,
    )  # fmt: skip
    torch.testing.assert_close(found.values["samples"].double(), wanted, rtol=1e-3, atol=2e-4)
    assert len(found.values["t_seq"]) == options.get("steps", 50) + 1
