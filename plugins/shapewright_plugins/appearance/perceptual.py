"""LPIPS, where its package and its weights are on this machine; nothing is fetched."""

from __future__ import annotations

import warnings
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from shapewright.errors import ConfigError, MissingExtraError
from shapewright.interfaces import MetricDefinition
from shapewright_kernels.arrays import Floats

from .pictures import Picture

BACKBONE = "alexnet-owt-7be5be79.pth"
"""File name of torchvision's AlexNet, which the published LPIPS builds on."""


def distance(definition: str) -> MetricDefinition:
    """A perceptual distance (AlexNet, version 0.1), 0 for equal pictures; failed cells count as 1."""
    return MetricDefinition(definition, False, "1", failure=1.0, symmetric=True)


def require_lpips() -> None:
    """Raises MissingExtraError without the package, ConfigError without the weights of its backbone."""
    if find_spec("lpips") is None:
        raise MissingExtraError("lpips", "lpips", "option lpips of the rendered metrics")
    weights = Path(torch.hub.get_dir()) / "checkpoints" / BACKBONE
    if not weights.is_file():
        raise ConfigError(
            f"option lpips of the rendered metrics needs {weights}: put torchvision's AlexNet weights there, or leave "
            "the option out"
        )


class PerceptualDistance:
    """LPIPS with AlexNet, version 0.1 (Zhang, Isola, Efros, Shechtman and Wang 2018)."""

    def __init__(self) -> None:
        require_lpips()
        package: Any = import_module("lpips")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it asks torchvision in a way that is out of date
            self._network: Any = package.LPIPS(net="alex", version="0.1", verbose=False).eval()

    def __call__(self, picture: Picture) -> float:
        """Mean over the views."""
        first, second = (_prepared(views) for views in picture)
        with torch.no_grad():
            return float(self._network(first, second).double().mean())


def _prepared(views: Floats) -> torch.Tensor:
    """``(B, 3, H, W)`` float32 in [-1, 1]."""
    return torch.from_numpy(views).float().permute(0, 3, 1, 2) * 2 - 1
