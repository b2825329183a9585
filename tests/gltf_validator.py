"""The Khronos glTF validator, for tests of written files.

Looked for on ``NODE_PATH`` and where ``make gltf-validator`` puts it. Tests are skipped without it, and fail where
``SHAPEWRIGHT_REQUIRE_GLTF_VALIDATOR`` is set, as in the project's own checks.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest

INSTALLED = Path(__file__).parents[1] / ".venv" / "node" / "node_modules"
REQUIRED = "SHAPEWRIGHT_REQUIRE_GLTF_VALIDATOR"
TANGENTS = "MESH_PRIMITIVE_GENERATED_TANGENT_SPACE"
_SCRIPT = (
    "require('gltf-validator').validateBytes(new Uint8Array(require('fs').readFileSync(process.argv[1])))"
    ".then(report => console.log(JSON.stringify(report)))"
)


def _environment() -> dict[str, str]:
    known = os.environ.get("NODE_PATH", "")
    return {**os.environ, "NODE_PATH": os.pathsep.join([*filter(None, [known]), str(INSTALLED)])}


@cache
def missing() -> str:
    """Why the validator cannot be run; empty where it can."""
    node = shutil.which("node")
    if node is None:
        return "Node.js is not installed"
    words = [node, "-e", "require.resolve('gltf-validator')"]
    found = subprocess.run(words, capture_output=True, env=_environment(), check=False)
    return "" if found.returncode == 0 else "the package gltf-validator is not installed: run `make gltf-validator`"


def validated(path: Path) -> dict[str, Any]:
    """The validator's report on a file; skips the test where there is no validator, unless it is required."""
    reason = missing()
    if reason and os.environ.get(REQUIRED):
        pytest.fail(f"{REQUIRED} is set, and {reason}")
    if reason:
        pytest.skip(reason)
    node = shutil.which("node")
    assert node is not None
    words = [node, "-e", _SCRIPT, str(path)]
    done = subprocess.run(words, check=True, capture_output=True, text=True, env=_environment())
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def assert_valid(path: Path) -> dict[str, Any]:
    """No error, and no warning but that viewers make tangents of normal maps; returns what the file holds."""
    report = validated(path)
    errors = [entry for entry in report["issues"]["messages"] if entry["severity"] < 2]
    assert [entry for entry in errors if entry["code"] != TANGENTS] == []
    found: dict[str, Any] = report["info"]
    return found
