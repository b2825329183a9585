"""Golden cases of attention, position codes and transformer blocks of the published sparse systems.

No components: the blocks are ``shapewright.nn``, and what the cases need beyond them stands here.
"""

from __future__ import annotations

from collections.abc import Iterable

from shapewright.plugin import ParityHandler, hookimpl

_ANSWERED = [
    ("direct3d_s2", "absolute_position_embedding", "direct3d_s2:position_case"),
    ("direct3d_s2", "sparse_cross_attention", "direct3d_s2:cross_attention_case"),
    ("direct3d_s2", "sparse_transformer_block_windowed", "direct3d_s2:block_case"),
    ("direct3d_s2", "extract_tokens_and_coords", "direct3d_s2:condition_tokens_case"),
    ("triposf", "sparse_transformer_block", "triposf:block_case"),
    ("triposf", "pieces", "triposf:pieces_case"),
    ("trellis2", "modules", "trellis2:modules_case"),
    ("trellis2", "SparseMultiHeadAttention", "trellis2:attention_case"),
    ("trellis2", "serialize", "trellis2:serialise_case"),
]


@hookimpl
def register_parity_handlers() -> Iterable[ParityHandler]:
    """Who answers for which golden case."""
    return [
        ParityHandler(system, component, f"shapewright_plugins.transformer_blocks.{function}")
        for system, component, function in _ANSWERED
    ]
