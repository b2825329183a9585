"""Folders of published weights: on disk, or fetched by the hub's client."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from shapewright.errors import MissingExtraError
from torch import Tensor

from .weights import WeightsError

STEMS = ("diffusion_pytorch_model", "model")
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")


def weights_folder(source: str, subfolder: str = "", *, revision: str = "", offline: bool = False) -> Path:
    """The folder that ``source`` names: a directory, or a repository ``owner/name`` of the hub.

    Args:
        subfolder: part of the repository, for example ``vae``; only that is fetched.
        revision: commit or tag of the repository.
        offline: take only what the client fetched before.
    Raises:
        WeightsError: there is no such folder, or the client does not get it.
        MissingExtraError: a repository is named and the client is not installed.
    """
    path = Path(source).expanduser()
    if path.is_dir():
        found = path / subfolder
        if not found.is_dir():
            raise WeightsError(f"{path} has no folder {subfolder!r}")
        return found
    if not source or path.is_absolute() or source.startswith(".") or source.count("/") != 1:
        raise WeightsError(f"weights {source!r} are neither a folder nor a repository 'owner/name'")
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        raise MissingExtraError("huggingface_hub", "conditioners", f"fetching {source}") from None
    patterns = [f"{subfolder}/{each}" if subfolder else each for each in ("*.safetensors", "*.json", "*.txt")]
    try:
        fetched = snapshot_download(
            source, revision=revision or None, local_files_only=offline, allow_patterns=patterns
        )
    except Exception as error:  # the client has many; each means that there are no weights
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        hint = "; fetch them once without offline" if offline else ""
        raise WeightsError(f"no weights from {source}{'@' + revision if revision else ''}: {reason}{hint}") from None
    folder = Path(fetched) / subfolder
    if not folder.is_dir():
        raise WeightsError(f"{source} has no folder {subfolder!r}")
    return folder


def weights_files(folder: Path) -> list[Path]:
    """The safetensors files of a folder: one, or the shards that its index lists.

    Raises:
        WeightsError: there are none, or a shard is missing.
    """
    for stem in STEMS:
        index = folder / f"{stem}.safetensors.index.json"
        if index.is_file():
            try:
                names = sorted(set(json.loads(index.read_text())["weight_map"].values()))
            except (ValueError, KeyError, AttributeError, TypeError):
                raise WeightsError(f"{index} is no index of shards") from None
            missing = [name for name in names if not (folder / name).is_file()]
            if missing:
                raise WeightsError(f"{folder}: {len(missing)} of {len(names)} shards are missing: {', '.join(missing)}")
            return [folder / name for name in names]
        if (folder / f"{stem}.safetensors").is_file():
            return [folder / f"{stem}.safetensors"]
    pickles = [path.name for pattern in PICKLES for path in sorted(folder.glob(pattern))]
    if pickles:
        raise WeightsError(f"{folder} holds {pickles[0]}, which may run code when opened; convert it to safetensors")
    raise WeightsError(f"{folder} holds no {' or '.join(f'{stem}.safetensors' for stem in STEMS)}")


def read_weights(folder: Path) -> dict[str, Tensor]:
    """All tensors of a folder, memory-mapped: nothing is read before it is used.

    Raises:
        WeightsError: a file is truncated or no safetensors file.
    """
    return dict(_tensors(weights_files(folder)))


def read_config(folder: Path) -> Mapping[str, object]:
    """``config.json`` of a folder without private keys; class names in it are not looked at."""
    path = folder / "config.json"
    try:
        found = json.loads(path.read_text())
    except FileNotFoundError:
        raise WeightsError(f"{folder} holds no config.json") from None
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path} cannot be read ({str(error).splitlines()[0]})") from None
    if not isinstance(found, dict):
        raise WeightsError(f"{path} is not a JSON object")
    return {key: value for key, value in found.items() if not key.startswith("_")}


def _tensors(files: list[Path]) -> Iterator[tuple[str, Tensor]]:
    for path in files:
        try:
            with safe_open(path, framework="pt") as stored:
                for key in stored.keys():  # noqa: SIM118 - not a dict
                    yield key, stored.get_tensor(key)
        except (OSError, SafetensorError) as error:
            raise WeightsError(f"{path}: not a safetensors file ({str(error).splitlines()[0]})") from None
