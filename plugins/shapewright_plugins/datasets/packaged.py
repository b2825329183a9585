"""Meshes that lie inside an installed package: found by the file list of its distribution, never imported."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path, PurePosixPath
from typing import ClassVar

from shapewright.errors import ConfigError, MissingExtraError
from shapewright.interfaces import Dataset, Sample

from .samples import file_sample, unknown_sample


@dataclass(frozen=True)
class Config:
    """Nothing to choose: a sweep picks among the samples by id or tag."""


class PackagedMeshes(Dataset[Config]):
    """Base of data sets whose meshes came with ``pip install``.

    A subclass names the distribution and the files, and derives an id from a file's path. Files with the same bytes as
    an earlier one are left out, as are those that match ``without`` (collision copies of the shown meshes).
    """

    Config = Config

    name: ClassVar[str]
    """Name of the component."""
    package: ClassVar[str]
    """Name of the distribution."""
    extra: ClassVar[str] = "datasets"
    """The extra of shapewright that installs it."""
    patterns: ClassVar[tuple[str, ...]]
    """Files wanted, matched against the path inside the environment, such as ``"pybullet_data/*.obj"``."""
    without: ClassVar[tuple[str, ...]] = ("*collision*", "*_vhacd*", "*convex*")
    license: ClassVar[str]
    tags: ClassVar[frozenset[str]] = frozenset()

    @abstractmethod
    def identify(self, path: PurePosixPath) -> str:
        """The id of a file; different for different files, and the same in every version of the package."""

    def ids(self) -> Sequence[str]:
        """Ids in the order of the alphabet. Reads the files once, to leave out copies; loads none."""
        return tuple(self._files)

    def load(self, id: str) -> Sample:
        """Load one file; raises :class:`~shapewright.errors.MeshError` where it holds no usable geometry."""
        path = self._files.get(id)
        if path is None:
            raise unknown_sample(self.name, id, self.ids())
        return file_sample(id, path, tags=self.tags, license=self.license)

    @cached_property
    def _files(self) -> dict[str, Path]:
        try:
            package = distribution(self.package)
        except PackageNotFoundError:
            raise MissingExtraError(self.package, self.extra, f"dataset/{self.name}") from None
        wanted: dict[str, Path] = {}
        for file in package.files or ():
            posix = file.as_posix()
            if not any(fnmatchcase(posix, pattern) for pattern in self.patterns):
                continue
            if not any(fnmatchcase(posix, pattern) for pattern in self.without):
                wanted[self.identify(PurePosixPath(posix))] = Path(str(package.locate_file(file)))
        if not wanted:
            raise ConfigError(f"dataset/{self.name}: {self.package} {package.version} holds none of its meshes")
        first: dict[str, str] = {}
        for id in sorted(wanted):
            first.setdefault(hashlib.sha256(wanted[id].read_bytes()).hexdigest(), id)
        return {id: wanted[id] for id in first.values()}


class PybulletObjects(PackagedMeshes):
    """The abstract objects of ``pybullet_data/random_urdfs``: unions of overlapping convex pieces, no open surfaces.

    Object 168 has no finite vertex and raises :class:`~shapewright.errors.MeshError` when it is loaded.
    """

    name = "pybullet-objects"
    package = "pybullet"
    patterns = ("pybullet_data/random_urdfs/*/*.obj",)
    license = "Zlib"
    tags = frozenset({"overlapping-parts", "low-poly"})

    def identify(self, path: PurePosixPath) -> str:
        """The number of the object, ``000`` to ``999``."""
        return path.stem
