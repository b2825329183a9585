"""Weights into components and back: every difference of keys, shapes and dtypes at once, tensors without a second copy.

A component keeps its own names unless it has ``load_published(state)`` (fill from a mapping with the keys, shapes and
order of rows of published files, tensors becoming the parameters) and ``published_state()`` (such a dict of itself).
With both, tensors are read as they are asked for; with the first alone it checks what it is given by itself.
``float32_keys``, patterns of keys, names what stays float32 whatever dtype is asked for.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from ..atomic import atomic_file, write_json
from ..errors import OutputExistsError, WeightsError
from ..streams import stream
from .checkpoint import FLOATS, HALF_BYTES, Checkpoint, Stored
from .empty import on_meta

LISTED = 40
"""Differences that an error spells out; the rest is counted."""
_SPELLED = {
    torch.int64: "I64", torch.int32: "I32", torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8", torch.bool: "BOOL",
    torch.complex64: "C64",
}  # fmt: skip


def published_state(part: nn.Module) -> dict[str, Tensor]:
    """State dict of ``part`` as published files have it; tensors on the meta device tell shapes only."""
    state: dict[str, Tensor] = (
        _method(part, "published_state")() if hasattr(part, "published_state") else part.state_dict()
    )
    return state


def _method(part: Any, name: str) -> Callable[..., Any]:
    method: Callable[..., Any] = getattr(part, name)
    return method


def checks_itself(part: nn.Module) -> bool:
    """Whether only the component knows what fits it."""
    return hasattr(part, "load_published") and not hasattr(part, "published_state")


def _matches(key: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(key, pattern) for pattern in patterns)


def differences(
    wanted: Mapping[str, Tensor],
    checkpoint: Checkpoint,
    *,
    dtype: torch.dtype | None = None,
    ignore: Sequence[str] = (),
) -> list[str]:
    """What is missing, of another shape or dtype, or unexpected, one line each, in the order of the network."""
    lines, found = [], checkpoint.tensors
    for key, tensor in wanted.items():
        shape = tuple(tensor.shape)
        if key not in found:
            # What has a value of its own (a computed table) may be left out on request; a parameter may not.
            if not (_matches(key, ignore) and not tensor.is_meta):
                lines.append(f"missing {key} {shape}")
        elif found[key].shape != shape:
            lines.append(f"shape of {key} is {found[key].shape}, not {shape}")
        elif tensor.is_floating_point():
            if found[key].dtype in HALF_BYTES and dtype is None:
                lines.append(f"dtype of {key} is {found[key].dtype}, which is not computed in; ask for a dtype")
            elif found[key].dtype not in FLOATS | HALF_BYTES:
                lines.append(f"dtype of {key} is {found[key].dtype}, not a float type")
        elif found[key].dtype != _SPELLED.get(tensor.dtype, found[key].dtype):
            lines.append(f"dtype of {key} is {found[key].dtype}, not {_SPELLED[tensor.dtype]}")
    return lines + [
        f"unexpected {key} {found[key].shape}" for key in found if key not in wanted and not _matches(key, ignore)
    ]


def state_differences(wanted: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> list[str]:
    """:func:`differences` from tensors that are at hand, for a component that is given them without a file."""
    stored = state.described() if isinstance(state, ReadWhenAsked) else {k: _described(v, k) for k, v in state.items()}
    return differences(wanted, Checkpoint((), stored))


def _described(tensor: Tensor, key: str) -> Stored:
    return Stored(tuple(tensor.shape), _spelled(tensor.dtype), Path(), key)


def _spelled(dtype: torch.dtype) -> str:
    names = {torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", **_SPELLED}
    return names.get(dtype, str(dtype))


class ReadWhenAsked(Mapping[str, Tensor]):
    """Tensors of a file in the dtype that was asked for, each read when it is asked for and held by nobody here.

    A component that puts rows in another order thereby never has both orders of all of them in memory.
    """

    def __init__(
        self,
        keys: Iterable[str],
        checkpoint: Checkpoint,
        read: Callable[[str], Tensor],
        cast: Callable[[str], torch.dtype | None],
        beside: Mapping[str, Tensor],
    ) -> None:
        self._keys = dict.fromkeys(keys)
        self._checkpoint, self._read, self._cast, self._beside = checkpoint, read, cast, beside

    def __getitem__(self, key: str) -> Tensor:
        if key not in self._keys:
            raise KeyError(key)
        if key in self._beside:
            return self._beside[key]
        tensor, dtype = self._read(key), self._cast(key)
        return tensor if dtype is None or not tensor.is_floating_point() else tensor.to(dtype)

    def __contains__(self, key: object) -> bool:
        return key in self._keys

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)

    def described(self) -> dict[str, Stored]:
        """Shapes and dtypes of all, without reading one."""
        found = {}
        for key in self._keys:
            if key in self._beside:
                found[key] = _described(self._beside[key], key)
                continue
            stored, dtype = self._checkpoint.tensors[key], self._cast(key)
            floats = stored.dtype in FLOATS | HALF_BYTES
            found[key] = replace(stored, dtype=_spelled(dtype)) if floats and dtype is not None else stored
        return found


def check_fit(
    part: nn.Module, checkpoint: Checkpoint, what: str, *, dtype: torch.dtype | None = None, ignore: Sequence[str] = ()
) -> None:
    """Compare all keys, shapes and dtypes; no tensor is read.

    Raises:
        WeightsError: with all differences.
    """
    if checks_itself(part):
        return
    lines = differences(published_state(part), checkpoint, dtype=dtype, ignore=ignore)
    if not lines:
        return
    shown = lines if len(lines) <= LISTED else [*lines[:LISTED], f"and {len(lines) - LISTED} more"]
    count = f"{len(lines)} difference" + ("s" if len(lines) > 1 else "")
    files = ", ".join(str(file) for file in checkpoint.files)
    raise WeightsError(f"{what}: {files} does not fit {type(part).__name__} ({count}):\n  - " + "\n  - ".join(shown))


def fill_from(
    part: nn.Module,
    checkpoint: Checkpoint,
    what: str,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
    ignore: Sequence[str] = (),
) -> None:
    """Load ``checkpoint`` into ``part``, whose parameters may lie on the meta device.

    Tensors become the parameters: on the CPU in the dtype of the file nothing is copied; with another ``dtype`` or
    device one tensor at a time is. ``dtype=None`` keeps the dtypes of the file.

    Raises:
        WeightsError: it does not fit (:func:`check_fit`), or leaves something empty.
    """
    check_fit(part, checkpoint, what, dtype=dtype, ignore=ignore)
    exact = getattr(part, "float32_keys", ())

    def cast(key: str) -> torch.dtype | None:
        return torch.float32 if dtype is not None and _matches(key, exact) else dtype

    if checks_itself(part):
        state = {}
        for key, tensor in checkpoint.state(device):
            if not _matches(key, ignore):
                kind = cast(key)
                state[key] = tensor if kind is None or not tensor.is_floating_point() else tensor.to(kind)
        fill(part, state, what)
    else:
        wanted = published_state(part)
        beside = {key: tensor for key, tensor in wanted.items() if key not in checkpoint.tensors}
        with checkpoint.reader(device) as read:
            fill(part, ReadWhenAsked(wanted, checkpoint, read, cast, beside), what)
    part.to(device)  # parameters are there already; buffers that no file has move now


def fill(part: nn.Module, state: Mapping[str, Tensor], what: str) -> None:
    """Assign a complete state dict in published form."""
    if hasattr(part, "load_published"):
        _method(part, "load_published")(state)
    else:
        part.load_state_dict(dict(state), assign=True)
    left = on_meta(part)
    if left:
        raise WeightsError(f"{what}: {len(left)} tensors of {type(part).__name__} got no value ({', '.join(left[:5])})")


def fill_at_random(
    part: nn.Module,
    seed: int,
    name: str,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
) -> None:
    """Random weights, the same for the same ``seed``, ``name`` and shapes on every device: for trying and testing.

    Matrices have variance 1 / fan-in, scales of norms are near 1, biases near 0; nothing is exactly zero, so that every
    part of a network takes effect. Buffers keep their values.
    """
    names = {id(parameter) for parameter in part.parameters()}
    exact = getattr(part, "float32_keys", ())
    owners = {key: parameter for key, parameter in part.named_parameters() if id(parameter) in names}
    for key, parameter in owners.items():
        rng = stream(seed, "random-weights", name, key)
        values = torch.randn(parameter.shape, generator=rng)
        if parameter.ndim >= 2:
            values *= 1 / math.sqrt(max(1, math.prod(parameter.shape[1:])))
        else:
            is_scale = key.rpartition(".")[2] not in ("bias", "beta", "shift")
            values = values * 0.02 + (1.0 if is_scale else 0.0)
        kind = parameter.dtype if dtype is None or not parameter.is_floating_point() else dtype
        kind = torch.float32 if _matches(key, exact) else kind
        path, _, leaf = key.rpartition(".")
        owner = part.get_submodule(path)
        owner._parameters[leaf] = nn.Parameter(values.to(device, kind), requires_grad=parameter.requires_grad)
    part.to(device)


def save_weights(
    part: nn.Module,
    path: str | Path,
    *,
    prefix: str = "",
    shard_bytes: int | None = None,
    metadata: Mapping[str, str] | None = None,
    overwrite: bool = False,
) -> tuple[Path, ...]:
    """Write the weights of ``part`` as published files have them, the inverse of loading.

    Args:
        path: a ``.safetensors`` file; with shards, the name that they and their ``.index.json`` are derived from.
        prefix: put before every key.
        shard_bytes: start a new file when one would grow beyond this; ``None`` writes one.
    Returns:
        The files written, index last.
    Raises:
        OutputExistsError: a file is in the way and ``overwrite`` is false.
        WeightsError: the part has no values, or the name is not ``*.safetensors``.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise WeightsError(f"{path}: weights are written as .safetensors")
    left = on_meta(part)
    if left:
        raise WeightsError(f"{type(part).__name__} has no values to save ({left[0]} is on the meta device)")
    # Tensors that share memory (tied weights, views) are written as tensors of their own.
    state = {prefix + key: tensor.detach().cpu().contiguous() for key, tensor in published_state(part).items()}
    state = unshared(state)
    return write_safetensors(state, path, shard_bytes=shard_bytes, metadata=metadata, overwrite=overwrite)


def unshared(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Every tensor with memory of its own, as safetensors wants it."""
    seen: set[int] = set()
    result = {}
    for key, tensor in state.items():
        address = tensor.untyped_storage().data_ptr()
        whole = tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size()
        result[key] = tensor if whole and address not in seen else tensor.clone()
        seen.add(address)
    return result


def write_safetensors(
    state: Mapping[str, Tensor],
    path: Path,
    *,
    shard_bytes: int | None = None,
    metadata: Mapping[str, str] | None = None,
    overwrite: bool = False,
) -> tuple[Path, ...]:
    """Tensors into one file, or into shards with their index; each appears whole or not at all."""
    groups: list[dict[str, Tensor]] = [{}]
    filled = 0
    for key, tensor in state.items():
        size = tensor.numel() * tensor.element_size()
        if shard_bytes is not None and groups[-1] and filled + size > shard_bytes:
            groups.append({})
            filled = 0
        groups[-1][key] = tensor
        filled += size
    if len(groups) == 1:
        files = [path]
    else:
        files = [
            path.with_name(f"{path.stem}-{i + 1:05d}-of-{len(groups):05d}.safetensors") for i in range(len(groups))
        ]
    index = path.with_name(path.name + ".index.json")
    for file in [*files, *([index] if len(groups) > 1 else [])]:
        if file.exists() and not overwrite:
            raise OutputExistsError(f"{file} exists; choose another name, or replace it (--overwrite)")
    for file, group in zip(files, groups, strict=True):
        with atomic_file(file) as temporary:
            save_file(group, temporary, metadata={"format": "pt", **(metadata or {})})
    if len(groups) == 1:
        with suppress(FileNotFoundError):
            index.unlink()  # of an earlier sharded copy, which would be found first
        return (path,)
    total = sum(tensor.numel() * tensor.element_size() for tensor in state.values())
    shards = {key: file.name for file, group in zip(files, groups, strict=True) for key in group}
    document: dict[str, Any] = {"metadata": {"total_size": total}, "weight_map": shards}
    json.dumps(document)
    write_json(index, document)
    return (*files, index)
