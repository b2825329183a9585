"""Where a number comes from: versions, code, machine. Part of every result card, and of every cache key what
matters."""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Iterable
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ..host import Catalog
from ..spec import API_VERSION

LIBRARIES = ("numpy", "torch", "numba", "trimesh", "manifold3d", "lpips")


@cache
def code_hash(package: str) -> str:
    """Hash of all Python sources of an importable package, so that edited code never answers with old numbers."""
    spec = find_spec(package)
    if spec is None:
        return "missing"
    roots = [Path(root) for root in spec.submodule_search_locations or ()]
    paths = sorted(path for root in roots for path in root.rglob("*.py")) or [Path(str(spec.origin))]
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "not installed"


def code_identity(catalog: Catalog, keys: Iterable[str]) -> dict[str, Any]:
    """Versions and source hashes of everything that computes the numbers of a cell."""
    packages = {"shapewright", *(catalog.get(key).factory.partition(":")[0].partition(".")[0] for key in keys)}
    if "shapewright_plugins" in packages:
        packages.add("shapewright_kernels")
    plugins = {
        owner.name: f"{owner.distribution or 'local'} {owner.version}".strip()
        for owner in map(catalog.owner, sorted(keys))
    }
    return {
        "api": ".".join(map(str, API_VERSION)),
        "code": {package: code_hash(package) for package in sorted(packages)},
        "plugins": dict(sorted(plugins.items())),
        "libraries": {name: _version(name) for name in LIBRARIES},
    }


def processor() -> str:
    """The processor's name, as far as the system tells."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def machine() -> dict[str, Any]:
    """What the numbers were measured on."""
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "processor": processor(),
        "cores": os.cpu_count() or 1,
    }
