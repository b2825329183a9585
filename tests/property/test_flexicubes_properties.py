"""What must hold for every field: order, symmetry, closedness, batching, gradients."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from shapewright import Frame, GridField, SparseField, SparseTensor
from shapewright_kernels.flexicubes import flexicubes
from shapewright_kernels.flexicubes_losses import sign_change_loss
from shapewright_kernels.flexicubes_tables import CORNERS
from shapewright_kernels.topology import edge_topology
from shapewright_plugins.sparseflex.corners import corner_field
from shapewright_plugins.sparseflex.extractor import Config, FlexiCubes
from shapewright_plugins.sparseflex.state import CHANNELS, SparseFlexState
from torch import Tensor

SEEDS = st.integers(0, 10_000)
FAST = settings(max_examples=20, deadline=None, derandomize=True)


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def lattice(size: int) -> tuple[Tensor, Tensor, Tensor]:
    points = torch.cartesian_prod(*[torch.arange(size + 1)] * 3)
    voxels = torch.cartesian_prod(*[torch.arange(size)] * 3)
    strides = torch.tensor([(size + 1) ** 2, size + 1, 1])
    return points.double(), voxels, ((voxels[:, None] + torch.from_numpy(CORNERS)) * strides).sum(2)


def closed_noise(size: int, seed: int) -> Tensor:
    """Random values, positive on the border, so that the surface cannot leave the grid."""
    points, _, _ = lattice(size)
    values = torch.randn(len(points), generator=generator(seed), dtype=torch.float64)
    border = ((points == 0) | (points == size)).any(1)
    return torch.where(border, values.abs() + 0.1, values)


def quad_positions(vertices: Tensor, quads: Tensor) -> list[tuple[tuple[float, ...], ...]]:
    corners = (vertices[quads] * 1e6).round().long().tolist()
    return sorted(tuple(sorted(tuple(corner) for corner in quad)) for quad in corners)


def features(seed: int, resolution: int = 6, share: float = 0.6) -> tuple[Tensor, Tensor]:
    """Some voxels of a noisy ball with random weights."""
    draw = generator(seed)
    voxels = torch.cartesian_prod(*[torch.arange(resolution, dtype=torch.int32)] * 3)
    voxels = voxels[torch.rand(len(voxels), generator=draw) < share]
    feats = torch.randn(len(voxels), CHANNELS, generator=draw)
    corners = voxels[:, None] + torch.from_numpy(CORNERS) - resolution / 2
    feats[:, :8] = 0.5 * (corners.norm(dim=2) - resolution / 3) + 0.1 * feats[:, :8]
    return voxels, feats


@FAST
@given(SEEDS)
def test_extraction_ignores_voxel_order(seed: int) -> None:
    points, voxels, cubes = lattice(5)
    sdf = torch.randn(len(points), generator=generator(seed), dtype=torch.float64)
    weights = [torch.randn(125, n, generator=generator(seed + n), dtype=torch.float64) for n in (8, 12, 1)]
    order = torch.randperm(125, generator=generator(seed))
    one = flexicubes(points, sdf, cubes, voxels, 5, weights[0], weights[1], weights[2][:, 0])
    two = flexicubes(
        points, sdf, cubes[order], voxels[order], 5, weights[0][order], weights[1][order], weights[2][order, 0]
    )
    assert torch.equal(one.vertices, two.vertices)
    assert torch.equal(one.faces, two.faces)
    assert torch.equal(one.l_dev, two.l_dev)


@FAST
@given(SEEDS)
def test_closed_field_gives_a_closed_manifold(seed: int) -> None:
    points, voxels, cubes = lattice(6)
    mesh = flexicubes(points, closed_noise(6, seed), cubes, voxels, 6, training=bool(seed % 2))
    topology = edge_topology(mesh.faces)
    assert topology.watertight


@FAST
@given(SEEDS, st.permutations([0, 1, 2]), st.lists(st.integers(0, 3), min_size=3, max_size=3))
def test_surface_moves_with_axis_permutations_and_whole_voxel_shifts(
    seed: int, axes: list[int], shift: list[int]
) -> None:
    """As a set of quads: numbering and orientation of the axes' edges must not matter."""
    points, voxels, cubes = lattice(5)
    sdf = closed_noise(5, seed)
    mesh = flexicubes(points, sdf, cubes, voxels, 5)

    grid = sdf.reshape(6, 6, 6).permute(axes).reshape(-1)
    offset = torch.tensor(shift)
    moved = flexicubes(points + offset, grid, cubes, voxels + offset, 9)
    wanted = mesh.vertices[:, axes] + offset
    assert quad_positions(moved.vertices, torch.from_numpy(moved.topology.quads)) == quad_positions(
        wanted, torch.from_numpy(mesh.topology.quads)
    )


@FAST
@given(SEEDS)
def test_dense_sparse_and_feature_states_give_one_surface(seed: int) -> None:
    """A field has no weights, so it must equal SparseFlex features with neutral ones."""
    size, frame = 6, Frame((-1.0, -1.0, -1.0), (1.0, 1.0, 1.0))
    values = closed_noise(size, seed)
    points, voxels, cubes = lattice(size)
    order = torch.arange(len(points))
    coords = torch.cat([torch.zeros(len(points), 1), points], dim=1).int()
    dense = GridField(values.reshape((size + 1,) * 3) + 0.25, frame, level=0.25)
    sparse = SparseField(SparseTensor(coords, values[order, None] + 0.25, size), frame=frame, level=0.25)
    feats = torch.zeros(len(voxels), CHANNELS, dtype=torch.float64)
    feats[:, :8] = (values[cubes] + 1 / size) * size / 4
    rows = torch.cat([torch.zeros(len(voxels), 1), voxels], dim=1).int()
    state = SparseFlexState(SparseTensor(rows, feats, size), frame)
    extractor = FlexiCubes(Config())
    one, two, three = (extractor.extract(item) for item in (dense, sparse, state))
    assert len(one.faces) > 0
    for other in (two, three):
        assert torch.equal(one.faces, other.faces)
        torch.testing.assert_close(one.vertices, other.vertices, atol=1e-9, rtol=0)


@FAST
@given(SEEDS)
def test_missing_lattice_point_removes_its_cells_and_leaves_far_ones_alone(seed: int) -> None:
    size = 6
    values = closed_noise(size, seed)
    points, _, _ = lattice(size)
    coords = torch.cat([torch.zeros(len(points), 1), points], dim=1).int()
    gone = int(torch.randint(len(points), (1,), generator=generator(seed)))
    keep = torch.arange(len(points)) != gone
    extractor = FlexiCubes(Config())
    whole = extractor.surface(SparseField(SparseTensor(coords, values[:, None], size)))
    part = extractor.surface(SparseField(SparseTensor(coords[keep], values[keep, None], size)))
    cells = Frame().extent[0] / size
    near = ((whole.vertices.double() + 0.5) / cells - points[gone]).abs().amax(1)
    left = {tuple(row) for row in (part.vertices * 1e6).round().long().tolist()}
    far = {tuple(row) for row in (whole.vertices[near > 2] * 1e6).round().long().tolist()}
    assert far <= left  # the next cells may resolve an ambiguity differently, those beyond may not
    lower = (part.vertices.double() + 0.5) / cells
    assert ((lower - points[gone]).abs().amax(1) > 1).all() or len(part.vertices) == len(whole.vertices)


@FAST
@given(SEEDS, SEEDS)
def test_batching_changes_nothing(first: int, second: int) -> None:
    states = []
    for seed in (first, second):
        voxels, feats = features(seed)
        coords = torch.cat([torch.zeros(len(voxels), 1, dtype=torch.int32), voxels], dim=1)
        states.append(SparseFlexState(SparseTensor(coords, feats, 6)))
    back = SparseFlexState.stack(states).unbind()
    extractor = FlexiCubes(Config())
    for state, again in zip(states, back, strict=True):
        assert torch.equal(state.values.coords, again.values.coords)
        one, two = extractor.extract(state), extractor.extract(again)
        assert torch.equal(one.vertices, two.vertices)
        assert torch.equal(one.faces, two.faces)


@FAST
@given(SEEDS)
def test_repeated_rows_average_corners_and_the_last_one_gives_the_weights(seed: int) -> None:
    voxels, feats = features(seed)
    extra = feats.clone()
    extra[:, :32] += 0.1
    extra[:, 32:] *= -1
    rows, both = torch.cat([voxels, voxels]), torch.cat([feats, extra])
    field = corner_field(rows, both, 6, Frame())
    mean = torch.cat([(feats[:, :32] + extra[:, :32]) / 2, extra[:, 32:]], dim=1)
    wanted = corner_field(voxels, mean, 6, Frame())
    torch.testing.assert_close(field.sdf, wanted.sdf, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(field.positions, wanted.positions, atol=1e-6, rtol=1e-5)
    assert torch.equal(field.alpha, wanted.alpha)
    assert field.consistency_loss(both) > wanted.consistency_loss(mean) > 0


@pytest.mark.parametrize("training", [False, True])
def test_gradients_of_the_core_match_finite_differences(training: bool) -> None:
    points, voxels, cubes = lattice(3)
    draw = generator(3)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draw, dtype=torch.float64)

    sdf = closed_noise(3, 4)
    sdf = sdf + 0.3 * sdf.sign()  # finite differences must not change a sign
    inputs = (points + 0.1 * random(64, 3), sdf, 0.3 * random(27, 8), 0.3 * random(27, 12), 0.3 * random(27))

    def run(x: Tensor, s: Tensor, alpha: Tensor, beta: Tensor, gamma: Tensor) -> tuple[Tensor, Tensor]:
        mesh = flexicubes(x, s, cubes, voxels, 3, alpha, beta, gamma, training=training)
        return mesh.vertices, mesh.l_dev

    assert len(flexicubes(inputs[0], sdf, cubes, voxels, 3).faces) > 0
    assert torch.autograd.gradcheck(
        run, [i.clone().requires_grad_() for i in inputs], eps=1e-7, atol=1e-5, fast_mode=True
    )


def test_gradients_of_features_and_fields_match_finite_differences() -> None:
    voxels, feats = features(1, resolution=3, share=0.9)
    coords = torch.cat([torch.zeros(len(voxels), 1, dtype=torch.int32), voxels], dim=1)
    state = SparseFlexState(SparseTensor(coords, feats.double(), 3))
    extractor = FlexiCubes(Config(training=True))

    def from_features(values: Tensor) -> Tensor:
        return extractor.extract(replace(state, values=state.values.replace(values))).vertices

    leaf = state.values.feats.clone().requires_grad_()
    assert len(from_features(leaf)) > 0
    assert torch.autograd.gradcheck(from_features, [leaf], eps=1e-7, atol=1e-5, fast_mode=True)

    grid = (closed_noise(3, 8) * 2).reshape(4, 4, 4).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda v: extractor.extract(GridField(v)).vertices, [grid], eps=1e-7, atol=1e-5, fast_mode=True
    )
    _, _, cubes = lattice(3)
    assert torch.autograd.gradcheck(
        lambda v: sign_change_loss(v, cubes), [grid.detach().reshape(-1).requires_grad_()], fast_mode=True
    )


def test_consistency_loss_has_the_gradient_of_its_definition() -> None:
    voxels, feats = features(2, resolution=3)
    leaf = feats.double().requires_grad_()

    def loss(values: Tensor) -> Tensor:
        return corner_field(voxels, values, 3, Frame()).consistency_loss(values)

    assert torch.autograd.gradcheck(loss, [leaf], fast_mode=True)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_gives_the_surface_and_gradients_of_the_cpu() -> None:
    voxels, feats = features(5, resolution=12)
    coords = torch.cat([torch.zeros(len(voxels), 1, dtype=torch.int32), voxels], dim=1)
    extractor = FlexiCubes(Config(training=True))
    results = []
    for device in ("cpu", "cuda"):
        leaf = feats.double().to(device).requires_grad_()
        mesh = extractor.extract(SparseFlexState(SparseTensor(coords.to(device), leaf, 12)))
        (mesh.vertices**2).sum().backward()
        assert mesh.vertices.device.type == device
        results.append((mesh.vertices.detach().cpu(), mesh.faces.cpu(), leaf.grad.cpu()))
    for one, two in zip(*results, strict=True):
        torch.testing.assert_close(one, two)
