"""What every value that flows between components keeps to, whoever made it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor

from ..states import Condition, Frame, Mesh, SparseTensor, Voxels
from .check import require
from .values import floats


def require_well_formed(value: Any, where: str) -> None:
    """Finite numbers; sparse coordinates int32, sorted, none twice, within the lattice; faces that exist; a frame."""
    require(value is not None, f"{where}: None")
    for path, tensor in floats(value):
        bad = int((~torch.isfinite(tensor)).sum())
        require(not bad, f"{where}: {bad} of {tensor.numel()} values of {path or 'it'} are not finite")
    if hasattr(type(value), "tag"):
        frame = getattr(value, "frame", None)
        require(isinstance(frame, Frame), f"{where}: a {type(value).__name__} without a frame")
    _visit(value, where)


def _visit(value: Any, where: str) -> None:
    if isinstance(value, Mesh):
        _mesh(value, where)
    if isinstance(value, Condition):
        _condition(value, where)
    coords = getattr(value, "coords", None)
    if isinstance(coords, Tensor) and coords.ndim == 2 and coords.shape[1] == 4:
        _coords(coords, value, where)
    if is_dataclass(value) and not isinstance(value, type):
        for f in fields(value):
            _visit(getattr(value, f.name), f"{where}.{f.name}")
    elif isinstance(value, tuple | list):
        for index, item in enumerate(value):
            _visit(item, f"{where}.{index}")
    elif isinstance(value, Mapping):
        for key, item in value.items():
            _visit(item, f"{where}.{key}")


def _mesh(mesh: Mesh, where: str) -> None:
    if len(mesh.faces):
        least, most = int(mesh.faces.min()), int(mesh.faces.max())
        require(
            least >= 0 and most < len(mesh.vertices),
            f"{where}: faces name vertices {least}..{most}, there are {len(mesh.vertices)}",
        )
    for name, attribute in mesh.attributes.items():
        require(
            len(attribute) == len(mesh.vertices),
            f"{where}: attribute {name!r} has {len(attribute)} rows for {len(mesh.vertices)} vertices",
        )


def _condition(condition: Condition, where: str) -> None:
    require(condition.tokens.ndim == 3, f"{where}: tokens must be (B, T, C), not {tuple(condition.tokens.shape)}")
    require(
        condition.null.ndim == 3 and condition.null.shape[::2] == condition.tokens.shape[::2],
        f"{where}: null is {tuple(condition.null.shape)} beside tokens {tuple(condition.tokens.shape)}",
    )
    mask = condition.mask
    require(
        mask is None or (mask.dtype == torch.bool and mask.shape == condition.tokens.shape[:2]),
        f"{where}: a mask is bool (B, T) as the tokens are",
    )


def _coords(coords: Tensor, value: Any, where: str) -> None:
    require(coords.dtype == torch.int32, f"{where}: coords are {coords.dtype}, not int32")
    rows = coords.long().cpu()
    if len(rows) > 1:
        size = int(rows.max()) + 1
        keys = ((rows[:, 0] * size + rows[:, 1]) * size + rows[:, 2]) * size + rows[:, 3]
        steps = keys.diff()
        require(bool((steps >= 0).all()), f"{where}: coords are not sorted by batch, x, y, z")
        require(bool((steps > 0).all()), f"{where}: coords hold the same place twice")
    if len(rows):
        resolution = getattr(value, "resolution", None)
        # Lattice points go up to the resolution, cells to one less; a state tells which by its own checks.
        limit = resolution + (0 if isinstance(value, Voxels) else 1) if isinstance(resolution, int) else None
        least, most = int(rows[:, 1:].min()), int(rows[:, 1:].max())
        require(
            least >= 0 and (limit is None or most < limit),
            f"{where}: coords run from {least} to {most} at resolution {resolution}",
        )
        batch = getattr(value, "batch_size", None)
        require(
            not isinstance(batch, int) or int(rows[:, 0].max()) < batch,
            f"{where}: batch index {int(rows[:, 0].max())} in a batch of {batch}",
        )
    feats = getattr(value, "feats", None)
    require(
        not isinstance(value, SparseTensor) or feats is None or feats.device == coords.device,
        f"{where}: coords and feats are on different devices",
    )
