"""Convolution over occupied voxels: one signature, several ways to compute it.

``torch`` runs everywhere: blocks of output rows, one matrix product a weight, sums by row. ``numba`` walks the voxels
of a CPU one by one and wins where there are few channels. ``triton`` is for CUDA. All differentiate once with respect
to features, weight and bias; sums run in float32 for 16-bit types.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from typing import Any, Literal, TypeVar, get_args

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .sparse_convolution_pairs import Block, Neighbours, submanifold_neighbours
from .threads import spans

Result = TypeVar("Result")
Backend = Literal["auto", "torch", "numba", "triton"]
FEW_CHANNELS = 256
"""Up to this many products a pair of voxels (inputs times outputs), ``auto`` takes ``numba`` on the CPU."""
SMALL_PRODUCT = 256 * 256
"""Up to this many weights an offset, blocks run side by side on the CPU; above, each product uses all processors."""
PARTS = 16
"""Groups of blocks with sums of their own for the gradient of the weights; fixed, so that threads change no bit."""
HALF = (torch.float16, torch.bfloat16)
FLOATS = (*HALF, torch.float32, torch.float64)


def sparse_conv3d(
    feats: Tensor,
    coords: Tensor | None,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    neighbours: Neighbours | Tensor | None = None,
    backend: Backend = "auto",
) -> Tensor:
    """``out[i] = bias + sum over k of weight[:, k] @ feats[neighbours[i, k]]``, cross-correlation over present voxels.

    Without ``neighbours`` it is submanifold: output rows are the input rows, in their order.

    Args:
        feats: ``(N, Ci)`` float.
        coords: ``(N, 4)`` integer rows ``[batch, x, y, z]``, any order, none twice; ``None`` where neighbours are
            given.
        weight: ``(Co, kx, ky, kz, Ci)``, dtype and device of ``feats``.
        bias: ``(Co,)``.
        neighbours: what :func:`.submanifold_neighbours`, :func:`.strided_neighbours` or ``.transposed`` of either
            returned, or a map ``(M, kx * ky * kz)`` int32; share it between convolutions over the same voxels.
        backend: ``auto`` picks the fastest one for device and widths.
    Returns:
        ``(M, Co)``, dtype of ``feats``.
    Raises:
        ValueError: shapes, dtypes, devices or coordinates do not fit; the message names the argument.
        ImportError: ``backend="triton"`` without the package.

    >>> feats, coords = torch.ones(2, 1), torch.tensor([[0, 5, 5, 5], [0, 5, 5, 6]])
    >>> sparse_conv3d(feats, coords, torch.ones(1, 3, 3, 3, 1)).tolist()
    [[2.0], [2.0]]
    """
    found = _neighbours(feats, coords, weight, bias, neighbours)
    chosen = _backend(feats, weight, backend)
    if chosen == "triton":
        from . import sparse_convolution_triton

        sparse_convolution_triton.require(feats)
    taps = weight.permute(1, 2, 3, 4, 0).flatten(0, 2)
    if found.kernel == (1, 1, 1) and found.symmetric:
        result = feats @ taps[0]
        return result if bias is None else result + bias
    return _Convolution.apply(feats, taps, bias, found, chosen)  # type: ignore[no-untyped-call]


def _neighbours(
    feats: Tensor, coords: Tensor | None, weight: Tensor, bias: Tensor | None, given: Neighbours | Tensor | None
) -> Neighbours:
    if feats.ndim != 2:
        raise ValueError(f"feats must be (N, C), not {tuple(feats.shape)}")
    if feats.dtype not in FLOATS:
        raise ValueError(f"feats must be a float tensor, not {feats.dtype}")
    if weight.ndim != 5:
        raise ValueError(f"weight must be (Co, kx, ky, kz, Ci), not {tuple(weight.shape)}")
    if weight.shape[4] != feats.shape[1]:
        raise ValueError(f"weight reads {weight.shape[4]} channels but feats has {feats.shape[1]}")
    for name, tensor in (("weight", weight), ("bias", bias)):
        if tensor is not None and (tensor.dtype != feats.dtype or tensor.device != feats.device):
            raise ValueError(
                f"{name} is {tensor.dtype} on {tensor.device} but feats is {feats.dtype} on {feats.device}; "
                "convert one of them"
            )
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ValueError(f"bias must be ({weight.shape[0]},), not {tuple(bias.shape)}")
    kernel = (int(weight.shape[1]), int(weight.shape[2]), int(weight.shape[3]))
    if given is None:
        if coords is None:
            raise ValueError("either coords or neighbours must be given")
        if len(coords) != len(feats):
            raise ValueError(f"feats has {len(feats)} rows but coords has {len(coords)}")
        if coords.is_floating_point():
            raise ValueError(f"coords must be integers, not {coords.dtype}; floor and convert them first")
        if coords.device != feats.device:
            raise ValueError(f"coords is on {coords.device} but feats is on {feats.device}")
        given = submanifold_neighbours(coords, kernel)
    elif isinstance(given, Tensor):
        given = Neighbours(given, len(feats), kernel)
        least, most = (int(end) for end in given.rows.aminmax()) if given.rows.numel() else (-1, -1)
        if least < -1 or most >= len(feats):
            raise ValueError(f"neighbours name row {most if least >= -1 else least} of {len(feats)}")
    if given.kernel != kernel:
        raise ValueError(f"neighbours are those of a kernel {given.kernel} but weight has {kernel}")
    if given.inputs != len(feats):
        raise ValueError(f"feats has {len(feats)} rows but neighbours were made for {given.inputs}")
    if given.rows.device != feats.device:
        raise ValueError(f"neighbours are on {given.rows.device} but feats is on {feats.device}")
    return given


def _backend(feats: Tensor, weight: Tensor, backend: str) -> str:
    if backend not in get_args(Backend):
        raise ValueError(f"backend must be one of {', '.join(get_args(Backend))}, not {backend!r}")
    cpu = feats.device.type == "cpu"
    plain = feats.dtype not in HALF
    if backend == "auto":
        if feats.device.type == "cuda" and find_spec("triton") is not None and feats.dtype != torch.float64:
            return "triton"
        return "numba" if cpu and plain and weight.shape[0] * weight.shape[4] <= FEW_CHANNELS else "torch"
    if backend == "numba" and not (cpu and plain):
        raise ValueError(f"backend 'numba' takes float32 or float64 on the CPU, not {feats.dtype} on {feats.device}")
    if backend == "triton" and feats.dtype == torch.float64:
        raise ValueError("backend 'triton' takes float32, float16 or bfloat16; use backend='torch' for float64")
    return backend


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, feats: Tensor, taps: Tensor, bias: Tensor | None, neighbours: Neighbours, backend: str
    ) -> Tensor:
        ctx.save_for_backward(feats, taps)
        ctx.neighbours, ctx.backend = neighbours, backend
        if backend == "triton":
            from . import sparse_convolution_triton

            return sparse_convolution_triton.forward(feats, taps, bias, neighbours)
        if backend == "numba":
            from . import sparse_convolution_numba

            return sparse_convolution_numba.forward(feats, taps, bias, neighbours)
        return _forward(feats, taps, bias, neighbours)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None, None]:
        feats, taps = ctx.saved_tensors
        wants_feats, wants_taps, wants_bias = ctx.needs_input_grad[:3]
        grad = grad.contiguous()
        if ctx.backend == "triton":
            from . import sparse_convolution_triton

            pair = sparse_convolution_triton.backward(feats, taps, grad, ctx.neighbours, wants_feats, wants_taps)
        elif ctx.backend == "numba":
            from . import sparse_convolution_numba

            pair = sparse_convolution_numba.backward(feats, taps, grad, ctx.neighbours, wants_feats, wants_taps)
        else:
            pair = _backward(feats, taps, grad, ctx.neighbours, wants_feats, wants_taps)
        wide = torch.float32 if grad.dtype in HALF else grad.dtype
        grad_bias = grad.sum(0, dtype=wide).to(grad.dtype) if wants_bias else None
        return *pair, grad_bias, None, None


def _wide(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.dtype in HALF else tensor


def _runs(block: Block) -> Iterator[tuple[int, slice]]:
    at = 0
    for weight, count in enumerate(block.counts):
        if count:
            yield weight, slice(at, at + count)
        at += count


def _buffer(blocks: Sequence[Block], channels: int, like: Tensor) -> Tensor:
    longest = max((len(block.sources) for block in blocks), default=0)
    return torch.empty(longest, channels, dtype=like.dtype, device=like.device)


def _sum_rows(products: Tensor, block: Block) -> Tensor:
    """Sums of the products of each output row, in the order of the weights."""
    if len(products) == 0:
        return products.new_zeros(block.stop - block.start, products.shape[1])
    return torch.nn.functional.embedding_bag(
        block.places, products, block.offsets, mode="sum", include_last_offset=True
    )


def _each(work: Callable[[Sequence[Block]], Result], groups: Sequence[Sequence[Block]], spread: bool) -> list[Result]:
    """``work`` on each group; where ``spread``, each on a Python thread of its own whose operators use no other.

    Blocks are so small that threads inside each operator would mostly wait for one another. The number of threads is
    a setting of the calling thread in torch's OpenMP builds; what new threads begin with is put back at the end.
    """
    before = torch.get_num_threads()
    threads = min(before, len(groups))
    if not spread or threads <= 1:
        return [work(group) for group in groups]

    def begin() -> None:
        torch.set_num_threads(1)
        torch.get_num_threads()  # torch sets a thread up at its first question; later it would take the default again

    def run(group: Sequence[Block]) -> Result:
        with torch.no_grad():  # the mode of the calling thread is its own
            return work(group)

    try:
        with ThreadPoolExecutor(threads, initializer=begin) as pool:
            return list(pool.map(run, groups))
    finally:
        torch.set_num_threads(before)


def _split(blocks: Sequence[Block], parts: int) -> list[Sequence[Block]]:
    return [blocks[first:last] for first, last in spans(len(blocks), max(1, -(-len(blocks) // max(parts, 1))))]


def _forward(feats: Tensor, taps: Tensor, bias: Tensor | None, neighbours: Neighbours) -> Tensor:
    source, taps = _wide(feats), _wide(taps)
    result = feats.new_empty(neighbours.outputs, taps.shape[2])

    def work(blocks: Sequence[Block]) -> None:
        gathered, products = _buffer(blocks, taps.shape[1], source), _buffer(blocks, taps.shape[2], source)
        for block in blocks:
            pairs = len(block.sources)
            torch.index_select(source, 0, block.sources, out=gathered[:pairs])
            for weight, run in _runs(block):
                torch.mm(gathered[run], taps[weight], out=products[run])
            sums = _sum_rows(products[:pairs], block)
            result[block.start : block.stop] = sums if bias is None else sums.add_(bias)

    blocks = neighbours.blocks
    small = feats.device.type == "cpu" and taps.shape[1] * taps.shape[2] <= SMALL_PRODUCT
    _each(work, _split(blocks, 4 * torch.get_num_threads() if small else 1), small)
    return result


def _backward(
    feats: Tensor, taps: Tensor, grad: Tensor, neighbours: Neighbours, wants_feats: bool, wants_taps: bool
) -> tuple[Tensor | None, Tensor | None]:
    """Both gradients in one walk over the input rows, which share the gathered gradients of the outputs."""
    if not (wants_feats or wants_taps):
        return None, None
    source, wide_taps, wide_grad = _wide(feats), _wide(taps), _wide(grad)
    grad_feats = torch.empty_like(feats) if wants_feats else None

    def work(blocks: Sequence[Block]) -> Tensor | None:
        gathered, inputs = _buffer(blocks, taps.shape[2], source), _buffer(blocks, taps.shape[1], source)
        total = torch.zeros(taps.shape, dtype=source.dtype, device=source.device) if wants_taps else None
        for block in blocks:
            pairs = len(block.sources)
            torch.index_select(wide_grad, 0, block.sources, out=gathered[:pairs])
            if total is not None:
                torch.index_select(source[block.start : block.stop], 0, block.targets, out=inputs[:pairs])
                for weight, run in _runs(block):
                    total[weight].addmm_(inputs[run].t(), gathered[run])
            if grad_feats is not None:
                for weight, run in _runs(block):
                    torch.mm(gathered[run], wide_taps[weight].t(), out=inputs[run])
                grad_feats[block.start : block.stop] = _sum_rows(inputs[:pairs], block)
        return total

    small = feats.device.type == "cpu" and taps.shape[1] * taps.shape[2] <= SMALL_PRODUCT
    parts = _each(work, _split(neighbours.transposed.blocks, PARTS if small else 1), small)
    if not wants_taps:
        return grad_feats, None
    found = torch.zeros(taps.shape, dtype=source.dtype, device=source.device)
    for part in parts:  # in one order, whichever thread made it
        if part is not None:
            found += part
    return grad_feats, found.to(taps.dtype)
