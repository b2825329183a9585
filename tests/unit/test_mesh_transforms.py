"""Simplification, hole filling, winding and inner shells: what changes, and what must not."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
import torch
from shapewright.errors import ConfigError, MeshError, ResourceError
from shapewright.materials import Appearance, Material
from shapewright.states import Mesh
from shapewright_kernels.closest_point import ClosestPointIndex
from shapewright_kernels.hole_filling import fill_holes
from shapewright_kernels.topology import edge_topology
from shapewright_kernels.triangles import face_normals
from shapewright_plugins.mesh_transforms.fill_holes import Config as FillConfig
from shapewright_plugins.mesh_transforms.fill_holes import FillHoles
from shapewright_plugins.mesh_transforms.fix_winding import Config as WindingConfig
from shapewright_plugins.mesh_transforms.fix_winding import FixWinding
from shapewright_plugins.mesh_transforms.inner_shells import Config as ShellConfig
from shapewright_plugins.mesh_transforms.inner_shells import RemoveInnerShells
from shapewright_plugins.mesh_transforms.simplify import Config as SimplifyConfig
from shapewright_plugins.mesh_transforms.simplify import Simplify


def grid(count: int, bump: float = 0.0) -> Mesh:
    """An open sheet of ``2 count^2`` faces over the unit square."""
    ticks = np.linspace(0, 1, count + 1)
    x, y = np.meshgrid(ticks, ticks, indexing="ij")
    z = bump * np.sin(np.pi * x) * np.sin(np.pi * y)
    rows = np.arange((count + 1) ** 2).reshape(count + 1, count + 1)
    a, b, c, d = rows[:-1, :-1], rows[1:, :-1], rows[1:, 1:], rows[:-1, 1:]
    faces = np.stack([np.stack([a, b, c], -1), np.stack([a, c, d], -1)], 2).reshape(-1, 3)
    points = np.stack([x, y, z], -1).reshape(-1, 3)
    return Mesh(torch.from_numpy(points), torch.from_numpy(faces))


def ball(levels: int = 3, radius: float = 0.5, centre: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> Mesh:
    import trimesh

    made = trimesh.creation.icosphere(levels, radius)
    points = np.asarray(made.vertices) + centre
    return Mesh(torch.from_numpy(points), torch.from_numpy(np.asarray(made.faces, np.int64)))


def together(*meshes: Mesh) -> Mesh:
    faces, start = [], 0
    for mesh in meshes:
        faces.append(mesh.faces + start)
        start += len(mesh.vertices)
    return Mesh(torch.cat([mesh.vertices for mesh in meshes]), torch.cat(faces))


def volume(mesh: Mesh) -> float:
    a, b, c = mesh.corners.unbind(dim=1)
    return float((a * torch.linalg.cross(b, c)).sum() / 6)


def test_a_simplified_ball_stays_closed_and_near() -> None:
    pytest.importorskip("fast_simplification")
    mesh = ball(5)  # 20,480 faces
    result = Simplify(SimplifyConfig(faces=1000)).apply(mesh=mesh)
    assert 900 <= len(result.faces) <= 1000
    assert result.oriented
    assert edge_topology(result.faces.numpy()).watertight
    distances, _, _ = ClosestPointIndex(result.vertices.numpy(), result.faces.numpy()).query(mesh.vertices.numpy())
    assert distances.max() < 5e-3
    assert volume(result) == pytest.approx(volume(mesh), rel=5e-3)


def test_simplification_keeps_the_boundary_of_a_sheet() -> None:
    pytest.importorskip("fast_simplification")
    mesh = grid(60, bump=0.1)
    for lock in (False, True):
        result = Simplify(SimplifyConfig(faces=600, lock_boundary=lock)).apply(mesh=mesh)
        topology = edge_topology(result.faces.numpy())
        assert topology.boundary_loops == 1
        assert not topology.non_manifold.any()
        rim = result.vertices.numpy()[topology.edges[topology.boundary]]
        assert np.abs(np.abs(rim[:, :, :2] - 0.5).max(axis=2) - 0.5).max() < (1e-9 if lock else 8e-3)
        length = np.linalg.norm(rim[:, 0, :2] - rim[:, 1, :2], axis=1).sum()
        assert length == pytest.approx(4.0, abs=1e-9 if lock else 0.15)
        if lock:
            assert topology.boundary.sum() == 240


def test_simplification_does_not_depend_on_the_scale() -> None:
    pytest.importorskip("fast_simplification")
    mesh = ball(4)
    small = Simplify(SimplifyConfig(faces=500)).apply(mesh=mesh)
    large = Simplify(SimplifyConfig(faces=500)).apply(mesh=replace(mesh, vertices=mesh.vertices * 2.0**10))
    assert torch.equal(small.faces, large.faces)
    assert torch.allclose(small.vertices * 2.0**10, large.vertices)


def test_simplification_takes_colours_from_the_closest_point_and_drops_materials() -> None:
    pytest.importorskip("fast_simplification")
    mesh = ball(4)
    mesh = replace(mesh, attributes={"color": (mesh.vertices + 0.5).float()}, appearance=Appearance((Material(),)))
    result = Simplify(SimplifyConfig(faces=800)).apply(mesh=mesh)
    assert result.appearance is None
    assert float((result.attributes["color"] - (result.vertices + 0.5)).abs().max()) < 0.02
    few = replace(mesh, appearance=None)
    assert Simplify(SimplifyConfig(faces=len(mesh.faces))).apply(mesh=few) is few


def test_a_small_hole_is_filled_and_a_large_one_is_left() -> None:
    mesh = grid(10)
    inner = (mesh.corners.mean(dim=1)[:, :2] - 0.55).abs().amax(dim=1) < 0.05  # one cell
    open_sheet = Mesh(mesh.vertices, mesh.faces[~inner])
    assert edge_topology(open_sheet.faces.numpy()).boundary_loops == 2
    filled = FillHoles(FillConfig(max_perimeter=0.5)).apply(mesh=open_sheet)
    topology = edge_topology(filled.faces.numpy())
    assert topology.boundary_loops == 1
    assert filled.oriented
    assert len(filled.faces) == len(open_sheet.faces) + 4
    assert torch.allclose(filled.vertices[-1], torch.tensor([0.55, 0.55, 0.0], dtype=torch.float64))
    areas = face_normals(filled.vertices.numpy(), filled.faces.numpy())[1]
    assert areas.sum() == pytest.approx(1.0)
    assert FillHoles(FillConfig(max_perimeter=0.3)).apply(mesh=open_sheet) is open_sheet
    closed = FillHoles(FillConfig(max_perimeter=0)).apply(mesh=open_sheet)
    assert edge_topology(closed.faces.numpy()).closed


def test_a_seam_is_no_hole_and_a_touching_loop_is_left_alone() -> None:
    mesh = ball(1)
    soup = Mesh(mesh.corners.reshape(-1, 3), torch.arange(3 * len(mesh.faces)).reshape(-1, 3))
    assert FillHoles(FillConfig(max_perimeter=0)).apply(mesh=soup) is soup
    bow_tie = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [-1, 0, 0], [0, -1, 0]], float)
    assert not len(fill_holes(bow_tie, [[0, 1, 2], [0, 3, 4]]).corners)


def test_filled_faces_carry_the_material_at_their_edge() -> None:
    mesh = grid(4)
    keep = torch.ones(len(mesh.faces), dtype=torch.bool)
    keep[10:12] = False
    uvs = mesh.corners[:, :, :2].float()[keep]
    look = Appearance(
        (Material("a"), Material("b")), torch.arange(int(keep.sum())) % 2, (uvs,), corner_normals=mesh.corners[keep] * 0
    )
    open_sheet = Mesh(mesh.vertices, mesh.faces[keep], attributes={"color": mesh.vertices.float()}, appearance=look)
    filled = FillHoles(FillConfig(max_perimeter=2.0)).apply(mesh=open_sheet)
    assert filled.appearance is not None
    new = slice(len(open_sheet.faces), None)
    assert torch.allclose(filled.appearance.uvs[0][new, :2], filled.corners[new, :2, :2].float(), atol=1e-6)
    assert torch.allclose(filled.attributes["color"][-1], filled.vertices[-1].float(), atol=1e-6)


def test_winding_is_made_consistent_and_outward() -> None:
    mesh = ball(2)
    generator = np.random.default_rng(0)
    flip = torch.from_numpy(generator.random(len(mesh.faces)) < 0.7)
    mixed = replace(mesh, faces=torch.where(flip[:, None], mesh.faces[:, [0, 2, 1]], mesh.faces), oriented=False)
    fixed = FixWinding(WindingConfig()).apply(mesh=mixed)
    assert fixed.oriented
    assert volume(fixed) == pytest.approx(volume(mesh))
    inside_out = replace(mesh, faces=mesh.faces[:, [0, 2, 1]])
    assert volume(FixWinding(WindingConfig(outward=False)).apply(mesh=inside_out)) < 0
    assert volume(FixWinding(WindingConfig()).apply(mesh=inside_out)) > 0


def test_a_cavity_keeps_facing_its_solid() -> None:
    cavity = ball(2, 0.2)
    cavity = replace(cavity, faces=cavity.faces[:, [0, 2, 1]])
    beside = ball(2, 0.2, (2.0, 0.0, 0.0))
    beside = replace(beside, faces=beside.faces[:, [0, 2, 1]])
    fixed = FixWinding(WindingConfig()).apply(mesh=together(ball(2), cavity, beside))
    whole, hollow = volume(ball(2)), volume(ball(2, 0.2))
    assert volume(fixed) == pytest.approx(whole - hollow + hollow)
    rows = slice(320, 640)
    assert torch.equal(fixed.faces[rows], together(ball(2), cavity).faces[rows])


def test_a_moebius_strip_is_not_called_oriented() -> None:
    turns = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    points = []
    for side in (-0.2, 0.2):
        r = 1 + side * np.cos(turns / 2)
        points.append(np.stack([r * np.cos(turns), r * np.sin(turns), side * np.sin(turns / 2)], axis=1))
    faces = []
    for i in range(40):
        a, b, j = i, i + 40, (i + 1) % 40
        c, d = (j, j + 40) if j else (40, 0)
        faces += [[a, c, b], [b, c, d]]
    strip = Mesh(torch.from_numpy(np.concatenate(points)), torch.tensor(faces), oriented=False)
    assert not FixWinding(WindingConfig()).apply(mesh=strip).oriented


def test_flipped_faces_take_their_corners_along() -> None:
    mesh = ball(1)
    faces = mesh.faces.clone()
    faces[5] = faces[5][[0, 2, 1]]
    corners = mesh.vertices[faces]
    look = Appearance((Material(),), uvs=(corners[:, :, :2].float(),), corner_normals=corners / 0.5)
    fixed = FixWinding(WindingConfig()).apply(mesh=replace(mesh, faces=faces, oriented=False, appearance=look))
    assert torch.equal(fixed.faces[5], mesh.faces[5])
    assert fixed.appearance is not None
    assert fixed.appearance.corner_normals is not None
    assert torch.equal(fixed.appearance.uvs[0], fixed.corners[:, :, :2].float())
    assert torch.allclose(fixed.appearance.corner_normals[5], -fixed.corners[5] / 0.5)
    assert torch.allclose(fixed.appearance.corner_normals[6], fixed.corners[6] / 0.5)


def test_a_hidden_shell_goes_and_a_visible_part_stays() -> None:
    mesh = together(ball(3), ball(2, 0.3), ball(2, 0.1, (0.9, 0.0, 0.0)))
    look = Appearance((Material("o"), Material("i"), Material("b")), torch.arange(3).repeat_interleave(
        torch.tensor([1280, 320, 320])))  # fmt: skip
    result = RemoveInnerShells(ShellConfig()).apply(mesh=replace(mesh, appearance=look))
    assert len(result.faces) == 1600
    assert len(result.vertices) == 642 + 162
    assert result.appearance is not None
    assert result.appearance.face_materials is not None
    assert result.appearance.face_materials.unique().tolist() == [0, 2]
    alone = ball(2)
    assert RemoveInnerShells(ShellConfig()).apply(mesh=alone) is alone


def test_what_is_seen_through_an_opening_stays() -> None:
    cup = ball(3)
    cup = replace(cup, faces=cup.faces[cup.corners[:, :, 2].amin(dim=1) < 0.3])
    mesh = together(cup, ball(2, 0.2))
    assert RemoveInnerShells(ShellConfig()).apply(mesh=mesh) is mesh


@pytest.mark.parametrize(
    "make",
    [
        lambda: SimplifyConfig(faces=2),
        lambda: SimplifyConfig(aggressiveness=0),
        lambda: FillConfig(max_perimeter=-1),
        lambda: FillConfig(max_perimeter=float("nan")),
        lambda: ShellConfig(samples=0),
        lambda: ShellConfig(visible_share=1.0),
    ],
)
def test_options_out_of_range_are_refused(make: object) -> None:
    with pytest.raises(ConfigError):
        make()  # type: ignore[operator]


def test_broken_meshes_are_refused_in_one_line() -> None:
    bad = Mesh(torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, float("nan"), 0]]), torch.tensor([[0, 1, 2]]))
    for component in (FillHoles(FillConfig()), FixWinding(WindingConfig()), RemoveInnerShells(ShellConfig())):
        with pytest.raises(MeshError, match="not finite"):
            component.apply(mesh=bad)
        with pytest.raises(MeshError, match="does not have"):
            component.apply(mesh=Mesh(torch.zeros(2, 3), torch.tensor([[0, 1, 2]])))


def test_simplification_that_cannot_fit_is_refused_before_it_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=1000))
    with pytest.raises(ResourceError, match=r"transform/simplify of 320 faces needs about .* lower the resolution"):
        Simplify(SimplifyConfig(faces=100)).apply(mesh=ball(2))
