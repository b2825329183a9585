"""TRELLIS.2: flow transformers over a dense structure grid and over sparse latents."""

from __future__ import annotations

from collections.abc import Iterable

from shapewright.plugin import ParityHandler, hookimpl

_ANSWERED = {"SparseStructureFlowModel": "structure_flow_case", "SLatFlowModel": "latent_flow_case"}


@hookimpl
def register_parity_handlers() -> Iterable[ParityHandler]:
    """Who answers for which golden case."""
    return [
        ParityHandler("trellis2", component, f"shapewright_plugins.trellis2.parity:{function}")
        for component, function in _ANSWERED.items()
    ]
