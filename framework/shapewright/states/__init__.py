"""Values that flow between stages. Frozen, with their frame, resolution and sign convention on board.

Conventions: coordinates are int32 rows ``[batch, x, y, z]`` sorted by batch, then x, y, z; points are float in the
units of a :class:`Frame`; a signed distance is negative inside; features are ``(N, C)``. Everything that a learned
component passes on can be stacked into a batch and taken apart again without changing a bit.
"""

from __future__ import annotations

from .decoded import Decoded
from .dual_grid import FlexibleDualGrid
from .fields import FunctionField, GridField, ScalarField, SparseField
from .frame import Frame, State
from .latents import Condition, GridLatent, Latent, LatentSpec, SparseLatent, TokenLatent
from .layout import Layout
from .sparse import SparseTensor
from .supports import Grid, Support, Tokens, Voxels
from .surfaces import Mesh, SurfaceSamples
from .volumes import PBR_LAYOUT, OccupancyGrid, OccupancyVoxels, VoxelAttributes

__all__ = [  # noqa: RUF022 - in the order of the documentation
    "Frame",
    "State",
    "Mesh",
    "SurfaceSamples",
    "SparseTensor",
    "Tokens",
    "Grid",
    "Voxels",
    "Support",
    "LatentSpec",
    "TokenLatent",
    "GridLatent",
    "SparseLatent",
    "Latent",
    "Condition",
    "Layout",
    "OccupancyGrid",
    "OccupancyVoxels",
    "VoxelAttributes",
    "PBR_LAYOUT",
    "ScalarField",
    "FunctionField",
    "GridField",
    "SparseField",
    "FlexibleDualGrid",
    "Decoded",
]
