"""Where the files of a weights entry lie: folders first, then the hub's cache, then the hub itself."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import MissingExtraError, WeightsError
from .entry import WeightsEntry

VARIABLE = "SHAPEWRIGHT_WEIGHTS"
"""Environment variable with folders that hold weights, separated as in PATH."""
USUAL_NAMES = ("diffusion_pytorch_model", "model")
PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pkl")

Resolver = Callable[[str, Path, bool], Path | None]


class NotFoundError(WeightsError):
    """Nothing of the entry is here; :class:`WeightsError` otherwise means that something is, and is wrong."""


@dataclass(frozen=True, slots=True)
class Places:
    """Where to look. ``roots`` in order; the hub's client is asked only where they have nothing."""

    roots: tuple[Path, ...] = ()
    hub: bool = True
    """Whether the hub's client (and its cache) is asked at all."""
    offline: bool = False
    """Look into the cache, fetch nothing."""
    refusal: str = "--offline forbids to fetch it"
    """What a message says of that: the user may not have asked for it in these words."""


@dataclass(frozen=True, slots=True)
class Located:
    """Files of one entry. ``folder`` is the top of the repository, where a component's other files lie too."""

    files: tuple[Path, ...]
    folder: Path
    origin: str
    revision: str = ""

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(path.stat().st_size for path in self.files)


def weights_folders(given: tuple[str | Path, ...] = (), configured: Any = ()) -> tuple[Path, ...]:
    """Folders to look into: ``given`` on the command line, of the environment, of a registry's ``defaults.weights``.

    Raises:
        WeightsError: one that was given is not there, or is a file.
    """
    for folder in given:
        if not Path(folder).is_dir():
            what = "is a file; name the folder it lies in" if Path(folder).exists() else "there is no such folder"
            raise WeightsError(f"--weights {folder}: {what}")
    environment = [part for part in os.environ.get(VARIABLE, "").split(os.pathsep) if part]
    listed = [configured] if isinstance(configured, str) else list(configured or ())
    return tuple(Path(folder).expanduser() for folder in (*given, *environment, *listed))


def locate(entry: WeightsEntry, places: Places, resolve: Resolver | None = None) -> Located:
    """The files of ``entry``.

    Raises:
        NotFoundError: nothing of it is here.
        WeightsError: a folder has it in part, in another format, or without a clear choice of file.
    """
    if entry.uri:
        path = resolve(entry.uri, Path.home() / ".cache" / "shapewright", places.offline) if resolve else None
        if path is None:
            raise NotFoundError(f"no plugin resolves {entry.uri}")
        return Located(_files_of(path, entry), path if path.is_dir() else path.parent, "plugin")
    for folder in _candidates(entry, places.roots):
        return Located(
            _chosen(folder, entry),
            folder if folder.is_dir() else folder.parent,
            str(folder),
            _snapshot_revision(folder),
        )
    if entry.repo and places.hub:
        folder = _from_hub(entry, places)
        return Located(_chosen(folder, entry), folder, "hub", _snapshot_revision(folder))
    searched = ", ".join(map(str, places.roots))
    raise NotFoundError(f"{entry.source} is not {f'in {searched}' if searched else 'here'}")


def _candidates(entry: WeightsEntry, roots: tuple[Path, ...]) -> Iterator[Path]:
    """Folders (or files) that hold the entry, best first: named after it, the hub's cache layout, the root itself."""
    if entry.path:
        path = Path(entry.path).expanduser()
        for found in [path] if path.is_absolute() else [*(root / path for root in roots), path]:
            if found.exists():
                yield found
        return
    owner, _, name = entry.repo.partition("/")
    for root in roots:
        for folder in (root / owner / name, root / name):
            if folder.is_dir():
                yield folder
        cached = root / f"models--{owner}--{name}"
        revision = entry.revision
        reference = cached / "refs" / (revision or "main")
        if reference.is_file():
            revision = reference.read_text().strip()
        if revision and (cached / "snapshots" / revision).is_dir():
            yield cached / "snapshots" / revision
        # The root may be the repository itself; it must show that by what is asked for.
        inner = root / entry.subfolder
        shown = (inner / entry.file).exists() if entry.file else inner.is_dir() and any(inner.glob("*.safetensors*"))
        if shown or (entry.subfolder and inner.is_dir()):
            yield root


def _snapshot_revision(folder: Path) -> str:
    return folder.name if folder.parent.name == "snapshots" else ""


def _chosen(folder: Path, entry: WeightsEntry) -> tuple[Path, ...]:
    if folder.is_file():
        return _files_of(folder, entry)
    inner = folder / entry.subfolder
    if not inner.is_dir():
        index = folder / "model_index.json"
        names = ", ".join(sorted(path.name for path in folder.iterdir() if path.is_dir())) if index.is_file() else ""
        raise WeightsError(
            f"{folder} has no sub-folder {entry.subfolder!r}{f'; it has {names}' if names else ''}; "
            f"it must hold {entry.source} as published"
        )
    if entry.file:
        path = inner / entry.file
        index = path.with_name(path.name + ".index.json")
        return _files_of(index if not path.exists() and index.is_file() else path, entry)
    found = sorted([*inner.glob("*.safetensors"), *inner.glob("*.safetensors.index.json")])
    for name in USUAL_NAMES:
        for suffix in (".safetensors.index.json", ".safetensors"):
            if inner / f"{name}{suffix}" in found:
                return _files_of(inner / f"{name}{suffix}", entry)
    indices = [path for path in found if path.name.endswith(".index.json")]
    if len(indices) == 1 or len(found) == 1:
        return _files_of((indices or found)[0], entry)
    if found:
        raise WeightsError(f"{inner} holds {', '.join(path.name for path in found)}; choose one with 'file:'")
    pickles = sorted(path for path in inner.iterdir() if path.suffix in PICKLES)
    if pickles:
        raise WeightsError(_pickle_message(pickles[0]))
    raise WeightsError(f"{inner} holds no .safetensors file")


def _pickle_message(path: Path) -> str:
    target = path.with_suffix(".safetensors").name
    return (
        f"{path} is a pickle, which can run any code when it is opened, so it is not; "
        f"`shapewright convert-weights {path} {target}` makes a safetensors file of it"
    )


def _files_of(path: Path, entry: WeightsEntry) -> tuple[Path, ...]:
    """The file, or the shards that an index names, all of them there."""
    if path.is_dir():
        return _chosen(path, entry)
    if path.suffix in PICKLES:
        raise WeightsError(_pickle_message(path))
    if not path.is_file():
        pickles = [path.with_suffix(suffix) for suffix in PICKLES if path.with_suffix(suffix).is_file()]
        raise WeightsError(_pickle_message(pickles[0]) if pickles else f"{path} is missing")
    if not path.name.endswith(".index.json"):
        return (path,)
    try:
        shards = json.loads(path.read_text(encoding="utf-8"))["weight_map"]
        names = sorted({str(name) for name in shards.values()})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise WeightsError(f"{path} is not the index of a sharded checkpoint ({type(error).__name__})") from None
    if not names or any(Path(name).name != name for name in names):
        raise WeightsError(f"{path} must name files of its own folder")
    missing = [name for name in names if not (path.parent / name).is_file()]
    if missing:
        raise WeightsError(f"{path.parent} lacks {len(missing)} of {len(names)} shards: {', '.join(missing)}")
    return tuple(path.parent / name for name in names)


def _from_hub(entry: WeightsEntry, places: Places) -> Path:
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        raise NotFoundError(str(MissingExtraError("huggingface_hub", "hub", f"fetching {entry.source}"))) from None
    folder = f"{entry.subfolder}/" if entry.subfolder else ""
    if entry.file:
        stem = entry.file.removesuffix(".index.json").removesuffix(".safetensors")
        names = [
            f"{folder}{stem}.safetensors",
            f"{folder}{stem}-*.safetensors",
            f"{folder}{stem}.safetensors.index.json",
        ]
    else:
        names = [f"{folder}*.safetensors", f"{folder}*.safetensors.index.json"]
    patterns = [*names, f"{folder}config.json", "model_index.json", *entry.files]

    def fetched(local: bool) -> Path:
        return Path(
            snapshot_download(
                entry.repo, revision=entry.revision or None, allow_patterns=patterns, local_files_only=local
            )
        )

    try:
        folder_path = fetched(True)
        _chosen(folder_path, entry)
        return folder_path
    except Exception as error:  # the client's errors have no common base over its versions; the next step decides
        barred = os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on")
        if places.offline or barred:
            reason = "the variable HF_HUB_OFFLINE forbids to fetch it" if barred else places.refusal
            raise NotFoundError(f"{entry.source}: the hub's cache does not have it, and {reason}") from error
    try:
        folder_path = fetched(False)
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        gated = "gated" in type(error).__name__.lower() or "gated" in reason.lower()
        advice = "; accept its terms on its page and log in with the hub's client" if gated else ""
        raise NotFoundError(f"{entry.source} could not be fetched: {type(error).__name__}: {reason}{advice}") from error
    if not entry.revision:
        commit = _snapshot_revision(folder_path)
        found = f"{commit} was fetched" if commit else "the newest was fetched"
        warnings.warn(
            f"{entry.repo} is not pinned to a revision, and may change; {found}; "
            f"--set components.NAME.weights.revision={commit or 'COMMIT'} keeps to it",
            stacklevel=2,
        )
    return folder_path
