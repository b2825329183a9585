"""Metrics: a result mesh against its reference, by protocols with fixed definitions (docs/protocols.md)."""

from __future__ import annotations

from collections.abc import Iterable

from shapewright.plugin import ComponentSpec, Verb, hookimpl

_MODULE = "shapewright_plugins.metrics"


def _metric(name: str, factory: str, summary: str) -> ComponentSpec:
    verbs = {"measure": Verb({"predicted": "mesh", "reference": "mesh"}, {"values": "metrics"})}
    return ComponentSpec("metric", name, f"{_MODULE}.{factory}", verbs, summary=summary)


@hookimpl
def register_components() -> Iterable[ComponentSpec]:
    """The metrics of docs/protocols.md."""
    return [
        _metric("chamfer", "distances:Chamfer", "Chamfer distance L1 and L2, completeness, accuracy; point to mesh"),
        _metric("chamfer-p2p", "point_to_point:ChamferPointToPoint", "Chamfer distance between two sample sets"),
        _metric("f-score", "distances:FScore", "precision, recall and F-score at six thresholds; point to mesh"),
        _metric("f-score-p2p", "point_to_point:FScorePointToPoint", "F-score between two sample sets"),
        _metric("hausdorff", "distances:Hausdorff", "largest, 99th and 99.9th percentile of the distances"),
        _metric("normal-consistency", "normals:NormalConsistency", "agreement of normals, unsigned and signed"),
        _metric("volume-iou", "volume:VolumeIoU", "intersection over union of the volumes; closed meshes only"),
        _metric("sharp-edges", "sharp_edges:SharpEdges", "distances between creases, exact to segments"),
        _metric("interior", "interior:Interior", "completeness of what is and what is not seen from outside"),
        _metric("mesh-health", "health:MeshHealth", "boundaries, branching, components, winding, surplus faces"),
    ]
