"""Run independent chunks of a kernel on Python threads: compiled code releases the GIL, no threading layer is needed.

Nothing global is set and torch's own threads are left alone. Every chunk owns its output, so results do not depend
on the number of threads.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def thread_count(threads: int | None = None) -> int:
    """``threads``, or the number of processors this process may run on when ``None``."""
    if threads is not None:
        if threads < 1:
            raise ValueError(f"threads must be at least 1, not {threads}")
        return threads
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def run_chunks(work: Callable[[Item], Result], chunks: Iterable[Item], threads: int | None = None) -> list[Result]:
    """``[work(chunk) for chunk in chunks]`` on several threads; results in the order of ``chunks``."""
    items = list(chunks)
    count = min(thread_count(threads), len(items))
    if count <= 1:
        return [work(item) for item in items]
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(work, items))


def spans(total: int, size: int) -> list[tuple[int, int]]:
    """Half-open ranges of at most ``size`` that cover ``0..total``.

    >>> spans(5, 2)
    [(0, 2), (2, 4), (4, 5)]
    """
    return [(start, min(start + size, total)) for start in range(0, total, size)]
