"""Charts for texturing: flat without folds or overlaps, and packed apart on a square."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shapewright import load_mesh
from shapewright.errors import ConfigError
from shapewright_kernels.arrays import Floats, Ints
from shapewright_kernels.chart_overlaps import overlapping_pairs
from shapewright_kernels.chart_packing import MARGIN, pack_charts
from shapewright_kernels.charts import cone_charts
from shapewright_kernels.topology import connected_groups, edge_topology, merge_vertices
from shapewright_kernels.uv_quality import uv_quality
from shapewright_plugins.appearance.unwrap import unwrapped

MESHES = Path(__file__).parents[3] / "shared" / "data" / "meshes"


def ball(levels: int = 4) -> tuple[Floats, Ints]:
    import trimesh

    made = trimesh.creation.icosphere(levels, 0.5)
    return np.asarray(made.vertices, np.float64), np.asarray(made.faces, np.int64)


def ramp(turns: float, steps: int = 120) -> tuple[Floats, Ints]:
    """A spiral ramp, nearly level, that lies above itself where it makes more than one turn."""
    angle = np.linspace(0, 2 * np.pi * turns, steps)
    rims = [np.stack([r * np.cos(angle), r * np.sin(angle), 0.02 * angle], axis=1) for r in (0.5, 1.0)]
    k = np.arange(steps - 1)
    faces = np.concatenate(
        [np.stack([k, steps + k, steps + k + 1], axis=1), np.stack([k, steps + k + 1, k + 1], axis=1)]
    )
    return np.concatenate(rims), faces


def real(name: str) -> tuple[Floats, Ints]:
    if not (MESHES / name).exists():
        pytest.skip("needs the meshes of shared/data")
    mesh = load_mesh(MESHES / name)
    vertices, group = merge_vertices(mesh.vertices.numpy())
    return vertices, group[mesh.faces.numpy()]


def areas(flat: Floats) -> Floats:
    one, two = flat[:, 1] - flat[:, 0], flat[:, 2] - flat[:, 0]
    return np.asarray((one[:, 0] * two[:, 1] - one[:, 1] * two[:, 0]) / 2)


def solid_areas(vertices: Floats, faces: Ints) -> Floats:
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    return np.asarray(np.linalg.norm(np.cross(b - a, c - a), axis=1) / 2)


def stretch(vertices: Floats, faces: Ints, uvs: Floats) -> float:
    return uv_quality(vertices, faces, uvs).stretch


def check(vertices: Floats, faces: Ints, labels: Ints, flat: Floats, degrees: float) -> None:
    """What :func:`cone_charts` promises."""
    assert np.array_equal(np.unique(labels), np.arange(labels.max() + 1))
    assert not len(overlapping_pairs(labels, flat))
    area, solid = np.abs(areas(flat)), solid_areas(vertices, faces)
    assert np.allclose(np.bincount(labels, area).sum(), solid.sum(), rtol=1e-6)
    # a face is narrowed by no more than the cosine, beside the scale of its chart, which only enlarges
    assert (area >= solid * np.cos(np.radians(degrees)) * (1 - 1e-6)).all()
    topology = edge_topology(faces)
    pairs = topology.manifold_pairs
    inner = pairs[labels[pairs[:, 0]] == labels[pairs[:, 1]]]
    _, piece = connected_groups(np.concatenate([inner, np.stack([np.arange(len(faces))] * 2, axis=1)]))
    pieces = piece[len(inner) :]
    assert len(np.unique(np.stack([labels, pieces]), axis=1).T) == labels.max() + 1, "a chart is in one piece"


def test_charts_of_a_ball_are_few_and_nearly_isometric() -> None:
    vertices, faces = ball()
    labels, flat = cone_charts(vertices, faces)
    check(vertices, faces, labels, flat, 75.0)
    assert labels.max() + 1 <= 20
    assert stretch(vertices, faces, flat) < 1.04
    narrow, _ = cone_charts(vertices, faces, degrees=30.0)
    assert narrow.max() > 3 * labels.max()


def test_a_box_has_six_charts_which_stay_rectangles() -> None:
    import trimesh

    box = trimesh.creation.box((1.0, 2.0, 3.0)).subdivide().subdivide()
    vertices, faces = np.asarray(box.vertices), np.asarray(box.faces, np.int64)
    labels, flat = cone_charts(vertices, faces, degrees=50.0)
    assert labels.max() + 1 == 6
    assert stretch(vertices, faces, flat) == pytest.approx(1.0)
    for chart in range(6):
        corners = flat[labels == chart].reshape(-1, 2)
        assert np.prod(np.ptp(corners, axis=0)) == pytest.approx(np.abs(areas(flat))[labels == chart].sum())


def test_a_ramp_above_itself_is_cut_and_a_short_one_is_not() -> None:
    vertices, faces = ramp(0.9)
    assert cone_charts(vertices, faces)[0].max() == 0
    vertices, faces = ramp(2.5)
    labels, flat = cone_charts(vertices, faces)
    check(vertices, faces, labels, flat, 75.0)
    assert 3 <= labels.max() + 1 <= 5
    assert len(overlapping_pairs(np.zeros(len(faces), np.int64), np.ascontiguousarray(vertices[faces][:, :, :2])))


def test_mixed_windings_make_no_difference() -> None:
    vertices, faces = ball(3)
    mixed = faces.copy()
    mixed[::3] = mixed[::3][:, [0, 2, 1]]
    labels, flat = cone_charts(vertices, mixed)
    again, _ = cone_charts(vertices, faces)
    check(vertices, mixed, labels, flat, 75.0)
    assert labels.max() == again.max()


def test_sheets_on_one_edge_and_one_sided_strips_are_cut_there() -> None:
    fan = np.array([[0, 0, 0], [0, 0, 1], [1, 0, 0], [1, 0.2, 0], [1, 0.4, 0]], float)
    faces = np.array([[0, 1, 2], [0, 1, 3], [0, 1, 4]])
    labels, flat = cone_charts(fan, faces)
    assert labels.tolist() == [0, 1, 2]
    count = 40
    angle = np.linspace(0, 2 * np.pi, count, endpoint=False)
    arm = np.stack([np.cos(angle / 2) * np.cos(angle), np.cos(angle / 2) * np.sin(angle), np.sin(angle / 2)], 1) * 0.2
    middle = np.stack([np.cos(angle), np.sin(angle), np.zeros(count)], axis=1)
    vertices = np.concatenate([middle + arm, middle - arm])
    k, after = np.arange(count), (np.arange(count) + 1) % count
    swap = np.arange(count) == count - 1
    one, two = np.where(swap, after + count, after), np.where(swap, after, after + count)
    faces = np.concatenate([np.stack([k, k + count, two], axis=1), np.stack([k, two, one], axis=1)])
    labels, flat = cone_charts(vertices, faces)
    check(vertices, faces, labels, flat, 75.0)


def test_charts_do_not_depend_on_threads() -> None:
    vertices, faces = ramp(2.5)
    zero = np.zeros(len(faces), np.int64)
    flat = np.ascontiguousarray(vertices[faces][:, :, :2])
    found = overlapping_pairs(zero, flat, threads=1)
    assert len(found) > 50
    assert np.array_equal(found, overlapping_pairs(zero, flat, threads=3))


@pytest.mark.parametrize("name", ["spot.off", "imu_module.stl", "forest.glb", "hair_strips.obj", "skull.obj"])
def test_real_meshes_have_charts_without_overlaps(name: str) -> None:
    vertices, faces = real(name)
    solid = solid_areas(vertices, faces) > 1e-12 * np.ptp(vertices, axis=0).max() ** 2
    faces = faces[solid]
    labels, flat = cone_charts(vertices, faces)
    check(vertices, faces, labels, flat, 75.0)


def _shared_area(one: Floats, two: Floats) -> float:
    """Area of two triangles' intersection, by clipping one with the sides of the other."""
    polygon = one if areas(one[None])[0] > 0 else one[::-1]
    clip = two if areas(two[None])[0] > 0 else two[::-1]
    for k in range(3):
        a, way = clip[k], clip[(k + 1) % 3] - clip[k]
        kept = []
        for i in range(len(polygon)):
            p, q = polygon[i], polygon[(i + 1) % len(polygon)]
            dp, dq = way[0] * (p - a)[1] - way[1] * (p - a)[0], way[0] * (q - a)[1] - way[1] * (q - a)[0]
            if dp >= 0:
                kept.append(p)
            if dp * dq < 0:
                kept.append(p + dp / (dp - dq) * (q - p))
        if len(kept) < 3:
            return 0.0
        polygon = np.array(kept)
    x, y = polygon.T
    return float((x * np.roll(y, -1) - y * np.roll(x, -1)).sum() / 2)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_overlaps_are_those_of_the_areas(seed: int) -> None:
    rng = np.random.default_rng(seed)
    flat = rng.integers(0, 7, (12, 3, 2)).astype(np.float64)
    flat = flat[np.abs(areas(flat)) > 0]
    labels = rng.integers(0, 2, len(flat))
    expected = [
        [i, j]
        for i in range(len(flat))
        for j in range(i + 1, len(flat))
        if labels[i] == labels[j] and _shared_area(flat[i], flat[j]) > 1e-6
    ]
    assert overlapping_pairs(labels, flat).tolist() == expected


def _texels(uvs: Floats, labels: Ints, size: int) -> Ints:
    """``(S, S)``: a chart that touches the texel by a fine sampling of its faces, -1 for none; row 0 is v = 0."""
    owner = np.full((size, size), -1, np.int64)
    steps = np.linspace(0, 1, 40)
    weights = np.array([[i, j, 1 - i - j] for i in steps for j in steps if i + j <= 1 + 1e-12])
    for corners, label in zip(uvs * size, labels, strict=True):
        column, row = np.clip((weights @ corners).astype(np.int64), 0, size - 1).T
        owner[row, column] = label
    return owner


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 4), st.sampled_from([33, 64, 128]))
def test_packed_charts_keep_their_distance(seed: int, padding: int, size: int) -> None:
    rng = np.random.default_rng(seed)
    flat = rng.normal(size=(12, 3, 2)) * rng.uniform(0.1, 2.0, (12, 1, 1)) + rng.normal(size=(12, 1, 2)) * 5
    labels = np.arange(12)
    packing = pack_charts(labels, flat, size=size, padding=padding)
    assert packing.padding == padding
    lowest, highest = packing.uvs.min() * size, packing.uvs.max() * size
    assert lowest >= MARGIN - 1e-9
    assert highest <= size - MARGIN + 1e-9
    owner = _texels(packing.uvs, labels, size)
    rows, columns = np.nonzero(owner >= 0)
    for row, column in zip(rows, columns, strict=True):
        near = owner[max(row - padding, 0) : row + padding + 1, max(column - padding, 0) : column + padding + 1]
        assert set(near[near >= 0].tolist()) == {owner[row, column]}
    # only moved, turned and scaled
    for k in range(3):
        before = np.linalg.norm(flat[:, k] - flat[:, k - 1], axis=1) * packing.scale
        after = np.linalg.norm(packing.uvs[:, k] - packing.uvs[:, k - 1], axis=1) * size
        assert np.allclose(before, after, atol=1e-6)
    assert np.allclose(areas(packing.uvs) * size**2, areas(flat) * packing.scale**2, atol=1e-6)


def test_packing_fills_the_texture_and_scales_with_it() -> None:
    vertices, faces = ball()
    labels, flat = cone_charts(vertices, faces)
    for size in (256, 1024):
        packing = pack_charts(labels, flat, size=size, padding=2)
        assert np.abs(areas(packing.uvs)).sum() > 0.45


def test_many_charts_get_less_padding_and_too_many_are_refused() -> None:
    tiny = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    flat = np.repeat(tiny[None], 120, axis=0)
    assert pack_charts(np.arange(120), flat, size=32, padding=8).padding < 8
    with pytest.raises(ValueError, match="32 x 32"):
        pack_charts(np.arange(4000), np.repeat(tiny[None], 4000, axis=0), size=32, padding=0)
    vertices, faces = ball(3)
    loose = vertices[faces].reshape(-1, 3) * np.repeat(np.linspace(1, 2, len(faces)), 3)[:, None]
    with pytest.raises(ConfigError, match="texture_size"):
        unwrapped(loose, np.arange(len(loose)).reshape(-1, 3), size=16, padding=0)


def test_both_ways_of_unwrapping_cover_the_square_without_overlaps() -> None:
    vertices, faces = ball(3)
    for method in ("charts", "xatlas"):
        if method == "xatlas":
            pytest.importorskip("xatlas")
        uvs = unwrapped(vertices, faces, size=512, padding=2, method=method)
        assert uvs.min() >= 0
        assert uvs.max() <= 1
        assert stretch(vertices, faces, uvs) < 1.1
        assert not len(overlapping_pairs(np.zeros(len(faces), np.int64), np.round(uvs, 7)))


def test_quality_of_coordinates_that_are_known() -> None:
    points = np.array([[0, 0, 0], [2, 0, 0], [2, 1, 0], [0, 1, 0]], float)
    faces = np.array([[0, 1, 2], [0, 2, 3]])
    even = points[faces][:, :, :2] / 2
    assert uv_quality(points, faces, even) == pytest.approx((1, 1.0, 1.0, 0.5, 0.0))
    wide = even * [1.0, 0.5]  # squeezed by two: a length of 1 is 1/sqrt(2) and sqrt(2) after scaling to equal areas
    assert uv_quality(points, faces, wide).stretch == pytest.approx(np.sqrt((2 + 0.5) / 2))
    cut = even.copy()
    cut[1] += [0.0, 0.25]
    found = uv_quality(points, faces, cut)
    assert found.charts == 2
    assert found.seams == pytest.approx(np.sqrt(5) / np.sqrt(2))
    dense = cut.copy()
    dense[1] = cut[1] * 2
    assert uv_quality(points, faces, dense).spread == pytest.approx(2.0)
