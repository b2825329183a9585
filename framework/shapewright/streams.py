"""Random streams: one per (seed, stage, sample), so that batching, reordering or adding stages changes no other
draw."""

from __future__ import annotations

import hashlib

import torch


def stream(seed: int, *names: object, device: str = "cpu") -> torch.Generator:
    """A fresh generator for ``seed`` and a path of names, independent of every other path.

    >>> torch.rand(1, generator=stream(0, "a")).item() == torch.rand(1, generator=stream(0, "a")).item()
    True
    >>> torch.rand(1, generator=stream(0, "a", "b")).item() == torch.rand(1, generator=stream(0, "a", "c")).item()
    False
    """
    path = "\x1f".join([str(seed), *map(str, names)])
    mixed = int.from_bytes(hashlib.sha256(path.encode()).digest()[:8], "little") >> 1
    return torch.Generator(device).manual_seed(mixed)


def stage_stream(seed: int, stage: str, sample: object, device: str = "cpu") -> torch.Generator:
    """The stream that the runner hands to ``stage`` for ``sample``."""
    return stream(seed, "stage", stage, sample, device=device)
