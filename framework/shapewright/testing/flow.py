"""Samplers: flows whose answer is known."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..interfaces import Velocity
from ..streams import stream
from .check import Check, require
from .subject import Subject
from .values import difference

RELATIVE, ABSOLUTE = 1e-4, 1e-5
SHAPE = (2, 6, 4)


@dataclass
class Still:
    """No velocity; notes when it is asked."""

    times: list[float] = field(default_factory=list)

    def __call__(self, x: Tensor, t: float, *, conditional: bool) -> Tensor:
        self.times.append(float(t))
        return torch.zeros_like(x)


@dataclass(frozen=True)
class Steady:
    """One velocity everywhere and always, for both branches of guidance."""

    velocity: Tensor

    def __call__(self, x: Tensor, t: float, *, conditional: bool) -> Tensor:
        return self.velocity.to(x).expand_as(x)


@dataclass(frozen=True)
class Bent:
    """A velocity that depends on place and time, entry by entry; the two branches of guidance differ."""

    def __call__(self, x: Tensor, t: float, *, conditional: bool) -> Tensor:
        return torch.sin(x + t) if conditional else 0.5 * torch.cos(x)


def _noise(name: str = "noise", dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(SHAPE, generator=stream(0, name)).to(dtype)


def _integrate(subject: Subject, model: Velocity, noise: Tensor, steps: int = 5, guidance: float = 3.0) -> Tensor:
    found: Tensor = subject.component.integrate(model, noise.clone(), steps=steps, guidance=guidance)
    return found


def outputs(subject: Subject) -> None:
    """What comes out has the shape of the noise and is finite."""
    noise = _noise()
    found = _integrate(subject, Bent(), noise)
    require(isinstance(found, Tensor), f"integrate gives a {type(found).__name__}, not a tensor")
    require(found.shape == noise.shape, f"noise {tuple(noise.shape)} became {tuple(found.shape)}")
    require(bool(torch.isfinite(found).all()), "what comes out is not finite")


def deterministic(subject: Subject) -> None:
    """The same noise gives the same bits."""
    found = difference(*(_integrate(subject, Bent(), _noise()) for _ in range(2)))
    require(not found, f"the same noise twice: {found}")


def pure(subject: Subject) -> None:
    """The noise and the global random state stay as they were."""
    noise, state = _noise(), torch.get_rng_state()
    before = noise.clone()
    try:
        subject.component.integrate(Bent(), noise, steps=5, guidance=3.0)
        same = torch.equal(torch.get_rng_state(), state)
    finally:
        torch.set_rng_state(state)
    require(torch.equal(noise, before), "the noise that was passed in is changed")
    require(same, "torch's global random state is drawn from or seeded")


def times(subject: Subject) -> None:
    """The model is asked at times in [0, 1], in one direction."""
    still = Still()
    _integrate(subject, still, _noise(), steps=7)
    require(still.times, "the model is never asked")
    require(all(0 <= t <= 1 for t in still.times), f"the model is asked at {still.times}, outside 0..1")
    distinct = list(_distinct(still.times))
    require(len(distinct) > 1, "seven steps ask the model at one time only")
    forward = distinct[-1] > distinct[0]
    require(distinct == sorted(distinct, reverse=not forward), f"time runs to and fro: {distinct}")


def _distinct(times: list[float]) -> Iterator[float]:
    last = None
    for t in times:
        if t != last:
            yield t
        last = t


def straight(subject: Subject) -> None:
    """Along one velocity, and whatever the guidance where both branches agree, a unit of time is covered."""
    noise, velocity = _noise(), _noise("velocity")
    found = difference(_integrate(subject, Still(), noise), noise, relative=RELATIVE, absolute=ABSOLUTE)
    require(not found, f"without any velocity the noise is changed: {found}")
    for steps in (1, 6):
        moved = _integrate(subject, Steady(velocity), noise, steps=steps) - noise
        ends = [difference(moved, sign * velocity, relative=1e-3, absolute=1e-4) for sign in (1, -1)]
        share = float((moved * velocity).sum() / velocity.square().sum())
        require("" in ends, f"{steps} step(s) at one velocity cover {abs(share):.3g} of it, not 1")


def batching(subject: Subject) -> None:
    """A sample gets in a batch what it gets alone."""
    noise = _noise()
    whole = _integrate(subject, Bent(), noise)
    for index in range(len(noise)):
        alone = _integrate(subject, Bent(), noise[index : index + 1])
        found = difference(whole[index : index + 1], alone, relative=RELATIVE, absolute=ABSOLUTE)
        require(not found, f"sample {index} of a batch against alone: {found}")


def dtype(subject: Subject) -> None:
    """Single in, single out; double in, double out."""
    for precision in (torch.float32, torch.float64):
        found = _integrate(subject, Bent(), _noise(dtype=precision)).dtype
        require(found == precision, f"noise in {precision} became {found}")


OUTPUTS = Check("outputs", "the result has the shape of the noise and is finite", outputs, basic=True)
DETERMINISTIC = Check("deterministic", "the same noise gives the same bits", deterministic, True, "deterministic")
CHECKS = (
    Check("pure", "the noise and the global random state stay as they were", pure),
    Check("dtype", "single precision in, single out; double in, double out", dtype),
    Check("times", "the model is asked at times in [0, 1], in one direction", times),
    Check("straight", "a constant velocity is covered once, in any number of steps", straight),
    Check("batching", "a sample gets in a batch what it gets alone", batching),
)
