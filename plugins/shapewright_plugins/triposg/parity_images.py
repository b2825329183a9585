"""Answers to the golden cases of image preparation and of the condition networks."""

from __future__ import annotations

import torch
from shapewright.parity import Answer, GoldenCase, close
from torch import Tensor

from .image_networks import ProcessorOptions, clip_text_network, dinov2_network, pixel_values
from .prepare_image import PrepareImage, PrepareImageConfig


def images_case(case: GoldenCase) -> Answer:
    """Component ``image_preprocessing``: the cut-out, and the input of the image network."""
    values: dict[str, Tensor] = {}
    if "bg_color" in case.config:
        config = PrepareImageConfig(case.config["padding_ratio"], tuple(case.config["bg_color"]), _stand_in)
        prepare = PrepareImage(config)
        names = {"rgb_from_matting": "rgb_nomask", "rgb_tall": "rgba_tall", "rgb_wide": "rgba_wide"}
        values = {out: prepare.apply(image=case.inputs[name]) for out, name in names.items() if out in case.outputs}
        return Answer(values, dict.fromkeys(values, close(case.atol, case.rtol)))
    size, crop = case.config["size"]["shortest_edge"], case.config["crop_size"]["height"]
    options = ProcessorOptions(size, crop, tuple(case.config["image_mean"]), tuple(case.config["image_std"]))
    for name, image in case.inputs.items():
        pixels, prefix = pixel_values(image, options), name.removeprefix("image_")
        values |= {f"{prefix}_every8": pixels[:, ::8, ::8], f"{prefix}_mean": pixels.mean(dim=(1, 2))}
    return Answer(values)


def _stand_in(colours: Tensor) -> Tensor:
    """The network that the case puts in the place of the matting network."""
    return torch.sigmoid(-8 * colours.mean(dim=1, keepdim=True))


def dinov2_case(case: GoldenCase) -> Answer:
    """Component ``image_encoder``."""
    network = dinov2_network(case.config, case.params)
    return Answer({"last_hidden_state": network(pixel_values=case.inputs["pixel_values"]).last_hidden_state.detach()})


def clip_text_case(case: GoldenCase) -> Answer:
    """Component ``text_encoder``."""
    found = clip_text_network(case.config, case.params)(input_ids=case.inputs["input_ids"])
    return Answer({"last_hidden_state": found.last_hidden_state.detach(), "text_embeds": found.text_embeds.detach()})
