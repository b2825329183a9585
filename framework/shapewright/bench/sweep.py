"""Drive a sweep: hand shapes to worker processes, survive their deaths, keep every finished cell."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import groupby
from multiprocessing.connection import Connection, wait
from time import monotonic
from typing import Any

from ..errors import ShapewrightError
from .cards import skipped_cell
from .matrix import Cell, Matrix
from .request import Request
from .worker import Job, blank, serve


@dataclass
class Outcome:
    """What a sweep produced: one dict per cell in the order of the matrix, skipped pairs last."""

    cells: list[dict[str, Any]]
    interrupted: bool = False
    reused: int = 0

    @property
    def failed(self) -> list[dict[str, Any]]:
        """Cells that were tried and have no result."""
        return [cell for cell in self.cells if cell["status"] == "failed"]


@dataclass
class _Worker:
    process: Any
    connection: Connection
    job: Job | None = None
    current: int | None = None
    since: float = 0.0
    left: list[tuple[int, Cell]] = field(default_factory=list)


def _processors(workers: int) -> list[list[int] | None]:
    """An equal share of the processors for every worker, so that they do not fight; ``None`` where that is unknown."""
    if workers == 1 or not hasattr(os, "sched_getaffinity"):
        return [None] * workers
    available = sorted(os.sched_getaffinity(0))
    share = max(1, len(available) // workers)
    return [[available[(index * share + k) % len(available)] for k in range(share)] for index in range(workers)]


class _Pool:
    def __init__(self, request: Request, matrix: Matrix, count: int) -> None:
        self.request = request
        self.matrix = matrix
        self.context = multiprocessing.get_context("spawn")
        self.shares = _processors(count)
        self.workers = [self.start(index) for index in range(count)]

    def start(self, index: int) -> _Worker:
        here, there = self.context.Pipe()
        request = self.request
        arguments = (
            there,
            request.out,
            self.matrix.metrics,
            request.keep_meshes,
            request.report,
            request.retry_failed,
            self.shares[index],
        )
        process = self.context.Process(target=serve, args=arguments, daemon=True)
        process.start()
        there.close()
        return _Worker(process, here)

    def stop(self, *, kill: bool) -> None:
        for worker in self.workers:
            with suppress(BrokenPipeError, OSError):
                worker.connection.send(None)
            if kill:
                worker.process.kill()
            worker.process.join()


def _jobs(cells: Sequence[Cell]) -> Iterator[Job]:
    numbered = list(enumerate(cells))
    for _, group in groupby(numbered, key=lambda item: (item[1].source.name, item[1].sample)):
        members = tuple(group)
        yield Job(members[0][1].source, members[0][1].sample, members)


def sweep(
    request: Request,
    matrix: Matrix,
    progress: Callable[[dict[str, Any]], None] = lambda cell: None,
) -> Outcome:
    """Measure every cell of ``matrix``, or take it from the cards of an earlier run.

    Args:
        request: what was asked for; ``request.out`` receives the cards.
        matrix: from :func:`shapewright.bench.matrix.expand`.
        progress: called with every finished cell, in order of completion.
    Returns:
        All cells that finished. Ctrl-C ends the sweep early with ``interrupted`` set; what finished is kept.
    """
    jobs = list(_jobs(matrix.cells))[::-1]
    results: dict[int, dict[str, Any]] = {}
    outcome = Outcome([])
    pool = _Pool(request, matrix, max(1, min(request.workers, len(jobs))))

    def finish(worker: _Worker, index: int, cell: dict[str, Any]) -> None:
        results[index] = cell
        worker.left = [item for item in worker.left if item[0] != index]
        worker.current = None
        progress(cell)

    def hand_out(worker: _Worker) -> None:
        worker.job = jobs.pop() if jobs else None
        worker.left = list(worker.job.cells) if worker.job else []
        if worker.job:
            worker.connection.send(worker.job)

    def bury(position: int, why: str) -> None:
        """A worker is gone: its cell failed, the rest of its shape goes to a fresh worker."""
        worker = pool.workers[position]
        worker.process.join()
        if worker.current is None and not worker.left:
            raise ShapewrightError(f"a bench worker ended before its first cell: {why}")
        index, cell = next((item for item in worker.left if item[0] == worker.current), worker.left[0])
        fresh = pool.start(position)
        fresh.left, fresh.job = worker.left, worker.job
        finish(fresh, index, blank(cell) | {"reason": why})
        if fresh.left and fresh.job is not None:
            jobs.append(Job(fresh.job.source, fresh.job.sample, tuple(fresh.left)))
        fresh.left, fresh.job = [], None
        pool.workers[position] = fresh

    try:
        while any(worker.job for worker in pool.workers) or jobs:
            timeout = 1.0 if request.cell_timeout else None
            ready = wait([worker.connection for worker in pool.workers], timeout)
            for position, worker in enumerate(pool.workers):
                limit = request.cell_timeout
                if limit and worker.current is not None and monotonic() - worker.since > limit:
                    worker.process.kill()
                    bury(position, f"stopped after {limit:g} seconds (--cell-timeout)")
                    continue
                if worker.connection not in ready:
                    continue
                try:
                    kind, *rest = worker.connection.recv()
                except (EOFError, ConnectionResetError):
                    worker.process.join()
                    code = worker.process.exitcode
                    why = (
                        f"killed by signal {-code}, perhaps out of memory"
                        if code and code < 0
                        else f"exit status {code}"
                    )
                    bury(position, f"the worker process died ({why})")
                    continue
                if kind in ("ready", "done"):
                    hand_out(worker)
                elif kind == "start":
                    worker.current, worker.since = rest[0], monotonic()
                else:
                    outcome.reused += rest[2]
                    finish(worker, rest[0], rest[1])
    except KeyboardInterrupt:
        outcome.interrupted = True
        pool.stop(kill=True)
    else:
        pool.stop(kill=False)
    outcome.cells = [results[index] for index in sorted(results)]
    outcome.cells += [skipped_cell(s.representation, s.extractor, s.reason, request.seed) for s in matrix.skipped]
    return outcome
