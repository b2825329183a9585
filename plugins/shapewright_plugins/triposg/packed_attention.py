"""Self-attention of another plugin inside the flow transformer's blocks."""

from __future__ import annotations

from typing import Any

import torch
from shapewright.interfaces import Attention
from shapewright.states import Layout
from torch import Tensor, nn


class PackedAttention(nn.Module):
    """An :class:`~shapewright.Attention`, which works on packed rows, on a batch ``(B, N, C)`` of equal lengths."""

    def __init__(self, attention: Attention[Any]) -> None:
        super().__init__()
        self.attention = attention

    def forward(self, hidden: Tensor) -> Tensor:
        batch, count = hidden.shape[:2]
        offsets = torch.arange(batch + 1, device=hidden.device, dtype=torch.int32) * count
        mixed: Tensor = self.attention(hidden.flatten(0, 1), Layout(offsets))
        return mixed.view_as(hidden)


def packed_attention(source: Any, channels: int, heads: int, block: int) -> PackedAttention | None:
    """What ``source`` names, for one block; ``None`` where it names nothing.

    Raises:
        ConfigError: it is no attention, or lacks an option that the network asks for.
    """
    if source is None:
        return None
    from shapewright.nn.attention import make_attention  # its kernels are needed only here

    made = make_attention(source, channels=channels, heads=heads, qk_norm="shared", bias=False, block=block)
    return PackedAttention(made)
