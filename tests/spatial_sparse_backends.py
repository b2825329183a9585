"""Run by a test: the triton backend of Spatial Sparse Attention against the torch one on a small problem.

TRITON_INTERPRET=1 python tests/spatial_sparse_backends.py small
"""

from __future__ import annotations

import sys

import torch
from shapewright_kernels import spatial_sparse_attention_triton as triton_backend
from shapewright_kernels.spatial_sparse_attention import (
    Backend,
    SpatialStructure,
    attend_compressed,
    attend_selected,
    attend_windows,
    select_blocks,
    sort_block,
    spatial_structure,
)
from torch import Tensor

# counts of samples, resolution, compression, selection, top-k, query heads, key heads, width, part, partial bytes
GROUPS = {
    "small": ([23, 0, 5], 8, 4, 4, 2, 4, 2, 16, 1024, 1 << 30),
    "aggregated": ([40, 1], 8, 2, 4, 3, 2, 1, 8, 16, 3000),
    "odd": ([31], 9, 3, 9, 2, 3, 1, 5, 8, 1 << 30),
}


def voxels(counts: list[int], resolution: int) -> Tensor:
    draw = torch.Generator().manual_seed(0)
    rows = []
    for sample, count in enumerate(counts):
        cells = torch.randperm(resolution**3, generator=draw)[:count]
        xyz = torch.stack([cells // resolution**2, cells // resolution % resolution, cells % resolution], 1)
        rows.append(torch.cat([torch.full((count, 1), sample), xyz], 1))
    return torch.cat(rows).int()


def answers(
    made: SpatialStructure, count: int, leaves: list[Tensor], grads: list[Tensor], backend: Backend
) -> dict[str, Tensor]:
    """Outputs, log-sum-exp and gradients of all branches."""
    q, k, v, compressed_k, compressed_v = (leaf.clone().requires_grad_() for leaf in leaves)
    found: dict[str, Tensor] = {}
    found["compressed"], lse = attend_compressed(q, compressed_k, compressed_v, made, backend=backend)
    selected = select_blocks(q, compressed_k, lse.detach(), made, count, backend=backend)
    found["selection"] = selected
    found["selected"], found["selected lse"] = attend_selected(q, k, v, selected, made, backend=backend)
    found["window"], window_lse = attend_windows(q, k, v, made.windows, backend=backend)
    branches = {
        "compressed": (lse, (q, compressed_k, compressed_v)),
        "selected": (found["selected lse"], (q, k, v)),
        "window": (window_lse, (q, k, v)),
    }
    for name, (sums, inputs) in branches.items():
        made_of = torch.autograd.grad((found[name], sums), inputs, grads)
        found |= {f"{name} gradient {leaf}": grad for leaf, grad in zip("qkv", made_of, strict=True)}
    return found


def main() -> int:
    counts, resolution, compression, selection, top, heads, kv_heads, width, part, most = GROUPS[sys.argv[1]]
    device = sys.argv[2] if len(sys.argv) > 2 else "cpu"
    triton_backend.PART_ENTRIES, triton_backend.PARTIAL_BYTES = part, most
    coords = voxels(counts, resolution)
    made = spatial_structure(
        coords[sort_block(coords, selection)].to(device), compression=compression, selection=selection, window=4,
        shift=2, resolution=resolution, batch_size=len(counts),
    )  # fmt: skip
    draw = torch.Generator().manual_seed(1)
    rows = [(len(coords), heads), *[(len(coords), kv_heads)] * 2, *[(len(made.compression), kv_heads)] * 2]
    leaves = [torch.randn(*shape, width, generator=draw).to(device) for shape in rows]
    grads = [torch.randn(len(coords), heads, width, generator=draw).to(device)]
    grads.append(torch.randn(heads, len(coords), generator=draw).to(device))
    wanted = answers(made, top, leaves, grads, "torch")
    found = answers(made, top, leaves, grads, "triton")
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=2e-5, msg=lambda text, n=name: f"{n}: {text}")
        print(name, "agrees")
    return 0


if __name__ == "__main__":
    sys.exit(main())
