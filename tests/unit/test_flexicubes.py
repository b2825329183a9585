"""FlexiCubes on inputs small enough to know the answer."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from shapewright_kernels.flexicubes import flexicubes
from shapewright_kernels.flexicubes_losses import deviation_loss, sign_change_loss, weight_magnitude_loss
from shapewright_kernels.flexicubes_tables import CORNERS, EDGES
from shapewright_kernels.flexicubes_topology import topology
from torch import Tensor

# kaolin's unit test: values by sorted |index - 2| on a 5^3 lattice.
KAOLIN = {
    (0, 0, 0): -0.2, (0, 0, 1): 0.05, (0, 1, 1): 0.1536, (1, 1, 1): 0.2330, (0, 0, 2): 0.3, (0, 1, 2): 0.3590,
    (1, 1, 2): 0.4124, (0, 2, 2): 0.5071, (1, 2, 2): 0.5500, (2, 2, 2): 0.6660,
}  # fmt: skip


def lattice(*cells: int) -> tuple[Tensor, Tensor, Tensor]:
    """Lattice points, voxels and corner ids of a dense grid."""
    points = torch.cartesian_prod(*[torch.arange(n + 1) for n in cells])
    voxels = torch.cartesian_prod(*[torch.arange(n) for n in cells])
    strides = torch.tensor([(cells[1] + 1) * (cells[2] + 1), cells[2] + 1, 1])
    return points.double(), voxels, ((voxels[:, None] + torch.from_numpy(CORNERS)) * strides).sum(2)


def edge_counts(faces: Tensor) -> Counter[tuple[int, int]]:
    return Counter(tuple(sorted(pair)) for a, b, c in faces.tolist() for pair in ((a, b), (b, c), (c, a)))


def test_kaolins_unit_field_gives_its_cube() -> None:
    points, voxels, cubes = lattice(4, 4, 4)
    values = torch.tensor([KAOLIN[tuple(sorted((p - 2).abs().tolist()))] for p in points.int()], dtype=torch.float64)
    mesh = flexicubes(points / 4 - 0.5, values, cubes, voxels, 4, attributes=points / 4)
    signs = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0])] * 3).double()
    torch.testing.assert_close(mesh.vertices, signs / 15, atol=1e-4, rtol=0)
    assert mesh.faces.tolist() == [
        [0, 1, 2], [2, 1, 3], [0, 2, 4], [4, 2, 6], [2, 3, 6], [6, 3, 7],
        [4, 5, 0], [0, 5, 1], [5, 7, 1], [1, 7, 3], [6, 7, 4], [4, 7, 5],
    ]  # fmt: skip
    assert mesh.attributes is not None
    torch.testing.assert_close(mesh.attributes, mesh.vertices + 0.5)


def test_faces_point_to_positive_values() -> None:
    points, voxels, cubes = lattice(6, 6, 6)
    mesh = flexicubes(points - 3, (points - 3).norm(dim=1) - 2.2, cubes, voxels, 6)
    a, b, c = mesh.vertices[mesh.faces].unbind(1)
    volume = (a * torch.linalg.cross(b, c)).sum() / 6
    assert 0.7 < volume / (4 / 3 * torch.pi * 2.2**3) < 1


def test_dual_vertex_is_the_weighted_mean_of_weighted_crossings() -> None:
    points, voxels, cubes = lattice(1, 1, 1)
    sdf = torch.ones(8, dtype=torch.float64)
    sdf[0] = -1
    alpha, beta = torch.zeros(1, 8, dtype=torch.float64), torch.zeros(1, 12, dtype=torch.float64)
    alpha[0, 0] = torch.atanh(torch.tensor(0.5 / 0.99))  # weight 1.5 moves crossings from 1/2 to 3/5 of their edges
    beta[0, 3] = torch.atanh(torch.tensor(-0.5 / 0.99))  # the z edge counts half
    mesh = flexicubes(points, sdf, cubes, voxels, 1, alpha, beta)
    assert torch.allclose(mesh.vertices, torch.tensor([[0.6, 0.6, 0.3]], dtype=torch.float64) / 2.5)
    assert mesh.faces.shape == (0, 3)
    spread = torch.tensor([[0.5, 0, 0], [0, 0, 0.5], [0, 0.5, 0]], dtype=torch.float64) - mesh.vertices
    distances = spread.norm(dim=1)
    assert torch.allclose(mesh.l_dev, (distances - distances.mean()).abs())


def test_quad_splits_along_the_diagonal_of_the_larger_gamma() -> None:
    points, voxels, cubes = lattice(2, 2, 1)
    sdf = points[:, 2] - 0.5
    for strong, diagonal in (([0, 3], {0, 3}), ([1, 2], {1, 2})):
        gamma = torch.zeros(4, dtype=torch.float64)
        gamma[strong] = 2
        mesh = flexicubes(points, sdf, cubes, voxels, (2, 2, 1), gamma=gamma)
        counts = edge_counts(mesh.faces)
        assert [set(edge) for edge, count in counts.items() if count == 2] == [diagonal]


def test_training_adds_one_centre_a_quad_and_gradient_for_gamma() -> None:
    points, voxels, cubes = lattice(2, 2, 1)
    gamma = torch.tensor([1.0, 0.5, -0.5, -1.0], dtype=torch.float64, requires_grad=True)
    lifted = points.clone()
    lifted[:, 2] += 0.1 * points[:, 0] * points[:, 1]
    mesh = flexicubes(lifted, points[:, 2] - 0.5, cubes, voxels, (2, 2, 1), gamma=gamma, training=True)
    assert mesh.vertices.shape == (5, 3)
    assert mesh.faces.shape == (4, 3)
    assert (mesh.faces == 4).sum() == 4
    mesh.vertices[4, 2].backward()
    assert gamma.grad is not None
    assert (gamma.grad != 0).all()


def test_ambiguous_pair_is_inverted_so_that_no_edge_has_four_faces() -> None:
    """Two C16 cases back to back; without inversion they would make a non-manifold edge between them."""
    generator = np.random.default_rng(5)
    points, voxels, cubes = lattice(5, 5, 5)
    border = ((points == 0) | (points == 5)).any(1)
    inverted = 0
    for _ in range(20):
        sdf = torch.from_numpy(generator.normal(size=len(points)))
        sdf[border] = 1.0
        mesh = flexicubes(points, sdf, cubes, voxels, 5)
        cases = ((sdf[cubes] < 0) * (1 << torch.arange(8))).sum(1)[mesh.topology.voxels]
        inverted += int((cases.numpy() != mesh.topology.cases).sum())
        assert set(edge_counts(mesh.faces).values()) == {2}
    assert inverted > 0


def test_missing_voxel_opens_the_surface() -> None:
    points, voxels, cubes = lattice(6, 6, 6)
    sdf = (points - 3).norm(dim=1) - 2.2
    whole = flexicubes(points, sdf, cubes, voxels, 6)
    assert 1 not in edge_counts(whole.faces).values()
    keep = torch.ones(len(voxels), dtype=torch.bool)
    keep[whole.topology.voxels[0]] = False
    part = flexicubes(points, sdf, cubes[keep], voxels[keep], 6)
    assert 1 in edge_counts(part.faces).values()
    assert len(part.vertices) == len(whole.vertices) - 1


def test_nothing_comes_of_a_field_without_a_sign_change() -> None:
    points, voxels, cubes = lattice(2, 2, 2)
    for training in (False, True):
        mesh = flexicubes(points, torch.ones(27), cubes, voxels, 2, training=training)
        assert mesh.vertices.shape == mesh.faces.shape == (0, 3)
        assert mesh.faces.dtype == torch.int64
        assert mesh.l_dev.shape == (0,)


def test_result_does_not_depend_on_threads() -> None:
    points, voxels, cubes = lattice(45, 40, 40)
    sdf = torch.sin(points * torch.tensor([0.5, 0.6, 0.7])).sum(1)
    one, three = (flexicubes(points, sdf, cubes, voxels, (45, 40, 40), threads=threads) for threads in (1, 3))
    assert len(one.faces) > 1000
    assert torch.equal(one.vertices, three.vertices)
    assert torch.equal(one.faces, three.faces)


def random_problem(
    seed: int, dtype: torch.dtype
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor, Tensor, Tensor, Tensor]]:
    points, voxels, cubes = lattice(9, 8, 7)
    draw = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draw, dtype=dtype)

    inputs = points.to(dtype) + 0.2 * random(*points.shape), random(len(points)), random(504, 8), random(504, 12)
    return (cubes, voxels), (*inputs, random(504))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_compiled_vertices_equal_the_torch_expressions_to_the_bit(dtype: torch.dtype) -> None:
    """Asking for deviations takes the torch expressions, leaving them out the compiled ones."""
    (cubes, voxels), (points, sdf, alpha, beta, gamma) = random_problem(1, dtype)
    for weights in ((None, None, None), (alpha, None, None), (None, beta, gamma), (alpha, beta, gamma)):
        for training in (False, True):
            one, two = (
                flexicubes(
                    points, sdf, cubes, voxels, (9, 8, 7), *weights, training=training, deviation=deviation
                )
                for deviation in (True, False)
            )  # fmt: skip
            assert len(one.faces) > 500
            assert torch.equal(one.vertices, two.vertices)
            assert torch.equal(one.faces, two.faces)


def test_compiled_gradients_equal_those_of_the_torch_expressions() -> None:
    (cubes, voxels), inputs = random_problem(2, torch.float64)
    target = torch.randn(2000, 3, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    for kept in ((0, 1, 2, 3), (1,), (0,), (2, 3), (1, 3)):
        gradients = []
        for deviation in (True, False):
            leaves = [tensor.clone().requires_grad_(at in kept) for at, tensor in enumerate(inputs)]
            mesh = flexicubes(*leaves[:2], cubes, voxels, (9, 8, 7), *leaves[2:], deviation=deviation)
            (mesh.vertices * target[: len(mesh.vertices)]).sum().backward()
            gradients.append([leaves[at].grad for at in kept])
        for wanted, got in zip(*gradients, strict=True):
            torch.testing.assert_close(got, wanted, atol=1e-10, rtol=1e-9)


def test_weights_of_voxels_without_surface_change_nothing_and_get_no_gradient() -> None:
    points, voxels, cubes = lattice(8, 8, 8)
    sdf = (points - 4).norm(dim=1) - 1.7
    draw = torch.Generator().manual_seed(4)
    leaves = [torch.randn(512, width, generator=draw, dtype=torch.float64).requires_grad_() for width in (8, 12)]
    results = []
    for deviation in (True, False):  # torch expressions, compiled
        mesh = flexicubes(points, sdf, cubes, voxels, 8, *leaves, deviation=deviation)
        gradients = torch.autograd.grad((mesh.vertices**3).sum(), leaves)
        results.append((mesh.vertices.detach(), *gradients))
    assert len(mesh.topology.voxels) * 2 < 512
    for wanted, got in zip(*results, strict=True):
        torch.testing.assert_close(got, wanted, atol=1e-11, rtol=1e-11)
    idle = torch.ones(512, dtype=torch.bool)
    idle[mesh.topology.voxels] = False
    assert not results[1][1][idle].any()
    assert results[1][1][~idle].any(dim=1).all()


def test_full_grid_and_surface_voxels_alone_have_one_connectivity() -> None:
    points, voxels, cubes = lattice(20, 20, 20)
    inside = ((points - 10).norm(dim=1) < 4.2).numpy()
    whole = topology(cubes.numpy(), voxels.numpy().astype(np.int32), inside, ~inside)
    rows = whole.voxels
    ids, small = np.unique(cubes.numpy()[rows], return_inverse=True)
    part = topology(small.reshape(-1, 8), voxels.numpy()[rows].astype(np.int32), inside[ids], ~inside[ids])
    assert len(whole.quads) > 100
    assert np.array_equal(whole.quads, part.quads)
    assert np.array_equal(whole.ends, ids[part.ends])
    assert np.array_equal(whole.quad_ends, ids[part.quad_ends])


def test_corner_ids_that_contradict_the_coordinates_are_refused() -> None:
    _, voxels, cubes = lattice(2, 2, 2)
    inside = np.zeros(27, bool)
    inside[13] = True
    coords = voxels.numpy().astype(np.int32)
    twice = cubes.numpy().copy()
    twice[0] = twice[1]
    with pytest.raises(ValueError, match="do not belong together"):
        topology(twice, coords, inside, ~inside)
    bent = cubes.numpy().copy()
    bent[0, 6], bent[0, 5] = bent[0, 5], bent[0, 6]
    with pytest.raises(ValueError, match="do not belong together"):
        topology(bent, coords, inside, ~inside)


def test_wrong_input_is_refused_with_its_reason() -> None:
    points, voxels, cubes = lattice(2, 2, 2)
    sdf = points[:, 0] - 0.7
    with pytest.raises(ValueError, match="listed twice"):
        flexicubes(points, sdf, cubes[[0, 0]], voxels[[0, 0]], 2)
    with pytest.raises(ValueError, match=r"lie in \[0, resolution\)"):
        flexicubes(points, sdf, cubes, voxels, 1)
    with pytest.raises(ValueError, match="there are 27"):
        flexicubes(points, sdf, cubes + 1, voxels, 2)
    with pytest.raises(ValueError, match=r"alpha must be \(8, 8\)"):
        flexicubes(points, sdf, cubes, voxels, 2, alpha=torch.zeros(3, 8))


def test_sign_change_loss_counts_each_grid_edge_once() -> None:
    _, _, cubes = lattice(2, 1, 1)
    sdf = torch.full((12,), 2.0, dtype=torch.float64)
    sdf[4] = -1.0  # corner (1, 0, 0) is shared by both voxels and has four edges
    softplus = torch.nn.functional.softplus
    # logit -1 against "positive", logit 2 against "negative"
    one_edge = softplus(torch.tensor(1.0)) + softplus(torch.tensor(2.0))
    assert sign_change_loss(sdf, cubes).item() == pytest.approx(one_edge.item())
    assert sign_change_loss(sdf.abs(), cubes).item() == 0
    values = torch.randn(12, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    edges = {tuple(sorted(row)) for cube in cubes.tolist() for row in np.array(cube)[EDGES].tolist()}
    terms = [
        softplus(-values[a] * values[b].sign()) + softplus(-values[b] * values[a].sign())
        for a, b in edges
        if (values[a] < 0) != (values[b] < 0)
    ]
    assert sign_change_loss(values, cubes).item() == pytest.approx(torch.stack(terms).mean().item())


def test_other_regularisers_are_means_of_magnitudes() -> None:
    assert weight_magnitude_loss(torch.full((1, 8), -1.0), torch.full((1, 12), 2.0)).item() == pytest.approx(1.6)
    assert deviation_loss(torch.tensor([1.0, 3.0])).item() == 2
    assert deviation_loss(torch.zeros(0)).item() == 0
