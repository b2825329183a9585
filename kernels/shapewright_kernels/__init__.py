"""Numeric kernels of Shapewright: array functions, compiled by Numba at first use; they know nothing of the framework.

Compiled code is kept beside the sources, or in the user's cache folder where those cannot be written. Where neither can
(a read-only image without a home), it goes to a folder of this process that is removed when it ends.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path


def _writable(folder: Path) -> bool:
    """Whether ``folder`` can be written, or made by writing into the nearest parent that exists."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return os.access(folder, os.W_OK | os.X_OK)


def _keep_compiled_code_somewhere() -> None:
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    beside = Path(__file__).parent / "__pycache__"
    if "NUMBA_CACHE_DIR" in os.environ or _writable(beside) or _writable(home / "numba"):
        return
    folder = tempfile.mkdtemp(prefix="shapewright-compiled-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    os.environ["NUMBA_CACHE_DIR"] = folder
    import numba

    vars(numba.config)["CACHE_DIR"] = folder  # Numba may have read its environment already


_keep_compiled_code_somewhere()
