"""What ``shapewright info`` says of a safetensors file: a stored value, or weights."""

from __future__ import annotations

import json
from collections import Counter
from math import prod
from pathlib import Path
from typing import Any

from ..errors import StateError

LISTED = 40
"""Tensors up to which each is named."""


def describe_tensors(path: Path) -> dict[str, Any]:
    """Tag, sizes, types and shapes, from the header alone. Raises StateError."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise StateError(f"{path}: no such file")
    try:
        with safe_open(str(path), framework="pt") as handle:
            metadata = handle.metadata() or {}
            shapes = {name: handle.get_slice(name) for name in handle.keys()}  # noqa: SIM118 (no mapping)
            found = {name: (each.get_dtype(), tuple(each.get_shape())) for name, each in shapes.items()}
    except (SafetensorError, ValueError) as error:
        raise StateError(f"{path}: damaged, or no safetensors file ({error})") from None
    facts: dict[str, Any] = {"file": str(path), "size": f"{path.stat().st_size:,} bytes"}
    stored = metadata.pop("shapewright", None)
    if stored is not None:
        facts["value"] = json.loads(stored).get("tag") or "no state"
    facts |= {f"metadata {name}": text if len(text) < 80 else f"{text[:77]}..." for name, text in metadata.items()}
    facts["tensors"] = len(found)
    numbers: Counter[str] = Counter()
    for dtype, shape in found.values():
        numbers[dtype] += prod(shape)
    facts["numbers"] = {dtype: f"{count:,}" for dtype, count in sorted(numbers.items())}
    if len(found) <= LISTED:
        facts["shapes"] = {name: f"{dtype} {shape}" for name, (dtype, shape) in sorted(found.items())}
    return facts
