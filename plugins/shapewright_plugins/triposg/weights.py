"""Published state dicts in and out: the order of attention rows. Files, folders and dtypes are shapewright.weights'."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from shapewright.errors import WeightsError
from shapewright.weights.fill import state_differences
from torch import Tensor, nn

from .attention import HeadAttention


def plain_rows(parts: Sequence[Tensor], heads: int) -> list[Tensor]:
    """Rows of interleaved projections, each head's together: published order to ours.

    ``parts`` are the weights ``(H d, C)`` (or biases) of ``[q, k, v]``, or of ``[k, v]`` in cross-attention.
    """
    joined = torch.cat(list(parts)).view(heads, len(parts), -1, *parts[0].shape[1:])
    return [joined[:, index].flatten(0, 1).contiguous() for index in range(len(parts))]


def published_rows(parts: Sequence[Tensor], heads: int) -> list[Tensor]:
    """Inverse of :func:`plain_rows`."""
    joined = torch.stack([part.view(heads, -1, *part.shape[1:]) for part in parts], dim=1).flatten(0, 2)
    return [part.contiguous() for part in joined.chunk(len(parts))]


def key_table(module: nn.Module) -> dict[str, tuple[int, ...]]:
    """Keys and shapes that a checkpoint for ``module`` has."""
    return {key: tuple(value.shape) for key, value in module.state_dict().items()}


def check_state(wanted: Mapping[str, Tensor], state: Mapping[str, Tensor], what: str) -> None:
    """Raise :class:`WeightsError` with all differences in one line."""
    problems = state_differences(wanted, state)
    if problems:
        count = f"{len(problems)} difference" + ("s" if len(problems) > 1 else "")
        raise WeightsError(f"{what} ({count}): " + "; ".join(problems))


def to_plain(module: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A published state dict with attention rows in our order; tensors that need no change are not copied."""
    return _reordered(module, state, plain_rows)


def to_published(module: nn.Module, state: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
    """The state dict of ``module`` (or ``state``, in our order) as a published checkpoint has it."""
    return _reordered(module, module.state_dict() if state is None else state, published_rows)


def load_published(module: nn.Module, state: Mapping[str, Tensor], *, what: str = "weights") -> None:
    """Fill ``module`` from a published state dict.

    Tensors become the parameters themselves, with their dtype and device, so that a module built on the meta device is
    filled without a second copy; attention projections are copied once for their order, layer by layer: where ``state``
    reads what is asked for, the copies are all there is.

    Raises:
        WeightsError: keys, shapes or kinds of numbers differ; all differences are listed.
    """
    check_state(module.state_dict(), state, f"{what} do not fit {type(module).__name__}")
    trained = {key: parameter.requires_grad for key, parameter in module.named_parameters()}
    module.load_state_dict(to_plain(module, state), assign=True)
    for key, parameter in module.named_parameters():
        parameter.requires_grad_(trained[key])


def _reordered(module: nn.Module, state: Mapping[str, Tensor], reorder: object) -> dict[str, Tensor]:
    assert callable(reorder)
    result: dict[str, Tensor] = {}
    for name, part in module.named_modules():
        if not isinstance(part, HeadAttention):
            continue
        prefix = f"{name}." if name else ""
        projections = ("to_q", "to_k", "to_v") if part.is_self else ("to_k", "to_v")
        for kind in ("weight", "bias"):
            keys = [f"{prefix}{projection}.{kind}" for projection in projections]
            if all(key in state for key in keys):
                rows = reorder([state[key] for key in keys], part.heads)
                result.update(zip(keys, rows, strict=True))
    return {key: result[key] if key in result else state[key] for key in state}
