"""Farthest point sampling on CUDA by Triton: one program a cloud, which finds the point farthest from all chosen ones,
lowers all distances to it, and goes on.

Distances are squared in float64 without fused multiplication and addition, and the lowest row wins a tie: rows are
those of :func:`.farthest_point_sampling.farthest_points`. Runs on CUDA, and in Triton's interpreter
(``TRITON_INTERPRET=1``).
"""

# Kernels are typed by Triton when they are compiled.
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import contextlib
import os

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 8192
"""Points that a program looks at at once (the published encoder chooses from so many); more are walked in parts."""
POINTS_A_WARP = 256
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"


@triton.jit
def farthest_kernel(points, distance, chosen, size, count, BLOCK: tl.constexpr):
    """``points`` ``(B, 3, N)``, ``distance`` ``(B, N)`` infinite, ``chosen`` ``(B, count)`` with the first row set."""
    item = tl.program_id(0).to(tl.int64)
    x = points + item * 3 * size
    y, z = x + size, x + 2 * size
    far, rows = distance + item * size, chosen + item * count
    last = tl.load(rows)
    for step in range(1, count):
        at_x, at_y, at_z = tl.load(x + last), tl.load(y + last), tl.load(z + last)
        best, row = tl.full((), -1.0, tl.float64), last
        for first in range(0, size, BLOCK):
            i = first + tl.arange(0, BLOCK)
            inside = i < size
            dx = tl.load(x + i, mask=inside, other=0.0) - at_x
            dy = tl.load(y + i, mask=inside, other=0.0) - at_y
            dz = tl.load(z + i, mask=inside, other=0.0) - at_z
            nearest = tl.minimum(tl.load(far + i, mask=inside, other=-1.0), dx * dx + dy * dy + dz * dz)
            tl.store(far + i, nearest, mask=inside)
            top, at = tl.max(nearest, 0, return_indices=True, return_indices_tie_break_left=True)
            better = top > best
            best, row = tl.where(better, top, best), tl.where(better, (first + at).to(tl.int64), row)
        tl.store(rows + step, row)
        last = row
        tl.debug_barrier()  # distances are read again by whichever thread has the point then


def farthest_rows_of_clouds(points: Tensor, count: int, start: int) -> Tensor:
    """Rows ``(B, count)`` int64 of clouds ``(B, N, 3)``; arguments are checked by the caller."""
    columns = points.double().transpose(1, 2).contiguous()
    distance = columns.new_full((len(points), points.shape[1]), float("inf"))
    chosen = torch.full((len(points), count), start, dtype=torch.int64, device=points.device)
    block = min(BLOCK, triton.next_power_of_2(points.shape[1]))
    with torch.cuda.device(points.device) if points.is_cuda else contextlib.nullcontext():
        farthest_kernel[(len(points),)](
            columns, distance, chosen, points.shape[1], count,
            BLOCK=block, num_warps=warps(block), enable_fp_fusion=False,
        )  # fmt: skip
    return chosen


def warps(block: int) -> int:
    """Warps of a program; with all 32 of them a thread has eight points and nothing is spilled."""
    return max(1, block // POINTS_A_WARP)
