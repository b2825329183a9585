"""Which checks a component of each kind is to pass, from basic to derived."""

from __future__ import annotations

from . import claims, flow, geometry, images, learned, scores, shapes, tokens
from .check import Check
from .common import BUILDS, DETERMINISTIC, DEVICES, DIFFERENTIABLE, DTYPE, FIRST, LIGHT_IMPORT, PORTS, PURE

_DESCRIBED = (LIGHT_IMPORT, BUILDS, PORTS)
_BY_KIND: dict[str, tuple[Check, ...]] = {
    "representation": (
        *FIRST,
        DETERMINISTIC,
        geometry.REPRESENTATION_FRAMES,
        PURE,
        geometry.REPRESENTATION_DTYPE,
        geometry.REPRESENTATION_DEGENERATE,
        DEVICES,
        *claims.GEOMETRIC,
        DIFFERENTIABLE,
    ),
    "extractor": (
        *FIRST,
        DETERMINISTIC,
        geometry.EXTRACTOR_FRAMES,
        PURE,
        DTYPE,
        geometry.EXTRACTOR_DEGENERATE,
        DEVICES,
        claims.HONEST_WINDING,
        *claims.GEOMETRIC,
        DIFFERENTIABLE,
    ),
    "attention": (*FIRST, DETERMINISTIC, tokens.SHAPE, PURE, DTYPE, *tokens.CHECKS, DEVICES, DIFFERENTIABLE),
    "encoder": (*FIRST, *learned.ENCODER, DETERMINISTIC, PURE, DTYPE, learned.BATCHING, DEVICES, DIFFERENTIABLE),
    "generator": (*FIRST, DETERMINISTIC, PURE, DTYPE, *learned.GENERATOR, learned.BATCHING, DEVICES, DIFFERENTIABLE),
    "conditioner": (*FIRST, DETERMINISTIC, PURE, *learned.CONDITIONER, DEVICES),
    "sampler": (*_DESCRIBED, flow.OUTPUTS, flow.DETERMINISTIC, *flow.CHECKS),
    "transform": (*FIRST, DETERMINISTIC, PURE, DEVICES, DIFFERENTIABLE),
    "renderer": (*FIRST, DETERMINISTIC, images.BUFFERS, PURE, *images.CHECKS, DEVICES, DIFFERENTIABLE),
    "dataset": (*_DESCRIBED, shapes.OUTPUTS, *shapes.CHECKS),
    "metric": (*_DESCRIBED, scores.PROTOCOLS, DETERMINISTIC, PURE, *scores.CHECKS),
}


def checks_of(kind: str) -> tuple[Check, ...]:
    """The checks of one kind in the order in which they are run."""
    return _BY_KIND[kind]
