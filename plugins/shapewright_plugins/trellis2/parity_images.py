"""Answers to the golden cases of TRELLIS.2's image preparation and image network."""

from __future__ import annotations

from dataclasses import fields

from shapewright.parity import Answer, GoldenCase, close

from .conditioner import DINOv3, DINOv3Config
from .prepare_image import PrepareConfig, PrepareImage


def prepare_case(case: GoldenCase) -> Answer:
    """Component ``preprocess_image``: an image with transparency."""
    found = PrepareImage(PrepareConfig()).apply(image=case.inputs["rgba"])
    return Answer({"rgb": found}, {"rgb": close(case.atol, case.rtol)})


def dinov3_case(case: GoldenCase) -> Answer:
    """Component ``DinoV3FeatureExtractor``."""
    known = {field.name for field in fields(DINOv3Config)}
    conditioner = DINOv3(DINOv3Config(**{name: value for name, value in case.config.items() if name in known}))
    conditioner.network.load_state_dict(dict(case.params), strict=True)
    return Answer({"features": conditioner.encode(case.inputs["image_u8"]).tokens})
