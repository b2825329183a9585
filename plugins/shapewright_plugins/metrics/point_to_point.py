"""Metrics between two sample sets, as most papers print them. Even a perfect result scores the sampling floor here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, NamedTuple

from shapewright.interfaces import MeshPair, Metric, MetricDefinition
from shapewright_kernels.arrays import Floats
from shapewright_kernels.nearest_neighbour import NearestNeighbourIndex

from .distances import Config, f_score
from .protocols import distance, share, squared, versioned
from .surfaces import SAMPLES, samples

THRESHOLDS = (1e-3, 2.5e-3, 5e-3, 1e-2, 2e-2)


class PointDistances(NamedTuple):
    """Distances from each sample of one set to the nearest of the other, ``(N,)`` each."""

    completeness: Floats
    accuracy: Floats


def point_distances(pair: MeshPair, count: int) -> PointDistances:
    """Nearest-sample distances both ways, on the samples of the point-to-mesh protocol."""

    def compute() -> PointDistances:
        reference, predicted = samples(pair, "reference", count).points, samples(pair, "predicted", count).points
        tree = pair.shared(
            f"reference/sample-tree/{pair.sample}/{pair.seed}/{count}", lambda: NearestNeighbourIndex(reference)
        )
        completeness, _ = NearestNeighbourIndex(predicted).query(reference)
        accuracy, _ = tree.query(predicted)
        return PointDistances(completeness, accuracy)

    return pair.shared(f"point-distances/{count}", compute)


class ChamferPointToPoint(Metric[Config]):
    """Chamfer distances between ``samples`` points of each mesh."""

    Config = Config
    protocols: ClassVar[Mapping[str, MetricDefinition]] = {
        "chamfer-l1-p2p/v1": distance("(mean comp + mean acc) / 2 of distances to the nearest sample", symmetric=True),
        "chamfer-l2-p2p/v1": squared("mean comp^2 + mean acc^2 of distances to the nearest sample", symmetric=True),
    }

    def measure(self, pair: MeshPair) -> Mapping[str, float]:
        """Both figures; read them beside their floor."""
        count = self.config.samples
        found = point_distances(pair, count)
        values = {
            "chamfer-l1-p2p": float(found.completeness.mean() + found.accuracy.mean()) / 2,
            "chamfer-l2-p2p": float((found.completeness**2).mean() + (found.accuracy**2).mean()),
        }
        return {versioned(name, count, SAMPLES): value for name, value in values.items()}


class FScorePointToPoint(Metric[Config]):
    """F-score between ``samples`` points of each mesh; its ceiling is the floor printed beside it."""

    Config = Config
    protocols: ClassVar[Mapping[str, MetricDefinition]] = {
        f"f-score-p2p@{threshold:g}/v1": share(
            f"2 P R / (P + R) of the shares of distances to the nearest sample < {threshold:g}; 0 where both are 0",
            symmetric=True,
        )
        for threshold in THRESHOLDS
    }

    def measure(self, pair: MeshPair) -> Mapping[str, float]:
        """One figure for each of the five thresholds."""
        count = self.config.samples
        found = point_distances(pair, count)
        return {
            versioned(f"f-score-p2p@{threshold:g}", count, SAMPLES): f_score(*found, threshold)["f-score"]
            for threshold in THRESHOLDS
        }
