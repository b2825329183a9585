"""Convolutions over the voxels of a surface, with neighbour maps ready, as layers of a network find them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from harness import Case
from operations_distances import Request
from peers import installed
from shapewright_kernels.sparse_convolution import sparse_conv3d
from shapewright_kernels.sparse_convolution_pairs import Neighbours, submanifold_neighbours
from shapewright_kernels.voxelise import surface_voxels
from torch import Tensor

WIDTHS = (64, 128)
MOST_VOXELS = 250_000
"""Larger inputs take minutes and tell nothing else."""
DENSE_RESOLUTION = 64
"""Up to this resolution a dense convolution is a peer."""

Layer = Callable[[], Tensor]


def convolution_cases(request: Request) -> Iterator[Case]:
    """3x3x3 weights, as many outputs as inputs; forward, and forward with all gradients."""
    for shape in request.shapes[:2]:
        for resolution in request.resolutions:
            voxels = surface_voxels(shape.vertices, shape.faces, -0.5, 1.0 / resolution, resolution)
            if len(voxels) > MOST_VOXELS:
                continue
            coords = torch.zeros(len(voxels), 4, dtype=torch.int32)
            coords[:, 1:] = torch.from_numpy(voxels)
            neighbours = submanifold_neighbours(coords)
            for width in WIDTHS[:1] if request.quick else WIDTHS:
                yield from _cases(shape.name, resolution, coords, neighbours, width)


def _cases(mesh: str, resolution: int, coords: Tensor, neighbours: Neighbours, width: int) -> Iterator[Case]:
    rng = torch.Generator().manual_seed(0)
    leaves = [
        torch.randn(len(coords), width, generator=rng).requires_grad_(),
        (torch.randn(width, 3, 3, 3, width, generator=rng) / width).requires_grad_(),
        torch.randn(width, generator=rng).requires_grad_(),
    ]
    feats, weight, bias = leaves
    ours = partial(sparse_conv3d, feats, None, weight, bias, neighbours=neighbours)
    peers: list[tuple[str, str, Callable[[], Layer]]] = [
        ("spconv", "spconv, 1 thread", partial(spconv_layer, coords, resolution, 1, *leaves)),
        ("spconv", "spconv", partial(spconv_layer, coords, resolution, torch.get_num_threads(), *leaves)),
        ("torch", "torch gather-scatter", partial(gather_scatter, neighbours, *leaves)),
    ]
    if resolution <= DENSE_RESOLUTION:
        peers.append(("torch", "torch dense conv3d", partial(_dense, coords, resolution, *leaves)))
    sides = [(module, name, _Lazy(make)) for module, name, make in peers]
    pairs = int((neighbours.rows >= 0).sum())
    for kind, wrap in (("forward", _forward), ("training", partial(training, leaves))):
        yield Case(
            f"sparse-convolution-{width}-{kind}", mesh, resolution, partial(wrap, ours),
            installed([(module, name, partial(wrap, layer)) for module, name, layer in sides]),
            _close, "outputs and gradients within 1e-4 of the largest", {"*": 1.0},
            units=partial(_count, len(coords)), unit="voxels", extra={"pairs": pairs, "width": width},
        )  # fmt: skip


def _count(voxels: int, _: object) -> int:
    return voxels


class _Lazy:
    """A peer's layer, made at its first call, so that one that cannot be made is one row that says so."""

    def __init__(self, make: Callable[[], Layer]) -> None:
        self.make = make
        self.layer: Layer | None = None

    def __call__(self) -> Tensor:
        if self.layer is None:
            self.layer = self.make()
        return self.layer()


def _forward(layer: Layer) -> Sequence[Tensor]:
    with torch.no_grad():
        return (layer(),)


def training(leaves: Sequence[Tensor], layer: Layer) -> Sequence[Tensor]:
    """Output and all gradients."""
    found = layer()
    return found.detach(), *torch.autograd.grad(found, leaves, torch.ones_like(found))


def _close(ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> bool:
    return all(
        a.shape == b.shape and float((a - b).abs().max()) <= 1e-4 * float(a.abs().max())
        for a, b in zip(ours, theirs, strict=True)
    )


def spconv_layer(
    coords: Tensor, resolution: int, threads: int | None, feats: Tensor, weight: Tensor, bias: Tensor
) -> Layer:  # fmt: skip
    """Its CPU build adds up on several threads without care for one another (2.3.8: some rows differ from run to run),
    and has no gradients; on one thread it is right. ``threads`` ``None`` leaves them alone, as on CUDA."""
    import spconv.pytorch as spconv

    width = feats.shape[1]
    layer = spconv.SubMConv3d(width, width, 3, indice_key="shared")
    del layer.weight, layer.bias
    layer.weight, layer.bias = weight, bias
    first = spconv.SparseConvTensor(feats.detach(), coords.contiguous(), [resolution] * 3, int(coords[:, 0].max()) + 1)

    def call() -> Tensor:
        before = torch.get_num_threads()
        torch.set_num_threads(threads or before)
        try:
            found: Tensor = layer(first.replace_feature(feats)).features
        finally:
            torch.set_num_threads(before)
        return found

    with torch.no_grad():
        call()  # leaves the map in the dictionary of the tensor
    return call


def gather_scatter(neighbours: Neighbours, feats: Tensor, weight: Tensor, bias: Tensor) -> Layer:
    """One gather, product and scatter a weight; the textbook way."""
    pairs = []
    for column in neighbours.rows.t():
        targets = torch.nonzero(column >= 0).flatten()
        pairs.append((column[targets].long(), targets))

    def call() -> Tensor:
        result = bias.expand(neighbours.outputs, -1)
        taps = weight.permute(1, 2, 3, 4, 0).flatten(0, 2)
        for tap, (sources, targets) in zip(taps, pairs, strict=True):
            result = result.index_add(0, targets, feats[sources] @ tap)
        return result

    return call


def _dense(coords: Tensor, resolution: int, feats: Tensor, weight: Tensor, bias: Tensor) -> Layer:
    x, y, z = coords[:, 1:].long().unbind(1)

    def call() -> Tensor:
        grid = feats.new_zeros(resolution, resolution, resolution, feats.shape[1]).index_put((x, y, z), feats)
        found: Any = torch.nn.functional.conv3d(
            grid.permute(3, 0, 1, 2)[None], weight.permute(0, 4, 1, 2, 3), bias, padding=1
        )
        return found[0].permute(1, 2, 3, 0)[x, y, z]

    return call


def voxels_of_a_shell(resolution: int, radius: float = 0.4) -> Tensor:
    """``(N, 4)`` int32 voxels that a sphere passes through, for sizes without a mesh at hand."""
    axis = (np.arange(resolution) + 0.5) / resolution - 0.5
    distance = np.sqrt(axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2)
    found = np.argwhere(np.abs(distance - radius) < 0.6 / resolution)
    return torch.from_numpy(np.ascontiguousarray(np.pad(found, ((0, 0), (1, 0))), np.int32))
