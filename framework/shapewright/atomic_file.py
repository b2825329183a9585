"""Writing a file so that it is there whole or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from .errors import OutputExistsError, ShapewrightError


def write_atomically(path: Path, write: Callable[[BinaryIO], None], *, overwrite: bool = False) -> None:
    """Let ``write`` fill a temporary file beside ``path``, force it to disk, and give it its name.

    Raises:
        OutputExistsError: ``path`` exists and ``overwrite`` is false.
        ShapewrightError: the folder is missing, the disk is full, permission is denied; nothing is left behind.
    """
    if path.is_dir():
        raise ShapewrightError(f"cannot write {path}: it is a folder")
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}.part")
    try:
        _refuse_existing(path, overwrite)
        descriptor = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY | getattr(os, "O_BINARY", 0), 0o666)
        try:
            with open(descriptor, "wb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            _refuse_existing(path, overwrite)  # another process may have finished first
            os.replace(temporary, path)
        except BaseException:  # an interrupt must not leave half a file either
            temporary.unlink(missing_ok=True)
            raise
    except OutputExistsError:
        raise
    except OSError as error:
        if isinstance(error, FileNotFoundError) and not path.parent.is_dir():
            raise ShapewrightError(f"cannot write {path}: the folder {path.parent} does not exist") from None
        raise ShapewrightError(f"cannot write {path}: {error.strerror or error}") from error


def _refuse_existing(path: Path, overwrite: bool) -> None:
    if not overwrite and path.exists():
        raise OutputExistsError(f"{path} exists; remove it or ask to overwrite it")
