"""The sRGB transfer curve (IEC 61966-2-1): between colours as images store them and amounts of light."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def to_linear(values: Array) -> Array:
    """sRGB in [0, 1] to linear light.

    >>> to_linear(np.array([0.0, 0.5, 1.0])).round(4).tolist()
    [0.0, 0.214, 1.0]
    """
    return np.where(values <= 0.04045, values / 12.92, ((np.maximum(values, 0.0) + 0.055) / 1.055) ** 2.4)


def to_srgb(values: Array) -> Array:
    """Linear light in [0, 1] to sRGB.

    >>> to_srgb(np.array([0.0, 0.214, 1.0])).round(3).tolist()
    [0.0, 0.5, 1.0]
    """
    return np.where(values <= 0.0031308, values * 12.92, 1.055 * np.maximum(values, 1e-12) ** (1 / 2.4) - 0.055)
