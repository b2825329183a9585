"""Run independent chunks of a kernel on Python threads: compiled code releases the GIL, no threading layer is needed.

Nothing global is set and torch's own threads are left alone. Every chunk owns its output, so results do not depend
on the number of threads.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
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


class OrderedPieces:
    """Places of pieces in one output when each piece learns its size while the others run.

    A piece knows where it starts once all pieces before it are counted, so pieces have to be begun in their order, as
    :func:`run_chunks` does; nothing is then copied to join them.
    """

    def __init__(self) -> None:
        self._ends = [0]
        self._failed = False
        self._changed = threading.Condition()

    @property
    def total(self) -> int:
        """Size of all pieces placed so far."""
        return self._ends[-1]

    def place(self, piece: int, size: int) -> tuple[int, int]:
        """Begin and end of ``piece``; waits until the pieces before it have been placed."""
        with self._changed:
            self._changed.wait_for(lambda: self._failed or len(self._ends) > piece)
            if self._failed:
                raise RuntimeError("another piece of the work failed")
            start = self._ends[piece]
            self._ends.append(start + size)
            self._changed.notify_all()
            return start, start + size

    @contextmanager
    def failing_together(self) -> Iterator[None]:
        """Around the work of one piece: where it raises, the pieces that wait for it do not wait for ever."""
        try:
            yield
        except BaseException:
            with self._changed:
                self._failed = True
                self._changed.notify_all()
            raise
