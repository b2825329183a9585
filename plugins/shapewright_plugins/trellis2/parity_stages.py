"""Answers to the golden cases of what lies between TRELLIS.2's networks, and of its training utilities."""

from __future__ import annotations

import torch
from shapewright.parity import Answer, GoldenCase
from torch import Tensor, nn

from .cascade import occupied_coords, requantised
from .training import AdaptiveGradientClipper, LinearMemory, balanced_groups, hammersley_view, psnr, smooth_l1, ssim


def structure_coords_case(case: GoldenCase) -> Answer:
    """Component ``sparse_structure_to_coords``."""
    return Answer({"coords": occupied_coords(case.inputs["logits"][:, 0], case.config["resolution"])})


def cascade_case(case: GoldenCase) -> Answer:
    """Component ``cascade_coords``."""
    config = case.config
    coords, reached = requantised(
        case.inputs["hr_coords"], config["lr_resolution"], config["resolution"], config["max_num_tokens"]
    )
    return Answer({"coords": coords, "resolution": torch.tensor(reached)})


def training_case(case: GoldenCase) -> Answer:
    """Component ``training utilities``."""
    config, inputs = case.config, case.inputs
    first, second = inputs["img1"], inputs["img2"]
    clipper = AdaptiveGradientClipper(config["max_norm"], config["clip_percentile"], config["buffer_size"])
    clipped, limits = [], []
    for norm in inputs["grad_norms"]:
        parameter = nn.Parameter(torch.zeros(1))
        parameter.grad = norm.reshape(1).clone()
        clipper([parameter])
        clipped.append(parameter.grad.norm())
        limits.append(clipper.max_norm)
    memory = LinearMemory(*config["params"])
    ratios = [
        memory.ratio(size, config["available_memory"], target=config["target_ratio"], most=config["max_mem_ratio"])
        for size in inputs["input_sizes"].tolist()
    ]
    loads = inputs["loads"].tolist()
    views = [
        hammersley_view(i, config["num_samples"], tuple(config["hammersley_offset"]))
        for i in range(config["num_samples"])
    ]
    values = {
        "ssim": ssim(first, second),
        "psnr": psnr(first, second),
        "l1": nn.functional.l1_loss(first, second),
        "l2": nn.functional.mse_loss(first, second),
        "smooth_l1": smooth_l1(first, second),
        "clipped_norm": torch.stack(clipped),
        "max_norm_after": torch.tensor(limits),
        "mem_ratio": torch.tensor(ratios),
        "hammersley_yaw_pitch": torch.tensor(views),
    }
    for name, equal in (("group_of_item", False), ("group_of_item_equal", True)):
        wanted = case.outputs[name]
        groups = balanced_groups(loads, int(wanted.max()) + 1, equal_sizes=equal)
        values[name] = _group_of_item(groups, len(loads))
    return Answer(values)


def _group_of_item(groups: list[list[int]], count: int) -> Tensor:
    found = torch.empty(count, dtype=torch.int64)
    for number, items in enumerate(groups):
        found[items] = number
    return found
