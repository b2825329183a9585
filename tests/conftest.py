"""Shared fixtures. Folders beside the checkout may be absent; tests that need them skip themselves."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # tests import their own helper modules by name

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with real meshes and golden cases; the test is skipped where it is absent."""
    if not SHARED.is_dir():
        pytest.skip("../shared is not here")
    return SHARED


@pytest.fixture(scope="session")
def catalog():  # type: ignore[no-untyped-def]
    """Everything installed in this environment."""
    from shapewright import discover

    return discover()
