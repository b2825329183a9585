"""Two linear layers with an activation between them, applied to rows or tokens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, overload

from torch import Tensor, nn

from shapewright.errors import ConfigError
from shapewright.states import SparseTensor

from .linear import check_channels

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "gelu": lambda: nn.GELU(approximate="tanh"),
    "silu": nn.SiLU,
    "relu": nn.ReLU,
}


class FeedForward(nn.Module):
    """``Linear(C, int(ratio C))``, activation, ``Linear(.., out)`` on ``(..., C)`` or the features of a sparse tensor.

    Keys ``mlp.0.*`` and ``mlp.2.*``. GELU is the tanh form.

    Raises:
        ConfigError: an unknown activation.
    """

    def __init__(
        self, channels: int, ratio: float = 4.0, *, out_channels: int | None = None,
        activation: Literal["gelu", "silu", "relu"] = "gelu",
    ) -> None:  # fmt: skip
        super().__init__()
        if activation not in ACTIVATIONS:
            raise ConfigError(f"activation must be one of {', '.join(ACTIVATIONS)}, not {activation!r}")
        hidden = int(channels * ratio)
        self.channels = channels
        self.mlp = nn.Sequential(
            nn.Linear(channels, hidden), ACTIVATIONS[activation](), nn.Linear(hidden, out_channels or channels)
        )

    @overload
    def forward(self, x: Tensor) -> Tensor: ...

    @overload
    def forward(self, x: SparseTensor) -> SparseTensor: ...

    def forward(self, x: Tensor | SparseTensor) -> Tensor | SparseTensor:
        feats = x.feats if isinstance(x, SparseTensor) else x
        check_channels(feats, self.channels, "x")
        result: Tensor = self.mlp(feats)
        return x.replace(result) if isinstance(x, SparseTensor) else result
