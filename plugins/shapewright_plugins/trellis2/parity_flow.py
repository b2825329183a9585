"""Answers to the golden cases of TRELLIS.2's samplers and of flow matching."""

from __future__ import annotations

import math
from typing import Any

import torch
from shapewright.nn.layouts import layout_of, per_token
from shapewright.parity import Answer, GoldenCase
from shapewright.states import Layout, SparseTensor
from torch import Tensor

from .flow_matching import TIMESTEP_SCALE, from_start, interpolate, noise_of, start_of, velocity_target
from .sampler import SamplerConfig, Trellis2Euler


@torch.no_grad()
def sampler_case(case: GoldenCase) -> Answer:
    """Components ``FlowEuler*Sampler``, with the toy model that the notes define."""
    config, inputs = case.config, case.inputs
    noise = inputs["noise"]
    layout: Layout | None = None
    if config.get("sparse"):
        coords = inputs["coords"].int()
        layout = layout_of(SparseTensor(coords, noise, int(coords[:, 1:].max()) + 1, len(inputs["cond"])))

    def model(x: Tensor, t: float, *, conditional: bool) -> Tensor:
        tokens = inputs["cond"] if conditional else inputs["neg_cond"]
        drift = inputs["b"] * math.sin(t * TIMESTEP_SCALE / 300)
        mean = tokens.mean(1)
        if layout is not None:
            extra = 0.05 * inputs["concat_cond"] if "concat_cond" in inputs else 0.0
            return inputs["a"] * x + drift + per_token(mean, layout) + 0.1 * torch.tanh(x) + extra
        shape = (-1, *[1] * (x.ndim - 2))
        spread = mean.reshape(*mean.shape, *shape[1:])
        return inputs["a"].reshape(shape) * x + drift.reshape(shape) + spread + 0.1 * torch.tanh(x)

    names = {"sigma_min", "guidance_rescale", "guidance_interval", "rescale_t"}
    options: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in config.items()
    }
    sampler = Trellis2Euler(SamplerConfig(**{name: value for name, value in options.items() if name in names}))
    # What a case leaves out is the published library's default.
    guidance = config.get("guidance_strength", 1.0 if case.component == "FlowEulerSampler" else 3.0)
    count = config.get("steps", 50)
    steps = list(sampler.trajectory(model, noise, steps=count, guidance=guidance, layout=layout))
    return Answer({
        "samples": sampler.integrate(model, noise, steps=count, guidance=guidance, layout=layout),
        "t_seq": sampler.times(count),
        "x_first": steps[0].x,
        "x0_first": steps[0].start,
        "x0_last": steps[-1].start,
    })  # fmt: skip


def targets_case(case: GoldenCase) -> Answer:
    """Component ``flow matching``."""
    inputs, sigma_min = case.inputs, case.config["sigma_min"]
    x_t = interpolate(inputs["x0"], inputs["noise"], inputs["t"], sigma_min)
    velocity = velocity_target(inputs["x0"], inputs["noise"], sigma_min)
    start = start_of(x_t, velocity, 0.5, sigma_min)
    return Answer({
        "x_t": x_t,
        "v": velocity,
        "xstart_from_v_at_half": start,
        "eps_from_v_at_half": noise_of(x_t, velocity, 0.5),
        "pred_from_xstart_at_half": from_start(x_t, start, 0.5, sigma_min),
    })  # fmt: skip
