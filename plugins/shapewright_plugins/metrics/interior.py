"""Completeness split by what can be seen from outside: the figure that shows lost interiors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from shapewright.interfaces import MeshPair, Metric, MetricDefinition
from shapewright_kernels.arrays import Bools
from shapewright_kernels.rays import escapes, fibonacci_directions

from .protocols import distance, health, share, versioned
from .surfaces import checked_samples, samples, surface

STANDARD = 20_000
DIRECTIONS = 128
SKIP = 1e-5
"""Hits nearer than this (``box1``) are the surface that the sample lies on, or a copy of it that rounding moved."""
THRESHOLD = 5e-3
ALL_VISIBLE = 0.99
"""From this visible share on there is no interior worth a figure."""


@dataclass(frozen=True)
class Config:
    samples: int = STANDARD
    """Reference samples; another number than the protocol's shows in the ids."""

    def __post_init__(self) -> None:
        checked_samples(self.samples)


class Interior(Metric[Config]):
    """Outer samples of the reference are those from which one of 128 directions escapes, inner samples the others."""

    Config = Config
    protocols: ClassVar[Mapping[str, MetricDefinition]] = {
        "completeness-outer/v1": distance("mean comp over outer samples of the reference"),
        "completeness-inner/v1": distance("mean comp over inner samples; only where less than 0.99 of them are outer"),
        "recall-outer@0.005/v1": share("share of comp < 0.005 over outer samples"),
        "recall-inner@0.005/v1": share(
            "share of comp < 0.005 over inner samples; only where less than 0.99 of them are outer"
        ),
        "outer-share-reference/v1": health("share of outer samples of the reference", "1", higher_is_better=True),
    }

    def measure(self, pair: MeshPair) -> Mapping[str, float]:
        """Outer figures where anything is visible, inner figures where enough is hidden."""
        count = self.config.samples
        points = samples(pair, "reference", count).points

        def visible() -> Bools:
            faces, search = surface(pair, "reference")
            return escapes(search.tree, faces.corners, points, fibonacci_directions(DIRECTIONS), skip=SKIP)

        outer = pair.shared(f"reference/outer/{pair.sample}/{pair.seed}/{count}", visible)
        comp, _, _ = surface(pair, "predicted").search.query(points)
        seen = float(outer.mean())
        values = {"outer-share-reference": seen}
        if outer.any():
            values["completeness-outer"] = float(comp[outer].mean())
            values[f"recall-outer@{THRESHOLD:g}"] = float((comp[outer] < THRESHOLD).mean())
        if seen < ALL_VISIBLE:
            values["completeness-inner"] = float(comp[~outer].mean())
            values[f"recall-inner@{THRESHOLD:g}"] = float((comp[~outer] < THRESHOLD).mean())
        return {versioned(name, count, STANDARD): value for name, value in values.items()}
