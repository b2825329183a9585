"""Kernels compile where nothing beside them can be written and there is no home."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

PROBE = """
import os
if {read_only}:
    os.access = lambda *arguments, **options: False  # as in a read-only image
import shapewright_kernels
import numpy as np
from shapewright_kernels.sampling import sample_triangles
from shapewright_kernels.topology import merge_vertices
merge_vertices(np.zeros((3, 3)))
folder = os.environ.get("NUMBA_CACHE_DIR", "")
import numba
print(folder, numba.config.CACHE_DIR == folder, os.path.isdir(folder))
"""


def probe(read_only: bool) -> list[str]:
    environment = {key: value for key, value in os.environ.items() if key != "NUMBA_CACHE_DIR"}
    command = [sys.executable, "-c", PROBE.format(read_only=read_only)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.split()


def test_compiled_code_of_a_read_only_install_lives_as_long_as_its_process() -> None:
    folder, used, there = probe(read_only=True)
    assert "shapewright-compiled-" in folder
    assert (used, there) == ("True", "True")
    assert not Path(folder).exists()


def test_a_writable_install_keeps_its_compiled_code() -> None:
    assert "shapewright-compiled-" not in " ".join(probe(read_only=False))
