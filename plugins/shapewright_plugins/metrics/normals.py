"""Agreement of normals at the closest points."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from shapewright.interfaces import MeshPair, Metric, MetricDefinition
from shapewright_kernels.rows import dot_named_rows

from .distances import Config
from .protocols import share, versioned
from .surfaces import SAMPLES, mesh_distances, samples, surface


class NormalConsistency(Metric[Config]):
    """Mean cosine between a sample's face normal and the normal of the closest face of the other mesh, both ways."""

    Config = Config
    protocols: ClassVar[Mapping[str, MetricDefinition]] = {
        "normal-consistency/v1": share("mean of |n_sample . n_closest|, averaged over both directions", symmetric=True),
        "normal-consistency-signed/v1": share(
            "mean of n_sample . n_closest, averaged over both directions; only where both meshes are oriented",
            symmetric=True,
        ),
    }

    def measure(self, pair: MeshPair) -> Mapping[str, float]:
        """Unsigned always; signed where the winding of both meshes means something."""
        count = self.config.samples
        found = mesh_distances(pair, count)
        reference, predicted = surface(pair, "reference").faces.normals, surface(pair, "predicted").faces.normals
        own = samples(pair, "reference", count).faces
        completeness = dot_named_rows(reference, own, predicted, found.completeness_faces)
        own = samples(pair, "predicted", count).faces
        accuracy = dot_named_rows(predicted, own, reference, found.accuracy_faces)
        values = {"normal-consistency": float(np.abs(completeness).mean() + np.abs(accuracy).mean()) / 2}
        if pair.reference.oriented and pair.predicted.oriented:
            values["normal-consistency-signed"] = float(completeness.mean() + accuracy.mean()) / 2
        return {versioned(name, count, SAMPLES): value for name, value in values.items()}
