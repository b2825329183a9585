"""Points with normals to features on voxels: a small PointNet that pools within each voxel (TripoSF)."""

from __future__ import annotations

import torch
from shapewright_kernels.coordinate_index import CoordinateIndex
from torch import Tensor, nn
from torch.nn import functional

from shapewright.errors import ConfigError, StateError
from shapewright.states import SparseTensor

from .linear import check_channels

INSIDE = 1e-6
"""Points are clamped to this distance from the faces of the unit box."""


class ResNetBlockFC(nn.Module):
    """``shortcut(x) + fc_1(gelu(fc_0(gelu(x))))``; keys ``fc_0``, ``fc_1`` and ``shortcut.weight`` where the widths
    differ."""

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        hidden = min(channels, out_channels)
        self.fc_0 = nn.Linear(channels, hidden)
        self.fc_1 = nn.Linear(hidden, out_channels)
        self.shortcut = nn.Identity() if channels == out_channels else nn.Linear(channels, out_channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.fc_0(functional.gelu(x, approximate="tanh"))
        branch: Tensor = self.fc_1(functional.gelu(hidden, approximate="tanh")) + self.shortcut(x)
        return branch


class LocalPoolPointNet(nn.Module):
    """Means of point features over voxels, mixed back into the points between residual blocks.

    Runs in float32, also under autocast. Keys ``fc_pos``, ``blocks.i``, ``fc_c``.

    Args:
        in_channels: 3, or 6 with normals.
        blocks: residual blocks, at least 1.
    """

    def __init__(self, in_channels: int = 6, out_channels: int = 1024, hidden: int = 256, blocks: int = 5) -> None:
        super().__init__()
        if in_channels < 3 or blocks < 1:
            raise ConfigError(f"in_channels must be at least 3 and blocks at least 1, not {in_channels} and {blocks}")
        self.in_channels = in_channels
        self.fc_pos = nn.Linear(in_channels, 2 * hidden)
        self.blocks = nn.ModuleList(ResNetBlockFC(2 * hidden, hidden) for _ in range(blocks))
        self.fc_c = nn.Linear(hidden, out_channels)

    def forward(
        self, points: Tensor, coords: Tensor, resolution: int, samples: Tensor | None = None, *,
        lower: float = -0.5, upper: float = 0.5,
    ) -> SparseTensor:  # fmt: skip
        """
        Args:
            points: ``(B, P, in_channels)``, or ``(P, in_channels)`` with the batch index of each in ``samples``
                ``(P,)``; xyz first.
            coords: ``(N, 4)`` int32 voxels ``[batch, x, y, z]``, each once, in any order.
            resolution: voxels an axis of the box ``lower..upper``.
        Returns:
            ``(N, out_channels)`` features on ``coords``; zero where a voxel has no point.
        Raises:
            StateError: a point lies in a voxel that is not among ``coords``.
        """
        check_channels(points, self.in_channels, "points")
        batch_size = len(points) if points.ndim == 3 else 1
        if points.ndim == 3:
            samples = torch.arange(batch_size, device=points.device).repeat_interleave(points.shape[1])
            points = points.flatten(0, 1)
        elif samples is None:
            samples = torch.zeros(len(points), dtype=torch.int64, device=points.device)
        if len(coords):
            batch_size = max(batch_size, int(coords[:, 0].max()) + 1)
        with torch.autocast(points.device.type, enabled=False):
            points = points.float()
            unit = (points[:, :3] - lower) / (upper - lower)
            scaled = unit.clamp(INSIDE, 1 - INSIDE) * resolution
            voxels = scaled.detach().floor()
            rows = _rows(coords, samples, voxels)
            local = 2 * (scaled - (voxels + 0.5))
            counts = torch.bincount(rows, minlength=len(coords)).clamp_min(1)[:, None]

            def mean(values: Tensor) -> Tensor:
                return values.new_zeros(len(coords), values.shape[1]).index_add(0, rows, values) / counts

            hidden = self.fc_pos(torch.cat([local, points[:, 3:]], 1))
            hidden = self.blocks[0](hidden)
            for block in self.blocks[1:]:
                hidden = block(torch.cat([hidden, mean(hidden)[rows]], 1))
            return SparseTensor(coords, mean(self.fc_c(hidden)), resolution, batch_size)


def _rows(coords: Tensor, samples: Tensor, voxels: Tensor) -> Tensor:
    queries = torch.cat([samples[:, None], voxels.long()], 1)
    try:
        found = CoordinateIndex(coords.numpy(force=True)).rows(queries.numpy(force=True))
    except ValueError as error:
        raise StateError(str(error)) from None
    rows = torch.from_numpy(found).to(coords.device)
    missing = torch.nonzero(rows < 0)
    if len(missing):
        first = int(missing[0])
        raise StateError(
            f"{len(missing)} points lie in voxels that are not in coords, such as point {first} in "
            f"{queries[first].tolist()} [batch, x, y, z]; add these voxels or drop the points"
        )
    return rows
