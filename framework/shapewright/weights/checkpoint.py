"""A checkpoint of one or several safetensors files: names, shapes and dtypes at once, tensors when they are asked
for."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..errors import WeightsError

FLOATS = frozenset({"F64", "F32", "F16", "BF16"})
HALF_BYTES = frozenset({"F8_E4M3", "F8_E5M2"})
"""Storage only: networks do not compute in it, so a dtype must be asked for."""
_CHUNK = 1 << 24


@dataclass(frozen=True, slots=True)
class Stored:
    """One tensor of a file: its shape, its dtype as the file spells it, and where it lies."""

    shape: tuple[int, ...]
    dtype: str
    file: Path
    key: str


@dataclass(frozen=True)
class Checkpoint:
    """``tensors`` by key, without the prefix. Reading them maps the files into memory: on the CPU they are not
    copied."""

    files: tuple[Path, ...]
    tensors: Mapping[str, Stored]

    def state(self, device: torch.device | str = "cpu") -> Iterator[tuple[str, Tensor]]:
        """Key and tensor of all, file after file, on ``device``.

        The files must not change while the tensors are used: on the CPU they are the files' own pages.
        """
        by_file: dict[Path, list[tuple[str, Stored]]] = {}
        for key, stored in self.tensors.items():
            by_file.setdefault(stored.file, []).append((key, stored))
        with ExitStack() as stack:
            for file, entries in by_file.items():
                handle = stack.enter_context(_opened(file, str(device)))
                for key, stored in entries:
                    yield key, handle.get_tensor(stored.key)

    @contextmanager
    def reader(self, device: torch.device | str = "cpu") -> Iterator[Callable[[str], Tensor]]:
        """A function from a key to its tensor on ``device``, for any order and any part of them."""
        with ExitStack() as stack:
            files = {stored.file for stored in self.tensors.values()}
            handles = {file: stack.enter_context(_opened(file, str(device))) for file in files}

            def read(key: str) -> Tensor:
                stored = self.tensors[key]
                tensor: Tensor = handles[stored.file].get_tensor(stored.key)
                return tensor

            yield read


def open_checkpoint(files: Sequence[Path], prefix: str = "") -> Checkpoint:
    """Read the headers of ``files``.

    Raises:
        WeightsError: a file is no safetensors file, is cut short, or repeats a key; no key has the prefix.
    """
    tensors: dict[str, Stored] = {}
    seen = 0
    for file in files:
        with _opened(file) as handle:
            for key in handle.keys():  # noqa: SIM118 (no mapping)
                seen += 1
                if not key.startswith(prefix):
                    continue
                name = key.removeprefix(prefix)
                if name in tensors:
                    raise WeightsError(
                        f"{key} is in {tensors[name].file.name} and in {file.name}; shards must not overlap"
                    )
                part = handle.get_slice(key)
                tensors[name] = Stored(tuple(part.get_shape()), part.get_dtype(), file, key)
    if prefix and seen and not tensors:
        raise WeightsError(f"none of the {seen} keys of {files[0]} starts with {prefix!r}; check 'prefix:'")
    return Checkpoint(tuple(files), tensors)


def _opened(file: Path, device: str = "cpu"):  # type: ignore[no-untyped-def]
    try:
        with file.open("rb") as stream:
            head = stream.read(64)
    except OSError as error:
        raise WeightsError(f"{file} cannot be read: {error.strerror or error}") from None
    if head.startswith(b"version https://git-lfs"):
        raise WeightsError(f"{file} is a pointer of a version-control system, not the weights; fetch the real file")
    try:
        return safe_open(str(file), framework="pt", device=device)
    except SafetensorError as error:
        # Not before: a good file begins with the length of its header, which may be the same two bytes.
        if head[:2] in (b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"):
            raise WeightsError(
                f"{file} is a pickle with the name of a safetensors file; "
                f"`shapewright convert-weights {file} OUT.safetensors` makes a safetensors file of it"
            ) from None
        size = file.stat().st_size
        raise WeightsError(
            f"{file} ({size:,} bytes) is damaged, cut short or no safetensors file ({error}); fetch it again"
        ) from None


def verify_sha256(files: Sequence[Path], wanted: Mapping[str, str]) -> None:
    """Compare ``files`` with digests by file name (one digest without a name: the only file).

    Raises:
        WeightsError: a file has another digest, or a digest names a file that is not used.
    """
    if "" in wanted and len(files) > 1:
        raise WeightsError(f"one sha256 is given for {len(files)} shards; give one by file name")
    by_name = {file.name: file for file in files}
    for name, digest in wanted.items():
        file = by_name.get(name) if name else files[0]
        if file is None:
            raise WeightsError(f"sha256 names {name}, which is not among {', '.join(by_name)}")
        found = file_sha256(file)
        if found != digest.lower():
            raise WeightsError(f"{file} has the sha256 {found}, not {digest.lower()}: it was changed or badly copied")


def file_sha256(file: Path) -> str:
    """Digest of a file, read in pieces."""
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
