"""Run by a test in a process of its own, with TRITON_INTERPRET=1: Triton's program against Numba's on tiny clouds."""

import torch
from shapewright_kernels import farthest_point_sampling_triton as kernel
from shapewright_kernels.farthest_point_sampling_tensors import farthest_rows

rng = torch.Generator().manual_seed(0)
clouds = {
    "scattered": torch.randn(2, 37, 3, generator=rng),
    "ties": torch.randint(0, 3, (3, 40, 3), generator=rng).float(),
    "wide": torch.randn(1, 50, 3, generator=rng, dtype=torch.float64) * 1e6,
    "one": torch.zeros(2, 1, 3),
}
for name, points in clouds.items():
    for block in (8, 64):  # several parts, and one that is not full
        kernel.BLOCK = block
        for start in (0, points.shape[1] - 1):
            found = farthest_rows(points, 45, start=start, backend="triton")
            assert torch.equal(found, farthest_rows(points, 45, start=start, backend="numba")), (name, block, start)
    print(name)
