"""Overlap of volumes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from shapewright.interfaces import MeshPair, Metric, MetricDefinition
from shapewright_kernels.arrays import Bools, Floats
from shapewright_kernels.rays import crossing_numbers

from .distances import Config
from .protocols import share, versioned
from .surfaces import SAMPLES, Role, merged, surface, uniforms


class VolumeIoU(Metric[Config]):
    """Intersection over union of the enclosed volumes, over random points of the box around both meshes."""

    Config = Config
    protocols: ClassVar[Mapping[str, MetricDefinition]] = {
        "volume-iou/v1": share(
            "|in both| / |in either| over points uniform in the joint bounding box; in = |winding number| > 0.5; "
            "only where both meshes are oriented and enclose a volume",
            symmetric=True,
        ),
    }

    def measure(self, pair: MeshPair) -> Mapping[str, float]:
        """Nothing where one of the meshes bounds no volume."""
        if pair.open_reference or not all(encloses_volume(pair, role) for role in ("reference", "predicted")):
            return {}
        count = self.config.samples
        corners = [surface(pair, role).faces.corners.reshape(-1, 3) for role in ("reference", "predicted")]
        low = np.minimum(*(points.min(axis=0) for points in corners))
        high = np.maximum(*(points.max(axis=0) for points in corners))
        points = low + uniforms(pair, "volume", count, 3) * (high - low)
        reference, predicted = _inside(pair, "reference", points), _inside(pair, "predicted", points)
        union = int((reference | predicted).sum())
        if union == 0:
            return {}
        return {versioned("volume-iou", count, SAMPLES): int((reference & predicted).sum()) / union}


def encloses_volume(pair: MeshPair, role: Role) -> bool:
    """Oriented, and every edge is run as often one way as the other, so that winding numbers are integers."""
    mesh = pair.reference if role == "reference" else pair.predicted
    return mesh.oriented and merged(pair, role).topology.cycle


def _inside(pair: MeshPair, role: Role, points: Floats) -> Bools:
    faces, search = surface(pair, role)
    numbers = crossing_numbers(search.tree, faces.corners, faces.weights, points)
    inside: Bools = numbers != 0
    return inside
