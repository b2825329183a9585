"""Make throw-away installed distributions, so that tests go through real entry points in real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from textwrap import dedent


def install(site: Path, name: str, modules: Mapping[str, str], plugins: Mapping[str, str]) -> None:
    """Write modules and the metadata of a distribution into the folder ``site``.

    Args:
        modules: file name to source text.
        plugins: entry points of the group ``shapewright.plugins``.
    """
    site.mkdir(parents=True, exist_ok=True)
    for file, source in modules.items():
        target = site / file
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(dedent(source))
    info = site / f"{name.replace('-', '_')}-1.2.3.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2.3\n")
    lines = [f"{key} = {value}" for key, value in plugins.items()]
    (info / "entry_points.txt").write_text("[shapewright.plugins]\n" + "\n".join(lines) + "\n")


def environment(*sites: Path) -> dict[str, str]:
    """The environment of a process that sees ``sites`` as installed."""
    paths = [*map(str, sites), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "COLUMNS": "200", "NO_COLOR": "1"}


def interruptible() -> None:
    """In a new process before it becomes another program: SIGINT works, though whoever started the tests ignores it, as
    a shell does for what it runs in the background."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def shapewright(
    *arguments: object, sites: tuple[Path, ...] = (), cwd: Path | None = None, timeout: float = 300
) -> subprocess.CompletedProcess[str]:
    """Run ``python -m shapewright`` in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "shapewright", *map(str, arguments)],
        env=environment(*sites),
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=timeout,
    )


def assert_one_line_error(done: subprocess.CompletedProcess[str], *wanted: str) -> None:
    """Non-zero exit, no traceback, and a message on standard error that contains every wanted piece."""
    assert done.returncode not in (0, None), done.stdout
    assert "Traceback" not in done.stderr + done.stdout, done.stderr
    for text in wanted:
        assert text in done.stderr, done.stderr
