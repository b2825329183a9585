"""Options that several commands share, and plain-text columns."""

from __future__ import annotations

import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])


def registry_options(function: Command) -> Command:
    """``--registry FILE`` and ``--set path=value``, both repeatable."""
    function = click.option(
        "--set", "overrides", multiple=True, metavar="PATH=VALUE", help="Change one option, e.g. rep.resolution=64."
    )(function)
    return click.option(
        "--registry",
        "registries",
        multiple=True,
        metavar="FILE",
        help="Registry file to put on top of the packaged one.",
    )(function)


def weights_options(function: Command) -> Command:
    """``--weights DIR`` (repeatable), ``--offline`` and ``--random-weights SEED``."""
    function = click.option(
        "--random-weights",
        type=int,
        metavar="SEED",
        help="Random weights instead of trained ones, to try a pipeline; results are noise.",
    )(function)
    return places_options(function)


def places_options(function: Command) -> Command:
    """``--weights DIR`` (repeatable) and ``--offline``."""
    function = click.option("--offline", is_flag=True, help="Fetch nothing; take what is here.")(function)
    return click.option(
        "--weights",
        multiple=True,
        metavar="DIR",
        help="Folder with weights as published, or with several such folders; repeatable.",
    )(function)


json_flag = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def columns(rows: Sequence[Sequence[str]], indent: str = "") -> str:
    """Rows as aligned text; the last column is as wide as it is."""
    if not rows:
        return ""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [text.ljust(width) for text, width in zip(row[:-1], widths, strict=False)]
        lines.append((indent + "  ".join([*cells, row[-1]])).rstrip())
    return "\n".join(lines)


@contextmanager
def patience_asked(after: float = 10.0) -> Iterator[None]:
    """One line on a terminal where the block takes longer than ``after`` seconds: a first use compiles for minutes."""
    text = "still working; kernels compile at their first use (`shapewright warmup` does that once, for all of them)"
    timer = threading.Timer(after, click.echo, (text,), {"err": True})
    timer.daemon = True
    if sys.stderr.isatty():
        timer.start()
    try:
        yield
    finally:
        timer.cancel()


@contextmanager
def reported_warnings() -> Iterator[None]:
    """Repairs and caveats of the block go to standard error as one line each, also when it fails; others stay quiet."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            yield
        finally:
            texts = [" ".join(str(w.message).split()) for w in caught if issubclass(w.category, UserWarning)]
            for text in dict.fromkeys(texts):
                click.echo(f"warning: {text}", err=True)
