"""Read what a bench left in its folder, and refuse in one line what is no such folder."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..atomic import write_json
from ..errors import ShapewrightError

RUN_FILE = "run.json"
_CELL_KEYS = {
    "pipeline", "dataset", "sample", "tags", "resolution", "status", "reason", "warnings", "metrics", "noise_floor",
    "health", "seconds", "peak_memory_bytes", "faces", "vertices", "view", "reference_view", "provenance",
}  # fmt: skip
_DEFINITION_KEYS = {"definition", "unit", "group", "higher_is_better"}
_AGAIN = "run the same bench command again; it continues from its cards"


class ReportError(ShapewrightError, ValueError):
    """A folder that a report cannot be made of; the message says what to do."""


@dataclass(frozen=True)
class RunFolder:
    """A finished (or interrupted) bench: its cells, the definitions of its figures, and the columns of its table."""

    path: Path
    cells: list[dict[str, Any]]
    definitions: dict[str, dict[str, Any]]
    columns: list[dict[str, Any]]
    caption: str
    request: dict[str, Any]
    version: str

    def view(self, place: str) -> bytes | None:
        """A display mesh by its path below the folder; ``None`` where it cannot be read."""
        try:
            return (self.path / place).read_bytes()
        except OSError:
            return None


def write_run_file(out: Path, defaults: Mapping[str, Any], request: Mapping[str, Any], version: str) -> None:
    """``run.json``: what was asked for, and how the table is laid out."""
    columns = list(defaults.get("columns", ()))
    content = {
        "version": version,
        "request": dict(request),
        "columns": columns,
        "caption": str(defaults.get("caption", "")).strip(),
    }
    write_json(out / RUN_FILE, content)


def read_run(folder: Path) -> RunFolder:
    """Read a bench's folder.

    Raises:
        ReportError: there is no such folder, it is not a bench's, or a file in it is missing or damaged.
    """
    if not folder.exists():
        raise ReportError(f"{folder}: there is no such folder; give the --out of a bench")
    if not folder.is_dir():
        raise ReportError(f"{folder}: is a file; give the --out folder of a bench, or a mesh file")
    if not (folder / "cells.json").is_file():
        if (folder / "cards").is_dir():
            raise ReportError(f"{folder}: the bench there has not finished, cells.json is missing; {_AGAIN}")
        raise ReportError(f"{folder}: holds no bench (no cells.json); give the --out folder of `shapewright bench`")
    cells = _read(folder, "cells.json")
    _want(isinstance(cells, list), folder, "cells.json", "is not a list of cells")
    for index, cell in enumerate(cells):
        _complete(cell, _CELL_KEYS, folder, "cells.json", f"cell {index + 1}")
    _want(any(cell["status"] != "skipped" for cell in cells), folder, "cells.json", "has no cell that was tried")
    definitions = _read(folder, "metrics.json")
    _want(isinstance(definitions, dict), folder, "metrics.json", "is not a table of definitions")
    for name, definition in definitions.items():
        _complete(definition, _DEFINITION_KEYS, folder, "metrics.json", name)
    run = _read(folder, RUN_FILE)
    _complete(run, {"version", "request", "columns", "caption"}, folder, RUN_FILE, "it")
    return RunFolder(folder, cells, definitions, run["columns"], run["caption"], run["request"], run["version"])


def _read(folder: Path, name: str) -> Any:
    try:
        return json.loads((folder / name).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ReportError(f"{folder}: {name} is missing; {_AGAIN}") from None
    except OSError as error:
        raise ReportError(f"{folder / name}: {error.strerror}") from None
    except ValueError:
        raise ReportError(f"{folder / name}: is damaged or half-written; {_AGAIN}") from None


def _want(condition: bool, folder: Path, name: str, problem: str) -> None:
    if not condition:
        raise ReportError(f"{folder / name}: {problem}; {_AGAIN}")


def _complete(value: Any, keys: Iterable[str], folder: Path, name: str, what: str) -> None:
    missing = sorted(set(keys) - set(value)) if isinstance(value, dict) else ["everything"]
    _want(not missing, folder, name, f"{what} lacks {', '.join(missing)}")
