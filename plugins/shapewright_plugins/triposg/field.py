"""The decoded field: a function of space that remembers what all its points have in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from shapewright.errors import StateError
from shapewright.states import Frame, FunctionField
from torch import Tensor

from .key_selection import KeySelection
from .vae_networks import DecodedTokens

if TYPE_CHECKING:
    from .vae import TripoSGVAE

SATURATION = 8.3125
"""A logit of this size is far from the surface: the published band is where ``2 sigmoid - 1`` in half precision is not
yet 1 (specification 10.1)."""
PROBES = 9
"""Points an axis on each side of the box that decide which sign is outside."""


@dataclass(frozen=True, slots=True, eq=False)
class LatentFunction:
    """``(..., 3)`` points to ``(...)`` values, negative inside; differentiable twice in points and latent."""

    vae: TripoSGVAE
    tokens: DecodedTokens
    sign: float = 1.0

    def __call__(self, points: Tensor) -> Tensor:
        if points.shape[-1] != 3:
            raise StateError(f"points must be (..., 3), not {tuple(points.shape)}")
        flat = points.reshape(1, -1, 3).to(self.tokens.hidden.device)
        config = self.vae.config
        # Fused attention cannot be differentiated twice, and only the gradient by points is ever differentiated again.
        explicit = torch.is_grad_enabled() and points.requires_grad
        parts = []
        for part in torch.split(flat, config.query_chunk, dim=1):
            selection = KeySelection() if config.topk_keys and not explicit else None
            parts.append(self.vae.decoder(part, self.tokens, explicit=explicit, selection=selection))
        values = torch.cat(parts, dim=1).reshape(points.shape[:-1])
        values = values.to(torch.promote_types(values.dtype, torch.float32)) * self.sign
        return config.truncation * torch.tanh(values / 2) if config.values == "distance" else values


@dataclass(frozen=True, slots=True)
class LatentField(FunctionField):
    """A decoded shape, or a batch of them that :meth:`unbind` takes apart."""

    saturation: float | None = None
    """Values beyond this say only that the surface is far; ``None`` where they are distances."""
    samples: tuple[LatentField, ...] = ()
    """The shapes of a batch of several; ``query`` then answers for none of them."""

    def query(self, points: Tensor) -> Tensor:
        if self.samples:
            raise StateError(
                f"the field holds {len(self.samples)} shapes; query or extract each of its unbind() by itself"
            )
        return self.function(points)

    @classmethod
    def stack(cls, items: Sequence[LatentField]) -> LatentField:
        """One batch of several."""
        parts = tuple(part for item in items for part in item.unbind())
        return parts[0] if len(parts) == 1 else LatentField(_no_function, parts[0].frame, parts[0].saturation, parts)

    def unbind(self) -> list[LatentField]:
        """The samples of the batch."""
        return list(self.samples) or [self]


def _no_function(points: Tensor) -> Tensor:
    raise StateError("a batch of fields is no function; take it apart with unbind()")


def decoded_field(vae: TripoSGVAE, tokens: DecodedTokens) -> LatentField:
    """The field of a batch of decoded tokens."""
    config = vae.config
    size = config.bounds
    frame = Frame((-size, -size, -size), (size, size, size))
    saturation = SATURATION if config.values == "logits" else None
    fields = []
    for index in range(len(tokens.hidden)):
        function = LatentFunction(vae, tokens.sample(index))
        sign = {"negative-inside": 1.0, "positive-inside": -1.0}.get(config.sign) or outside_sign(function, size)
        fields.append(LatentField(LatentFunction(vae, function.tokens, sign), frame, saturation))
    return LatentField.stack(fields)


def outside_sign(function: LatentFunction, size: float) -> float:
    """The sign that the median value on the surface of the box has: what lies there is outside."""
    ticks = torch.linspace(-size, size, PROBES, device=function.tokens.hidden.device)
    lattice = torch.stack(torch.meshgrid(ticks, ticks, ticks, indexing="ij"), dim=-1).reshape(-1, 3)
    border = lattice[(lattice.abs() == size).any(dim=1)]
    with torch.no_grad():
        return -1.0 if float(function(border).median()) < 0 else 1.0
