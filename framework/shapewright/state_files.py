"""Values between stages as safetensors files: tensors as tensors, the rest of a state as JSON in the header."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from . import materials, states
from .atomic import atomic_file
from .errors import OutputExistsError, StateError

SCHEMA = 1
_HEADER = "shapewright"
_TYPES = {
    name: value
    for module in (states, materials)
    for name, value in vars(module).items()
    if isinstance(value, type) and is_dataclass(value)
}


class NotStorableError(StateError):
    """The value is a function, or of a type that no file format here holds."""


def save_state(value: Any, path: str | Path, *, overwrite: bool = False) -> None:
    """Write one value (latent, condition, field on a grid, voxels, ...) to a ``.safetensors`` file, whole or not at
    all.

    Raises:
        NotStorableError: the value is a function of space, or holds one.
        OutputExistsError: the file exists and ``overwrite`` is false.
    """
    path = Path(path)
    tensors: dict[str, Tensor] = {}
    shape = _described(value, "value", tensors)
    if path.exists() and not overwrite:
        raise OutputExistsError(f"{path} exists; choose another name, or replace it (--overwrite)")
    header = {_HEADER: json.dumps({"schema": SCHEMA, "tag": str(getattr(value, "tag", "")), "value": shape})}
    with atomic_file(path) as temporary:
        save_file(tensors, temporary, metadata=header)


def load_state(path: str | Path) -> Any:
    """Read what :func:`save_state` wrote, tensors on the CPU. Types of plugins are written but not read back: a file
    does not decide which code runs.

    Raises:
        StateError: no such file, damaged, of another program or of a type that is not of :mod:`shapewright.states`.
    """
    path = Path(path)
    if not path.is_file():
        raise StateError(f"{path}: no such file")
    try:
        with safe_open(str(path), framework="pt") as handle:
            header = json.loads((handle.metadata() or {}).get(_HEADER, "null"))
            tensors = {key: handle.get_tensor(key) for key in handle.keys()}  # noqa: SIM118 (no mapping)
    except (SafetensorError, ValueError) as error:
        raise StateError(f"{path}: damaged, or no safetensors file ({error})") from None
    if not isinstance(header, dict) or header.get("schema") != SCHEMA:
        raise StateError(f"{path}: not a value of Shapewright (schema {SCHEMA})")
    try:
        return _built(header["value"], tensors)
    except (KeyError, TypeError, ValueError) as error:
        raise StateError(f"{path}: {error}") from None


def _described(value: Any, key: str, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, Tensor):
        tensors[key] = value.detach().cpu().contiguous().clone()
        return {"tensor": key}
    if isinstance(value, bool | int | float | str) or value is None:
        return value
    if isinstance(value, slice):
        return {"slice": [value.start, value.stop, value.step]}
    if isinstance(value, list | tuple):
        parts = [_described(item, f"{key}.{index}", tensors) for index, item in enumerate(value)]
        return {"tuple" if isinstance(value, tuple) else "list": parts}
    if isinstance(value, Mapping):
        return {"mapping": {str(name): _described(item, f"{key}.{name}", tensors) for name, item in value.items()}}
    if is_dataclass(value) and not isinstance(value, type):
        kind = type(value)
        name = kind.__name__ if _TYPES.get(kind.__name__) is kind else f"{kind.__module__}:{kind.__qualname__}"
        inner = {
            each.name: _described(getattr(value, each.name), f"{key}.{each.name}", tensors)
            for each in fields(value)
            if each.init and not each.name.startswith("_")
        }
        return {"type": name, "fields": inner}
    raise NotStorableError(f"{key} is a {type(value).__name__}, which no file holds; extract or sample it first")


def _built(shape: Any, tensors: Mapping[str, Tensor]) -> Any:
    if not isinstance(shape, dict):
        return shape
    if "tensor" in shape:
        return tensors[shape["tensor"]]
    if "slice" in shape:
        return slice(*shape["slice"])
    if "list" in shape:
        return [_built(item, tensors) for item in shape["list"]]
    if "tuple" in shape:
        return tuple(_built(item, tensors) for item in shape["tuple"])
    if "mapping" in shape:
        return {name: _built(item, tensors) for name, item in shape["mapping"].items()}
    kind = _TYPES.get(shape["type"])
    if kind is None:
        raise StateError(f"holds a {shape['type']}, which is not one of the framework's states")
    return kind(**{name: _built(item, tensors) for name, item in shape["fields"].items()})
