"""The ``weights:`` of a registry entry: where they come from and what is known about them. Standard library only."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

KEYS = (
    "repo", "path", "uri", "revision", "subfolder", "file", "files", "prefix", "sha256", "size", "license", "ignore",
    "format", "trained_with",
)  # fmt: skip
PLACES = ("repo", "path", "uri")


@dataclass(frozen=True, slots=True)
class WeightsEntry:
    """One entry. Exactly one of ``repo`` (a name on the hub), ``path`` (a file or folder) and ``uri`` (for plugins that
    implement ``resolve_weights``) is set."""

    repo: str = ""
    path: str = ""
    uri: str = ""
    revision: str = ""
    """Commit or tag of ``repo``; a branch where empty, which may change."""
    subfolder: str = ""
    file: str = ""
    """``*.safetensors`` or its ``*.index.json``; found by itself where a folder holds only one."""
    files: tuple[str, ...] = ()
    """Patterns of other files that the component reads (vocabularies, configs)."""
    prefix: str = ""
    """Keys that start with it are used, without it; others of the file belong to somebody else."""
    sha256: Mapping[str, str] = field(default_factory=dict)
    """By file name."""
    size: int = 0
    """Bytes, to tell before there are files; 0 where unknown."""
    license: str = ""
    ignore: tuple[str, ...] = ()
    """Patterns of keys that may be missing or left over."""

    @property
    def source(self) -> str:
        """What a reader calls it: repository or path, with the part of it that is meant."""
        inner = "/".join(part for part in (self.subfolder, self.file) if part)
        place = self.repo or self.path or self.uri
        return f"{place}{f' ({inner})' if inner else ''}{f' at {self.revision[:12]}' if self.revision else ''}"


def read_entry(body: Mapping[str, Any]) -> WeightsEntry:
    """The entry of a checked mapping (:func:`problems` found nothing)."""
    digest = body.get("sha256") or {}
    return WeightsEntry(
        **{name: str(body.get(name) or "") for name in (*PLACES, "revision", "subfolder", "file", "prefix", "license")},
        files=tuple(body.get("files") or ()),
        sha256={"": digest} if isinstance(digest, str) else dict(digest),
        size=int(body.get("size") or 0),
        ignore=tuple(body.get("ignore") or ()),
    )


def problems(body: Mapping[str, Any]) -> list[str]:
    """What is wrong with the values of an entry, each in one line."""
    found = []
    places = [name for name in PLACES if body.get(name)]
    if len(places) > 1:
        found.append(f"{' and '.join(places)} name two places; keep one")
    if not places and set(body) - {"trained_with", "format"}:
        found.append("no place is named; give 'repo: owner/name' or 'path: FOLDER'")
    if body.get("repo") and not re.fullmatch(r"[\w.-]+/[\w.-]+", str(body["repo"])):
        found.append(f"repo {body['repo']!r} is not of the form owner/name")
    for name in (*PLACES, "revision", "subfolder", "file", "prefix", "license"):
        if not isinstance(body.get(name, ""), str | None):
            found.append(f"{name} wants a text, found {body[name]!r}; put it in quotes")
    for name in ("subfolder", "file"):
        path = PurePosixPath(str(body.get(name) or ""))
        if path.is_absolute() or ".." in path.parts:
            found.append(f"{name} {str(path)!r} leaves the folder of the weights")
    if body.get("file") and not str(body["file"]).endswith((".safetensors", ".index.json")):
        found.append(
            f"file {body['file']!r} is not safetensors; `shapewright convert-weights` makes one of a checkpoint"
        )
    for name in ("files", "ignore"):
        value = body.get(name) or []
        if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
            found.append(f"{name} wants a list of patterns, found {value!r}")
    if not isinstance(body.get("size") or 0, int):
        found.append(f"size wants bytes, found {body['size']!r}")
    digest = body.get("sha256") or {}
    digests = digest if isinstance(digest, Mapping) else {"": digest}
    found += [
        f"sha256 {value!r} is not 64 hexadecimal digits"
        for value in digests.values()
        if not re.fullmatch(r"[0-9a-fA-F]{64}", str(value))
    ]
    if body.get("format", "safetensors") != "safetensors":
        found.append(f"format is {body['format']!r}; only safetensors is read")
    return found
