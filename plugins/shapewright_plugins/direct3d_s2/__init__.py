"""Direct3D-S2: diffusion transformers over a dense structure grid and, with spatial sparse attention, over voxels."""

from __future__ import annotations

from collections.abc import Iterable

from shapewright.plugin import ParityHandler, hookimpl

_ANSWERED = {"dense_dit": "dense_dit_case", "sparse_dit": "sparse_dit_case"}


@hookimpl
def register_parity_handlers() -> Iterable[ParityHandler]:
    """Who answers for which golden case."""
    return [
        ParityHandler("direct3d_s2", component, f"shapewright_plugins.direct3d_s2.parity:{function}")
        for component, function in _ANSWERED.items()
    ]
