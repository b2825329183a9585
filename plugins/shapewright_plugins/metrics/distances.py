"""Metrics of point-to-mesh distances: exact to the other surface, so they have no sampling floor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from shapewright.interfaces import MeshPair, Metric, MetricDefinition
from shapewright_kernels.arrays import Floats
from torch import Tensor

from .protocols import distance, share, squared, versioned
from .surfaces import SAMPLES, checked_samples, mesh_distances, surface

THRESHOLDS = (1e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2)


@dataclass(frozen=True)
class Config:
    samples: int = SAMPLES
    """Samples per direction; another number than the protocol's shows in the ids (``chamfer-l1/v1@20k``)."""

    def __post_init__(self) -> None:
        checked_samples(self.samples)


class Chamfer(Metric[Config]):
    """Chamfer distance, L1 (mean distances) and L2 (mean squares), with its two directions."""

    Config = Config
    protocols: ClassVar[Mapping[str, MetricDefinition]] = {
        "chamfer-l1/v1": distance("(mean comp + mean acc) / 2", symmetric=True),
        "chamfer-l2/v1": squared("mean comp^2 + mean acc^2", symmetric=True),
        "completeness/v1": distance("mean comp: distance of reference samples to the result"),
        "accuracy/v1": distance("mean acc: distance of the result's samples to the reference"),
    }

    def measure(self, pair: MeshPair) -> Mapping[str, float]:
        """All four figures."""
        count = self.config.samples
        found = mesh_distances(pair, count)
        comp, acc = float(found.completeness.mean()), float(found.accuracy.mean())
        values = {
            "chamfer-l1": (comp + acc) / 2,
            "chamfer-l2": float((found.completeness**2).mean() + (found.accuracy**2).mean()),
            "completeness": comp,
            "accuracy": acc,
        }
        return {versioned(name, count, SAMPLES): value for name, value in values.items()}

    def deviations(self, pair: MeshPair, points: Tensor) -> Tensor:
        """Exact distances of points to the closest point of the reference."""
        found, _, _ = surface(pair, "reference").search.query(points.numpy(force=True).astype(np.float64))
        return torch.from_numpy(found)


class FScore(Metric[Config]):
    """Share of samples nearer than a threshold, each way, and the harmonic mean of the two."""

    Config = Config
    protocols: ClassVar[Mapping[str, MetricDefinition]] = {
        f"{name}@{threshold:g}/v1": share(text.format(f"{threshold:g}"))
        for name, text in (
            ("f-score", "2 P R / (P + R) of precision and recall at distance {}; 0 where both are 0"),
            ("precision", "share of acc < {}"),
            ("recall", "share of comp < {}"),
        )
        for threshold in THRESHOLDS
    }

    def measure(self, pair: MeshPair) -> Mapping[str, float]:
        """Three figures for each of the six thresholds."""
        count = self.config.samples
        found = mesh_distances(pair, count)
        return {
            versioned(f"{name}@{threshold:g}", count, SAMPLES): value
            for threshold in THRESHOLDS
            for name, value in f_score(found.completeness, found.accuracy, threshold).items()
        }


class Hausdorff(Metric[Config]):
    """Largest distance either way, and the percentiles that a single triangle does not decide."""

    Config = Config
    protocols: ClassVar[Mapping[str, MetricDefinition]] = {
        "hausdorff/v1": distance("max(max comp, max acc) over the samples", symmetric=True),
        "hausdorff-p99.9/v1": distance("max of the 99.9th percentiles of comp and of acc", symmetric=True),
        "hausdorff-p99/v1": distance("max of the 99th percentiles of comp and of acc", symmetric=True),
    }

    def measure(self, pair: MeshPair) -> Mapping[str, float]:
        """Maximum and two percentiles (linear between order statistics)."""
        count = self.config.samples
        found = mesh_distances(pair, count)
        names = {"hausdorff": 1.0, "hausdorff-p99.9": 0.999, "hausdorff-p99": 0.99}
        both = np.maximum(
            np.quantile(found.completeness, list(names.values())), np.quantile(found.accuracy, list(names.values()))
        )
        return {versioned(name, count, SAMPLES): float(value) for name, value in zip(names, both, strict=True)}


def f_score(completeness: Floats, accuracy: Floats, threshold: float) -> dict[str, float]:
    """``precision``, ``recall`` and ``f-score`` of two sets of distances; a distance equal to the threshold is outside.

    >>> f_score(np.array([0.0, 1.0]), np.array([0.0, 0.0]), 1.0)["recall"]
    0.5
    """
    recall = int(np.count_nonzero(completeness < threshold)) / len(completeness)
    precision = int(np.count_nonzero(accuracy < threshold)) / len(accuracy)
    total = precision + recall
    return {"f-score": 2 * precision * recall / total if total else 0.0, "precision": precision, "recall": recall}
