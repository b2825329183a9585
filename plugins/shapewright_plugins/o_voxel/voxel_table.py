"""What every voxel file holds: coordinates, and bytes by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from shapewright.errors import ShapewrightError

Bytes = NDArray[np.uint8]


class VoxelFileError(ShapewrightError, ValueError):
    """A voxel file cannot be read or written; the message names the file and the reason."""


@dataclass(frozen=True, eq=False)
class VoxelTable:
    """``N`` voxels: ``coords`` ``(N, 3)`` int32, not negative, and attributes ``(N, C)`` uint8 by name.

    Files keep rows in an order of their own; nothing here is sorted.
    """

    coords: NDArray[np.int32]
    attributes: Mapping[str, Bytes] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """What the published formats have no place for: resolution, frame. Empty in files of others."""

    def __post_init__(self) -> None:
        if self.coords.ndim != 2 or self.coords.shape[1] != 3 or self.coords.dtype != np.int32:
            raise VoxelFileError(f"coords must be int32 (N, 3), not {self.coords.dtype} {self.coords.shape}")
        for name, values in self.attributes.items():
            if values.dtype != np.uint8 or values.ndim != 2 or len(values) != len(self.coords) or not values.shape[1]:
                raise VoxelFileError(
                    f"attribute {name!r} must be uint8 ({len(self.coords)}, C), not {values.dtype} {values.shape}"
                )

    def select(self, rows: NDArray[Any]) -> VoxelTable:
        """The voxels of ``rows`` (indices or a mask), in that order."""
        return VoxelTable(self.coords[rows], {k: v[rows] for k, v in self.attributes.items()}, self.metadata)
