"""Creases of the reference and of the result, compared as segments."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
from shapewright.interfaces import MeshPair, Metric, MetricDefinition
from shapewright_kernels.arrays import Floats, Ints
from shapewright_kernels.closest_point import ClosestPointIndex
from shapewright_kernels.creases import collapse_short_edges, ordered_segments, segment_index, sharp_edges
from shapewright_kernels.rows import cross_rows, dot_rows, norm_rows
from shapewright_kernels.sampling import sample_segments

from .distances import f_score
from .protocols import FAILED_DISTANCE, distance, share, versioned
from .surfaces import Role, checked_samples, merged, surface, uniforms

STANDARD = 20_000
DEGREES = 30.0
SHORT = 1e-4
"""Edges shorter than this are collapsed before angles are taken: a tenth of a cell at resolution 1,000."""
THRESHOLD = 5e-3
"""The tolerance of ``edge-f-score``. A fixed length, because a mesh does not say how many cells it was made of: about
one cell at resolution 200, five at 1,000."""
OFFSET = 7.5e-3
"""How far beside the crease normals are compared: one and a half times the tolerance."""


@dataclass(frozen=True)
class Config:
    samples: int = STANDARD
    """Samples per direction along creases; another number than the protocol's shows in the ids."""

    def __post_init__(self) -> None:
        checked_samples(self.samples)


class Creases(NamedTuple):
    """Sharp edges of one mesh: ends ``(S, 2, 3)`` and, per side, the unit direction ``(S, 2, 3)`` into the face."""

    ends: Floats
    inward: Floats


class CreaseSamples(NamedTuple):
    """Points ``(N, 3)`` along creases and ``(2 N, 3)`` points beside them, on the first and then the second face."""

    points: Floats
    beside: Floats


class SharpEdges(Metric[Config]):
    """Are creases kept (completeness), are there new ones (accuracy), are they rounded (surface, normal)?"""

    Config = Config
    protocols: ClassVar[Mapping[str, MetricDefinition]] = {
        "edge-completeness/v1": distance(
            "mean distance of reference crease samples to the nearest crease of the result; 0.5 where it has none"
        ),
        "edge-accuracy/v1": distance(
            "mean distance of the result's crease samples to the nearest crease of the reference; only where it has any"
        ),
        "edge-f-score@0.005/v1": share(
            "F-score of the two crease distances at 0.005 (a length, not a voxel); 0 where the result has no crease"
        ),
        "edge-surface/v1": distance("mean distance of reference crease samples to the surface of the result"),
        "edge-normal/v1": MetricDefinition(
            "mean unsigned angle between the normals of both surfaces closest to points 0.0075 beside the crease",
            False,
            "degrees",
            failure=90.0,
        ),
    }

    def measure(self, pair: MeshPair) -> Mapping[str, float]:
        """Nothing where the reference has no crease."""
        count = self.config.samples
        reference = creases(pair, "reference")
        if len(reference.ends) == 0:
            return {}
        seed = f"{pair.sample}/{pair.seed}/{count}"
        along = pair.shared(
            f"reference/crease-samples/{seed}",
            lambda: _sampled(reference, uniforms(pair, "creases/reference", count, 2)),
        )
        reference_faces = pair.shared(
            f"reference/crease-faces/{seed}", lambda: surface(pair, "reference").search.query(along.beside)[1]
        )
        search = surface(pair, "predicted").search
        values = {
            "edge-surface": float(search.query(along.points)[0].mean()),
            "edge-normal": _mean_angle(pair, reference_faces, search.query(along.beside)[1]),
        }
        predicted = creases(pair, "predicted")
        if len(predicted.ends) == 0:
            values |= {"edge-completeness": FAILED_DISTANCE, f"edge-f-score@{THRESHOLD:g}": 0.0}
        else:
            completeness, _, _ = segment_index(predicted.ends).query(along.points)
            found = _sampled(predicted, uniforms(pair, "creases/predicted", count, 2))
            tree: ClosestPointIndex = pair.shared("reference/crease-tree", lambda: segment_index(reference.ends))
            accuracy, _, _ = tree.query(found.points)
            values["edge-completeness"] = float(completeness.mean())
            values["edge-accuracy"] = float(accuracy.mean())
            values[f"edge-f-score@{THRESHOLD:g}"] = f_score(completeness, accuracy, THRESHOLD)["f-score"]
        return {versioned(name, count, STANDARD): value for name, value in values.items()}


def creases(pair: MeshPair, role: Role) -> Creases:
    """Sharp edges of one mesh of the pair, after short edges have been collapsed."""

    def compute() -> Creases:
        mesh = collapse_short_edges(merged(pair, role), SHORT)
        sharp = sharp_edges(mesh, DEGREES)
        edges = mesh.topology.edges[sharp]
        ends = mesh.vertices[edges]
        pairs = mesh.topology.manifold_pairs[sharp[mesh.topology.face_counts == 2]]
        opposite = mesh.faces[pairs].sum(axis=2) - edges.sum(axis=1)[:, None]  # the corner that is not on the edge
        run = ends[:, 1] - ends[:, 0]
        run /= norm_rows(run)[:, None]
        side = mesh.vertices[opposite] - ends[:, :1]
        side -= dot_rows(side, run[:, None])[..., None] * run[:, None]
        inward = side / norm_rows(side)[..., None]
        ends, order = ordered_segments(ends)
        return Creases(ends, inward[order])

    home = "reference" if pair.predicted is pair.reference else role
    return pair.shared(f"{home}/creases", compute)


def _sampled(found: Creases, draws: Floats) -> CreaseSamples:
    points, ids = sample_segments(found.ends, draws)
    beside = [points + OFFSET * found.inward[ids, side] for side in (0, 1)]
    return CreaseSamples(points, np.concatenate(beside))


def _mean_angle(pair: MeshPair, reference_faces: Ints, predicted_faces: Ints) -> float:
    normals = surface(pair, "reference").faces.normals[reference_faces]
    others = surface(pair, "predicted").faces.normals[predicted_faces]
    # atan2 keeps small angles that arccos of a cosine near 1 would round away
    sine = norm_rows(cross_rows(normals, others))
    return float(np.degrees(np.arctan2(sine, np.abs(dot_rows(normals, others)))).mean())
