"""Checkpoints that are pickles into safetensors, without running what is in them."""

from __future__ import annotations

import pickle
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import WeightsError
from .fill import unshared, write_safetensors

NESTS = ("state_dict", "model", "module", "ema", "model_state_dict", "net")
"""Keys under which training programs put the state dict."""


def read_pickle(path: str | Path, key: str = "") -> dict[str, Tensor]:
    """The tensors of a checkpoint, read by ``torch.load(weights_only=True)``: no code of the file is run.

    Args:
        key: path to the state dict inside (``"model.ema"``); found by itself where empty.
    Raises:
        WeightsError: not a checkpoint, damaged, or it holds other objects than tensors and plain values.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"{path}: no such file")
    if path.stat().st_size == 0:
        raise WeightsError(f"{path}: the file is empty (0 bytes)")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the pickle's protocol; what matters is raised
            document = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        # Of torch's text only the name of what was refused: the rest advises to load the file without this protection.
        found = re.search(r"GLOBAL (\S+)", str(error))
        what = (
            f"holds more than tensors ({found[1].rstrip('.')})"
            if found
            else "holds more than tensors, or is no checkpoint"
        )
        raise WeightsError(f"{path}: {what}; it was not opened further") from None
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise WeightsError(f"{path}: damaged, or no checkpoint ({' '.join(str(error).split())[:200]})") from None
    return dict(_flat(_inner(document, path, key)))


def _inner(document: Any, path: Path, key: str) -> Mapping[str, Any]:
    for name in filter(None, key.split(".")):
        if not isinstance(document, Mapping) or name not in document:
            known = ", ".join(map(str, document)) if isinstance(document, Mapping) else type(document).__name__
            raise WeightsError(f"{path}: there is no {name!r} in it; it has {known[:300]}")
        document = document[name]
    while not key and isinstance(document, Mapping):
        if any(isinstance(value, Tensor) for value in document.values()):
            break
        inner = [name for name in NESTS if isinstance(document.get(name), Mapping)]
        if not inner:
            break
        document = document[inner[0]]
    if not isinstance(document, Mapping):
        raise WeightsError(f"{path}: holds a {type(document).__name__}, not tensors by name")
    if not any(True for _ in _flat(document)):
        raise WeightsError(
            f"{path}: holds no tensors by name; it has {', '.join(map(str, document))[:300]}; give --key"
        )
    return document


def _flat(document: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    for name, value in document.items():
        if isinstance(value, Tensor):
            yield f"{prefix}{name}", value
        elif isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")


def convert(
    source: str | Path, target: str | Path, *, key: str = "", dtype: torch.dtype | None = None, overwrite: bool = False
) -> dict[str, Tensor]:
    """Write the tensors of the pickle ``source`` to the safetensors file ``target``; returns them.

    Names of nested dictionaries are joined by dots. Tensors that share memory become tensors of their own.
    """
    target = Path(target)
    if target.suffix != ".safetensors":
        raise WeightsError(f"{target}: weights are written as .safetensors")
    state = read_pickle(source, key)
    if dtype is not None:
        state = {name: value.to(dtype) if value.is_floating_point() else value for name, value in state.items()}
    state = unshared({name: value.detach().contiguous() for name, value in state.items()})
    write_safetensors(state, target, metadata={"converted_from": Path(source).name}, overwrite=overwrite)
    return state
