"""What the kit cannot know about these two: the lattice, and why the result is a manifold."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from shapewright import ConfigError, Frame, Mesh, SparseTensor, build, discover

from shapewright_tetrahedra.state import TetrahedralField, tetrahedra


def lattice(cells: int) -> torch.Tensor:
    """All points of ``cells`` cells an axis: corners, then centres, in canonical order."""
    steps = torch.arange(2 * cells + 1, dtype=torch.int32)
    points = torch.cartesian_prod(steps, steps, steps)
    return points[((points & 1) == (points[:, :1] & 1)).all(dim=1)]


def field(distances: torch.Tensor, cells: int) -> TetrahedralField:
    coords = torch.nn.functional.pad(lattice(cells), (1, 0))
    return TetrahedralField(SparseTensor(coords, distances[:, None], 2 * cells), Frame())


def extracted(state: TetrahedralField) -> Mesh:
    mesh = build(discover(), "extractor/marching-tetrahedra", {}).extract(state)
    assert isinstance(mesh, Mesh)
    return mesh


def volume(mesh: Mesh) -> float:
    return float(torch.linalg.det(mesh.corners.double()).sum() / 6)


def faces_by_edge(mesh: Mesh) -> torch.Tensor:
    runs = mesh.faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)
    assert len(torch.unique(runs, dim=0)) == len(runs), "two faces run along an edge in the same direction"
    counts: torch.Tensor = torch.unique(runs.sort(dim=1).values, dim=0, return_counts=True)[1]
    return counts


def test_tetrahedra_fill_space_without_overlap() -> None:
    """With alternating sides every tetrahedron is crossed; away from the border their volumes add up to the cells'."""
    coords = lattice(4)
    tets = tetrahedra(coords, coords[:, 0] % 2 == 0, 8)
    a, b, c, d = coords.double()[tets].unbind(dim=1)
    volumes = torch.linalg.det(torch.stack([b - a, c - a, d - a], dim=1)) / 6
    assert (volumes == volumes[0]).all()
    assert float(volumes[0]) == pytest.approx(8 / 12)  # twelve in each cell of 2 x 2 x 2 half cells
    generator = torch.Generator().manual_seed(0)
    for point in 2 + 4 * torch.rand(200, 3, dtype=torch.float64, generator=generator):
        sides = [torch.linalg.det(torch.stack([q - p, r - p, point - p], dim=1))
                 for p, q, r in ((a, b, c), (a, d, b), (a, c, d), (b, d, c))]  # fmt: skip
        assert int((torch.stack(sides) > 0).all(dim=0).sum()) == 1


@pytest.mark.parametrize("seed", range(5))
def test_any_signs_at_all_give_a_closed_manifold(seed: int) -> None:
    """Noise within, air at the border: every edge has two faces and every vertex one fan of them."""
    coords, cells = lattice(5), 5
    inner = ((coords > 1) & (coords < 2 * cells - 1)).all(dim=1)
    noise = torch.randn(len(coords), generator=torch.Generator().manual_seed(seed))
    mesh = extracted(field(torch.where(inner, noise, 1.0), cells))
    assert (faces_by_edge(mesh) == 2).all()
    corners, edges = mesh.faces.reshape(-1), mesh.faces.roll(-1, dims=1).reshape(-1)
    following = dict(zip(zip(corners.tolist(), edges.tolist(), strict=True),
                         mesh.faces.roll(1, dims=1).reshape(-1).tolist(), strict=True))  # fmt: skip
    fans: dict[int, int] = {}
    left = set(following)
    while left:
        vertex, start = left.pop()
        fans[vertex] = fans.get(vertex, 0) + 1
        at = following[vertex, start]
        while at != start:
            left.remove((vertex, at))
            at = following[vertex, at]
    assert set(fans.values()) == {1}


def test_a_plane_is_reproduced_exactly() -> None:
    normal = torch.tensor([0.48, 0.6, 0.64])
    state = field(torch.zeros(len(lattice(6))), 6)
    distances = state.positions @ normal - 0.013
    mesh = extracted(field(distances, 6))
    assert len(mesh.faces) > 100
    assert float((mesh.vertices @ normal - 0.013).abs().max()) < 1e-6
    turned = (
        torch.linalg.cross(mesh.corners[:, 1] - mesh.corners[:, 0], mesh.corners[:, 2] - mesh.corners[:, 0]) @ normal
    )
    assert (turned > 0).all()


def test_a_distance_of_zero_leaves_no_flat_face() -> None:
    state = field(torch.zeros(len(lattice(4))), 4)
    distances = state.positions.abs().amax(dim=1) - 0.25  # lattice points lie exactly on the surface
    mesh = extracted(field(distances, 4))
    assert (faces_by_edge(mesh) == 2).all()
    sides = torch.linalg.cross(mesh.corners[:, 1] - mesh.corners[:, 0], mesh.corners[:, 2] - mesh.corners[:, 0])
    assert float(sides.norm(dim=1).min()) > 0
    assert volume(mesh) == pytest.approx(0.125, rel=0.01)


def test_empty_fields_have_no_faces() -> None:
    for value in (1.0, -1.0):
        assert len(extracted(field(torch.full((len(lattice(2)),), value), 2)).faces) == 0
    nothing = TetrahedralField(SparseTensor(torch.zeros(0, 4, dtype=torch.int32), torch.zeros(0, 1), 8), Frame())
    assert len(extracted(nothing).faces) == 0


def sphere(count: int = 64) -> Mesh:
    """Rings of a sphere of radius 0.45."""
    theta = torch.linspace(0, math.pi, count // 2 + 1, dtype=torch.float64)[1:-1, None]
    phi = torch.arange(count, dtype=torch.float64) * math.tau / count
    rings = torch.stack(torch.broadcast_tensors(theta.sin() * phi.cos(), theta.sin() * phi.sin(), theta.cos()), dim=-1)
    points = torch.cat(
        [torch.tensor([[0.0, 0, 1]]).double(), rings.reshape(-1, 3), torch.tensor([[0.0, 0, -1]]).double()]
    )
    faces, last = [], len(points) - 1
    for k in range(count):
        after = (k + 1) % count
        faces += [(0, 1 + k, 1 + after), (last, last - count + after, last - count + k)]
        for ring in range(count // 2 - 2):
            a, b = 1 + ring * count + k, 1 + ring * count + after
            faces += [(a, a + count, b), (b, a + count, b + count)]
    return Mesh(points * 0.45, torch.tensor(faces))


def round_trip(mesh: Mesh, options: dict[str, Any]) -> Mesh:
    representation = build(discover(), "representation/tetrahedral", options)
    return extracted(representation.from_mesh(mesh, rng=torch.Generator()))


@pytest.mark.parametrize("resolution", [8, 24])
def test_a_sphere_comes_back_closed_and_of_its_size(resolution: int) -> None:
    mesh = sphere()
    result = round_trip(mesh, {"resolution": resolution})
    assert (faces_by_edge(result) == 2).all()
    assert volume(result) == pytest.approx(volume(mesh), rel=1.5 / resolution**2 * 8)


def test_a_shell_has_two_sides() -> None:
    """The option of the representation that measures is passed on: unsigned distance with its surface off the mesh."""
    distance = {"use": "representation/sdf", "with": {"surface": "shell"}}
    result = round_trip(sphere(), {"resolution": 24, "distance": distance})
    assert (faces_by_edge(result) == 2).all()
    radii = result.vertices.norm(dim=1)
    assert float(radii.min()) < 0.44 < 0.46 < float(radii.max())


def test_what_does_not_measure_in_a_narrow_band_is_refused() -> None:
    distance = {"use": "representation/sdf", "with": {"surface": "shell", "thickness": 2.0}}
    with pytest.raises(ConfigError, match=r"at most 0\.95 half cells"):
        round_trip(sphere(), {"resolution": 16, "distance": distance})
