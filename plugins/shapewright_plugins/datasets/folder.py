"""``dataset/folder``: every readable mesh below a directory."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from typing import Any

from shapewright.errors import ConfigError
from shapewright.interfaces import Dataset, Sample
from shapewright.mesh_io import READABLE

from .samples import file_sample, unknown_sample

_SPELLINGS = {"nonmanifold": "non-manifold"}
"""Tags of manifests that the framework spells differently; such a shape carries both."""


@dataclass(frozen=True)
class Config:
    """Where the meshes are.

    ``path``: the directory. ``pattern``: which files, matched against the path below the directory and against the bare
    name (``"*.glb"``, ``"chairs/*"``); empty for all formats that can be read. ``manifest``: a JSON file with tags,
    licences and splits; empty to use a ``manifest.json`` in the directory or the one above, if there is one.
    ``materials``: whether materials and textures are read as well.
    """

    path: str = ""
    pattern: str = ""
    manifest: str = ""
    materials: bool = True


class Folder(Dataset[Config]):
    """Meshes by their path below the directory, without the extension, in the order of the alphabet.

    A file that cannot be used raises when it is loaded and stops no other one.
    """

    Config = Config

    def ids(self) -> Sequence[str]:
        """Paths below the directory; two files that differ in the extension alone keep it."""
        return tuple(self._files)

    def load(self, id: str) -> Sample:
        """Load one file; tags, licence and split are those of the manifest."""
        path = self._files.get(id)
        if path is None:
            raise unknown_sample("folder", id, self.ids())
        entry = self._manifest.get(path.resolve(), {})
        tags = set(map(str, entry.get("tags", ())))
        tags |= {_SPELLINGS[tag] for tag in tags & _SPELLINGS.keys()}
        notes = [f"changed: {entry['change']}"] if entry.get("change") else []
        return file_sample(
            id,
            path,
            tags=tags,
            license=str(entry.get("license") or ""),
            split=str(entry.get("split") or ""),
            notes=notes,
            materials=self.config.materials,
        )

    @property
    def _root(self) -> Path:
        if not self.config.path:
            raise ConfigError("dataset/folder needs the option path: the directory with the meshes")
        root = Path(self.config.path).expanduser()
        if not root.is_dir():
            raise ConfigError(
                f"dataset/folder: {root} is {'a file' if root.exists() else 'not there'}, not a directory"
            )
        return root

    @cached_property
    def _files(self) -> dict[str, Path]:
        root, pattern = self._root, self.config.pattern
        found = []
        for path in root.rglob("*"):
            below = path.relative_to(root)
            if any(part.startswith(".") for part in below.parts) or path.suffix.lower() not in READABLE:
                continue
            if pattern and not (fnmatchcase(below.as_posix(), pattern) or fnmatchcase(path.name, pattern)):
                continue
            if path.is_file():
                found.append(below)
        if not found:
            wanted = f"file that matches {pattern!r} and " if pattern else "file that "
            raise ConfigError(f"dataset/folder: {root} holds no {wanted}ends in {', '.join(READABLE)}")
        found.sort(key=lambda below: below.as_posix())
        names = Counter(below.with_suffix("").as_posix() for below in found)
        bare = {below: below.with_suffix("").as_posix() for below in found}
        return {bare[below] if names[bare[below]] == 1 else below.as_posix(): root / below for below in found}

    @cached_property
    def _manifest(self) -> Mapping[Path, Mapping[str, Any]]:
        """Entries of the manifest by the absolute path of their file."""
        if self.config.manifest:
            source = Path(self.config.manifest).expanduser()
            if not source.is_file():
                raise ConfigError(f"dataset/folder: there is no manifest {source}")
        else:
            root = self._root.resolve()
            beside = [folder / "manifest.json" for folder in (root, root.parent)]
            source = next((path for path in beside if path.is_file()), Path())
            if not source.name:
                return {}
        try:
            document = json.loads(source.read_text(encoding="utf-8"))
            groups = [value for value in document.values() if isinstance(value, list)]
            entries = [entry for group in groups for entry in group if isinstance(entry, dict) and "file" in entry]
        except (ValueError, AttributeError, OSError) as error:
            reason = " ".join(str(error).split())
            raise ConfigError(f"dataset/folder: the manifest {source} cannot be read: {reason}") from None
        return {(source.parent / str(entry["file"])).resolve(): entry for entry in entries}
