"""What each representation is chosen for, shown on the stress suite at resolution 128 with the components that ship."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
from shapewright import Mesh, discover
from shapewright.interfaces import MeshPair
from shapewright.normalise import normalise
from shapewright.plan import check, roundtrip
from shapewright.run import build, execute
from shapewright_kernels.creases import segment_index
from shapewright_kernels.topology import EdgeTopology, edge_topology, merge_vertices

RESOLUTION = 128
CELL = 1 / RESOLUTION
LEAF, CUP, CROSSED, SPHERES, SPIKES = (
    "s01-leaf",
    "s04b-cup",
    "s02a-crossed-sheets",
    "s03-nested-spheres",
    "s07-spiked-icosahedron",
)
O_VOXEL, SPARSEFLEX = ("o-voxel", "flexible-dual-grid"), ("sparseflex", "flexicubes")
CONTOURED, BEVELLED = ("sdf", "dual-contouring"), ("sdf", "marching-cubes")

Pair = Callable[[str, tuple[str, str]], MeshPair]
Health = Callable[[MeshPair], dict[str, float]]


@pytest.fixture(scope="module")
def pair() -> Pair:
    """Shape and method to result and reference, each made once."""
    catalog = discover()
    suite = build(catalog, "dataset/stress-suite", {})

    @cache
    def reference(shape: str) -> tuple[Mesh, dict[str, object]]:
        return normalise(suite.load(shape).mesh)[0], {}

    @cache
    def result(shape: str, method: tuple[str, str]) -> MeshPair:
        mesh, memo = reference(shape)
        entry = roundtrip(*method)
        entry["components"]["rep"]["with"] = {"resolution": RESOLUTION}
        run = execute(check("+".join(method), entry, catalog), catalog, {"reference": mesh})
        return MeshPair(run.output, mesh, shape, reference_memo=memo)

    return result


@pytest.fixture(scope="module")
def health() -> Health:
    metric = build(discover(), "metric/mesh-health", {"samples": 2000})
    return lambda pair: {name.partition("/")[0]: value for name, value in metric.measure(pair).items()}


def topology(mesh: Mesh) -> tuple[np.ndarray, EdgeTopology]:
    vertices, group = merge_vertices(mesh.vertices.numpy())
    return vertices, edge_topology(group[mesh.faces.numpy()])


def lengths(segments: np.ndarray) -> np.ndarray:
    """``(S, 2, 3)`` to ``(S,)``."""
    return np.linalg.norm(segments[:, 1] - segments[:, 0], axis=1)


# --- open surfaces ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("shape", [LEAF, CUP])
@pytest.mark.parametrize("method", [O_VOXEL, SPARSEFLEX], ids="+".join)
def test_an_open_sheet_stays_open_and_single(pair: Pair, health: Health, shape: str, method: tuple[str, str]) -> None:
    found = health(pair(shape, method))
    assert found["watertight"] == 0
    assert found["components"] == 1
    assert 0.97 <= found["area-ratio"] <= 1.03  # about 2 were it doubled
    assert found["duplicate-faces"] == 0


@pytest.mark.parametrize("shape", [LEAF, CUP])
def test_sparseflex_keeps_one_clean_border(pair: Pair, health: Health, shape: str) -> None:
    found = health(pair(shape, SPARSEFLEX))
    assert found["boundary-loops"] == 1
    assert found["euler"] == found["euler-reference"] == 1
    assert found["non-manifold-edges"] == 0
    assert 0.9 <= found["boundary-length-ratio"] <= 1.1
    assert found["boundary-chamfer"] < CELL / 4


def test_o_voxel_keeps_one_clean_border_on_a_smooth_sheet(pair: Pair, health: Health) -> None:
    found = health(pair(CUP, O_VOXEL))
    assert found["boundary-loops"] == 1
    assert found["euler"] == 1
    assert found["non-manifold-edges"] == 0
    assert 0.9 <= found["boundary-length-ratio"] <= 1.1


def test_o_voxel_keeps_the_leafs_border_in_place_and_length(pair: Pair) -> None:
    """The part of the boundary that lies at the leaf's border; what else there is, the next test tells."""
    made = pair(LEAF, O_VOXEL)
    borders = []
    for mesh in (made.reference, made.predicted):
        vertices, found = topology(mesh)
        borders.append(vertices[found.edges[found.boundary]])
    true, kept = borders
    at_border = segment_index(true).query(kept.mean(axis=1))[0] < 2 * CELL
    assert 0.9 <= lengths(kept[at_border]).sum() / lengths(true).sum() <= 1.1
    assert segment_index(kept).query(true.mean(axis=1))[0].max() < 2 * CELL


@pytest.mark.xfail(
    strict=True,
    reason="a vein's ridge may pierce one grid edge twice; the published conversion marks that edge like any other, "
    "which adds a fin of one quad: 50 boundary pieces, length ratio 1.23 at 128",
)
def test_o_voxel_keeps_the_leafs_border_as_its_only_boundary(pair: Pair, health: Health) -> None:
    found = health(pair(LEAF, O_VOXEL))
    assert found["boundary-loops"] == 1
    assert 0.9 <= found["boundary-length-ratio"] <= 1.1


@pytest.mark.filterwarnings("ignore:the mesh is open")
def test_a_solid_field_does_not_keep_the_leaf(pair: Pair, health: Health) -> None:
    """The reason for the others: the sign of an open sheet comes and goes."""
    found = health(pair(LEAF, BEVELLED))
    assert found["components"] > 1
    assert not 0.9 <= found["boundary-length-ratio"] <= 1.1


# --- what is inside ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("method", [O_VOXEL, SPARSEFLEX], ids="+".join)
def test_nested_shells_are_all_kept(pair: Pair, health: Health, method: tuple[str, str]) -> None:
    found = health(pair(SPHERES, method))
    assert found["components"] == found["components-reference"] == 4
    assert found["euler"] == 8
    assert found["boundary-edges"] == found["non-manifold-edges"] == 0
    assert found["area-ratio"] == pytest.approx(1, abs=0.002)


@pytest.mark.parametrize("method", [BEVELLED, CONTOURED], ids="+".join)
def test_a_solid_field_keeps_the_outer_shell_alone(pair: Pair, health: Health, method: tuple[str, str]) -> None:
    found = health(pair(SPHERES, method))
    assert found["components"] == 1
    assert found["watertight"] == 1
    assert found["area-ratio"] == pytest.approx(0.591, abs=0.01)  # 4 pi of 4 pi 1.65 + 0.54


# --- seams ------------------------------------------------------------------------------------------------------------
def test_crossed_sheets_keep_their_seam(pair: Pair, health: Health) -> None:
    made = pair(CROSSED, O_VOXEL)
    vertices, found = topology(made.predicted)
    seam = vertices[found.edges[found.non_manifold]]
    assert (found.face_counts[found.non_manifold] == 4).all()
    for axis in range(3):
        others = [other for other in range(3) if other != axis]
        on_axis = (np.abs(seam[:, :, others]) < CELL).all(axis=(1, 2))
        assert lengths(seam[on_axis]).sum() == pytest.approx(1, abs=0.02)
    assert lengths(seam).sum() == pytest.approx(3, abs=0.05)  # and nothing else
    measured = health(made)
    assert measured["components"] == 1
    assert measured["boundary-loops"] == measured["boundary-loops-reference"]
    assert measured["boundary-length-ratio"] == pytest.approx(1, abs=0.01)
    assert measured["area-ratio"] == pytest.approx(1, abs=0.01)


# --- sharp edges ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("method", [CONTOURED, SPARSEFLEX, O_VOXEL], ids="+".join)
def test_sharp_edges_are_at_least_five_times_nearer_than_with_marching_cubes(
    pair: Pair, method: tuple[str, str]
) -> None:
    sharp = build(discover(), "metric/sharp-edges", {})
    error, bevelled = (sharp.measure(pair(SPIKES, m))["edge-surface/v1"] for m in (method, BEVELLED))
    assert 0 < error < bevelled / 5
