"""Attention over packed token sets, interchangeable by name: ``attention: {use: attention/window, with: {...}}``.

A model gives its own width and heads to whichever of them is named; the options of the pattern (window, curve, block
sizes) stand in the registry entry.
"""

from __future__ import annotations

from collections.abc import Iterable

from shapewright.plugin import Capabilities, ComponentSpec, ParityHandler, hookimpl

_CLAIMS = Capabilities(differentiable=True)


@hookimpl
def register_components() -> Iterable[ComponentSpec]:
    """The specs of all attention patterns that ship with the framework."""
    return [
        ComponentSpec(
            "attention",
            "full",
            "shapewright.nn.attention:FullAttention",
            capabilities=_CLAIMS,
            summary="Every token of a sample attends to all tokens of it, or of its context (cross-attention).",
            cite="Vaswani et al. 2017 (arXiv 1706.03762)",
            license="Apache-2.0",
        ),
        ComponentSpec(
            "attention",
            "window",
            "shapewright.nn.windows:WindowAttention",
            capabilities=_CLAIMS,
            summary="Tokens attend inside cubes of voxels; odd blocks shift the cubes by half their edge.",
            cite="Liu et al. 2021, Swin (arXiv 2103.14030)",
            license="Apache-2.0",
        ),
        ComponentSpec(
            "attention",
            "serialized",
            "shapewright.nn.windows:SerialisedAttention",
            capabilities=_CLAIMS,
            summary="Tokens attend inside equal pieces of a Morton or Hilbert curve through the voxels.",
            cite="Wu et al. 2024, Point Transformer V3 (arXiv 2312.10035)",
            license="Apache-2.0",
        ),
        ComponentSpec(
            "attention",
            "ssa",
            "shapewright.nn.spatial_sparse_attention:SpatialSparseAttention",
            capabilities=_CLAIMS,
            summary="Voxels attend to pooled blocks, to their top-k blocks and to their window; self-attention only.",
            cite="Wu et al. 2025, Direct3D-S2 (arXiv 2505.17412)",
            license="Apache-2.0",
        ),
    ]


@hookimpl
def register_parity_handlers() -> Iterable[ParityHandler]:
    """Who answers for the golden cases of the parts of Spatial Sparse Attention."""
    functions = {
        "sort_block": "sort_block_case",
        "ssa_block_score": "block_score_case",
        "ssa_selection_attention": "selection_case",
        "ssa_window_attention": "window_case",
        "ssa_compression_v1": "compression_case",
        "ssa_compression_v2": "compression_case",
        "spatial_sparse_attention": "module_case",
    }
    module = "shapewright_plugins.attention.ssa_parity"
    return [ParityHandler("direct3d_s2", component, f"{module}:{name}") for component, name in functions.items()]
