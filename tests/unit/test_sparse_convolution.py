"""Sparse convolutions: hand-computed values, layouts of weights, precision, and what bad input says."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from distributions import environment
from shapewright.errors import ConfigError, StateError
from shapewright.nn import SparseConv3d, SparseInverseConv3d, SpconvConv3d, Structure, TorchsparseConv3d, sparse_conv3d
from shapewright.states import SparseTensor
from shapewright_kernels.sparse_convolution_pairs import strided_neighbours, submanifold_neighbours
from sparse_voxels import random_sparse

BACKENDS = ["torch", "numba"]
ROWS = torch.tensor([[0, 1, 1, 1], [0, 1, 1, 2], [1, 1, 1, 1]], dtype=torch.int32)


@pytest.mark.parametrize("backend", BACKENDS)
def test_each_weight_reads_the_voxel_at_its_offset(backend: str) -> None:
    weight = torch.arange(27.0).reshape(1, 3, 3, 3, 1)
    feats = torch.tensor([[1.0], [10.0], [100.0]])
    found = sparse_conv3d(feats, ROWS, weight, torch.tensor([0.5]), backend=backend)
    # the centre is weight 13; the neighbour along +z is read by weight 14, the one along -z by weight 12
    assert found.flatten().tolist() == [13 + 140 + 0.5, 12 + 130 + 0.5, 1300.5]


@pytest.mark.parametrize("backend", BACKENDS)
def test_no_voxel_gives_no_row_and_zero_gradients(backend: str) -> None:
    weight, bias = torch.ones(4, 3, 3, 3, 2, requires_grad=True), torch.ones(4, requires_grad=True)
    feats = torch.empty(0, 2, requires_grad=True)
    found = sparse_conv3d(feats, torch.empty(0, 4, dtype=torch.int32), weight, bias, backend=backend)
    assert found.shape == (0, 4)
    gradients = torch.autograd.grad(found.sum(), (feats, weight, bias))
    assert [tuple(grad.shape) for grad in gradients] == [(0, 2), (4, 3, 3, 3, 2), (4,)]
    assert all(bool((grad == 0).all()) for grad in gradients)


@pytest.mark.parametrize("backend", BACKENDS)
def test_one_voxel_meets_the_centre_only(backend: str) -> None:
    weight = torch.randn(3, 3, 3, 3, 2, generator=torch.Generator().manual_seed(0))
    feats = torch.tensor([[2.0, -1.0]])
    found = sparse_conv3d(feats, ROWS[:1], weight, backend=backend)
    torch.testing.assert_close(found, feats @ weight[:, 1, 1, 1].t())


def test_an_output_without_any_input_is_the_bias() -> None:
    neighbours = torch.tensor([[-1, -1], [0, -1]], dtype=torch.int32)
    weight = torch.ones(1, 1, 1, 2, 1)
    found = sparse_conv3d(torch.tensor([[3.0]]), None, weight, torch.tensor([7.0]), neighbours=neighbours)
    assert found.flatten().tolist() == [7.0, 10.0]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_types_sum_in_float32(dtype: torch.dtype) -> None:
    x = random_sparse(0, 24, 6, 2)
    weight = torch.randn(16, 3, 3, 3, 24, generator=torch.Generator().manual_seed(1)) / 8
    feats, half = x.feats.to(dtype), weight.to(dtype)
    found = sparse_conv3d(feats, x.coords, half)
    wanted = sparse_conv3d(feats.float(), x.coords, half.float())
    assert found.dtype == dtype
    assert torch.equal(found, wanted.to(dtype))


def test_results_do_not_depend_on_the_size_of_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    from shapewright_kernels import sparse_convolution_pairs as pairs

    x = random_sparse(1, 20, 6, 2, dtype=torch.float64)
    weight = torch.randn(20, 3, 3, 3, 20, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    found = []
    for rows in (7, 64, 2048):
        monkeypatch.setattr(pairs, "BLOCK_ROWS", rows)
        feats, taps = x.feats.clone().requires_grad_(), weight.clone().requires_grad_()
        result = sparse_conv3d(feats, x.coords, taps, backend="torch")
        found.append([result.detach(), *torch.autograd.grad(result.square().sum(), (feats, taps))])
    for other in found[1:]:
        torch.testing.assert_close(other, found[0])


# --- modules ----------------------------------------------------------------------------------------------------------
def test_three_layouts_of_one_weight_give_one_result() -> None:
    x = random_sparse(2, 5, 6, 2)
    plain, spconv, torchsparse = SparseConv3d(5, 7), SpconvConv3d(5, 7), TorchsparseConv3d(5, 7)
    assert set(spconv.state_dict()) == {"conv.weight", "conv.bias"}
    assert {key: tuple(value.shape) for key, value in torchsparse.state_dict().items()} == {
        "conv.kernel": (27, 5, 7),
        "conv.bias": (7,),
    }
    spconv.load_state_dict({f"conv.{key}": value for key, value in plain.state_dict().items()})
    kernel = plain.weight.detach().permute(3, 2, 1, 4, 0).reshape(27, 5, 7)  # x fastest
    torchsparse.load_state_dict({"conv.kernel": kernel, "conv.bias": plain.bias.detach()})
    structure = Structure.of(x)
    wanted = plain(x, structure).feats
    torch.testing.assert_close(spconv(x, structure).feats, wanted)
    torch.testing.assert_close(torchsparse(x, structure).feats, wanted)


def test_strided_module_goes_to_the_coarse_voxels_and_back() -> None:
    x = random_sparse(3, 4, 7, 2)
    structure = Structure.of(x)
    coarse = SparseConv3d(4, 6, 2, stride=2)(x, structure)
    assert coarse.resolution == 4
    assert torch.equal(coarse.coords, structure.coarser(2).structure.coords)
    back = SparseInverseConv3d(6, 4, 2, stride=2)(coarse, structure.coarser(2))
    assert torch.equal(back.coords, x.coords)
    assert back.feats.shape == (len(x.coords), 4)


def test_a_network_computes_each_map_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from shapewright.nn import structure as module

    calls = []
    original = module.submanifold_neighbours

    def counted(*arguments: object) -> object:
        calls.append(arguments[1])
        return original(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "submanifold_neighbours", counted)
    x = random_sparse(4, 3)
    structure = Structure.of(x)
    for _ in range(3):
        x = SparseConv3d(3, 3)(x, structure)
    SparseConv3d(3, 3, 1)(x, structure)
    assert calls == [(3, 3, 3), (1, 1, 1)]


def test_autocast_runs_products_in_its_type() -> None:
    x, module = random_sparse(5, 32), SparseConv3d(32, 16)
    with torch.autocast("cpu", torch.bfloat16):
        found = module(x)
    assert found.feats.dtype == torch.bfloat16
    torch.testing.assert_close(found.feats.float(), module(x).feats, atol=0.05, rtol=0.05)
    found.feats.float().sum().backward()
    assert module.weight.grad is not None
    assert module.weight.grad.dtype == torch.float32


def test_a_compiled_module_gives_the_same() -> None:
    x, module = random_sparse(6, 4), SparseConv3d(4, 4)
    compiled = torch.compile(module, backend="aot_eager")
    torch.testing.assert_close(compiled(x).feats, module(x).feats)


# --- bad input --------------------------------------------------------------------------------------------------------
FEATS, WEIGHT = torch.ones(3, 2), torch.ones(4, 3, 3, 3, 2)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"feats": torch.ones(2, 2)}, "feats has 2 rows but coords has 3"),
        ({"feats": torch.ones(3, 5)}, "weight reads 2 channels but feats has 5"),
        ({"feats": torch.ones(3)}, r"feats must be \(N, C\)"),
        ({"feats": torch.ones(3, 2, dtype=torch.int32)}, "feats must be a float tensor"),
        ({"weight": torch.ones(4, 2)}, r"weight must be \(Co, kx, ky, kz, Ci\)"),
        ({"weight": WEIGHT.double()}, "weight is torch.float64"),
        ({"weight": WEIGHT.to("meta")}, "weight is torch.float32 on meta but feats"),
        ({"weight": torch.ones(4, 2, 2, 2, 2)}, "must be odd"),
        ({"bias": torch.ones(3)}, r"bias must be \(4,\)"),
        ({"coords": None}, "either coords or neighbours"),
        ({"coords": ROWS.float()}, "coords must be integers"),
        ({"coords": ROWS[:, :3]}, r"coords must be \(N, 4\)"),
        ({"coords": ROWS[[0, 1, 0]]}, r"rows 0 and 2 of coords are both \[0, 1, 1, 1\]"),
        ({"neighbours": submanifold_neighbours(ROWS[:2], 3)}, "feats has 3 rows but neighbours were made for 2"),
        ({"neighbours": submanifold_neighbours(ROWS, 1)}, "neighbours are those of a kernel"),
        ({"neighbours": torch.zeros(3, 5, dtype=torch.int32)}, "neighbours have 5 columns"),
        ({"neighbours": torch.zeros(3, 27)}, "neighbours must be int32"),
        ({"neighbours": torch.full((3, 27), 3, dtype=torch.int32)}, "neighbours name row 3 of 3"),
        ({"backend": "cuda"}, "backend must be one of"),
        ({"backend": "numba", "feats": FEATS.half(), "weight": WEIGHT.half()}, "backend 'numba' takes float32"),
        ({"backend": "triton", "feats": FEATS.double(), "weight": WEIGHT.double()}, "use backend='torch' for float64"),
    ],
)
def test_bad_arguments_are_named(changed: dict[str, object], message: str) -> None:
    arguments = {"feats": FEATS, "coords": ROWS, "weight": WEIGHT, **changed}
    with pytest.raises(StateError, match=message) as caught:
        sparse_conv3d(**arguments)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_triton_on_the_cpu_says_what_to_do() -> None:
    code = (
        "import torch; from shapewright_kernels.sparse_convolution import sparse_conv3d\n"
        "try: sparse_conv3d(torch.ones(1, 2), torch.zeros(1, 4).int(), torch.ones(4, 3, 3, 3, 2), backend='triton')\n"
        "except (ImportError, ValueError) as error: print(error)"
    )
    bare = {key: value for key, value in environment().items() if key != "TRITON_INTERPRET"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=bare, check=True)
    assert "use backend='torch'" in done.stdout or "backend='torch' runs everywhere" in done.stdout


@pytest.mark.parametrize("coords", [ROWS, ROWS[:0]])
def test_strided_neighbours_of_any_number_of_rows(coords: torch.Tensor) -> None:
    neighbours, coarse = strided_neighbours(coords, 2, 2)
    assert neighbours.outputs == len(coarse)
    assert neighbours.inputs == len(coords)


@pytest.mark.parametrize("arguments", [(0, 4), (4, 0), (4, 4, 2), (4, 4, -1)])
def test_bad_widths_and_kernels_are_told_at_construction(arguments: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError):
        SparseConv3d(*arguments)


@pytest.mark.parametrize(
    ("rows", "batch_size", "message"),
    [
        ([[0, -1, 0, 0]], 1, "must not be negative"),
        ([[1, 0, 0, 0]], 1, "coords name samples 1 to 1 but batch_size is 1"),
        ([[1, 0, 0, 0], [0, 0, 0, 0]], 2, "grouped by batch"),
        ([[0, 0, 0, 8]], 1, "coords reach up to 8 but the resolution is 8"),
        ([[0, 1, 1, 1], [0, 1, 1, 1]], 1, "rows 0 and 1 of coords are both"),
    ],
)
def test_bad_coordinates_of_a_module_are_told(rows: list[list[int]], batch_size: int, message: str) -> None:
    x = SparseTensor(torch.tensor(rows, dtype=torch.int32), torch.ones(len(rows), 2), 8, batch_size)
    with pytest.raises(StateError, match=message):
        SparseConv3d(2, 2)(x)


def test_a_structure_of_other_voxels_is_refused() -> None:
    x = random_sparse(0, 2)
    with pytest.raises(StateError, match="structure was made for other voxels"):
        SparseConv3d(2, 2)(x, Structure.of(random_sparse(1, 2)))


def test_an_empty_sample_changes_nothing_of_the_others() -> None:
    x, module = random_sparse(0, 3, batch_size=1), SparseConv3d(3, 4)
    moved = x.coords.clone()
    moved[:, 0] = 2
    found = module(SparseTensor(moved, x.feats, x.resolution, 4))
    torch.testing.assert_close(found.feats, module(x).feats)
    assert found.batch_size == 4
