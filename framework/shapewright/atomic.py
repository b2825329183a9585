"""Files appear whole or not at all: write beside the target, then rename."""

from __future__ import annotations

import errno
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from .errors import ShapewrightError


class WriteError(ShapewrightError, OSError):
    """An output could not be written; nothing half-written is left."""


@contextmanager
def atomic_file(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path in the folder of ``path`` (same suffix); rename it to ``path`` when the block succeeds.

    Raises:
        WriteError: the disk is full, the folder is missing or not writable; ``path`` is untouched then.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=path.suffix, dir=path.parent)
        os.close(handle)
    except OSError as error:
        raise _explained(path, error) from None
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb+") as stream:
            os.fsync(stream.fileno())
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        os.replace(temporary, path)
    except OSError as error:
        raise _explained(path, error) from None
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()


def _explained(path: Path, error: OSError) -> OSError:
    if isinstance(error, ShapewrightError):
        return error
    advice = {errno.ENOSPC: "free some space and repeat", errno.EACCES: "choose a folder you may write to"}
    hint = advice.get(error.errno or 0)
    return WriteError(f"cannot write {path}: {error.strerror or error}{f'; {hint}' if hint else ''}")


def write_text(path: str | Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | Path, value: Any) -> None:
    """Write JSON atomically; values that JSON has no number for (NaN, infinity) are refused by ``json``."""
    write_text(path, json.dumps(value, indent=1, allow_nan=False) + "\n")
