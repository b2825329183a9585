"""Image tokens as a sparse condition: the patches that show the object, with their places in the image."""

from __future__ import annotations

import torch
from torch import Tensor

from shapewright.errors import StateError


def foreground_tokens(tokens: Tensor, mask: Tensor, special: int) -> tuple[Tensor, Tensor]:
    """Keep the special tokens (class, registers) and the patches of the foreground.

    Args:
        tokens: ``(B, special + P * P, C)``, patches row by row.
        mask: ``(B, P, P)`` bool, row and column of a patch.
        special: tokens before the first patch.
    Returns:
        rows ``(S, C)`` and int32 ``(S, 4)``: special tokens at ``[batch, 0, 0, 1]``, patches at ``[batch, column, row,
        0]``; sample by sample, patches in their order.
    Raises:
        StateError: the shapes do not belong together.

    >>> mask = torch.tensor([[[True, False], [False, True]]])
    >>> foreground_tokens(torch.zeros(1, 5, 8), mask, 1)[1].tolist()
    [[0, 0, 0, 1], [0, 0, 0, 0], [0, 1, 1, 0]]
    """
    if mask.ndim != 3 or mask.dtype != torch.bool:
        raise StateError(f"mask must be (B, rows, columns) bool, not {mask.dtype} {tuple(mask.shape)}")
    if tokens.ndim != 3 or tokens.shape[:2] != (len(mask), special + mask[0].numel() if len(mask) else special):
        raise StateError(
            f"tokens must be (B, {special} + patches, C) for a mask {tuple(mask.shape)}, not {tuple(tokens.shape)}"
        )
    batch, _, columns = mask.shape
    kept = torch.cat([mask.new_ones(batch, special), mask.flatten(1)], dim=1)
    sample, place = kept.nonzero().unbind(1)
    patch = (place - special).clamp(min=0)
    is_special = place < special
    width = max(columns, 1)
    column = torch.where(is_special, 0, patch % width)
    row = torch.where(is_special, 0, torch.div(patch, width, rounding_mode="floor"))
    return tokens[kept], torch.stack([sample, column, row, is_special.long()], dim=1).int()
