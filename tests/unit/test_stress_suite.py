"""The stress suite against the table of its specification: counts, areas, volumes, topology, materials, scene."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from shapewright.errors import ConfigError
from shapewright.mesh_io import content_hash, load_mesh_with_counts, normalise
from shapewright_kernels.topology import EdgeTopology, edge_topology, merge_vertices
from shapewright_plugins.datasets import pbr_box, scene, sheets, solids
from shapewright_plugins.datasets.stress_suite import SHAPES, Config, StressSuite
from shapewright_plugins.datasets.triangles import Triangles, icosphere, rotation_from_uniforms

# id: faces, vertices, boundary edges, non-manifold edges, components, Euler characteristic, raw area, unit-box area
TABLE = {
    "s01-leaf": (20352, 10337, 320, 0, 1, 1, 0.7452, 0.186),
    "s02a-crossed-sheets": (6144, 3169, 384, 96, 1, 1, 12.0, 3.00),
    "s02b-piercing-sheets": (4356, 2312, 264, 0, 2, 2, 8.0, 1.37),
    "s03-nested-spheres": (61452, 30734, 0, 0, 4, 8, 21.268, 5.32),
    "s04-bottle": (19008, 9534, 0, 0, 15, 30, 12.493, 3.06),
    "s04b-cup": (640, 385, 128, 0, 1, 1, 2.198, 3.43),
    "s05-thin-wire": (64032, 32018, 0, 0, 1, 2, 0.4006, 0.396),
    "s06-gears": (None, None, 0, 0, 2, 0, 23.345, 1.33),
    "s07-spiked-icosahedron": (60, 32, 0, 0, 1, 2, 45.352, 2.68),
    "s08-gyroid": (174892, 89094, 3402, 0, 1, -53, 24.757, 6.19),
    "s09-trefoil-knot": (38400, 19200, 0, 0, 1, 0, 70.03, 1.73),
    "s10a-overlapping-solids": (7752, 3900, 0, 0, 12, 24, 20.792, 6.95),
    "s10b-overlapping-union": (None, None, 0, 0, 2, 4, 8.572, 2.87),
    "s11-moebius-strip": (8192, 4352, 512, 0, 1, 0, 4.421, 0.704),
    "s12-rolled-cloth": (96000, 49241, 2480, 0, 1, 1, 4.100, 4.10),
    "s13-cubic-lattice": (None, None, 0, 0, 1, -350, 128.88, 7.59),
    "s14-pineapple": (None, None, 0, 0, 1, 2, 7.796, 2.47),
    "s15-pbr-box": (12, 8, 0, 0, 1, 2, 6.0, 6.00),
    "s15b-enclosed-pbr-box": (24, 16, 0, 0, 2, 4, 6 + 6 * 1.44, 6 + 6 / 1.44),
    "s16-scene": (None, None, 960, 0, 12, 14, 48.99, 3.06),
}
SUITE = StressSuite(Config())


@pytest.fixture(scope="module")
def shapes() -> dict[str, Triangles]:
    return {id: shape.build() for id, shape in SHAPES.items()}


def topology(shape: Triangles) -> EdgeTopology:
    return edge_topology(merge_vertices(shape.vertices, 1e-9)[1][shape.faces])


def area(shape: Triangles) -> float:
    a, b, c = (shape.vertices[shape.faces[:, i]] for i in range(3))
    return float(np.linalg.norm(np.cross(b - a, c - a), axis=1).sum() / 2)


def volume(shape: Triangles) -> float:
    a, b, c = (shape.vertices[shape.faces[:, i]] for i in range(3))
    return float(np.einsum("nk,nk->", a, np.cross(b, c)) / 6)


def extent(shape: Triangles) -> float:
    return float(np.ptp(shape.vertices, axis=0).max())


@pytest.mark.parametrize("id", TABLE)
def test_shape_has_the_counts_and_the_area_of_the_specification(shapes, id):
    faces, vertices, boundary, non_manifold, components, euler, raw, unit = TABLE[id]
    shape = shapes[id]
    edges = topology(shape)
    if faces is not None:
        assert len(shape.faces) == faces
        assert len(shape.vertices) == vertices  # nothing is repeated: shapes come welded
        assert len(np.unique(shape.faces)) == vertices
    assert int(edges.boundary.sum()) == boundary
    assert int(edges.non_manifold.sum()) == non_manifold
    assert edges.components == components
    assert edges.euler == euler
    assert area(shape) == pytest.approx(raw, rel=2e-4)
    assert area(shape) / extent(shape) ** 2 == pytest.approx(unit, rel=4e-3)


@pytest.mark.parametrize(
    ("id", "faces"), [("s06-gears", 1464), ("s10b-overlapping-union", 4774), ("s13-cubic-lattice", 2958)]
)
def test_face_counts_of_booleans_stay_near_those_of_the_specification(shapes, id, faces):
    assert len(shapes[id].faces) == pytest.approx(faces, rel=0.03)


@pytest.mark.parametrize(
    ("id", "expected"),
    [
        ("s06-gears", 1.64062 + 0.71860),
        ("s07-spiked-icosahedron", 7.0213),
        ("s13-cubic-lattice", 4.0176),
        ("s14-pineapple", 1.2274),
        ("s15-pbr-box", 1.0),
    ],
)
def test_solids_have_the_volume_of_the_specification_and_face_outward(shapes, id, expected):
    assert volume(shapes[id]) == pytest.approx(expected, rel=5e-5)


def test_every_closed_part_faces_outward(shapes):
    for id in ("s03-nested-spheres", "s04-bottle", "s05-thin-wire", "s09-trefoil-knot", "s10b-overlapping-union"):
        assert not topology(shapes[id]).inconsistent.any()
    parts = [*solids.bottle_parts().values(), *solids.overlapping_parts(), solids.trefoil_knot(), solids.thin_wire()]
    assert all(volume(part) > 0 for part in parts)


def test_the_two_gears_have_their_volumes_and_penetrate_by_the_stated_amount():
    from shapewright_plugins.datasets.triangles import rotation_about, to_manifold

    first = solids.gear(24, 0.35)
    second = solids.gear(16, 0.25).moved(turn=rotation_about((0, 0, 1), np.pi / 16), shift=(2.0, 0, 0))
    assert volume(first) == pytest.approx(1.64062, abs=1e-5)
    assert volume(second) == pytest.approx(0.71860, abs=1e-5)
    assert (to_manifold(first) ^ to_manifold(second)).volume() == pytest.approx(0.000399, abs=1e-6)


def test_nested_spheres_approach_the_analytic_area(shapes):
    analytic = 4 * np.pi * (1 + 0.49 + 0.16) + 0.54
    assert area(shapes["s03-nested-spheres"]) == pytest.approx(analytic, rel=1e-3)


def test_the_union_hides_one_tiny_void(shapes):
    parts = topology(shapes["s10b-overlapping-union"])
    assert parts.components == 2
    union = shapes["s10b-overlapping-union"]
    from shapewright_kernels.topology import connected_groups

    _, of_face = connected_groups(union.faces)
    volumes = sorted(volume(Triangles(union.vertices, union.faces[of_face == part])) for part in range(2))
    assert volumes[0] == pytest.approx(-1.3e-7, rel=0.1)


def test_open_shapes_have_the_stated_boundary_loops(shapes):
    for id in ("s01-leaf", "s04b-cup", "s11-moebius-strip", "s12-rolled-cloth"):
        assert topology(shapes[id]).boundary_loops == 1


def test_the_moebius_strip_cannot_be_oriented(shapes):
    assert int(topology(shapes["s11-moebius-strip"]).inconsistent.sum()) == 16
    assert not SUITE.load("s11-moebius-strip").mesh.oriented
    assert SUITE.load("s02a-crossed-sheets").mesh.oriented


def test_all_edges_of_the_spiked_icosahedron_are_sharp(shapes):
    shape = shapes["s07-spiked-icosahedron"]
    edges = topology(shape)
    assert len(edges.edges) == 90
    a, b, c = (shape.vertices[shape.faces[:, i]] for i in range(3))
    normals = np.cross(b - a, c - a)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    left, right = edges.manifold_pairs.T
    angle = np.degrees(np.arccos(np.clip((normals[left] * normals[right]).sum(1), -1, 1)))
    assert angle.min() > 30
    assert np.isclose(np.linalg.norm(shape.vertices, axis=1), 2.2).sum() == 20


def test_the_wire_is_as_thin_as_stated_in_voxels(shapes):
    diameter = 0.006 / extent(shapes["s05-thin-wire"])
    assert [diameter * r for r in (128, 256, 512, 1024)] == pytest.approx([0.77, 1.5, 3.1, 6.1], rel=0.03)


def test_tubes_have_the_same_radius_everywhere(shapes):
    t = 2 * np.pi * np.arange(600) / 600
    reach = 2 + np.cos(3 * t)
    line = np.stack([reach * np.cos(2 * t), reach * np.sin(2 * t), np.sin(3 * t)], axis=1)
    rings = shapes["s09-trefoil-knot"].vertices.reshape(600, 32, 3)
    assert np.allclose(np.linalg.norm(rings - line[:, None], axis=2), 0.35)
    edge = np.linalg.norm(np.roll(rings, -1, axis=0) - rings, axis=2)
    assert edge.max() < 2.5 * edge.mean()  # the seam where the tube closes is twisted no more than elsewhere


def test_balls_lie_in_the_liquid_apart_from_each_other():
    centres = solids.ball_centres()
    assert centres.shape == (12, 3)
    distance = np.linalg.norm(centres[:, None] - centres[None], axis=2)[np.triu_indices(12, 1)]
    assert distance.min() > 0.13
    assert np.hypot(centres[:, 0], centres[:, 1]).max() < 0.29


def test_sizes_counts_and_seeds_are_parameters():
    assert len(sheets.leaf(20, 8).faces) == 2 * 20 * 8 - 16
    assert len(solids.nested_spheres(1, radii=(1.0,), cube=0.1).faces) == 80 + 12
    assert topology(solids.cubic_lattice(3)).euler == 2 * (1 - 28)
    assert not np.array_equal(solids.overlapping_solids(seed=1).vertices, solids.overlapping_solids(seed=2).vertices)
    assert len(topology(solids.pineapple(5, subdivisions=2)).edges) > 0
    assert sheets.gyroid(16, wave_number=np.pi).vertices.max() <= 1
    assert volume(solids.gear(9, 0.1)) < volume(solids.gear(9, 0.05))


def test_icospheres_and_random_rotations_are_what_they_say():
    sphere = icosphere(3, 2.0, (1, 0, 0))
    assert np.allclose(np.linalg.norm(sphere.vertices - (1, 0, 0), axis=1), 2)
    turn = rotation_from_uniforms(np.random.default_rng(0).random(3))
    assert np.allclose(turn @ turn.T, np.eye(3))
    assert np.linalg.det(turn) == pytest.approx(1)


# --- the data set -----------------------------------------------------------------------------------------------------
def test_ids_are_the_stable_ones_and_samples_are_complete():
    assert tuple(SUITE.ids()) == tuple(TABLE)
    for id in ("s01-leaf", "s15-pbr-box"):
        sample = SUITE.load(id)
        assert sample.id == id
        assert sample.content == content_hash(sample.mesh)
        assert sample.mesh.frame.up == "z"
        assert sample.mesh.vertices.dtype == torch.float64
        assert sample.split in {"train", "val", "test"}
        assert sample.license
        assert normalise(sample.mesh)[0].frame.up == "z"
    with pytest.raises(ConfigError, match=r"no sample 's01-leef'; did you mean 's01-leaf'"):
        SUITE.load("s01-leef")


def test_shapes_are_built_the_same_every_time():
    for id in ("s01-leaf", "s04-bottle", "s10a-overlapping-solids", "s14-pineapple"):
        assert SUITE.load(id).content == SUITE.load(id).content


def test_tags_agree_with_the_topology(shapes):
    for id, shape in shapes.items():
        edges, tags = topology(shape), SHAPES[id].tags
        assert ("open" in tags) == bool(edges.boundary.any()), id
        assert ("closed" in tags) == edges.closed, id
        assert ("non-manifold" in tags) == bool(edges.non_manifold.any()), id
        assert ("non-orientable" in tags) == (id == "s11-moebius-strip"), id


# --- S15 --------------------------------------------------------------------------------------------------------------
def test_pbr_functions_at_hand_computed_points():
    values = pbr_box.attributes_at(np.array([[0.5, -0.49, -0.45], [-0.5, 0.0, 0.0], [0.05, 0.30, 0.5]]))
    # +x is face 1: s = y + 0.5 = 0.01, t = z + 0.5 = 0.05
    assert values.base_color[0].tolist() == pytest.approx([0.9, 0.25, 0.1])
    assert values.metallic[0] == 1
    assert values.roughness[0] == pytest.approx(0.095)
    assert values.opacity[0] == 1
    assert values.opacity[1] == 0  # the centre of a face
    # +z is face 5: s = 0.55, t = 0.8; floor(4.4) + floor(6.4) is even; frac(3.3) < 0.5; 0.304 from the centre
    assert values.base_color[2].tolist() == pytest.approx([0.9, 0.85, 0.1])
    assert (values.metallic[2], values.opacity[2]) == (1, 0.5)


def test_textures_are_the_functions_at_the_texture_coordinates():
    pixels = 64
    box = pbr_box.textured_box()
    images = pbr_box.textures(pixels)
    assert (len(box.vertices), len(box.faces)) == (24, 12)
    random = np.random.default_rng(0)
    weights = random.dirichlet((1, 1, 1), 4000)
    face = random.integers(0, 12, 4000)
    uv = np.einsum("nk,nkd->nd", weights, box.uv[box.faces[face]])
    column, row = (np.floor(uv * (3 * pixels, 2 * pixels))).astype(int).T
    centre = (np.stack([column, row], 1) + 0.5) / (3 * pixels, 2 * pixels)
    # move each sample to the centre of its pixel on the surface: both maps are affine on a face
    quad = box.faces[face - face % 2]
    origin, right, up = (
        box.vertices[quad[:, 0]],
        *(box.vertices[box.faces[face - face % 2 + k][:, k + 1]] for k in (0, 1)),
    )
    a, b, d = (
        box.uv[box.faces[face - face % 2][:, 0]],
        box.uv[quad[:, 1]],
        box.uv[box.faces[face - face % 2 + 1][:, 2]],
    )
    s = (centre[:, 0] - a[:, 0]) / (b[:, 0] - a[:, 0])
    t = (centre[:, 1] - a[:, 1]) / (d[:, 1] - a[:, 1])
    points = origin + s[:, None] * (right - origin) + t[:, None] * (up - origin)
    truth = pbr_box.attributes_at(points)
    base = images["base_color"][row, column] / 255
    surface = images["metallic_roughness"][row, column] / 255
    assert np.abs(base[:, :3] - truth.base_color).max() <= 0.5 / 255 + 1e-9
    assert np.abs(base[:, 3] - truth.opacity).max() <= 0.5 / 255 + 1e-9
    assert np.abs(surface[:, 1] - truth.roughness).max() <= 0.5 / 255 + 1e-9
    assert np.abs(surface[:, 2] - truth.metallic).max() <= 0.5 / 255 + 1e-9
    assert len({tuple(color) for color in base[:, :3].round(3)}) == 12  # two colours on each of six faces


def test_the_textured_box_faces_outward_and_is_not_mirrored_in_its_texture():
    box = pbr_box.textured_box()
    assert volume(Triangles(box.vertices, box.faces)) == pytest.approx(1)
    a, b, c = (box.uv[box.faces[:, i]] for i in range(3))
    turn = (b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0]
    assert (turn < 0).all()  # glTF's v points down


# --- S16 --------------------------------------------------------------------------------------------------------------
def test_the_scene_has_all_its_parts(shapes):
    assert len(shapes["s16-scene"].faces) == 130_572
    assert len(shapes["s16-scene"].vertices) == 65_780


def test_the_scene_file_loads_to_the_same_shape(shapes, tmp_path):
    path = tmp_path / "scene.glb"
    content = scene.scene_glb()
    path.write_bytes(content)
    mesh, _ = load_mesh_with_counts(path)
    flat = shapes["s16-scene"]
    loaded = Triangles(mesh.vertices.numpy(), mesh.faces.numpy())
    assert len(loaded.faces) == pytest.approx(len(flat.faces), rel=1e-3)
    assert topology(loaded).components == 12
    assert area(loaded) == pytest.approx(area(flat), rel=1e-6)
    assert volume(loaded) == pytest.approx(volume(flat), rel=1e-5)  # wrong where the mirrored part is turned inside out
    assert np.allclose(loaded.vertices.max(0)[[0, 2, 1]], flat.vertices.max(0) * (1, 1, 1), atol=1e-5)  # y is up
    document = json.loads(content[20 : 20 + int.from_bytes(content[12:16], "little")])
    assert len(document["materials"]) == 5
    assert {material.get("alphaMode", "OPAQUE") for material in document["materials"]} == {"OPAQUE", "BLEND", "MASK"}
    users = [node["mesh"] for node in document["nodes"] if "mesh" in node]
    assert len(users) - len(set(users)) == 2  # one mesh stands in three nodes
    assert sum(np.prod(node.get("scale", [1])) < 0 for node in document["nodes"]) == 1


def test_parts_of_the_scene_stand_in_the_slab(shapes):
    for part in scene.build_scene().parts[1:]:
        alone = scene.Scene(scene.build_scene().meshes, {}, (part,)).flattened()
        assert alone.vertices[:, 2].min() == pytest.approx(-0.02)
        assert extent(alone) == pytest.approx(1)
        centre = (alone.vertices.min(0) + alone.vertices.max(0)) / 2
        assert np.hypot(centre[0], centre[1]) == pytest.approx(1.3)
