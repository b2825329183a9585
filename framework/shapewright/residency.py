"""Where the networks of a run live, and when: on the device, parked in main memory, or nowhere.

``keep``
    Every network is on the device from the first stage to the last. Fastest.
``one-at-a-time``
    A network is read when a stage first needs it and is on the device only while a stage uses it; then it is parked
    in main memory if a later stage needs it again, and given up otherwise.
``offload``
    As above, but nothing is parked: what is needed again is read again from its files. Needs the least main memory.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Collection, Mapping
from time import perf_counter
from typing import Any

import torch

from .bench.memory import give_back_freed_memory
from .errors import ConfigError
from .weights.empty import empty, learned, on_meta, parameter_bytes

POLICIES = ("keep", "one-at-a-time", "offload")
CPU = torch.device("cpu")

Filler = Callable[[Any, torch.device], None]
Observer = Callable[[str, str, float, int], None]
"""Told ``("read" | "move" | "park" | "drop", alias, seconds, bytes)``."""


def place(part: Any, device: torch.device) -> None:
    """Move a network whose parameters have values."""
    part.to(device)


class Residency:
    """Keeps the components of one run where its policy wants them.

    Args:
        parts: components by alias; those without parameters are left alone. fillers: give an empty network its values
            on a device; a network without one has its values already and is moved, never
            dropped.
        policy: one of :data:`POLICIES`.
        device: where stages run.
        place: moves a filled network; tests put a recorder here.
    """

    def __init__(
        self,
        parts: Mapping[str, Any],
        fillers: Mapping[str, Filler] | None = None,
        *,
        policy: str = "keep",
        device: torch.device | str = "cpu",
        place: Callable[[Any, torch.device], None] = place,
        observe: Observer | None = None,
    ) -> None:
        if policy not in POLICIES:
            raise ConfigError(f"residency {policy!r} is unknown; there is {', '.join(POLICIES)}")
        self.parts = parts
        self.device = torch.device(device)
        self.policy = policy
        self._fillers = fillers or {}
        self._place = place
        self._observe = observe
        self._where: dict[str, torch.device | None] = {}
        """Device of every network; ``None`` where it has no values."""
        for alias, part in parts.items():
            if learned(part):
                self._where[alias] = None if on_meta(part) else next(part.parameters()).device

    def where(self, alias: str) -> torch.device | None:
        """Device of a network, ``None`` where it holds no values (or has no parameters)."""
        return self._where.get(alias)

    def ready(self, now: Collection[str], later: Collection[str] = ()) -> None:
        """Bring the components ``now`` to the device; with a policy other than ``keep`` the others leave it first.

        ``later`` names what coming stages use, and so is worth parking.
        """
        if self.policy == "keep":
            now = list(self._where)
        else:
            leaving = [alias for alias, device in self._where.items() if device is not None and alias not in now]
            for alias in leaving:
                self._leave(alias, later)
            if leaving:
                self._collect()
        for alias in now:
            if alias in self._where and self._where[alias] != self.device:
                self._bring(alias)

    def finish(self) -> None:
        """Give up what no stage needs any more; nothing is kept for a policy other than ``keep``."""
        if self.policy != "keep":
            self.ready(())

    def _leave(self, alias: str, later: Collection[str]) -> None:
        part, filler = self.parts[alias], self._fillers.get(alias)
        droppable = filler is not None and (self.policy == "offload" or alias not in later)
        if droppable:
            self._timed("drop", alias, lambda: empty(part))
            self._where[alias] = None
        elif self._where[alias] != CPU:
            self._timed("park", alias, lambda: self._place(part, CPU))
            self._where[alias] = CPU

    def _bring(self, alias: str) -> None:
        part, filler = self.parts[alias], self._fillers.get(alias)
        if self._where[alias] is None:
            if filler is None:
                raise ConfigError(f"{alias} has no values and nothing that fills it")
            self._timed("read", alias, lambda: filler(part, self.device))
            part.requires_grad_(False).eval()
            give_back_freed_memory()  # what was converted or put in order leaves holes
        else:
            self._timed("move", alias, lambda: self._place(part, self.device))
        self._where[alias] = self.device

    def _timed(self, action: str, alias: str, work: Callable[[], Any]) -> None:
        size = parameter_bytes(self.parts[alias])
        start = perf_counter()
        work()
        if self._observe is not None:
            self._observe(action, alias, perf_counter() - start, size)

    def _collect(self) -> None:
        gc.collect()
        give_back_freed_memory()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
