"""Peak memory of one piece of work in this process."""

from __future__ import annotations

import ctypes
import gc
import sys
import threading
from pathlib import Path
from types import TracebackType

import psutil

_CLEAR = Path("/proc/self/clear_refs")
_STATUS = Path("/proc/self/status")


def _status_bytes(name: str) -> int | None:
    for line in _STATUS.read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) * 1024
    return None


def give_back_freed_memory() -> None:
    """Ask the allocator to return what it keeps of freed memory to the system; nothing happens where it cannot."""
    if sys.platform == "linux" and hasattr(library := ctypes.CDLL(None), "malloc_trim"):
        library.malloc_trim(0)


class PeakMemory:
    """Growth of the resident set at its peak over the start of the block, in bytes (``peak.bytes`` after it).

    Linux keeps the exact high-water mark, which is reset on entry; elsewhere a thread samples every 5 ms. Memory that
    an allocator kept from earlier work counts as already there, so small figures are lower bounds. So does garbage that
    waits for collection without ``collect``, which takes a tenth of a second.
    """

    bytes: int = 0

    def __init__(self, *, collect: bool = True) -> None:
        self._collect = collect

    def __enter__(self) -> PeakMemory:
        if self._collect:
            gc.collect()
        give_back_freed_memory()
        self._process = psutil.Process()
        self._exact = False
        self._start = self._process.memory_info().rss
        self._highest = self._start
        try:
            _CLEAR.write_text("5")
            self._exact = _status_bytes("VmHWM") is not None
        except OSError:
            self._exact = False
        if not self._exact:
            self._stop = threading.Event()
            self._thread = threading.Thread(target=self._sample, daemon=True)
            self._thread.start()
        return self

    def _sample(self) -> None:
        while not self._stop.wait(0.005):
            self._highest = max(self._highest, self._process.memory_info().rss)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._exact:
            highest = _status_bytes("VmHWM") or self._start
        else:
            self._stop.set()
            self._thread.join()
            highest = max(self._highest, self._process.memory_info().rss)
        self.bytes = max(0, highest - self._start)
