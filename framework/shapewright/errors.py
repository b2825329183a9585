"""Errors that say where, what was wanted, what was found, and what to type next."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches


class ShapewrightError(Exception):
    """Base of every error a user can cause; the command line prints it as one message without a traceback."""


class UnknownComponentError(ShapewrightError, LookupError):
    """A component was asked for by a name that nothing installed provides."""

    def __init__(self, key: str, known: Iterable[str], failed: Iterable[str] = (), where: str = "") -> None:
        self.key = key
        known, failed = sorted(known), sorted(failed)
        kind, _, name = key.partition("/")
        siblings = [k for k in known if k.startswith(kind + "/")]
        parts = [f"{where + ': ' if where else ''}no component is named {key!r}."]
        close = get_close_matches(name, [k.partition("/")[2] for k in siblings], n=3)
        suggestions = [f"{kind}/{match}" for match in close] or [
            k for k in known if k.partition("/")[2] == (name or kind)
        ]
        if suggestions:
            parts.append("Did you mean " + " or ".join(map(repr, suggestions)) + "?")
        if failed:
            parts.append(
                f"{len(failed)} installed plugin(s) did not load and may have provided it: {', '.join(failed)}; "
                "see `shapewright plugins --errors`."
            )
        parts.append(f"`shapewright list{' ' + kind if siblings else ''}` shows what there is.")
        super().__init__(" ".join(parts))


class PlanError(ShapewrightError, ValueError):
    """All problems of one pipeline at once, found before any weight is read."""

    def __init__(self, pipeline: str, problems: Sequence[str]) -> None:
        self.pipeline = pipeline
        self.problems = tuple(problems)
        count = f"{len(problems)} problem" + ("s" if len(problems) != 1 else "")
        super().__init__(f"pipeline {pipeline!r} cannot run ({count}):\n  - " + "\n  - ".join(problems))


class RegistryError(ShapewrightError, ValueError):
    """A registry file cannot be read, or an entry or override in it is wrong."""


class ConfigError(ShapewrightError, ValueError):
    """An option is unknown, of the wrong type, or out of range."""


class MeshError(ShapewrightError, ValueError):
    """A file holds no usable geometry; the message names the file and the reason."""


class MeshWarning(UserWarning):
    """Geometry was repaired while loading; ``counts`` says what was dropped, e.g. ``{"degenerate faces": 40}``."""

    def __init__(self, source: str, counts: dict[str, int]) -> None:
        self.source = source
        self.counts = counts
        repaired = ", ".join(f"{count} {what}" for what, count in counts.items())
        super().__init__(f"{source}: dropped {repaired}")


class ResourceError(ShapewrightError, MemoryError):
    """A request would not fit into memory; the message carries the estimate and the limit."""


class StateError(ShapewrightError, ValueError):
    """A value that flows between stages breaks its contract (shape, dtype, order, range)."""


class WeightsError(ShapewrightError, ValueError):
    """Weights are missing, damaged, of another format, or do not fit the component; all differences are listed."""


class ImageError(ShapewrightError, ValueError):
    """A file holds no usable image; the message names the file and the reason."""


class MissingExtraError(ShapewrightError, ImportError):
    """An optional package is needed; the message names the extra that installs it."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(f"{purpose} needs the package {package!r}: pip install 'shapewright[{extra}]'")


class OutputExistsError(ShapewrightError, FileExistsError):
    """An output file is in the way; nothing was overwritten."""
