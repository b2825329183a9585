"""Answers to the golden cases of TripoSG's networks, schedule and losses."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from shapewright.nn.gaussian import DiagonalGaussian
from shapewright.nn.norms import LayerNorm32
from shapewright.nn.positions import FrequencyEmbedding
from shapewright.nn.timesteps import timestep_frequencies
from shapewright.parity import Answer, Difference, GoldenCase, Rule
from shapewright.states import Condition, TokenLatent
from shapewright_kernels.farthest_point_sampling import farthest_points
from torch import Tensor, nn

from . import losses, schedule
from .attention import HeadAttention
from .blocks import Context, TransformerBlock
from .dit import TimeProjection, TripoSGDiT
from .dit_config import Config as DiTConfig
from .key_selection import STRIDE_CHUNK, STRIDE_GROUPS, KeySelection
from .moe import MixtureOfExperts, MoEConfig, balance
from .sampler import Config as SamplerConfig
from .sampler import RectifiedFlowEuler
from .vae import TripoSGVAE, token_rows
from .vae_config import Config as VAEConfig
from .weights import load_published, to_published


def _answer(case: GoldenCase, values: Mapping[str, Tensor], rules: Mapping[str, Rule] | None = None) -> Answer:
    return Answer({name: value.detach() for name, value in values.items() if name in case.outputs}, rules or {})


def _filled(module: nn.Module, params: Mapping[str, Tensor]) -> None:
    """Load a case's parameters; a case of one half of a network leaves the other as it was made."""
    load_published(module.eval(), {**to_published(module), **params}, what="parameters of the case")


# --- layers ---------------------------------------------------------------------------------------------------------
def attention_case(case: GoldenCase) -> Answer:
    """Component ``attention``: plain, fused (one matrix, the same split), and with selected keys."""
    config = case.config
    layer = HeadAttention(
        config["query_dim"],
        config["heads"],
        head_channels=config["dim_head"],
        context_channels=_context_channels(case),
        qk_norm=config.get("qk_norm") == "rms_norm",
        norm_context=config.get("cross_attention_norm") == "layer_norm",
        bias=bool(config.get("bias")),
        eps=config.get("eps", 1e-6),
    )
    _filled(layer, case.params)
    hidden, context = case.inputs["hidden_states"], case.inputs.get("encoder_hidden_states")
    plain = layer(hidden, context)
    values = {"output": plain, "output_fused": plain, "topk_false": plain}
    if "topk" in config:
        stride = config.get("stride_true", STRIDE_CHUNK), config.get("stride_list", STRIDE_GROUPS)
        chunk = KeySelection(stride=stride[0], keys=config["topk"])
        groups = KeySelection(tuple(config["counts"]), stride[1], config["topk"])
        values["topk_true"] = layer(hidden, context, selection=chunk)
        values["topk_list"] = layer(hidden, context, selection=groups)
    return _answer(case, values)


def _context_channels(case: GoldenCase) -> int | None:
    context = case.inputs.get("encoder_hidden_states")
    return None if context is None else context.shape[-1]


def block_case(case: GoldenCase) -> Answer:
    """Component ``block``: of the autoencoder and of the flow transformer."""
    config, inputs = case.config, case.inputs
    cross = config.get("use_cross_attention", True) and "encoder_hidden_states" in inputs
    block = TransformerBlock(
        config["dim"],
        config["num_attention_heads"],
        self_attention=config.get("use_self_attention", True),
        context_channels=_context_channels(case) if cross else None,
        second_context_channels=config.get("cross_attention_2_dim") if config.get("use_cross_attention_2") else None,
        norm_context=config.get("cross_attention_norm_type") == "layer_norm",
        qk_norm=config.get("qk_norm", False),
        bias=config.get("qkv_bias", False),
        skip=config.get("skip", False),
    )
    _filled(block, case.params)
    context = Context(inputs["encoder_hidden_states"], inputs.get("encoder_hidden_states_2")) if cross else None
    values = {"output": block(inputs["hidden_states"], context, inputs.get("skip"))}
    if "output_scaled" in case.outputs and context is not None:
        scaled = replace(context, scale=0.7, second_scale=0.4)
        values["output_scaled"] = block(inputs["hidden_states"], scaled, inputs.get("skip"))
    return _answer(case, values)


def frequency_case(case: GoldenCase) -> Answer:
    """Component ``frequency_embedding``: one output for each entry of the config."""
    values = {}
    for name, options in case.config.items():
        embedding = FrequencyEmbedding(
            options["num_freqs"],
            with_input=options.get("include_input", True),
            log_spaced=options.get("logspace", True),
            with_pi=options.get("include_pi", True),
        )
        values[name] = embedding(case.inputs["x"])
    return _answer(case, values)


def time_case(case: GoldenCase) -> Answer:
    """Component ``time_embedding``."""
    width = case.config["width"]
    layer = TimeProjection(width)
    _filled(layer, case.params)
    timestep = case.inputs["timestep"]
    sinusoid = timestep_frequencies(timestep, width, sine_first=not case.config.get("flip_sin_to_cos", False))
    return _answer(case, {"sinusoid": sinusoid, "embedding": layer(timestep)})


class _ExpertLayer(nn.Module):
    def __init__(self, channels: int, config: MoEConfig, ratio: float) -> None:
        super().__init__()
        self.norm3 = LayerNorm32(channels)
        self.ff = MixtureOfExperts(channels, config, ratio)


def moe_case(case: GoldenCase) -> Answer:
    """Component ``moe_ffn``: both gate variants, what is chosen, and the balance term."""
    config, hidden = case.config, case.inputs["hidden_states"]
    values: dict[str, Tensor] = {}
    for prefix, norm in (("nonorm", False), ("norm", True)):
        moe = MoEConfig(config["num_experts"], config["num_experts_per_tok"], config["num_shared_experts"] > 0, norm)
        layer = _ExpertLayer(config["dim"], moe, config["mlp_ratio"])
        _filled(layer, case.params)
        normed = layer.norm3(hidden)
        tokens = normed.flatten(0, -2)
        routing = layer.ff.route(tokens)
        found = balance(routing)
        shared = layer.ff.shared
        values |= {
            f"{prefix}_output": hidden + layer.ff(normed),
            f"{prefix}_probs": routing.probabilities.view(*hidden.shape[:-1], -1),
            f"{prefix}_topk_index": routing.experts.view(*hidden.shape[:-1], -1),
            f"{prefix}_topk_weight": routing.weights.view(*hidden.shape[:-1], -1),
            f"{prefix}_routed": layer.ff.routed(tokens, routing).view_as(hidden),
            f"{prefix}_shared": torch.zeros_like(hidden) if shared is None else shared(normed),
            f"{prefix}_counts": found.counts,
            f"{prefix}_f": found.share,
            f"{prefix}_P": found.mean,
            f"{prefix}_aux": found.loss,
        }
    return _answer(case, values)


# --- autoencoder ----------------------------------------------------------------------------------------------------
def _vae(case: GoldenCase, **changes: Any) -> TripoSGVAE:
    known = {key: value for key, value in case.config.items() if key in VAEConfig.__dataclass_fields__}
    vae = TripoSGVAE(VAEConfig(**known, **changes))
    _filled(vae, case.params)
    return vae


def vae_encode_case(case: GoldenCase) -> Answer:
    """Component ``vae_encode``, with the random subset of points that the case gives."""
    vae, surface = _vae(case), case.inputs["surface"]
    subset, count = case.inputs["choice_indices"], case.config["num_tokens"]
    chosen = torch.stack([token_rows(points, subset, count) for points in surface])
    positions = [torch.from_numpy(farthest_points(points[subset, :3].numpy(), count)) for points in surface]
    moments = vae.quant(vae.encoder(surface, chosen))
    posterior = vae.posterior(surface, chosen)
    values = {
        "fps_indices": torch.stack(positions),
        "sampled": torch.gather(surface, 1, chosen[..., None].expand(-1, -1, surface.shape[-1])),
        "moments": moments,
        "mean": posterior.mean,
        "mode": posterior.mode,
        "logvar": posterior.logvar,
        "std": posterior.std,
        "sample": posterior.sample(noise=case.inputs["noise"]),
    }
    return _answer(case, values)


def vae_decode_case(case: GoldenCase) -> Answer:
    """Component ``vae_decode``: values at points, and what is cached of a shape."""
    vae = _vae(case)
    tokens = vae.prepare(case.inputs["z"])
    values = {
        "post_quant": vae.post_quant(case.inputs["z"]),
        "kv_cache": tokens.hidden,
        "sample": vae.decoder(case.inputs["points"], tokens)[..., None],
    }
    return _answer(case, values)


def vae_gradient_case(case: GoldenCase) -> Answer:
    """Component ``vae_decode_gradient``: by points, and second order by the latent and parameters."""
    vae = _vae(case).double()  # as the stored second order
    latent = case.inputs["z"].double().requires_grad_(True)
    normals = case.inputs["normals"].double()
    tokens = vae.prepare(latent)
    points = case.inputs["points"].double().requires_grad_(True)
    sample, gradient = losses.field_gradients(lambda at: vae.decoder(at, tokens, explicit=True), points)
    normal, eikonal = losses.normal_loss(gradient, normals), losses.eikonal_loss(gradient)
    wanted = [name.removeprefix("d2_") for name in case.outputs if name.startswith("d2_") and name != "d2_z"]
    parameters = dict(vae.named_parameters())
    second = torch.autograd.grad(
        normal + losses.EIKONAL_WEIGHT * eikonal, [latent, *(parameters[name] for name in wanted)]
    )
    by_name = to_published(vae, {**vae.state_dict(), **dict(zip(wanted, second[1:], strict=True))})
    values = {
        "sample": sample[..., None],
        "grad_sample": gradient,
        "grad_numeric_f64": gradient,
        "sn_loss": normal,
        "eik_loss": eikonal,
        "d2_z": second[0],
        **{f"d2_{name}": by_name[name] for name in wanted},
    }
    rules = {name: _relative_to_largest(1e-2) for name in case.outputs if name.startswith("d2_")}
    return _answer(case, values, rules)


def _relative_to_largest(share: float) -> Rule:
    """``|got - wanted|`` within ``share`` of the value and of the largest value, as the notes of the case ask."""

    def rule(got: Tensor, wanted: Tensor) -> Difference:
        error = (got.double() - wanted.double()).abs()
        largest = float(wanted.abs().max())
        ok = bool((error <= share * largest + share * wanted.abs().double()).all())
        worst = float(error.max())
        return Difference(ok, worst, worst / max(largest, 1e-300), f"rtol {share:g}, atol {share:g} of the largest")

    return rule


def gaussian_case(case: GoldenCase) -> Answer:
    """Component ``latent_gaussian``."""
    posterior = DiagonalGaussian.split(case.inputs["parameters"])
    other = DiagonalGaussian.split(case.inputs["parameters2"])
    values = {
        "mean": posterior.mean,
        "mode": posterior.mode,
        "logvar": posterior.logvar,
        "std": posterior.std,
        "sample": posterior.sample(noise=case.inputs["noise"]),
        # Every number by itself, before any mean: as Gaussians of one channel.
        "kl_elementwise2": DiagonalGaussian(other.mean[..., None], other.logvar[..., None]).kl(-1),
    }
    return _answer(case, values)


def farthest_case(case: GoldenCase) -> Answer:
    """Component ``farthest_point_sampling``."""
    count, start = case.config["num_samples"], case.config.get("start", 0)
    chosen = [farthest_points(points.numpy(), count, start=start) for points in case.inputs["points"]]
    return _answer(case, {"indices": torch.from_numpy(np.stack(chosen))})


def losses_case(case: GoldenCase) -> Answer:
    """Component ``vae_losses``."""
    inputs, config = case.inputs, case.config
    posterior = DiagonalGaussian(inputs["mean"], inputs["logvar"])
    found = losses.autoencoder_loss(
        inputs["sdf"],
        inputs["sdf_gt"],
        inputs["grad"],
        inputs["normal_gt"],
        posterior,
        normal_weight=config["lambda_sn"],
        eikonal_weight=config["lambda_eik"],
        kl_weight=config["lambda_kl"],
    )
    values = {
        "l_sdf": found.sdf,
        "l_sn": found.normal,
        "l_eik": found.eikonal,
        "l_kl_mean": found.kl,
        "l_kl_sum_per_sample": losses.kl_per_sample(posterior),
        "total_mean_kl": found.total,
    }
    return _answer(case, values)


# --- flow -----------------------------------------------------------------------------------------------------------
def _dit(options: Mapping[str, Any], params: Mapping[str, Tensor], **changes: Any) -> TripoSGDiT:
    known = {key: value for key, value in options.items() if key in DiTConfig.__dataclass_fields__}
    model = TripoSGDiT(DiTConfig(**{**known, **changes}))
    _filled(model, params)
    return model


def transformer_case(case: GoldenCase) -> Answer:
    """Component ``flow_transformer``: its output, and activations of the middle and the last block."""
    inputs = case.inputs
    given = [inputs["hidden_states"], inputs["timestep"], inputs["encoder_hidden_states"]]
    given += [inputs["encoder_hidden_states_2"]] if "encoder_hidden_states_2" in inputs else []
    model = _dit(case.config, case.params)
    seen: dict[str, Tensor] = {}
    for name, index in (("block_mid", len(model.blocks) // 2), ("block_last", len(model.blocks) - 1)):
        model.blocks[index].register_forward_hook(lambda _, __, output, name=name: seen.update({name: output}))
    values = {"output": model(*given), **seen}
    if "output_scaled" in case.outputs:
        values["output_scaled"] = _dit(case.config, case.params, cross_attention_2_scale=0.4)(*given)
    return _answer(case, values)


def _levels(config: Mapping[str, Any]) -> Tensor:
    given = config.get("sigmas")
    options = SamplerConfig(
        shift=config.get("shift", 1.0),
        use_dynamic_shifting=config.get("use_dynamic_shifting", False),
        mu=config.get("mu"),
        sigmas=None if given is None else tuple(given),
    )
    return RectifiedFlowEuler(options).levels(config["num_inference_steps"] or 1)


def scheduler_case(case: GoldenCase) -> Answer:
    """Component ``flow_scheduler``; the reference's velocities are ``data - noise``, ours the other way."""
    config, inputs = case.config, case.inputs
    train = config.get("num_train_timesteps", schedule.TRAIN_TIMESTEPS)
    levels = _levels(config)
    x, trajectory = inputs["sample"], []
    for index, velocity in enumerate(inputs["velocities"]):
        x = schedule.euler_step(x, -velocity, float(levels[index]), float(levels[index + 1]))
        trajectory.append(x)
    begin = config.get("begin_index", 0)
    table = schedule.training_levels(config.get("shift", 1.0), train)
    if config.get("use_dynamic_shifting"):
        table = schedule.training_levels(1.0, train)
    step = schedule.euler_step(
        inputs["sample"], -inputs["velocities"][0], float(levels[begin]), float(levels[begin + 1])
    )
    values = {
        "sigmas": levels,
        "timesteps": levels[:-1] * train,
        "trajectory": torch.stack(trajectory),
        "begin_index_step": step,
        "scaled_noise": schedule.noised(inputs["x0"], inputs["noise"], inputs["noise_timesteps"] / train),
        "implied_velocity_target": schedule.velocity_target(inputs["x0"], inputs["noise"]),
        "init_sigmas_every125": table[::125],
        "init_timesteps_every125": table[::125] * train,
    }
    return _answer(case, values)


def sampler_case(case: GoldenCase) -> Answer:
    """Component ``flow_sampler``: the whole loop, with and without guidance."""
    config, tokens = case.config, case.inputs["cond"]
    model = _dit(config["transformer"], case.params)
    steps = config["num_inference_steps"]
    levels = _levels(config)
    trajectory: list[Tensor] = []
    model.sampler = _Watched(SamplerConfig(shift=config.get("shift", 1.0)), trajectory)
    found = model.sample(
        Condition(tokens, torch.zeros_like(tokens)),
        noise=TokenLatent(case.inputs["latents"]),
        steps=steps,
        guidance=config["guidance_scale"],
    )
    values = {
        "latents": found.values,
        "sigmas": levels,
        "timesteps": levels[:-1] * config["num_train_timesteps"],
        "trajectory": torch.stack([*trajectory[1:], found.values]),
    }
    return _answer(case, values)


class _Watched(RectifiedFlowEuler):
    """Notes the latents that the conditional branch is asked for."""

    def __init__(self, config: SamplerConfig, seen: list[Tensor]) -> None:
        super().__init__(config)
        self.seen = seen

    def integrate(self, model: Any, noise: Tensor, *, steps: int, guidance: float) -> Tensor:
        def watched(x: Tensor, t: float, *, conditional: bool) -> Tensor:
            if conditional:
                self.seen.append(x)
            answer: Tensor = model(x, t, conditional=conditional)
            return answer

        return super().integrate(watched, noise, steps=steps, guidance=guidance)


def time_sampling_case(case: GoldenCase) -> Answer:
    """Component ``timestep_sampling``, from the draws that the case gives and again from the seed."""
    inputs = case.inputs
    normal, uniform = inputs["normal_draw"], inputs["uniform_draw"]
    values = {
        "logit_normal": schedule.times_of_normal(normal),
        "logit_normal_dist": schedule.times_of_normal(normal),
        "uniform": uniform,
        "weight_none": schedule.loss_weights("none", inputs["sigmas"]),
        "weight_cosmap": schedule.loss_weights("cosmap", inputs["sigmas"]),
        "weight_sigma_sqrt": schedule.loss_weights("sigma_sqrt", inputs["sigmas"]),
    }
    for name in case.outputs:
        if found := re.fullmatch(r"(pdf_)?logit_normal_m(\d+)_s(\d+)", name):
            mean, std = (float(f"{digits[0]}.{digits[1:] or 0}") for digits in found.groups()[1:])
            if found[1]:
                values[name] = schedule.logit_normal_density(inputs["pdf_t"], mean, std)
            else:
                values[name] = schedule.times_of_normal(normal, mean, std)
        elif found := re.fullmatch(r"mode_(\d+)p(\d+)", name):
            values[name] = schedule.times_of_mode(uniform, float(f"{found[1]}.{found[2]}"))
    return _answer(case, values)
