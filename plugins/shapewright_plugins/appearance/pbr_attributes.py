"""``metric/pbr-attributes``: material values of the reference against those at the closest points of the result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from shapewright.errors import ConfigError
from shapewright.interfaces import MeshPair, Metric, MetricDefinition
from shapewright.srgb import to_linear
from shapewright_kernels.arrays import Bools, Floats

from .lookup import Look
from .quality import psnr, ratio
from .surface_samples import channels, closest_look, outer_samples, reference_samples

SAMPLES = 200_000
ALL_VISIBLE = 0.99
"""From this visible share on there is no interior worth a figure."""
FIGURES = {
    "base-color": ("base_color", "base colour in sRGB"),
    "base-color-linear": ("base_color", "base colour in linear light"),
    "metallic": ("metallic", "metallic"),
    "roughness": ("roughness", "roughness"),
    "alpha": ("alpha", "alpha as it counts (1 where opaque, 0 or 1 where masked)"),
}
"""Name of a figure: what it is of, and how that reads."""
_WHERE = "reference samples against the closest points of the result"
_INNER = "over inner samples; only where less than 0.99 of them are outer"


@dataclass(frozen=True)
class Config:
    samples: int = SAMPLES
    """Reference samples; another number than the protocol's shows in the ids (``alpha-psnr/v1@20k``)."""

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise ConfigError(f"samples must be at least 1, not {self.samples}")


class PbrAttributes(Metric[Config]):
    """PSNR of base colour, metallic, roughness and alpha on the surface, without any picture.

    Values come from textures, corners or vertices, whichever a mesh has. Figures are of the channels that both meshes
    have; without an appearance on either side there are none.
    """

    Config = Config
    protocols: ClassVar[Mapping[str, MetricDefinition]] = {
        **{f"{name}-psnr/v1": ratio(f"PSNR of {text}, {_WHERE}") for name, (_, text) in FIGURES.items()},
        **{f"{name}-psnr-inner/v1": ratio(f"the same PSNR of {text} {_INNER}") for name, (_, text) in FIGURES.items()},
        "samples-without-material/v1": MetricDefinition(
            "share of the samples that are left out because either mesh says nothing there", False, "1", group="health"
        ),
    }

    def measure(self, pair: MeshPair) -> Mapping[str, float]:
        """Up to ten figures, and the share of samples that they leave out."""
        both = channels(pair.reference) & channels(pair.predicted)
        if not both:
            return {}
        count = self.config.samples
        samples = reference_samples(pair, count)
        reference, predicted = samples.found, closest_look(pair, samples)
        known = reference.known & predicted.known
        values = {"samples-without-material": float((~known).mean())}
        outer = outer_samples(pair, count)
        parts = {"": known}
        if float(outer.mean()) < ALL_VISIBLE:
            parts["-inner"] = known & ~outer
        for part, rows in parts.items():
            if rows.any():
                values |= {
                    f"{name}-psnr{part}": psnr(
                        *(_values(name, look, rows) for look in (reference.look, predicted.look))
                    )
                    for name, (channel, _) in FIGURES.items()
                    if channel in both
                }
        return {_versioned(name, count): value for name, value in values.items()}


def _values(name: str, look: Look, rows: Bools) -> Floats:
    values: Floats = np.asarray(getattr(look, FIGURES[name][0]), np.float64)[rows]
    return to_linear(values) if name == "base-color-linear" else values


def _versioned(name: str, samples: int) -> str:
    """``name/v1``, marked where the sample count is not the protocol's.

    >>> _versioned("alpha-psnr", SAMPLES), _versioned("alpha-psnr", 20_000), _versioned("alpha-psnr", 1_500)
    ('alpha-psnr/v1', 'alpha-psnr/v1@20k', 'alpha-psnr/v1@1500')
    """
    if samples == SAMPLES:
        return f"{name}/v1"
    return f"{name}/v1@{samples // 1000}k" if samples % 1000 == 0 else f"{name}/v1@{samples}"
