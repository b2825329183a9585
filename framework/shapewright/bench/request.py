"""What a bench should run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..errors import ConfigError

MAX_RESOLUTION = 4096


@dataclass(frozen=True)
class Request:
    """One call of ``shapewright bench``; empty tuples mean "all that there are" (or the registry's default)."""

    datasets: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()
    representations: tuple[str, ...] = ()
    extractors: tuple[str, ...] = ()
    pipelines: tuple[str, ...] = ()
    resolutions: tuple[int, ...] = ()
    samples: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()
    overrides: tuple[str, ...] = ()
    registries: tuple[str, ...] = ()
    workers: int = 1
    seed: int = 0
    out: Path = Path("bench-results")
    keep_meshes: bool = False
    report: bool = True
    retry_failed: bool = False
    cell_timeout: float | None = None

    def __post_init__(self) -> None:
        for resolution in self.resolutions:
            if not 2 <= resolution <= MAX_RESOLUTION:
                raise ConfigError(
                    f"resolution {resolution} is out of range; choose 2 to {MAX_RESOLUTION} cells an axis"
                )
        if self.workers < 1:
            raise ConfigError(f"--workers {self.workers}: at least 1 worker is needed")
        if self.cell_timeout is not None and self.cell_timeout <= 0:
            raise ConfigError(f"--cell-timeout {self.cell_timeout:g}: give a positive number of seconds")
