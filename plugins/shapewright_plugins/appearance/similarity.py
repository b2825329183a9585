"""Structural similarity of pictures (SSIM), as a map."""

from __future__ import annotations

import numpy as np
from shapewright_kernels.arrays import Bools, Floats

SIGMA, RADIUS = 1.5, 5
K1, K2 = 0.01, 0.03


def similarity_map(first: Floats, second: Floats) -> Floats:
    """SSIM at every pixel of two pictures ``(H, W, C)`` with values in [0, 1], mean over the channels: ``(H, W)``.

    Local means, variances and covariance are weighted by a Gaussian of sigma 1.5 cut off at 5 pixels, without the
    correction for small samples; beyond the border the picture is mirrored.

    Source: Wang, Bovik, Sheikh and Simoncelli 2004, with its constants 0.01 and 0.03.
    """
    a, b = np.asarray(first, np.float64), np.asarray(second, np.float64)
    mean_a, mean_b, square_a, square_b, product = (_blurred(plane) for plane in (a, b, a * a, b * b, a * b))
    variances = square_a - mean_a**2 + square_b - mean_b**2
    covariance = product - mean_a * mean_b
    brightness = (2 * mean_a * mean_b + K1**2) / (mean_a**2 + mean_b**2 + K1**2)
    found: Floats = (brightness * (2 * covariance + K2**2) / (variances + K2**2)).mean(axis=2)
    return found


def similarity_inside(first: Floats, second: Floats, mask: Bools) -> tuple[float, int]:
    """Sum of :func:`similarity_map` over the pixels of ``mask`` ``(H, W)`` bool, and how many these are.

    Only what the map needs there is computed, so that empty borders cost nothing.
    """
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    if not len(rows):
        return 0.0, 0
    spans = [
        (max(int(line[0]) - RADIUS, 0), min(int(line[-1]) + RADIUS + 1, size))
        for line, size in ((rows, mask.shape[0]), (columns, mask.shape[1]))
    ]
    part = tuple(slice(*span) for span in spans)
    inside = similarity_map(first[part], second[part])[mask[part]]
    return float(inside.sum()), len(inside)


def _blurred(plane: Floats) -> Floats:
    weights = np.exp(-(np.arange(RADIUS + 1) ** 2) / (2 * SIGMA**2))
    weights /= weights[0] + 2 * weights[1:].sum()
    for axis in (0, 1):
        size = plane.shape[axis]
        padding = [(RADIUS, RADIUS) if axis == k else (0, 0) for k in range(plane.ndim)]
        padded = np.moveaxis(np.pad(plane, padding, mode="symmetric"), axis, 0)
        total = weights[0] * padded[RADIUS : RADIUS + size]
        for step in range(1, RADIUS + 1):
            before, after = padded[RADIUS - step : RADIUS - step + size], padded[RADIUS + step : RADIUS + step + size]
            total += weights[step] * (before + after)
        plane = np.moveaxis(total, 0, axis)
    return plane
