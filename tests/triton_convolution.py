"""Run by a test in a process of its own, with TRITON_INTERPRET=1: Triton's programs against torch on tiny inputs."""

import torch
from shapewright_kernels.sparse_convolution import sparse_conv3d
from shapewright_kernels.sparse_convolution_pairs import Neighbours, strided_neighbours, submanifold_neighbours
from sparse_voxels import random_voxels

TOLERANCES = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 1.6e-2}


def compare(neighbours: Neighbours, channels: int, out: int, dtype: torch.dtype) -> None:
    rng = torch.Generator().manual_seed(0)
    feats = torch.randn(neighbours.inputs, channels, generator=rng)
    weight = torch.randn(out, *neighbours.kernel, channels, generator=rng)
    leaves = [part.to(dtype).requires_grad_() for part in (feats, weight, torch.randn(out, generator=rng))]
    found = {}
    for backend in ("torch", "triton"):
        result = sparse_conv3d(leaves[0], None, leaves[1], leaves[2], neighbours=neighbours, backend=backend)
        slope = torch.arange(result.numel()).reshape(result.shape).sin().to(dtype)
        found[backend] = [result, *torch.autograd.grad(result, leaves, slope)]
    for ours, wanted in zip(found["triton"], found["torch"], strict=True):
        scale = float(wanted.detach().abs().max())
        torch.testing.assert_close(ours, wanted, rtol=0, atol=TOLERANCES[dtype] * scale)


coords = random_voxels(0, 3, 2, 0.5)
for dtype in TOLERANCES:
    compare(submanifold_neighbours(coords, 3), 5, 7, dtype)
    compare(submanifold_neighbours(coords, (1, 3, 1)), 20, 17, dtype)
    print(str(dtype).removeprefix("torch."))
compare(strided_neighbours(coords, 2, 2)[0], 6, 9, torch.float32)
compare(strided_neighbours(coords, 2, 2)[0].transposed, 6, 9, torch.float32)
print("strided")
