"""The hooks that plugins implement. Arguments only ever grow: an implementation may take fewer than the
specification."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pluggy

from .spec import ComponentSpec, FileFormat, ParityHandler

hookspec = pluggy.HookspecMarker("shapewright")
hookimpl = pluggy.HookimplMarker("shapewright")


@hookspec
def register_components() -> Iterable[ComponentSpec]:  # type: ignore[empty-body]
    """Return the specs that this plugin offers. Called once, at discovery; must not import torch."""


@hookspec
def register_parity_handlers() -> Iterable[ParityHandler]:  # type: ignore[empty-body]
    """Return who answers for which golden cases. Called by ``shapewright parity`` only; must not import torch."""


@hookspec
def register_registries() -> Iterable[Path]:  # type: ignore[empty-body]
    """Return registry files (pipelines, defaults) that this plugin ships."""


@hookspec
def register_commands() -> Mapping[str, str]:  # type: ignore[empty-body]
    """Return extra sub-commands, ``{"name": "package.module:click_command"}``; resolved for unknown names only."""


@hookspec
def register_formats() -> Iterable[FileFormat]:  # type: ignore[empty-body]
    """Return the file formats of states that this plugin reads and writes; must not import torch."""


@hookspec
def report_sections(cards: Path) -> Iterable[tuple[str, str]]:  # type: ignore[empty-body]
    """Return extra ``(title, text)`` sections for the report of the bench whose result cards lie in ``cards``."""


@hookspec(firstresult=True)
def resolve_weights(uri: str, cache: Path, offline: bool) -> Path | None:
    """Return a local safetensors file for ``uri``, or ``None`` to let the next plugin try."""


@hookspec
def before_stage(stage: str, inputs: Mapping[str, Any]) -> None:
    """Observe a stage about to run; the return value is ignored."""


@hookspec
def after_stage(stage: str, outputs: Mapping[str, Any], seconds: float) -> None:
    """Observe a finished stage (progress bars, profilers, viewers); the return value is ignored."""
