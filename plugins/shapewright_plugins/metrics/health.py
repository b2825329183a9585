"""The result as a mesh, beside the reference as a mesh."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from shapewright.interfaces import MeshPair, Metric, MetricDefinition
from shapewright_kernels.arrays import Floats
from shapewright_kernels.closest_point import ClosestPointIndex
from shapewright_kernels.creases import ordered_segments, segment_index
from shapewright_kernels.rows import dot_rows, norm_rows
from shapewright_kernels.sampling import sample_segments
from shapewright_kernels.topology import duplicate_faces, flat_faces

from .protocols import distance, health, versioned
from .surfaces import SAMPLES, Role, checked_samples, merged, mesh_distances, samples, surface, uniforms

BOUNDARY_SAMPLES = 20_000

_OWN = {
    "boundary-edges": health("edges with exactly one face"),
    "boundary-loops": health("connected pieces of the boundary; loops that share a vertex count once"),
    "boundary-length": health("total length of the boundary edges", "box1"),
    "non-manifold-edges": health("edges with three or more faces"),
    "inconsistent-edges": health("edges with two faces that run along it in the same direction"),
    "components": health("pieces that share no vertex"),
    "euler": health("vertices - edges + faces"),
    "degenerate-faces": health("faces with a repeated corner or an area of at most 1e-14 of the squared diagonal"),
    "duplicate-faces": health("surplus faces with the same three corners, winding ignored"),
    "watertight": health("1 where every edge has two faces, of consistent winding", "1", higher_is_better=True),
}


@dataclass(frozen=True)
class Config:
    samples: int = SAMPLES
    """Samples of the result for ``flipped-share``; another number than the protocol's shows in that id."""

    def __post_init__(self) -> None:
        checked_samples(self.samples)


class MeshHealth(Metric[Config]):
    """Counts after merging vertices by position (relative tolerance 1e-7); the reference's own counts alongside."""

    Config = Config
    protocols: ClassVar[Mapping[str, MetricDefinition]] = {
        **{f"{name}/v1": entry for name, entry in _OWN.items()},
        **{
            f"{name}-reference/v1": health(
                f"the same of the reference: {entry.definition}", entry.unit, higher_is_better=entry.higher_is_better
            )
            for name, entry in _OWN.items()
        },
        "boundary-length-ratio/v1": health("boundary length over that of the reference; only where that is open", "1"),
        "boundary-chamfer/v1": distance(
            "(mean + mean) / 2 of distances between boundary samples and the other boundary; only where both are open"
        ),
        "area-ratio/v1": health("area over that of the reference, both without duplicate faces; about 2: doubled", "1"),
        "flipped-share/v1": health(
            "share of the result's area whose normal points against that of the closest face of the reference; only "
            "where both meshes are oriented",
            "1",
        ),
    }

    def measure(self, pair: MeshPair) -> Mapping[str, float]:
        """Every count of both meshes, and the ratios that apply."""
        predicted, reference = _counts(pair, "predicted"), _counts(pair, "reference")
        values = {f"{name}/v1": value for name, value in predicted.items()}
        values |= {f"{name}-reference/v1": value for name, value in reference.items()}
        areas = [float(surface(pair, role).faces.areas.sum()) for role in ("predicted", "reference")]
        values["area-ratio/v1"] = areas[0] / areas[1]
        if reference["boundary-length"] > 0:
            values["boundary-length-ratio/v1"] = predicted["boundary-length"] / reference["boundary-length"]
            if predicted["boundary-length"] > 0:
                values["boundary-chamfer/v1"] = _boundary_chamfer(pair)
        if pair.reference.oriented and pair.predicted.oriented:
            values[versioned("flipped-share", self.config.samples, SAMPLES)] = _flipped(pair, self.config.samples)
        return values


def _counts(pair: MeshPair, role: Role) -> dict[str, float]:
    def compute() -> dict[str, float]:
        mesh = merged(pair, role)
        topology = mesh.topology
        run = np.diff(mesh.vertices[topology.edges[topology.boundary]], axis=1)
        return {
            "boundary-edges": float(topology.boundary.sum()),
            "boundary-loops": float(topology.boundary_loops),
            "boundary-length": float(norm_rows(run).sum()),
            "non-manifold-edges": float(topology.non_manifold.sum()),
            "inconsistent-edges": float(topology.inconsistent.sum()),
            "components": float(topology.components),
            "euler": float(topology.euler),
            "degenerate-faces": float(flat_faces(mesh.vertices, mesh.faces).sum()),
            "duplicate-faces": float(duplicate_faces(mesh.faces).sum()),
            "watertight": float(topology.watertight),
        }

    return pair.shared(f"{role}/counts", compute)


def _boundary(pair: MeshPair, role: Role) -> tuple[Floats, ClosestPointIndex]:
    """Samples along the boundary and the search tree of its segments."""

    def compute() -> tuple[Floats, ClosestPointIndex]:
        mesh = merged(pair, role)
        ends, _ = ordered_segments(mesh.vertices[mesh.topology.edges[mesh.topology.boundary]])
        points, _ = sample_segments(ends, uniforms(pair, f"boundary/{role}", BOUNDARY_SAMPLES, 2))
        return points, segment_index(ends)

    return pair.shared(f"{role}/boundary/{pair.sample}/{pair.seed}", compute)


def _boundary_chamfer(pair: MeshPair) -> float:
    reference, reference_tree = _boundary(pair, "reference")
    predicted, predicted_tree = _boundary(pair, "predicted")
    completeness, accuracy = predicted_tree.query(reference)[0], reference_tree.query(predicted)[0]
    return float(completeness.mean() + accuracy.mean()) / 2


def _flipped(pair: MeshPair, count: int) -> float:
    normals = surface(pair, "predicted").faces.normals[samples(pair, "predicted", count).faces]
    others = surface(pair, "reference").faces.normals[mesh_distances(pair, count).accuracy_faces]
    return float((dot_rows(normals, others) < 0).mean())
