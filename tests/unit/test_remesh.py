"""``transform/remesh``: closed, near the source, one skin for solids and two walls for sheets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from shapewright import discover, load_mesh
from shapewright.errors import ConfigError, MeshError
from shapewright.plan import check as plan_of
from shapewright.registry import apply_override, load_registry
from shapewright.states import Mesh
from shapewright_kernels.arrays import Bools, Floats, Ints
from shapewright_kernels.closest_point import ClosestPointIndex
from shapewright_kernels.enclosed_spaces import spaces_beside
from shapewright_kernels.shell_remeshing import remesh_shell
from shapewright_kernels.topology import edge_topology
from shapewright_plugins.mesh_transforms.remesh import Config, Remesh

MESHES = Path(__file__).parents[3] / "shared" / "data" / "meshes"


def ball(levels: int = 3, radius: float = 0.5) -> tuple[Floats, Ints]:
    import trimesh

    made = trimesh.creation.icosphere(levels, radius)
    return np.asarray(made.vertices, np.float64), np.asarray(made.faces, np.int64)


def together(*parts: tuple[Floats, Ints]) -> tuple[Floats, Ints]:
    starts = np.cumsum([0, *(len(vertices) for vertices, _ in parts)])
    faces = [faces + start for (_, faces), start in zip(parts, starts, strict=False)]
    return np.concatenate([vertices for vertices, _ in parts]), np.concatenate(faces)


def volume(vertices: Floats, faces: Ints) -> float:
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    return float((a * np.cross(b, c)).sum() / 6)


def pieces(vertices: Floats, faces: Ints) -> list[float]:
    """Signed volumes of the connected parts, largest first."""
    from shapewright_kernels.topology import connected_groups

    _, part = connected_groups(faces)
    return sorted((volume(vertices, faces[part == k]) for k in range(part.max() + 1)), reverse=True)


def fans(faces: Ints) -> Ints:
    """How many fans of faces each vertex has: 1 on a two-manifold."""
    from shapewright_kernels.fan_splitting import split_fans

    return np.bincount(split_fans(faces).sources)


def check(source: tuple[Floats, Ints], result: tuple[Floats, Ints], resolution: int, away: float) -> None:
    """Closed two-manifold, and no vertex farther from the source than ``away`` cells."""
    topology = edge_topology(result[1])
    assert topology.watertight
    assert np.array_equal(np.unique(result[1]), np.arange(len(result[0])))
    assert (fans(result[1]) == 1).all()
    assert volume(*result) > 0
    cell = np.ptp(source[0], axis=0).max() / resolution
    assert ClosestPointIndex(*source).query(result[0])[0].max() < away * cell


def test_a_ball_gets_one_skin_and_as_published_two() -> None:
    source = ball(4)
    points, faces = remesh_shell(*source, resolution=40)
    check(source, (points, faces), 40, 0.2)
    assert len(pieces(points, faces)) == 1
    assert volume(points, faces) == pytest.approx(volume(*source), rel=0.03)
    both = remesh_shell(*source, resolution=40, filled="none")
    check(source, both, 40, 0.2)
    outer, inner = pieces(*both)
    assert outer == pytest.approx(volume(*source), rel=0.03)
    assert inner == pytest.approx(-volume(*source), rel=0.03)


def test_project_back_says_how_near_the_vertices_are() -> None:
    source = ball(4)
    index = ClosestPointIndex(*source)
    for share, low, high in [(0.0, 0.8, 1.2), (0.5, 0.4, 0.6), (1.0, 0.0, 1e-9)]:
        points, _ = remesh_shell(*source, resolution=40, project_back=share)
        distances = index.query(points)[0] * 40
        assert low <= distances.min()
        assert distances.max() <= high


def test_nested_shells_stay_cavities_or_go() -> None:
    outer, (points, faces) = ball(3, 0.5), ball(3, 0.25)
    hollow = together(outer, (points, faces[:, ::-1]))
    doubled = together(outer, (points, faces))
    cavity = remesh_shell(*hollow, resolution=32)
    check(hollow, cavity, 32, 0.2)
    sizes = pieces(*cavity)
    assert len(sizes) == 2
    assert sizes[1] == pytest.approx(-volume(points, faces), rel=0.1)
    assert len(pieces(*remesh_shell(*doubled, resolution=32))) == 1, "inside the outer one everything is solid"
    assert len(pieces(*remesh_shell(*hollow, resolution=32, filled="enclosed"))) == 1
    assert len(pieces(*remesh_shell(*hollow, resolution=32, filled="none"))) == 4
    turned = (hollow[0], hollow[1][:, ::-1])
    assert len(pieces(*remesh_shell(*turned, resolution=32))) == 2, "a mesh turned inside out is the same"


def test_a_thin_sheet_gets_a_wall_on_either_side() -> None:
    ticks = np.linspace(0, 1, 21)
    x, y = np.meshgrid(ticks, ticks, indexing="ij")
    rows = np.arange(441).reshape(21, 21)
    a, b, c, d = rows[:-1, :-1], rows[1:, :-1], rows[1:, 1:], rows[:-1, 1:]
    faces = np.stack([np.stack([a, b, c], -1), np.stack([a, c, d], -1)], 2).reshape(-1, 3)
    source = np.stack([x, y, 0.1 * np.sin(3 * x)], -1).reshape(-1, 3), faces
    for filled in ("winding", "none"):
        result = remesh_shell(*source, resolution=50, filled=filled)
        check(source, result, 50, 0.2)
        assert len(pieces(*result)) == 1
    there = ClosestPointIndex(*result).query(source[0])[0]
    assert there.max() < 0.2 / 50, "the walls reach to the rim"


def test_soup_with_mixed_windings_and_a_small_hole_becomes_a_solid() -> None:
    points, faces = ball(4)
    faces = faces[1:]  # a hole smaller than the wall is thick
    mixed = np.where((np.arange(len(faces)) % 3 == 0)[:, None], faces[:, ::-1], faces)
    soup = points[mixed].reshape(-1, 3), np.arange(3 * len(mixed)).reshape(-1, 3)
    result = remesh_shell(*soup, resolution=24)
    check(soup, result, 24, 0.5)
    assert len(pieces(*result)) == 1
    assert volume(*result) == pytest.approx(volume(*ball(4)), rel=0.05)


def test_a_wide_opening_leaves_the_inside_open() -> None:
    points, faces = ball(4)
    bowl = points, faces[(points[faces][:, :, 2] < 0.1).all(axis=1)]
    result = remesh_shell(*bowl, resolution=48)
    check(bowl, result, 48, 0.2)
    assert volume(*result) < 0.05 * volume(points, faces)


def test_spaces_are_those_of_a_dense_search() -> None:
    ndimage = pytest.importorskip("scipy.ndimage")
    rng = np.random.default_rng(0)
    for _ in range(20):
        side = 12
        wall = np.zeros((side,) * 3, bool)
        wall[1:-1, 1:-1, 1:-1] = rng.random((side - 2,) * 3) < 0.55
        asked: Bools = wall | (rng.random(wall.shape) < 0.7)
        for axis in range(3):
            asked.swapaxes(0, axis)[[0, -1]] = False
        coords = np.argwhere(asked)
        found = spaces_beside(coords, wall[asked], side)
        labels, _ = ndimage.label(~wall)
        expected = labels[asked]
        assert ((found == -1) == wall[asked]).all()
        assert ((found == 0) == (expected == labels[0, 0, 0])).all()
        free = found >= 0
        pairs = np.unique(np.stack([found[free], expected[free]]), axis=1)
        assert len(np.unique(pairs[0])) == len(np.unique(pairs[1])) == pairs.shape[1]


def test_threads_change_nothing() -> None:
    source = ball(3)
    one, two = (remesh_shell(*source, resolution=24, threads=threads) for threads in (1, 3))
    assert np.array_equal(one[0], two[0])
    assert np.array_equal(one[1], two[1])


@pytest.mark.parametrize("name", ["forest.glb", "hair_strips.obj", "imu_module.stl", "self_intersect.obj"])
def test_real_meshes_become_closed(name: str) -> None:
    if not (MESHES / name).exists():
        pytest.skip("needs the meshes of shared/data")
    mesh = load_mesh(MESHES / name)
    source = mesh.vertices.numpy().astype(np.float64), mesh.faces.numpy()
    for filled in ("winding", "none"):
        result = Remesh(Config(resolution=64, filled=filled)).apply(mesh=mesh)
        assert result.oriented
        check(source, (result.vertices.numpy().astype(np.float64), result.faces.numpy()), 64, 0.2)


def test_attributes_come_from_the_closest_point() -> None:
    points, faces = ball(4)
    mesh = Mesh(
        torch.from_numpy(points), torch.from_numpy(faces), attributes={"color": torch.from_numpy(points + 0.5).float()}
    )
    result = Remesh(Config(resolution=32)).apply(mesh=mesh)
    assert result.appearance is None
    assert float((result.attributes["color"] - (result.vertices + 0.5)).abs().max()) < 0.01


def test_nothing_and_bad_options_are_refused() -> None:
    point = Mesh(torch.zeros(3, 3, dtype=torch.float64), torch.tensor([[0, 1, 2]]))
    with pytest.raises(MeshError, match="no extent"):
        Remesh(Config()).apply(mesh=point)
    for options in ({"resolution": 4}, {"band": 0.1}, {"project_back": 1.5}, {"filled": "maybe"}):
        with pytest.raises(ConfigError, match=next(iter(options))):
            Config(**options)


@pytest.mark.parametrize(
    ("pipeline", "place", "before"), [("trellis2-1024", "fill", "raw"), ("roundtrip-textured", "simplify", "dense")]
)
def test_pipelines_take_it_instead_of_a_step(pipeline: str, place: str, before: str) -> None:
    catalog = discover()
    entry = load_registry((), catalog).pipeline(pipeline)
    apply_override(entry, f"components.{place}={{use: transform/remesh, with: {{resolution: 128, filled: none}}}}")
    plan = plan_of(pipeline, entry, catalog)
    baked = next(stage for stage in plan.stages if stage.component == "bake").inputs
    assert before in baked.values(), "texels ask the mesh as it was"
