"""Farthest point sampling of tensors where they lie: Numba on the CPU, Triton on CUDA, torch anywhere; equal rows."""

from __future__ import annotations

from importlib.util import find_spec

import torch
from torch import Tensor

from .farthest_point_sampling import farthest_points

BACKENDS = ("auto", "numba", "triton", "torch")


def farthest_rows(points: Tensor, count: int, *, start: int = 0, backend: str = "auto") -> Tensor:
    """Rows of ``count`` points of each cloud, in the order in which they are chosen; see
    :func:`.farthest_point_sampling.farthest_points`.

    Args:
        points: ``(B, N, 3)`` or ``(N, 3)`` finite coordinates.
        backend: ``auto`` for ``numba`` on the CPU, on CUDA for ``triton``, and elsewhere, or without Triton, for
            ``torch``. All choose the same rows: distances are squared in float64, and the lowest row wins a tie.
    Returns:
        ``(B, count)`` or ``(count,)`` int64 rows on the device of ``points``.
    Raises:
        ValueError: as :func:`.farthest_points`, or ``backend`` is unknown or does not run here.

    >>> farthest_rows(torch.tensor([[0.0, 0, 0], [1, 0, 0], [3, 0, 0]]), 2, backend="torch").tolist()
    [0, 2]
    """
    if backend not in BACKENDS:
        raise ValueError(f"backend must be one of {', '.join(BACKENDS)}, not {backend!r}")
    if points.ndim not in (2, 3) or points.shape[-1] != 3 or not points.shape[-2]:
        raise ValueError(f"points must be (B, N, 3) or (N, 3) with N > 0, not {tuple(points.shape)}")
    if count < 1:
        raise ValueError(f"count must be at least 1, not {count}")
    if not 0 <= start < points.shape[-2]:
        raise ValueError(f"start must lie in 0..{points.shape[-2] - 1}, not be {start}")
    if not bool(torch.isfinite(points).all()):
        raise ValueError("points hold coordinates that are not finite")
    clouds = points.detach().reshape(-1, *points.shape[-2:])
    chosen = backend if backend != "auto" else _backend_for(points.device)
    if chosen == "numba":
        found = [torch.from_numpy(farthest_points(cloud.numpy(force=True), count, start=start)) for cloud in clouds]
        rows = torch.stack(found).to(points.device) if found else _no_rows(points, count)
    elif chosen == "triton":
        rows = _by_triton(clouds, count, start)
    else:
        rows = _by_torch(clouds, count, start)
    return rows.reshape(*points.shape[:-2], count)


def _backend_for(device: torch.device) -> str:
    if device.type == "cpu":
        return "numba"
    return "triton" if device.type == "cuda" and find_spec("triton") is not None else "torch"


def _no_rows(points: Tensor, count: int) -> Tensor:
    return torch.empty((0, count), dtype=torch.int64, device=points.device)


def _by_triton(clouds: Tensor, count: int, start: int) -> Tensor:
    if find_spec("triton") is None:
        raise ValueError("backend 'triton' needs the package 'triton' (pip install triton; Linux)")
    from . import farthest_point_sampling_triton as kernel  # only where it is used: it brings a compiler

    if not clouds.is_cuda and not kernel.INTERPRETED:
        raise ValueError(f"backend 'triton' needs points on CUDA, not on {clouds.device}; or set TRITON_INTERPRET=1")
    return kernel.farthest_rows_of_clouds(clouds, count, start) if len(clouds) else _no_rows(clouds, count)


def _by_torch(clouds: Tensor, count: int, start: int) -> Tensor:
    wide = clouds.double() if clouds.device.type != "mps" else clouds.cpu().double()
    items = torch.arange(len(wide), device=wide.device)
    distance = wide.new_full(wide.shape[:2], float("inf"))
    rows = torch.full((len(wide), count), start, dtype=torch.int64, device=wide.device)
    for step in range(1, count):
        offset = wide - wide[items, rows[:, step - 1]][:, None]
        x, y, z = (offset * offset).unbind(-1)
        distance = torch.minimum(distance, x + y + z)
        rows[:, step] = distance.argmax(dim=1)  # the first of equals
    return rows.to(clouds.device)
