"""Softmax attention between pairs of packed segments of any length, exact, with log-sum-exp on request.

Backends, chosen per call:

- ``torch``: segments of equal length in one call of PyTorch's fused attention; any device and float dtype.
- ``math``: the same with explicit probabilities, which can be differentiated twice (eikonal losses).
- ``triton``: one launch for all segments on CUDA (float16, bfloat16, float32), or in Triton's interpreter.
- ``flash``: the flash kernel that PyTorch ships for CUDA; float16 and bfloat16, head width a multiple of 8 up to 256.

``auto`` is torch on CPU; on CUDA flash where it applies, otherwise triton where it is installed and applies, otherwise
torch.
"""

from __future__ import annotations

import math
import os
from importlib.util import find_spec
from typing import Literal, overload

import torch
from torch import Tensor

from .varlen_attention_segments import SegmentPairs, segment_pairs
from .varlen_attention_torch import attention_in_groups

Backend = Literal["auto", "torch", "math", "triton", "flash"]
BACKENDS = ("auto", "torch", "math", "triton", "flash")
HAS_TRITON = find_spec("triton") is not None
DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


@overload
def varlen_attention(
    q: Tensor, k: Tensor, v: Tensor, offsets_q: Tensor | SegmentPairs, offsets_k: Tensor | None = None, *,
    scale: float | None = None, return_lse: Literal[False] = False, backend: str = "auto",
) -> Tensor: ...  # fmt: skip
@overload
def varlen_attention(
    q: Tensor, k: Tensor, v: Tensor, offsets_q: Tensor | SegmentPairs, offsets_k: Tensor | None = None, *,
    scale: float | None = None, return_lse: Literal[True], backend: str = "auto",
) -> tuple[Tensor, Tensor]: ...  # fmt: skip
def varlen_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    offsets_q: Tensor | SegmentPairs,
    offsets_k: Tensor | None = None,
    *,
    scale: float | None = None,
    return_lse: bool = False,
    backend: str = "auto",
) -> Tensor | tuple[Tensor, Tensor]:
    """``softmax(q k^T scale) v`` inside every pair of segments.

    Args:
        q: ``(Tq, Hq, d)`` float.
        k, v: ``(Tk, Hkv, d)`` and ``(Tk, Hkv, dv)``, dtype and device of ``q``; ``Hq`` is a multiple of ``Hkv``, and
            query head ``h`` uses key head ``h * Hkv // Hq``.
        offsets_q: ``(B + 1,)`` int32 or int64, ascending from 0 to ``Tq``; or what :func:`.segment_pairs` made of both
            offsets, which saves reading them in every call.
        offsets_k: the same for the keys; ``None`` where they are those of the queries.
        scale: ``1 / sqrt(d)`` by default.
        return_lse: also return the natural log-sum-exp of the scaled scores, ``(Hq, Tq)``, float32 for half types.
    Returns:
        ``(Tq, Hq, dv)``. Queries whose segment has no keys get 0 (and ``-inf``). Differentiable once, the log-sum-exp
        too (not with ``flash``); with ``math`` any number of times.
    Raises:
        ValueError, TypeError: naming the argument.

    >>> q, offsets = torch.randn(5, 2, 4), torch.tensor([0, 2, 5])
    >>> varlen_attention(q, q, q, offsets).shape
    torch.Size([5, 2, 4])
    """
    _check(q, k, v)
    if isinstance(offsets_q, SegmentPairs):
        if offsets_k is not None:
            raise ValueError("offsets_k is given twice: offsets_q already holds pairs of segments")
        pairs = offsets_q
    else:
        pairs = segment_pairs(offsets_q, offsets_k, q.device)
    for rows, total, name, what in (
        (q, pairs.total_q, "offsets_q", "q"),
        (k, pairs.total_k, "offsets_k", "k"),
    ):
        if len(rows) != total:
            raise ValueError(f"{name} ends at {total} but {what} has {len(rows)} rows")
    scale = 1 / math.sqrt(q.shape[2]) if scale is None else float(scale)
    chosen = _backend(backend, q, k, v, pairs, return_lse)
    if chosen == "triton":
        from .varlen_attention_triton import attention_by_tiles

        out, lse = attention_by_tiles(q, k, v, pairs, scale)
    elif chosen == "flash":
        out, lse = _flash(q, k, v, pairs, scale)
    else:
        out, found = attention_in_groups(q, k, v, pairs, scale, return_lse=return_lse, explicit=chosen == "math")
        if found is None:
            return out
        lse = found
    return (out, lse) if return_lse else out


def _check(q: Tensor, k: Tensor, v: Tensor) -> None:
    for name, value in (("q", q), ("k", k), ("v", v)):
        if value.ndim != 3:
            raise ValueError(f"{name} must be (rows, heads, channels), not {tuple(value.shape)}")
        if value.dtype not in DTYPES:
            raise TypeError(f"{name} must be float16, bfloat16, float32 or float64, not {value.dtype}")
        if value.dtype != q.dtype:
            raise TypeError(f"{name} is {value.dtype} but q is {q.dtype}; cast one of them")
        if value.device != q.device:
            raise ValueError(f"{name} is on {value.device} but q is on {q.device}; move one of them")
    if k.shape[2] != q.shape[2] or q.shape[2] == 0:
        raise ValueError(f"k has {k.shape[2]} channels a head but q has {q.shape[2]}")
    if v.shape[:2] != k.shape[:2]:
        raise ValueError(f"v has (rows, heads) {tuple(v.shape[:2])} but k has {tuple(k.shape[:2])}")
    if k.shape[1] == 0 or q.shape[1] % k.shape[1]:
        raise ValueError(f"q has {q.shape[1]} heads, which is no multiple of the {k.shape[1]} heads of k")


def _backend(asked: str, q: Tensor, k: Tensor, v: Tensor, pairs: SegmentPairs, return_lse: bool) -> str:
    if asked not in BACKENDS:
        raise ValueError(f"backend must be one of {', '.join(BACKENDS)}, not {asked!r}")
    if asked == "auto" and q.device.type != "cuda":
        return "torch"
    if asked in ("torch", "math"):
        return asked
    flash, triton = _without_flash(q, k, v, pairs, return_lse), _without_triton(q, v)
    if asked == "auto":
        return "flash" if not flash else "triton" if not triton else "torch"
    reason = flash if asked == "flash" else triton
    if reason:
        raise ValueError(f"backend={asked!r} cannot run here: {reason}")
    return asked


def _without_flash(q: Tensor, k: Tensor, v: Tensor, pairs: SegmentPairs, return_lse: bool) -> str:
    """Why the flash kernel does not apply, or nothing."""
    if q.device.type != "cuda":
        return "it needs CUDA"
    if q.dtype not in (torch.float16, torch.bfloat16):
        return "it needs float16 or bfloat16"
    if q.shape[2] % 8 or q.shape[2] > 256 or v.shape[2] != q.shape[2]:
        return "it needs heads of equal width, a multiple of 8 up to 256"
    if pairs.has_empty:
        return "it needs segments that all hold queries and keys"
    if return_lse and torch.is_grad_enabled() and any(x.requires_grad for x in (q, k, v)):
        return "its log-sum-exp has no gradient"
    return ""


def _without_triton(q: Tensor, v: Tensor) -> str:
    """Why the Triton kernels do not apply, or nothing."""
    if not HAS_TRITON:
        return "the package triton is not installed"
    if q.device.type != "cuda" and os.environ.get("TRITON_INTERPRET") != "1":
        return "it needs CUDA, or TRITON_INTERPRET=1"
    if q.dtype == torch.float64:
        return "it has no float64"
    if q.dtype == torch.bfloat16 and q.device.type != "cuda":
        return "its interpreter cannot multiply bfloat16"
    if max(q.shape[2], v.shape[2]) > 256:
        return "it takes heads of at most 256 channels"
    return ""


def _flash(q: Tensor, k: Tensor, v: Tensor, pairs: SegmentPairs, scale: float) -> tuple[Tensor, Tensor]:
    found = torch.ops.aten._flash_attention_forward(
        q, k, v, pairs.offsets("q"), pairs.offsets("k"), pairs.longest_q, pairs.longest_k, 0.0, False, False,
        scale=scale,
    )  # fmt: skip
    return found[0], found[1]
