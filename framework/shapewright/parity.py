"""Golden cases: stored inputs, parameters and outputs of published systems, and how an answer is compared with them."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from .errors import ShapewrightError
from .host import Catalog
from .spec import ParityHandler


class GoldenCaseError(ShapewrightError, ValueError):
    """A file is not a golden case (see docs/parity.md for the format)."""


@dataclass(frozen=True)
class GoldenCase:
    """One case: a safetensors file with tensors ``param.*``, ``in.*``, ``out.*`` and string metadata."""

    name: str
    path: Path
    system: str
    component: str
    config: Mapping[str, Any]
    notes: str
    atol: float
    rtol: float
    metadata: Mapping[str, str] = field(repr=False)
    params: Mapping[str, Tensor] = field(repr=False)
    inputs: Mapping[str, Tensor] = field(repr=False)
    outputs: Mapping[str, Tensor] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Difference:
    """Result of one comparison; ``limit`` is the rule in words."""

    ok: bool
    max_abs: float
    max_rel: float
    limit: str


Rule = Callable[[Tensor, Tensor], Difference]
"""``rule(got, wanted)``; the stored tensor is ``wanted``."""


@dataclass(frozen=True)
class Answer:
    """What a handler computed: one value for every ``out.*`` tensor of its case, in the row order that the notes define.

    ``rules`` replaces the default comparison (``|got - wanted| <= atol + rtol |wanted|``; integers and booleans exactly)
    where the notes ask for another one, such as :func:`quantiles`.
    """

    values: Mapping[str, Tensor]
    rules: Mapping[str, Rule] = field(default_factory=dict)


def _errors(got: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    if got.is_floating_point() or got.is_complex() or wanted.is_floating_point():
        kind = torch.complex128 if got.is_complex() or wanted.is_complex() else torch.float64
        absolute = (got.to(kind) - wanted.to(kind)).abs()
        magnitude = wanted.to(kind).abs()
        absolute = torch.where((got == wanted) | (got.isnan() & wanted.isnan()), torch.zeros_like(absolute), absolute)
    else:
        absolute = (got.long() - wanted.long()).abs().double()
        magnitude = wanted.long().abs().double()
    return absolute, absolute / magnitude.clamp_min(1e-30)


def _largest(errors: Tensor) -> float:
    return float(errors.max()) if errors.numel() else 0.0


def close(atol: float, rtol: float) -> Rule:
    """``|got - wanted| <= atol + rtol |wanted|`` for every element."""

    def rule(got: Tensor, wanted: Tensor) -> Difference:
        absolute, relative = _errors(got, wanted)
        magnitude = wanted.abs().double() if not wanted.dtype.is_complex else wanted.abs()
        ok = bool((absolute <= atol + rtol * magnitude).all())
        return Difference(ok, _largest(absolute), _largest(relative), f"atol {atol:g}, rtol {rtol:g}")

    return rule


def exact(got: Tensor, wanted: Tensor) -> Difference:
    """Equality of every element."""
    absolute, relative = _errors(got, wanted)
    return Difference(bool((absolute == 0).all()), _largest(absolute), _largest(relative), "exact")


def quantiles(median: float, p99: float, maximum: float, *, scale: float = 1.0) -> Rule:
    """Median, 99th percentile and maximum of ``|got - wanted| * scale`` below three limits (nearly singular solves)."""

    def rule(got: Tensor, wanted: Tensor) -> Difference:
        absolute, relative = _errors(got, wanted)
        scaled = absolute.flatten() * scale
        found = [float(np.quantile(scaled.numpy(), q)) if scaled.numel() else 0.0 for q in (0.5, 0.99, 1.0)]
        ok = found[0] < median and found[1] < p99 and found[2] < maximum
        limit = f"median {median:g}, p99 {p99:g}, max {maximum:g}"
        return Difference(ok, _largest(scaled), _largest(relative), limit)

    return rule


def share_within(tolerance: float, share: float) -> Rule:
    """At least ``share`` of all elements within ``tolerance`` (bytes that were truncated from floats)."""

    def rule(got: Tensor, wanted: Tensor) -> Difference:
        absolute, relative = _errors(got, wanted)
        ok = absolute.numel() == 0 or float((absolute <= tolerance).double().mean()) >= share
        return Difference(ok, _largest(absolute), _largest(relative), f"{share:.0%} within {tolerance:g}")

    return rule
