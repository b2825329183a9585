"""Non-manifold edges cut, small parts dropped: what changes, and what must not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from shapewright import load_mesh
from shapewright.errors import ConfigError
from shapewright.materials import Appearance, Material
from shapewright.states import Mesh
from shapewright_kernels.fan_splitting import split_fans
from shapewright_kernels.topology import connected_groups, edge_topology, merge_vertices
from shapewright_plugins.mesh_transforms.simplify import Config as SimplifyConfig
from shapewright_plugins.mesh_transforms.simplify import Simplify
from shapewright_plugins.mesh_transforms.small_parts import Config as PartsConfig
from shapewright_plugins.mesh_transforms.small_parts import DropSmallParts
from shapewright_plugins.mesh_transforms.split_non_manifold import Config as SplitConfig
from shapewright_plugins.mesh_transforms.split_non_manifold import SplitNonManifold

MESHES = Path(__file__).parents[3] / "shared" / "data" / "meshes"


def box(size: float = 1.0, at: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> Mesh:
    import trimesh

    made = trimesh.creation.box((size, size, size))
    return Mesh(torch.from_numpy(np.asarray(made.vertices) + at), torch.from_numpy(np.asarray(made.faces, np.int64)))


def welded(*meshes: Mesh) -> Mesh:
    """All in one, vertices at one position shared."""
    starts = np.cumsum([0, *(len(mesh.vertices) for mesh in meshes)])
    faces = torch.cat([mesh.faces + int(start) for mesh, start in zip(meshes, starts, strict=False)])
    vertices, group = merge_vertices(torch.cat([mesh.vertices for mesh in meshes]).numpy())
    return Mesh(torch.from_numpy(vertices), torch.from_numpy(group[faces.numpy()]))


def real(name: str) -> Mesh:
    if not (MESHES / name).exists():
        pytest.skip("needs the meshes of shared/data")
    return load_mesh(MESHES / name)


def test_two_boxes_on_one_edge_come_apart_whole() -> None:
    mesh = welded(box(), box(at=(1.0, 1.0, 0.0)))
    assert edge_topology(mesh.faces.numpy()).non_manifold.any()
    split = SplitNonManifold(SplitConfig()).apply(mesh=mesh)
    topology = edge_topology(split.faces.numpy())
    # the four faces of the edge have no partners any more, so it is open on either box
    assert not topology.non_manifold.any()
    assert topology.components == 2
    assert torch.equal(split.corners, mesh.corners)


def test_boxes_that_touch_in_a_corner_get_a_vertex_each() -> None:
    mesh = welded(box(), box(at=(1.0, 1.0, 1.0)))
    assert len(mesh.vertices) == 15
    split = SplitNonManifold(SplitConfig()).apply(mesh=mesh)
    assert len(split.vertices) == 16
    assert edge_topology(split.faces.numpy()).watertight
    assert edge_topology(split.faces.numpy()).components == 2


def test_a_manifold_mesh_is_left_as_it_is_with_its_seams() -> None:
    mesh = box()
    assert SplitNonManifold(SplitConfig()).apply(mesh=mesh) is mesh
    seams = Mesh(mesh.corners.reshape(-1, 3), torch.arange(36).reshape(-1, 3))
    assert SplitNonManifold(SplitConfig()).apply(mesh=seams) is seams


def test_copies_carry_attributes_and_corners_stay() -> None:
    mesh = welded(box(), box(at=(1.0, 1.0, 0.0)))
    look = Appearance((Material("a"),), uvs=(torch.rand(len(mesh.faces), 3, 2),))
    mesh = replace(mesh, attributes={"color": mesh.vertices.float()}, appearance=look)
    split = SplitNonManifold(SplitConfig()).apply(mesh=mesh)
    assert torch.equal(split.attributes["color"], split.vertices.float())
    assert split.appearance is not None
    assert torch.equal(split.appearance.uvs[0], look.uvs[0])


@pytest.mark.parametrize("name", ["hair_strips.obj", "forest.glb", "menger_sponge3.glb", "plane_windows.obj"])
def test_real_meshes_are_manifold_after_the_cut(name: str) -> None:
    mesh = real(name)
    split = SplitNonManifold(SplitConfig()).apply(mesh=mesh)
    topology = edge_topology(split.faces.numpy())
    assert not topology.non_manifold.any()
    assert (np.bincount(split_fans(split.faces.numpy()).sources) <= 1).all()
    _, group = merge_vertices(mesh.vertices.numpy())
    merged = group[mesh.faces.numpy()]
    proper = (merged != np.roll(merged, 1, axis=1)).all(axis=1)
    assert torch.equal(split.corners, mesh.corners[torch.from_numpy(proper)])


def test_a_split_mesh_is_simplified_without_being_joined_again() -> None:
    pytest.importorskip("fast_simplification")
    import trimesh

    made = trimesh.creation.icosphere(4, 0.5)
    points, faces = torch.from_numpy(np.asarray(made.vertices)), torch.from_numpy(np.asarray(made.faces, np.int64))
    one, two = Mesh(points, faces), Mesh(points + torch.tensor([0.0, 0.0, 1.0]), faces)  # they touch in a pole
    mesh = SplitNonManifold(SplitConfig()).apply(mesh=welded(one, two))
    less = Simplify(SimplifyConfig(faces=1000, merge=False)).apply(mesh=mesh)
    topology = edge_topology(less.faces.numpy())
    assert len(less.faces) <= 1000
    assert topology.components == 2
    assert topology.watertight


def test_small_parts_go_by_area_share_and_count() -> None:
    crumb, grain = box(1e-4, (2.0, 0.0, 0.0)), box(0.1, (0.0, 2.0, 0.0))
    mesh = welded(box(), crumb, grain)
    assert len(DropSmallParts(PartsConfig()).apply(mesh=mesh).faces) == 24, "6e-8 of area goes, 0.06 stays"
    assert len(DropSmallParts(PartsConfig(min_area=0.0)).apply(mesh=mesh).faces) == 36
    assert len(DropSmallParts(PartsConfig(min_share=0.02)).apply(mesh=mesh).faces) == 12
    lone = welded(box(), Mesh(torch.eye(3, dtype=torch.float64) + 3, torch.tensor([[0, 1, 2]])))
    assert len(DropSmallParts(PartsConfig(min_faces=2)).apply(mesh=lone).faces) == 12
    assert len(DropSmallParts(PartsConfig(min_area=100.0)).apply(mesh=mesh).faces) == 12, "the largest stays"
    only = box()
    assert DropSmallParts(PartsConfig()).apply(mesh=only) is only


def test_flat_faces_and_copies_go_where_asked() -> None:
    mesh = box()
    extra = torch.tensor([[0, 0, 1], [1, 0, 2]])
    mesh = replace(mesh, faces=torch.cat([mesh.faces, mesh.faces[:1].roll(1, dims=1), extra[:1]]))
    assert len(DropSmallParts(PartsConfig()).apply(mesh=mesh).faces) == 12
    assert len(DropSmallParts(PartsConfig(repeated_faces=False)).apply(mesh=mesh).faces) == 14


def test_a_real_mesh_loses_its_crumbs_only() -> None:
    mesh = real("forest.glb")
    config = PartsConfig(min_area=0.0, min_share=0.01)
    result = DropSmallParts(config).apply(mesh=mesh)

    def parts(of: Mesh) -> np.ndarray:
        merged, group = merge_vertices(of.vertices.numpy())
        faces = group[of.faces.numpy()]
        _, part = connected_groups(faces)
        a, b, c = (merged[faces[:, k]] for k in range(3))
        return np.bincount(part, np.linalg.norm(np.cross(b - a, c - a), axis=1))

    before, after = parts(mesh), parts(result)
    assert np.allclose(np.sort(before[before >= 0.01 * before.max()]), np.sort(after))
    assert len(after) < len(before)


def test_options_out_of_range_are_refused() -> None:
    for options in ({"min_area": -1.0}, {"min_share": 1.0}, {"min_faces": -1}):
        with pytest.raises(ConfigError, match=next(iter(options))):
            PartsConfig(**options)
