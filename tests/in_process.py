"""Call the command line in this process: the same entry point as ``python -m shapewright``, without its start-up."""

from __future__ import annotations

import io
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass

from shapewright.cli import main


@dataclass(frozen=True)
class Done:
    """What a caller of the command sees."""

    returncode: int
    stdout: str
    stderr: str


def run(*arguments: object) -> Done:
    """``shapewright ARGUMENTS``. Whatever escapes :func:`shapewright.cli.main` other than its exit fails the test."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        try:
            main([str(argument) for argument in arguments])
        except SystemExit as end:
            code = end.code
    assert isinstance(code, int)
    return Done(code, out.getvalue(), err.getvalue())


def assert_refused(done: Done, *wanted: str) -> None:
    """Exit status 2, nothing on standard output, and one line that says ``error:`` and every wanted piece; only
    one-line warnings may come before it."""
    assert done.returncode == 2, (done.stdout, done.stderr)
    assert done.stdout == ""
    *before, last = done.stderr.splitlines()
    assert all(line.startswith("warning: ") for line in before), done.stderr
    assert last.startswith("error: "), done.stderr
    for text in wanted:
        assert text in last, last
