"""Pictures of meshes: known scenes, exact coverage, clipping, and bad input."""

from __future__ import annotations

import numpy as np
import pytest
from raster_reference import cast_rays
from shapewright_kernels import rasterise as module
from shapewright_kernels.cameras import Camera, look_at, orthographic, perspective
from shapewright_kernels.rasterise import MeshImages, interpolate, rasterise
from shapewright_kernels.rasterise_setup import list_tiles, make_view, project

CUBE = np.stack(np.meshgrid([-1.0, 1], [-1, 1], [-1, 1], indexing="ij"), axis=-1).reshape(-1, 3)
CUBE_FACES = np.array(
    [
        [0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5], [0, 4, 5], [0, 5, 1],
        [2, 3, 7], [2, 7, 6], [0, 2, 6], [0, 6, 4], [1, 5, 7], [1, 7, 3],
    ]
)  # fmt: skip


def soup(seed: int, count: int = 60) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.uniform(-1, 1, (count, 3)), rng.integers(0, count, (count, 3))


def same(one: MeshImages, two: MeshImages) -> bool:
    names = ("depth", "face_ids", "barycentrics", "normal", "mask", "coverage")
    return all(np.array_equal(getattr(one, name), getattr(two, name)) for name in names)


def times_covered(vertices: np.ndarray, faces: np.ndarray, camera: Camera, height: int, width: int) -> np.ndarray:
    """By how many faces each pixel is covered, drawn one by one."""
    return sum(rasterise(vertices, face[None], camera, height, width, threads=1).mask.astype(int) for face in faces)


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("sign", [-1, 1])
def test_cube_from_each_side(axis: int, sign: int) -> None:
    eye = np.zeros(3)
    eye[axis] = 4 * sign
    camera = perspective(look_at(eye, (0, 0, 0), up=(0, 0, 1) if axis < 2 else (0, 1, 0)), fov=90)
    images = rasterise(CUBE, CUBE_FACES, camera, 60, 60)
    # the near side is at depth 3, where the picture is 6 wide: 2 of it are the middle third
    expected = np.zeros((60, 60), bool)
    expected[20:40, 20:40] = True
    assert np.array_equal(images.mask, expected)
    assert (images.depth[expected] == 3).all()
    assert np.isinf(images.depth[~expected]).all()
    outward = np.zeros(3)
    outward[axis] = sign
    assert (images.normal[expected] == outward).all()
    assert (images.normal[~expected] == 0).all()
    assert (images.face_ids[~expected] == -1).all()
    assert len(np.unique(images.face_ids[expected])) == 2


def test_row_zero_is_up_and_column_zero_is_left() -> None:
    camera = orthographic(look_at((0, 0, 5), (0, 0, 0)), extent=2)
    images = rasterise([[-1, 0, 0], [0, 0, 0], [-1, 1, 0.0]], [[0, 1, 2]], camera, 4, 4)
    # the long side runs through two samples' centres and moves past them
    assert images.mask.astype(int).tolist() == [[0, 0, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("orthogonal", [False, True])
def test_pictures_equal_plain_ray_casting(seed: int, orthogonal: bool) -> None:
    vertices, faces = soup(seed)
    pose = look_at((0.3, 0.5, 2.2), (0.1, 0, 0))
    camera = (
        orthographic(pose, extent=2.5, aspect=1.3, near=1.9, far=2.6)
        if orthogonal
        else Camera(pose, (0.9, 1.2), (0.45, 0.6), near=1.7, far=2.8)
    )
    images = rasterise(vertices, faces, camera, 48, 62)
    depth, ids, vague = cast_rays(vertices, faces, camera, 48, 62)
    assert vague.mean() < 0.01
    assert np.array_equal(images.mask[~vague], ids[~vague] >= 0)
    seen = images.mask & ~vague
    assert np.allclose(images.depth[seen], depth[seen], rtol=1e-6)
    assert (images.face_ids[seen] == ids[seen]).mean() > 0.999  # faces may meet exactly at a sample
    assert 0.2 < images.mask.mean() < 1


def test_barycentrics_undo_perspective() -> None:
    vertices, faces = soup(3)
    camera = perspective(look_at((0, 0.5, 1.2), (0, 0, 0)), fov=80, near=0.3)
    images = rasterise(vertices, faces, camera, 40, 40)
    points = interpolate(images, faces, vertices)[images.mask]
    x, y, z = (points @ camera.world_to_camera[:3, :3].T + camera.world_to_camera[:3, 3]).T
    row, column = np.nonzero(images.mask)
    assert np.allclose(-z, images.depth[images.mask], rtol=1e-5)
    assert np.allclose((0.5 + camera.focal[0] * x / -z) * 40, column + 0.5, atol=1e-3)
    assert np.allclose((0.5 - camera.focal[1] * y / -z) * 40, row + 0.5, atol=1e-3)
    assert (interpolate(images, faces, vertices)[~images.mask] == 0).all()
    assert np.allclose(images.barycentrics[images.mask].sum(axis=-1), 1, atol=1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_fans_around_sample_centres_cover_every_sample_once(seed: int) -> None:
    """Hubs and rims lie exactly on samples or rounding away from them, edges run through them."""
    rng = np.random.default_rng(seed)
    camera = orthographic(look_at((0, 0, 5), (0, 0, 0)), extent=10)
    side = np.array([[x, y, 0.0] for x in (-4.5, -1.5, 1.5, 4.5) for y in (-4.5, -0.5, 0.5, 4.5)])
    hub = np.array([[rng.integers(-3, 3) + 0.5, rng.integers(-3, 3) + 0.5, 0]]) * rng.choice([1, 1 + 2e-16, 1 - 1e-16])
    rim = side[(abs(side) == 4.5).any(axis=1)]
    rim = rim[np.argsort(np.arctan2(rim[:, 1] - hub[0, 1], rim[:, 0] - hub[0, 0]))]
    vertices = np.concatenate([hub, rim])
    around = np.arange(1, len(vertices))
    faces = np.stack([0 * around, around, np.roll(around, -1)], axis=1)
    faces = np.array([np.roll(face[:: rng.choice([-1, 1])], rng.integers(3)) for face in faces])
    covered = times_covered(vertices, faces, camera, 10, 10)
    assert covered.max() == 1
    assert (covered[1:9, 1:9] == 1).all()
    assert covered.sum() == 81  # nine units of samples that begin on samples: one of the two rims belongs to it


@pytest.mark.parametrize("seed", range(3))
def test_jittered_grids_are_covered_once_with_separate_vertices(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, y = np.meshgrid(np.linspace(-2, 2, 9), np.linspace(-2, 2, 9), indexing="ij")
    grid = np.stack([x, y, np.zeros_like(x)], axis=-1)
    grid[1:-1, 1:-1, :2] += rng.uniform(-0.2, 0.2, (7, 7, 2))
    grid[..., 2] = rng.uniform(-0.1, 0.1) * grid[..., 0]
    index = np.arange(81).reshape(9, 9)
    quads = np.stack([index[:-1, :-1], index[1:, :-1], index[1:, 1:], index[:-1, 1:]], axis=-1).reshape(-1, 4)
    faces = np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])
    camera = perspective(look_at((0.2, 0.1, 2), (0, 0, 0)), fov=60)
    corners = grid.reshape(-1, 3)[faces].reshape(-1, 3)  # no vertex is shared
    covered = times_covered(corners, np.arange(len(corners)).reshape(-1, 3), camera, 33, 33)
    assert (covered == 1).all()


def test_floor_that_passes_under_the_camera_is_cut_at_the_near_plane() -> None:
    vertices = np.array([[-50, -1, 50], [50, -1, 50], [50, -1, -50], [-50, -1, -50.0]])
    faces = np.array([[0, 1, 2], [2, 3, 0]])
    camera = perspective(look_at((0, 0, 0), (0, 0, -1)), fov=90, near=0.5)
    images = rasterise(vertices, faces, camera, 64, 64)
    # row r looks down by (r + 0.5 - 32) / 32 per unit of depth: the floor is at the inverse, the horizon at 50
    slope = (np.arange(64) + 0.5 - 32) / 32
    floor = (slope > 1 / 50) & (slope <= 1 / 0.5)
    assert np.array_equal(images.mask, np.repeat(floor[:, None], 64, axis=1))
    assert np.allclose(images.depth[floor], 1 / slope[floor, None], rtol=1e-6)
    assert np.allclose(images.normal[images.mask], [0, 1, 0])
    assert times_covered(vertices, faces, camera, 64, 64).max() == 1


@pytest.mark.parametrize("seed", range(4))
def test_faces_around_the_camera_equal_plain_ray_casting(seed: int) -> None:
    vertices, faces = soup(seed)
    camera = perspective(look_at((0, 0, 0), (0.3, 0.2, 1)), fov=100, near=0.05)
    images = rasterise(vertices, faces, camera, 40, 40)
    depth, ids, vague = cast_rays(vertices, faces, camera, 40, 40)
    assert np.array_equal(images.mask[~vague], ids[~vague] >= 0)
    seen = images.mask & ~vague
    assert np.allclose(images.depth[seen], depth[seen], rtol=1e-5)
    assert np.array_equal(images.face_ids[seen], ids[seen])


def test_cut_neighbours_leave_no_gap() -> None:
    """A sphere's inside seen from the middle: every pixel, once, with near planes that cut many faces."""
    ring = np.linspace(0, 2 * np.pi, 13)[:-1]
    height = np.linspace(-1, 1, 9)
    vertices = np.array(
        [[np.cos(t) * np.sqrt(1.001 - h * h), np.sin(t) * np.sqrt(1.001 - h * h), h] for h in height for t in ring]
    )
    index = np.arange(len(vertices)).reshape(9, 12)
    right = np.roll(index, -1, axis=1)
    faces = np.concatenate(
        [
            np.stack(t, axis=-1).reshape(-1, 3)
            for t in ([index[:-1], right[:-1], right[1:]], [index[:-1], right[1:], index[1:]])
        ]
    )
    camera = perspective(look_at((0, 0, 0), (1, 0.2, 0.1), up=(0, 0, 1)), fov=60, near=0.7)
    assert (times_covered(vertices, faces, camera, 48, 48) == 1).all()
    closer = perspective(camera.world_to_camera, fov=60, near=0.9)
    assert times_covered(vertices, faces, closer, 48, 48).max() == 1


def test_neighbours_are_cut_at_the_very_same_point_of_their_edge() -> None:
    rng = np.random.default_rng(3)
    camera = perspective(look_at((0, 0, 0), (0, 0, -1)), fov=70, near=0.5)
    count = 300
    corners = rng.uniform(-1, 1, (count, 4, 3))
    corners[:, 0, 2], corners[:, 1, 2] = -rng.uniform(0.1, 0.49, count), -rng.uniform(0.51, 3.0, count)
    corners[:, 2:, 2] = -rng.uniform(0.6, 3.0, (count, 2))
    quads = 4 * np.arange(count)[:, None]
    faces = (quads[:, :, None] + np.array([[0, 1, 2], [1, 0, 3]])).reshape(-1, 3)  # the edge runs both ways
    view = make_view(camera, 64, 64)
    vertices = corners.reshape(-1, 3)
    lists = list_tiles(vertices, faces, project(vertices, view, 1), view, 16, 1)
    met = [set(map(tuple, lists.cut[lists.cut_faces == face].reshape(-1, 3).tolist())) for face in range(len(faces))]
    on_plane = [{point[:2] for point in points if abs(point[2] - 2.0) < 1e-12} for points in met]
    assert all(len(one & two) == 1 for one, two in zip(on_plane[::2], on_plane[1::2], strict=True))


def test_coinciding_faces_show_the_one_stored_first_whatever_its_winding() -> None:
    vertices, _ = soup(5)
    faces = np.array([[0, 1, 2], [2, 1, 0], [1, 2, 0], [0, 2, 1]])
    images = rasterise(vertices, faces, perspective(look_at((0, 0, 3), (0, 0, 0)), fov=50), 64, 64)
    assert set(np.unique(images.face_ids)) == {-1, 0}


def test_facing_turns_normals_towards_the_viewer() -> None:
    vertices, faces = soup(7)
    eye = np.array([0, 0, 2.5])
    camera = perspective(look_at(eye, (0, 0, 0)), fov=60)
    plain = rasterise(vertices, faces, camera, 40, 40)
    facing = rasterise(vertices, faces, camera, 40, 40, facing=True)
    towards = eye - interpolate(plain, faces, vertices)
    assert ((plain.normal * towards).sum(-1)[plain.mask] < 0).any()
    assert ((facing.normal * towards).sum(-1)[plain.mask] >= -1e-6).all()
    assert np.array_equal(np.abs(plain.normal), np.abs(facing.normal))


def test_smooth_normals_of_a_sphere_point_outwards() -> None:
    rng = np.random.default_rng(0)
    camera = perspective(look_at((0, 0, 3), (0, 0, 0)), fov=50)
    vertices, faces = CUBE / np.sqrt(3), CUBE_FACES
    for _ in range(4):  # split every face in four and push the corners out
        corners = vertices[faces]
        middles = (corners + np.roll(corners, -1, axis=1)) / 2
        points = np.concatenate([corners, middles], axis=1).reshape(-1, 3)
        points /= np.linalg.norm(points, axis=1, keepdims=True)
        points, index = np.unique(points.round(12), axis=0, return_inverse=True)
        a, b, c, ab, bc, ca = index.reshape(-1, 6).T
        vertices, faces = (
            points,
            np.concatenate([np.stack(t, axis=1) for t in ([a, ab, ca], [ab, b, bc], [ca, bc, c], [ab, bc, ca])]),
        )
    smooth = rasterise(vertices, faces, camera, 50, 50, normals="smooth")
    own = rasterise(vertices, faces, camera, 50, 50, normals=vertices)
    flat = rasterise(vertices, faces, camera, 50, 50)
    points = interpolate(smooth, faces, vertices)[smooth.mask]
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    error = [np.linalg.norm(images.normal[smooth.mask] - points, axis=1).max() for images in (smooth, own, flat)]
    assert error[0] < 0.01
    assert error[1] < 1e-3
    assert error[2] > 0.03
    order = rng.permutation(len(faces))
    assert np.allclose(
        rasterise(vertices, faces[order], camera, 50, 50, normals="smooth").normal, smooth.normal, atol=1e-6
    )


def test_supersampling_summarises_the_larger_picture() -> None:
    vertices, faces = soup(8)
    camera = perspective(look_at((0, 0, 2.5), (0, 0, 0)), fov=60)
    small = rasterise(vertices, faces, camera, 21, 30, supersample=3)
    large = rasterise(vertices, faces, camera, 63, 90)
    blocks = large.mask.reshape(21, 3, 30, 3)
    assert np.allclose(small.coverage, blocks.mean(axis=(1, 3)))
    assert np.array_equal(small.mask, blocks.any(axis=(1, 3)))
    assert np.array_equal(small.depth, large.depth.reshape(21, 3, 30, 3).min(axis=(1, 3)))
    total = large.normal.reshape(21, 3, 30, 3, 3).sum(axis=(1, 3), dtype=np.float64)
    length = np.linalg.norm(total, axis=-1)
    clear = length > 1e-3
    assert np.allclose(small.normal[clear], total[clear] / length[clear, None], atol=1e-4)
    assert np.array_equal(small.normal[~small.mask], np.zeros((int((~small.mask).sum()), 3)))


def test_threads_do_not_change_a_bit() -> None:
    vertices, faces = soup(9, 400)
    camera = perspective(look_at((0, 0.2, 1.5), (0, 0, 0)), fov=70, near=0.6)
    one = rasterise(vertices, faces, camera, 150, 170, normals="smooth", supersample=2, threads=1)
    for threads in (2, 5):
        assert same(one, rasterise(vertices, faces, camera, 150, 170, normals="smooth", supersample=2, threads=threads))


def test_drawing_in_groups_of_tiles_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    vertices, faces = soup(10, 300)
    camera = perspective(look_at((0, 0.2, 1.5), (0, 0, 0)), fov=70, near=0.6)
    whole = rasterise(vertices, faces, camera, 200, 200)
    monkeypatch.setattr(module, "MEMBERS", 100)
    assert same(whole, rasterise(vertices, faces, camera, 200, 200))


def test_types_of_the_arrays_do_not_matter() -> None:
    vertices, faces = soup(11)
    camera = perspective(look_at((0, 0.2, 2.5), (0, 0, 0)), fov=70)
    one = rasterise(vertices.astype(np.float32), faces, camera, 50, 50)
    for kind in (np.int32, np.uint16):
        assert same(one, rasterise(vertices.astype(np.float32).astype(np.float64), faces.astype(kind), camera, 50, 50))


def test_nothing_makes_an_empty_picture() -> None:
    camera = perspective(look_at((0, 0, 3), (0, 0, 0)), fov=50)
    nothing = np.empty((0, 3), np.int64)
    for vertices, faces in ((np.empty((0, 3)), nothing), (CUBE, nothing), (CUBE + np.array([0, 0, 9]), CUBE_FACES)):
        images = rasterise(vertices, faces, camera, 5, 7)
        assert images.depth.shape == (5, 7)
        assert np.isinf(images.depth).all()
        assert (images.face_ids == -1).all()
        assert not images.mask.any()
        assert images.skipped_faces == 0


def test_faces_without_area_or_place_are_skipped_and_counted() -> None:
    vertices = np.concatenate([CUBE, [[np.nan, 0, 0], [0, np.inf, 0], [-np.inf, 0, 0], [-1, -1, 3]]])
    bad = np.array([[8, 0, 1], [9, 0, 1], [10, 0, 1], [0, 0, 1], [0, 1, 11], [5, 5, 5]])
    camera = perspective(look_at((2, 3, 4), (0, 0, 0)), fov=50)
    images = rasterise(vertices, np.concatenate([CUBE_FACES, bad]), camera, 64, 64)
    assert images.skipped_faces == 6
    assert same(images, rasterise(CUBE, CUBE_FACES, camera, 64, 64))


def test_enormous_faces_are_drawn_exactly() -> None:
    far = 1e30
    vertices = np.array([[-far, -far, 0], [far, -far, 0], [0, far, 0], [0, -far, 0]])
    camera = orthographic(look_at((0, 0, 5), (0, 0, 0)), extent=10)
    covered = times_covered(vertices, np.array([[0, 3, 2], [3, 1, 2]]), camera, 70, 70)
    assert (covered == 1).all()
    images = rasterise(vertices, np.array([[0, 3, 2], [3, 1, 2]]), camera, 70, 70)
    assert (images.face_ids[:, :35] == 0).all()
    assert (images.face_ids[:, 35:] == 1).all()
    assert (images.depth == 5).all()


def test_bad_input_is_refused() -> None:
    camera = perspective(look_at((0, 0, 3), (0, 0, 0)), fov=50)
    with pytest.raises(ValueError, match="faces name vertices 0 to 8"):
        rasterise(CUBE, [[0, 1, 8]], camera, 8, 8)
    with pytest.raises(ValueError, match=r"\(F, 3\) integers"):
        rasterise(CUBE, [[0.0, 1, 2]], camera, 8, 8)
    with pytest.raises(ValueError, match="no picture"):
        rasterise(CUBE, CUBE_FACES, camera, 0, 8)
    with pytest.raises(ValueError, match="no picture"):
        rasterise(CUBE, CUBE_FACES, camera, 8, 8, supersample=1 << 18)
    with pytest.raises(ValueError, match="'flat', 'smooth'"):
        rasterise(CUBE, CUBE_FACES, camera, 8, 8, normals="round")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="normals have shape"):
        rasterise(CUBE, CUBE_FACES, camera, 8, 8, normals=np.ones((3, 3)))
