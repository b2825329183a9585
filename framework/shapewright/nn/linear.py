"""Layers that act on each row alone: linear maps and activations on the features of sparse tensors."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from shapewright.errors import StateError
from shapewright.states import SparseTensor


class SparseLinear(nn.Linear):
    """``torch.nn.Linear`` on the features; keys ``weight``, ``bias``.

    Raises:
        StateError: the features have other channels than ``in_features``.
    """

    def forward(self, x: SparseTensor) -> SparseTensor:  # type: ignore[override]
        check_channels(x.feats, self.in_features)
        return x.replace(super().forward(x.feats))


class SparseActivation(nn.Module):
    """Any module that maps rows to rows, on the features."""

    def __init__(self, activation: nn.Module) -> None:
        super().__init__()
        self.activation = activation

    def forward(self, x: SparseTensor) -> SparseTensor:
        return x.replace(self.activation(x.feats))


class SparseSiLU(SparseActivation):
    """SiLU."""

    def __init__(self) -> None:
        super().__init__(nn.SiLU())


class SparseGELU(SparseActivation):
    """GELU, by its tanh form as all published systems use it."""

    def __init__(self) -> None:
        super().__init__(nn.GELU(approximate="tanh"))


class SparseTanh(SparseActivation):
    """Hyperbolic tangent."""

    def __init__(self) -> None:
        super().__init__(nn.Tanh())


def check_channels(feats: Tensor, wanted: int, name: str = "feats") -> None:
    """
    Raises:
        StateError: the last dimension is not ``wanted``.
    """
    if feats.shape[-1] != wanted:
        raise StateError(f"{name} has {feats.shape[-1]} channels but the layer takes {wanted}")


def zero_parameters(module: nn.Module) -> nn.Module:
    """All parameters zero, as the last layer of a residual branch begins."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.zero_()
    return module
