"""Our topology equals the counts stored with the data set, made by another library."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from shapewright_kernels.topology import duplicate_faces, edge_topology, flat_faces, merge_vertices

DATA = Path(__file__).parents[3] / "shared" / "data"
NAMES = ["spot", "tray_bottom", "imu_module", "dress", "hair_layers", "demosthenes", "forest", "plane_windows", "human"]


@pytest.mark.skipif(not DATA.is_dir(), reason="the shared data set is not here")
@pytest.mark.parametrize("name", NAMES)
def test_topology_matches_manifest(name: str) -> None:
    trimesh = pytest.importorskip("trimesh")
    entry = next(e for e in json.loads((DATA / "manifest.json").read_text())["meshes"] if e["name"] == name)
    mesh = trimesh.load(DATA / entry["file"], force="mesh", process=False)
    used, faces = np.unique(mesh.faces, return_inverse=True)
    merged, group = merge_vertices(np.asarray(mesh.vertices)[used])
    faces = group[faces.reshape(-1, 3)]
    topology = edge_topology(faces)
    got = {
        "vertices_merged": len(merged),
        "boundary_edges": int(topology.boundary.sum()),
        "nonmanifold_edges": int(topology.non_manifold.sum()),
        "inconsistent_edges": int(topology.inconsistent.sum()),
        "components": topology.components,
        "euler": topology.euler,
        "zero_area_faces": int(flat_faces(merged, faces).sum()),
        "duplicate_faces": int(duplicate_faces(faces).sum()),
        "watertight": topology.watertight,
    }
    assert got == {key: entry["stats"][key] for key in got}


@pytest.mark.skipif(not DATA.is_dir(), reason="the shared data set is not here")
@pytest.mark.parametrize("name", ["featuretype", "angle_block"])
def test_small_tolerance_closes_what_exact_merging_leaves_open(name: str) -> None:
    trimesh = pytest.importorskip("trimesh")
    mesh = trimesh.load(DATA / "meshes" / f"{name}.stl", force="mesh", process=False)
    for tolerance, closed in ((0.0, False), (1e-7, True)):
        _, group = merge_vertices(np.asarray(mesh.vertices), tolerance)
        assert edge_topology(group[np.asarray(mesh.faces)]).watertight is closed
