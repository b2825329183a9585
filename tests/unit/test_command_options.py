"""What commands say while they work and where nothing was asked for."""

from __future__ import annotations

import sys
import time

import pytest
from shapewright.commands.options import patience_asked


def waited(monkeypatch: pytest.MonkeyPatch, *, terminal: bool, seconds: float) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    with patience_asked(after=0.05):
        time.sleep(seconds)


def test_a_long_wait_is_explained_once_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    waited(monkeypatch, terminal=True, seconds=0.5)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.count("still working") == 1
    assert "shapewright warmup" in shown.err


@pytest.mark.parametrize(("terminal", "seconds"), [(True, 0.0), (False, 0.5)])
def test_a_short_wait_and_a_log_file_stay_quiet(
    terminal: bool, seconds: float, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    waited(monkeypatch, terminal=terminal, seconds=seconds)
    time.sleep(0.2)
    assert capsys.readouterr().err == ""
