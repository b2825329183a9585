"""Gradient checkpointing: activations of a block are computed again in the backward pass instead of kept."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeVar

from torch.utils.checkpoint import checkpoint as _checkpoint

from shapewright.errors import ConfigError

Result = TypeVar("Result")


def checkpoint(block: Callable[..., Result], *arguments: Any, enabled: bool = True) -> Result:
    """``block(*arguments)``, its activations forgotten and recomputed where ``enabled``; any arguments, also sparse
    tensors and structures."""
    if not enabled:
        return block(*arguments)
    found: Result = _checkpoint(block, *arguments, use_reentrant=False)
    return found


def checkpointed_blocks(ratio: float, blocks: int) -> int:
    """How many of the first ``blocks`` to checkpoint so that about ``ratio`` of the activation memory is kept.

    Source: TRELLIS.2's elastic training: ``min(ceil((1 - ratio) n) + 1, n)``; a ratio of 1 keeps everything.

    >>> [checkpointed_blocks(ratio, 10) for ratio in (1.0, 0.75, 0.0)]
    [0, 4, 10]
    """
    if not 0 <= ratio <= 1:
        raise ConfigError(f"ratio must lie between 0 and 1, not {ratio}")
    return 0 if ratio == 1 else min(math.ceil((1 - ratio) * blocks) + 1, blocks)
