"""``shapewright info``."""

from __future__ import annotations

import json
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import click

from .. import __version__
from .options import json_flag

OPTIONAL = ("triton", "kaolin", "torch-scatter", "pybullet")


def _installed(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _backends() -> dict[str, str]:
    """Which kernel backends work here, each shown by running it."""
    import torch

    found = {"torch": f"works ({torch.__version__}, {torch.get_num_threads()} threads)"}
    try:
        import numba
        import numpy as np

        doubled = numba.njit(lambda values: values * 2)(np.ones(3))
        found["numba"] = f"works ({numba.__version__})" if doubled.sum() == 6 else "compiles, but computes wrongly"
    except Exception as error:  # any failure is the answer to the question
        found["numba"] = f"does not work: {type(error).__name__}: {' '.join(str(error).split())}"
    if not torch.cuda.is_available():
        found["triton"] = "no CUDA device"
    else:
        try:
            found["triton"] = f"installed ({import_module('triton').__version__})"
        except ImportError as error:
            found["triton"] = f"does not import: {error}"
    return found


def _devices() -> list[str]:
    import torch

    names = ["cpu"]
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        names.append(f"cuda:{index} {properties.name}, {properties.total_memory / 2**30:.0f} GiB")
    if torch.backends.mps.is_available():
        names.append("mps")
    return names


@click.command("info")
@click.argument("file", required=False, type=click.Path(readable=False, path_type=Path))
@json_flag
def command(file: Path | None, as_json: bool) -> None:
    """Versions, devices, backends that work, and plugins; paste it into a report. With FILE: what is in it."""
    if file is not None:
        from .convert_states import describe

        _print(describe(file), as_json)
        return
    import psutil

    from ..bench.provenance import LIBRARIES, machine
    from ..host import discover

    catalog = discover()
    facts: dict[str, Any] = {
        "shapewright": __version__,
        "machine": machine() | {"memory_gib": round(psutil.virtual_memory().total / 2**30, 1)},
        "libraries": {name: _installed(name) for name in (*LIBRARIES, "pluggy", "omegaconf", "safetensors", *OPTIONAL)},
        "devices": _devices(),
        "backends": _backends(),
        "plugins": {
            plugin.name: f"{plugin.state}, {len(plugin.components)} components"
            if plugin.state == "ok"
            else f"{plugin.state}: {plugin.reason}"
            for plugin in catalog.plugins
        },
    }
    _print(facts, as_json)


def _print(facts: dict[str, Any], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(facts, indent=1))
        return
    for title, body in facts.items():
        if isinstance(body, dict):
            click.echo(f"{title}:")
            for name, value in body.items():
                click.echo(f"  {name}: {value}")
        elif isinstance(body, list):
            click.echo(f"{title}: {'; '.join(map(str, body))}")
        else:
            click.echo(f"{title}: {body}")
