from __future__ import annotations

import numpy as np
import pytest
from shapewright.bench import memory
from shapewright.bench.memory import PeakMemory

MEGABYTE = 1 << 20


def touch(megabytes: int) -> None:
    for _ in range(4):
        np.ones(megabytes * MEGABYTE // 4, np.uint8).sum()
    np.ones(megabytes * MEGABYTE, np.uint8).sum()


@pytest.mark.parametrize("exact", [True, False])
def test_the_peak_of_a_block_is_seen_although_it_was_freed_inside(exact: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not exact:  # the portable way: a thread samples the resident set
        monkeypatch.setattr(memory, "_CLEAR", memory.Path("/no/such/file"))
    for _ in range(2):  # the second time the allocator holds what the first freed
        with PeakMemory() as peak:
            for _ in range(1 if exact else 20):
                touch(80)
        assert 60 * MEGABYTE < peak.bytes < 250 * MEGABYTE


def test_small_blocks_are_seen_after_large_ones() -> None:
    touch(200)
    with PeakMemory() as peak:
        touch(20)
    assert 12 * MEGABYTE < peak.bytes < 60 * MEGABYTE
