"""Values that flow between components, seen as trees of tensors: visit, rebuild, compare."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn


def map_tensors(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """``value`` with every tensor in it replaced; dataclasses, named tuples, tuples, lists and dicts are rebuilt.

    Tensors come in the order of :func:`tensors`.
    """
    if isinstance(value, Tensor):
        return change(value)
    if is_dataclass(value) and not isinstance(value, type):
        parts = {f.name: getattr(value, f.name) for f in fields(value) if f.init}
        changed = {name: map_tensors(part, change) for name, part in parts.items()}
        different = {name: part for name, part in changed.items() if part is not parts[name]}
        return replace(value, **different) if different else value
    if isinstance(value, tuple):
        items = [map_tensors(item, change) for item in value]
        if all(new is old for new, old in zip(items, value, strict=True)):
            return value
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    if isinstance(value, list):
        return [map_tensors(item, change) for item in value]
    if isinstance(value, Mapping):
        return {key: map_tensors(item, change) for key, item in sorted(value.items(), key=lambda item: str(item[0]))}
    return value


def tensors(value: Any, path: str = "") -> Iterator[tuple[str, Tensor]]:
    """Every tensor in ``value`` with its path, such as ``values.feats``."""
    if isinstance(value, Tensor):
        yield path, value
        return
    for name, part in _parts(value):
        yield from tensors(part, f"{path}.{name}" if path else name)


def floats(value: Any) -> list[tuple[str, Tensor]]:
    """The floating-point tensors in ``value``."""
    return [(path, tensor) for path, tensor in tensors(value) if tensor.is_floating_point()]


def cast(value: Any, dtype: torch.dtype) -> Any:
    """``value`` with all its floating-point tensors in ``dtype``."""
    return map_tensors(value, lambda tensor: tensor.to(dtype) if tensor.is_floating_point() else tensor)


def clone(value: Any) -> Any:
    """A copy that shares no memory with ``value``."""
    return map_tensors(value, lambda tensor: tensor.detach().clone())


def difference(a: Any, b: Any, *, relative: float = 0.0, absolute: float = 0.0, path: str = "result") -> str:
    """Where and how ``a`` and ``b`` differ by more than a tolerance; empty where they do not.

    Without a tolerance, tensors must agree bit by bit (NaN equals NaN).
    """
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        if a.shape != b.shape or a.dtype != b.dtype:
            return f"{path}: {a.dtype} {tuple(a.shape)} against {b.dtype} {tuple(b.shape)}"
        x, y = a.detach().cpu(), b.detach().cpu()
        if x.dtype == torch.bool or not x.is_floating_point():
            return "" if torch.equal(x, y) else f"{path}: {int((x != y).sum())} of {x.numel()} entries differ"
        if torch.allclose(x, y, rtol=relative, atol=absolute, equal_nan=True):
            return ""
        return f"{path}: values differ by up to {float((x.double() - y.double()).abs().max()):.3g}"
    if isinstance(a, float) and isinstance(b, float):
        close = a == b or abs(a - b) <= absolute + relative * abs(b) or (a != a and b != b)
        return "" if close else f"{path}: {a:.6g} against {b:.6g}"
    if type(a) is not type(b):
        return f"{path}: {type(a).__name__} against {type(b).__name__}"
    mine, others = list(_parts(a)), list(_parts(b))
    if [name for name, _ in mine] != [name for name, _ in others]:
        return f"{path}: {_names(mine)} against {_names(others)}"
    for (name, x), (_, y) in zip(mine, others, strict=True):
        if found := difference(x, y, relative=relative, absolute=absolute, path=f"{path}.{name}"):
            return found
    if not mine and not isinstance(a, nn.Module) and not callable(a) and not _same(a, b):
        return f"{path}: {a!r} against {b!r}"
    return ""


def _same(a: Any, b: Any) -> bool:
    return bool(a == b)


def _parts(value: Any) -> list[tuple[str, Any]]:
    if is_dataclass(value) and not isinstance(value, type):
        return [(f.name, getattr(value, f.name)) for f in fields(value) if f.compare]
    if hasattr(value, "_fields"):
        return [(name, getattr(value, name)) for name in value._fields]
    if isinstance(value, tuple | list):
        return [(str(index), item) for index, item in enumerate(value)]
    if isinstance(value, Mapping):
        return [(str(key), item) for key, item in sorted(value.items(), key=lambda item: str(item[0]))]
    return []


def _names(parts: list[tuple[str, Any]]) -> str:
    return ", ".join(name for name, _ in parts[:6]) or "nothing"
