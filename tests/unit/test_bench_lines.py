"""What a bench says of pairs that do not fit and of cells that failed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from shapewright.bench.matrix import Skipped
from shapewright.commands.bench import _failed_lines, _skipped_lines


def cell(pipeline: str, sample: str, resolution: int, reason: str) -> dict[str, Any]:
    return {"pipeline": pipeline, "sample": sample, "resolution": resolution, "reason": reason}


def test_pairs_that_do_not_fit_take_a_line_a_representation() -> None:
    skipped = [Skipped("a", "x", "x wants q"), Skipped("b", "x", "x wants r"), Skipped("a", "y", "y wants s")]
    assert list(_skipped_lines(skipped, Path("out"))) == [
        f"skipped: a with x, y (reasons: {Path('out/table.md')})",
        "skipped: b with x: x wants r",
    ]


def test_a_file_that_nothing_can_read_is_told_once_and_other_failures_one_by_one() -> None:
    failed = [
        cell("p", "broken", 32, "broken.obj: empty"),
        cell("q", "broken", 32, "broken.obj: empty"),
        cell("p", "broken", 64, "broken.obj: empty"),
        cell("p", "whole", 64, "stopped after 3 s"),
    ]
    assert list(_failed_lines(failed)) == [
        "failed: broken, 3 cells (p, q): broken.obj: empty",
        "failed: p on whole at 64: stopped after 3 s",
    ]
