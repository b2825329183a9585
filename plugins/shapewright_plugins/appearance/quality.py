"""Figures of how alike two signals in [0, 1] are, as definitions and as numbers."""

from __future__ import annotations

import numpy as np
from shapewright.interfaces import MetricDefinition
from shapewright_kernels.arrays import Floats

LEAST = 1e-10
"""Mean squared errors below this count as this, so that equal signals have a figure: 100 dB."""
CAP = 100.0


def decibels(mean_square: float) -> float:
    """PSNR of a mean squared error of values in [0, 1]: ``-10 log10``, at most :data:`CAP`.

    >>> decibels(0.01), decibels(0.0)
    (20.0, 100.0)
    """
    return float(-10.0 * np.log10(max(mean_square, LEAST)))


def psnr(first: Floats, second: Floats) -> float:
    """:func:`decibels` of arrays of one shape, over all their numbers."""
    return decibels(float(np.mean((first - second) ** 2)))


def ratio(definition: str, *, symmetric: bool = False) -> MetricDefinition:
    """A PSNR; failed cells count as 0 dB, the figure of black against white."""
    return MetricDefinition(definition, True, "dB", failure=0.0, symmetric=symmetric)


def similarity(definition: str) -> MetricDefinition:
    """A number of at most 1, the same both ways, more is better."""
    return MetricDefinition(definition, True, "1", failure=0.0, symmetric=True)
