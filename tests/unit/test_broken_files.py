"""The shared broken inputs, each against what a loader has to do with it; the shared meshes against the manifest."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from shapewright.errors import MeshError
from shapewright.mesh_io import load_mesh, load_mesh_with_counts, normalise
from shapewright.states import Mesh
from shapewright_kernels.topology import EdgeTopology, edge_topology

DATA = Path(__file__).parents[3] / "shared" / "data"
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="the shared meshes are not here")

MANIFEST = json.loads((DATA / "manifest.json").read_text()) if DATA.is_dir() else {"meshes": [], "broken": []}


def topology(mesh: Mesh) -> EdgeTopology:
    return edge_topology(mesh.faces.numpy())


def area(mesh: Mesh) -> float:
    a, b, c = mesh.corners.unbind(1)
    return float(torch.linalg.cross(b - a, c - a).norm(dim=1).sum() / 2)


def unit_volume(mesh: Mesh) -> float:
    a, b, c = normalise(mesh)[0].corners.unbind(1)
    return float((a * torch.linalg.cross(b, c)).sum() / 6)


def fails(reason: str) -> Callable[[Path], None]:
    def check(path: Path) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # an error needs no warning beside it
            with pytest.raises(MeshError) as caught:
                load_mesh(path)
        assert str(caught.value).startswith(f"{path}: ")
        assert reason in str(caught.value)
        assert "\n" not in str(caught.value)

    return check


def loads(
    faces: int, counts: dict[str, int], *, closed: bool, boundary: int = 0, also: Callable[[Mesh], bool] | None = None
) -> Callable[[Path], None]:
    def check(path: Path) -> None:
        mesh, found = load_mesh_with_counts(path)
        assert found == counts
        assert len(mesh.faces) == faces
        edges = topology(mesh)
        assert edges.closed == closed
        assert int(edges.boundary.sum()) == boundary
        unit, placement = normalise(mesh)
        assert bool(unit.vertices.isfinite().all())
        assert unit.vertices.abs().max() == 0.5
        restored = placement.restore(unit).vertices
        assert torch.allclose(
            restored, mesh.vertices, rtol=0, atol=1e-12 * placement.scale + 1e-15 * mesh.vertices.abs().max()
        )
        assert also is None or also(mesh)

    return check


ICOSPHERE = float(trimesh.creation.icosphere(subdivisions=2).volume / 8)
EXPECTED = {
    "01_zero_bytes": fails("empty (0 bytes)"),
    "02_empty_header": fails("empty: the file holds no vertices and no faces"),
    "03_points_only": fails("no faces: the file is a point cloud of 100 points"),
    "04_all_nan": fails("no usable face is left"),
    "05_some_nan": loads(305, {"faces with non-finite vertices": 15}, closed=False, boundary=13),
    "06_infinite": fails("12 faces with non-finite vertices"),
    "07_degenerate_faces": loads(320, {"zero-area faces": 80}, closed=True),
    "08_duplicate_faces": loads(320, {"duplicate faces": 128}, closed=True),
    "09_mixed_winding": loads(1280, {}, closed=True, also=lambda mesh: not mesh.oriented),
    "10_inward": loads(320, {}, closed=True, also=lambda mesh: mesh.oriented and unit_volume(mesh) < 0),
    "11_huge_offset": loads(32, {"zero-area faces": 288}, closed=True),
    "12_huge_scale": loads(
        320, {}, closed=True, also=lambda mesh: unit_volume(mesh) == pytest.approx(ICOSPHERE, rel=1e-4)
    ),
    "13_tiny_scale": loads(
        320, {}, closed=True, also=lambda mesh: unit_volume(mesh) == pytest.approx(ICOSPHERE, rel=1e-4)
    ),
    "14_zero_area": fails("no face has an area"),
    "15_flat_quad": loads(2, {}, closed=False, boundary=4),
    "16_single_triangle": loads(1, {}, closed=False, boundary=3),
    "17_index_out_of_range": loads(
        100,
        {"faces that refer to a vertex that is not there": 1, "unreferenced vertices": 98},
        closed=False,
        boundary=26,
    ),
    "18_truncated": fails("truncated: announces 320 triangles and holds 100"),
    "19_ngons": loads(15, {}, closed=False, boundary=21),
    "20_t_junction": loads(13, {}, closed=False, boundary=3),
    "21_unreferenced": loads(320, {"unreferenced vertices": 1000}, closed=True),
    "22_soup": loads(100, {}, closed=False, boundary=300, also=lambda mesh: not mesh.oriented),
    "23_nan_colors": loads(12, {"vertex colours": 8}, closed=True, also=lambda mesh: not mesh.attributes),
    "24_negative_indices": loads(12, {}, closed=True),
}


def test_every_broken_file_has_an_expectation():
    assert {entry["name"].removeprefix("broken/") for entry in MANIFEST["broken"]} == set(EXPECTED)


@pytest.mark.parametrize("name", EXPECTED)
def test_broken_file(name, capfd):
    (path,) = (DATA / "broken").glob(f"{name}.*")
    EXPECTED[name](path)
    assert capfd.readouterr() == ("", "")


def test_the_concave_pentagon_of_the_ngons_has_its_true_area():
    mesh = load_mesh(DATA / "broken" / "19_ngons.obj")
    first = Mesh(mesh.vertices, mesh.faces[:3])
    assert area(first) == pytest.approx(2.5)
    assert area(mesh) == pytest.approx(6.57703, abs=1e-5)


# --- the meshes that are not broken -----------------------------------------------------------------------------------
TOLERANT = {"featuretype", "angle_block"}
"""Closed once vertices that differ by the rounding of float32 are one; the manifest counts them as open."""
ROUNDED = {"birthday_cake"}
"""Touching parts whose vertices, moved by their nodes, are equal as float32 and not in float64."""
NEARLY_EQUAL = {"dog_anatomy": 40}
"""Faces that are exact duplicates in the file and that the manifest's float32 positions keep apart."""


@pytest.mark.parametrize("entry", MANIFEST["meshes"], ids=lambda entry: entry["name"])
def test_shared_mesh_has_the_statistics_of_its_manifest(entry):
    stats = entry["stats"]
    mesh, counts = load_mesh_with_counts(DATA / entry["file"])
    name = entry["name"]
    assert counts.get("zero-area faces", 0) == stats["zero_area_faces"]
    assert counts.get("duplicate faces", 0) == stats["duplicate_faces"] + NEARLY_EQUAL.get(name, 0)
    dropped = counts.get("zero-area faces", 0) + counts.get("duplicate faces", 0)
    assert len(mesh.faces) == stats["faces"] - dropped
    assert set(counts) <= {"zero-area faces", "duplicate faces", "near-duplicate vertices"}
    extent = mesh.vertices.amax(0) - mesh.vertices.amin(0)
    assert extent.tolist() == pytest.approx(stats["bbox_extent"], rel=1e-4)
    edges = topology(mesh)
    assert edges.closed == (stats["watertight"] or name in TOLERANT)
    if not dropped and name not in TOLERANT:
        assert area(mesh) == pytest.approx(stats["area"], rel=2e-5)
    if not dropped and name not in TOLERANT | ROUNDED:
        assert len(mesh.vertices) == stats["vertices_merged"]
        assert int(edges.boundary.sum()) == stats["boundary_edges"]
        assert int(edges.non_manifold.sum()) == stats["nonmanifold_edges"]
        assert int(edges.inconsistent.sum()) == stats["inconsistent_edges"]
        assert edges.components == stats["components"]
        assert edges.euler == stats["euler"]
        assert mesh.oriented == (stats["inconsistent_edges"] == 0)
    assert ("color" in mesh.attributes) == stats["vertex_colors"]


def test_loading_a_large_scene_keeps_every_part_in_place():
    mesh = load_mesh(DATA / "meshes" / "flight_helmet.glb")
    assert topology(mesh).components == 82
    assert np.prod((mesh.vertices.amax(0) - mesh.vertices.amin(0)).numpy()) == pytest.approx(0.0976, rel=1e-2)
