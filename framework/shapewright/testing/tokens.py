"""Attention: what packing, order and length of sequences may not change."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .check import Check, require
from .examples import context_arguments, packed, token_samples
from .subject import Call, Subject
from .values import difference

RELATIVE, ABSOLUTE = 1e-4, 1e-5


def _mix(subject: Subject, arguments: dict[str, Any]) -> Tensor:
    found: Tensor = subject.run(Call("tokens", "forward", arguments))
    return found.detach()


def shape(subject: Subject) -> None:
    """As many tokens and channels come out as go in."""
    for label, sample in token_samples(subject):
        found = _mix(subject, {**packed([sample]), **context_arguments(subject, 1)})
        require(found.shape == sample[0].shape, f"{label}: {tuple(sample[0].shape)} in, {tuple(found.shape)} out")


def batching(subject: Subject) -> None:
    """A packed sequence gets what it gets alone."""
    samples = [sample for _, sample in token_samples(subject)]
    whole = _mix(subject, {**packed(samples), **context_arguments(subject, len(samples))})
    parts = torch.split(whole, [len(hidden) for hidden, _ in samples])
    for index, (sample, part) in enumerate(zip(samples, parts, strict=True)):
        alone = _mix(subject, {**packed([sample]), **context_arguments(subject, 1, index)})
        found = difference(part, alone, relative=RELATIVE, absolute=ABSOLUTE)
        require(not found, f"sequence {index} of {len(samples)}, packed against alone: {found}")


def token_order(subject: Subject) -> None:
    """Tokens in another order, with their coordinates, come out in that order and are otherwise the same.

    Without coordinates order may carry meaning, so there is nothing to look at.
    """
    for label, (hidden, coords) in token_samples(subject):
        if coords is None:
            continue
        order = torch.randperm(len(hidden), generator=subject.rng("order"))
        context = context_arguments(subject, 1)
        one = _mix(subject, {**packed([(hidden, coords)]), **context})
        other = _mix(subject, {**packed([(hidden[order], coords[order])]), **context})
        found = difference(other, one[order], relative=RELATIVE, absolute=ABSOLUTE)
        require(not found, f"{label} in another order: {found}")


def lengths(subject: Subject) -> None:
    """No sequence, an empty sequence among others and a single token are served like any other."""
    _, (hidden, coords) = token_samples(subject)[0]

    def part(count: int) -> tuple[Tensor, Tensor | None]:
        return hidden[:count], None if coords is None else coords[:count]

    for name, samples in {
        "an empty sequence": [part(0)],
        "a single token": [part(1)],
        "an empty sequence between two": [part(len(hidden)), part(0), part(1)],
    }.items():
        arguments = {**packed(samples), **context_arguments(subject, len(samples))}
        try:
            found = _mix(subject, arguments)
        except Exception as error:
            require(False, f"{name}: {type(error).__name__}: {' '.join(str(error).split())}")
            return
        wanted = (sum(len(h) for h, _ in samples), hidden.shape[1])
        require(tuple(found.shape) == wanted, f"{name}: {tuple(found.shape)} comes out, not {wanted}")
        require(bool(torch.isfinite(found).all()), f"{name}: what comes out is not finite")


SHAPE = Check("shape", "as many tokens and channels come out as go in", shape, basic=True)
CHECKS = (
    Check("batching", "a packed sequence gets what it gets alone", batching),
    Check("token_order", "tokens with coordinates may come in any order", token_order),
    Check("lengths", "no sequence, an empty one among others, a single token", lengths),
)
