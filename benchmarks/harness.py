"""Time two or more ways to compute the same thing, in turns, in one process; compare what they return; note the peak.

A case is one operation on one mesh at one resolution. Its sides (ours and the peers) are first called once each: that
compiles, loads caches and starts thread pools, and gives the outputs that are compared. Then one call of each with its
peak memory, then rounds ours, peer, peer, ours, peer, peer, ...; the figures are medians over rounds.
"""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from statistics import median
from time import perf_counter, process_time
from typing import Any

from shapewright.bench.memory import PeakMemory


@dataclass(frozen=True)
class Scaled:
    """An output with seconds other than those of the call: for a peer that answers only part of the queries."""

    output: Any
    seconds: float


@dataclass(frozen=True)
class Side:
    """One way to compute something: ``call()`` returns its output, or a :class:`Scaled`."""

    name: str
    call: Callable[[], Any]


@dataclass(frozen=True)
class Case:
    """One row to measure."""

    operation: str
    mesh: str
    resolution: int | None
    ours: Callable[[], Any]
    peers: Sequence[Side]
    agree: Callable[[Any, Any], bool]
    """``agree(ours, peer)``: whether two outputs are the same within :attr:`tolerance`."""
    tolerance: str
    goals: Mapping[str, float] = field(default_factory=dict)
    """Wanted ratio by peer; ``"*"`` for whichever peer is the fastest."""
    units: Callable[[Any], int] | None = None
    """What our output holds (voxels, points): rows then tell seconds per million of them."""
    unit: str = ""
    seconds_per_million_goal: float | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Effort:
    """How long to measure one case."""

    repeats: int
    least: int
    budget: float
    """Seconds for all rounds of a case; once they are spent only ``least`` rounds are completed."""

    keep_slow_first: bool = False
    """Take the first call of a slow peer as its only round."""

    def slow(self, seconds: float) -> bool:
        """Whether a call takes so long that one round of it is enough, and its first call good for its peak."""
        return seconds > self.budget / 3


QUICK = Effort(repeats=3, least=2, budget=0.8, keep_slow_first=True)
FULL = Effort(repeats=5, least=3, budget=4.0)


@dataclass
class _Record:
    side: Side
    first: float = 0.0
    peak: int = 0
    equal: bool = True
    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def detail(self, ours: float, goal: float | None) -> dict[str, Any]:
        middle = median(self.wall)
        return {
            "name": self.side.name, "median_s": middle, "min_s": min(self.wall), "max_s": max(self.wall),
            "cpu_s": median(self.cpu), "first_call_s": self.first, "peak_bytes": self.peak, "equal": self.equal,
            "ratio": middle / ours, "goal": goal, "rounds": len(self.wall),
        }  # fmt: skip


def note(text: str) -> None:
    """One line on standard error."""
    print(text, file=sys.stderr, flush=True)


@cache
def _freeze(modules: int) -> None:
    """Keep what imported modules hold out of later collections, which take half a second each otherwise; anew whenever
    the number of ``modules`` changes."""
    gc.collect()
    gc.freeze()


def _release() -> None:
    """Give freed memory back to the system, so that the next peak does not hide in what an allocator kept."""
    _freeze(len(sys.modules))
    gc.collect()
    with suppress(OSError, AttributeError):  # another C library than glibc: peaks are lower bounds there
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def _timed(call: Callable[[], Any]) -> tuple[Any, float, float]:
    wall, cpu = perf_counter(), process_time()
    output = call()
    cpu = process_time() - cpu
    wall = perf_counter() - wall
    return (output.output, output.seconds, cpu) if isinstance(output, Scaled) else (output, wall, cpu)


def _first_call(record: _Record, effort: Effort) -> Any:
    _release()
    with PeakMemory() as peak:
        start = perf_counter()
        output, wall, cpu = _timed(record.side.call)
        record.first = perf_counter() - start
    record.peak = peak.bytes
    if effort.keep_slow_first and effort.slow(record.first):
        record.wall.append(wall)
        record.cpu.append(cpu)
    return output


def _first_calls(case: Case, records: list[_Record], effort: Effort) -> int | None:
    """Warm every side up, compare the outputs with ours, drop peers that raise; the units of our output."""
    reference = _first_call(records[0], effort)
    records[0].wall.clear()  # it may have compiled
    records[0].cpu.clear()
    count = None if case.units is None else case.units(reference)
    for record in records[1:]:
        try:
            output = _first_call(record, effort)
        except Exception as error:  # a peer may fail in any way: that is a note, not the end of the run
            note(f"  {case.operation}, {case.mesh}, {case.resolution}: {record.side.name} failed: {error}")
            record.first = -1.0
            continue
        record.equal = case.agree(reference, output)
        if not record.equal:
            note(f"  {case.operation}, {case.mesh}, {case.resolution}: {record.side.name} disagrees ({case.tolerance})")
    records[:] = [record for record in records if record.first >= 0]
    return count


def _fastest(peers: list[_Record]) -> _Record | None:
    """The fastest peer that agrees; the fastest of all where none does."""
    agreeing = [record for record in peers if record.equal] or peers
    return min(agreeing, key=lambda record: median(record.wall), default=None)


def measure(case: Case, effort: Effort) -> dict[str, Any]:
    """Measure one case: a row as docs/performance.md describes it."""
    records = [_Record(Side("shapewright", case.ours)), *(_Record(side) for side in case.peers)]
    count = _first_calls(case, records, effort)
    for record in records:
        if record is records[0] or not effort.slow(record.first):
            _release()
            with PeakMemory() as peak:
                output = record.side.call()
            record.peak = peak.bytes
            del output
    started = perf_counter()
    for turn in range(effort.repeats):
        if turn >= effort.least and perf_counter() - started > effort.budget:
            break
        for record in records:
            if record.wall and record is not records[0] and effort.slow(record.first):
                continue
            output, wall, cpu = _timed(record.side.call)
            record.wall.append(wall)
            record.cpu.append(cpu)
            del output
    ours, peers = records[0], records[1:]
    seconds = median(ours.wall)
    best = _fastest(peers)

    def goal(name: str) -> float | None:
        return case.goals.get(name, case.goals.get("*"))

    row: dict[str, Any] = {
        "operation": case.operation,
        "mesh": case.mesh,
        "resolution": case.resolution,
        "ours_s": seconds,
        "peer": best.side.name if best else None,
        "peer_s": median(best.wall) if best else None,
        "ratio": median(best.wall) / seconds if best else None,
        "goal": goal(best.side.name) if best else None,
        "ours_peak_bytes": ours.peak,
        "peer_peak_bytes": best.peak if best else None,
        "equal": best.equal if best else None,
        "ours_min_s": min(ours.wall),
        "ours_max_s": max(ours.wall),
        "ours_cpu_s": median(ours.cpu),
        "first_call_s": ours.first,
        "rounds": len(ours.wall),
        "tolerance": case.tolerance,
        "peers": [record.detail(seconds, goal(record.side.name)) for record in peers],
        **case.extra,
    }
    if count is not None:
        row |= {"units": count, "unit": case.unit, "seconds_per_million": seconds / max(count, 1) * 1e6}
        row["seconds_per_million_goal"] = case.seconds_per_million_goal
        row["bytes_per_unit"] = ours.peak / max(count, 1)
    return row
