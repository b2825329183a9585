"""Mixed precision: which parameters of a network become 16 bit, and what autocast means for our own operators."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor, nn

from shapewright.errors import ConfigError
from shapewright.states import SparseTensor

Values = TypeVar("Values", Tensor, SparseTensor)
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def cast_products(module: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Cast weights and biases of linear layers and convolutions inside ``module``, in place.

    Norms and free parameters (position codes, gains) stay as they are: published networks keep those in float32. First
    and last layers stay in float32 where only the list of blocks is given.

    Raises:
        ConfigError: not a float type.
    """
    from .convolution import SparseConv3d

    if dtype not in FLOATS:
        raise ConfigError(f"dtype must be a float type, not {dtype}")
    kinds = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose3d, SparseConv3d)
    for part in module.modules():
        if isinstance(part, kinds):
            for parameter in part.parameters(recurse=False):
                parameter.data = parameter.data.to(dtype)
                if parameter.grad is not None:
                    parameter.grad.data = parameter.grad.data.to(dtype)
    return module


def cast_values(x: Values, dtype: torch.dtype) -> Values:
    """A tensor, or the features of a sparse tensor, in another type."""
    return x.replace(x.feats.to(dtype)) if isinstance(x, SparseTensor) else x.to(dtype)


def autocast_type(x: Tensor) -> torch.dtype | None:
    """The type that products of ``x`` run in under autocast; ``None`` where it is off or ``x`` is no 32- or 16-bit
    float."""
    if x.dtype not in FLOATS[:3] or not torch.is_autocast_enabled(x.device.type):
        return None
    return torch.get_autocast_dtype(x.device.type)
