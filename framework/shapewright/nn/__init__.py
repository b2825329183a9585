"""Building blocks of sparse networks and attention, for our systems and for third parties. Names resolve lazily.

The layer above the core: it may import the kernels, and nothing of the core imports it. Blocks are plain
``torch.nn.Module`` whose parameters carry the names and layouts of the published checkpoints; they take and return
:class:`shapewright.SparseTensor`, and what may be shared between layers (neighbour maps, window partitions) is passed
along as a value.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

_HOMES: dict[str, list[str]] = {
    "structure": ["Level", "Structure"],
    "linear": ["SparseActivation", "SparseGELU", "SparseLinear", "SparseSiLU", "SparseTanh"],
    "norms": [
        "ChannelLayerNorm32", "GroupNorm32", "LayerNorm32", "MultiHeadRMSNorm", "SparseGroupNorm32",
        "SparseLayerNorm32", "layer_norm32", "sparse_group_norm",
    ],
    "convolution": ["SparseConv3d", "SparseInverseConv3d", "SpconvConv3d", "TorchsparseConv3d", "sparse_conv3d"],
    "resampling": [
        "channel_to_spatial", "channel_to_spatial_where", "downsample", "keep", "sort_rows",
        "spatial_to_channel", "subdivide", "upsample", "upsample_where",
    ],
    "sampling": ["sample_voxels"],
    "residual_blocks": [
        "SparseConvNeXtBlock3d", "SparseResBlock3d", "SparseResBlockC2S3d", "SparseResBlockDownsample3d",
        "SparseResBlockS2C3d", "SparseResBlockUpsample3d",
    ],
    "subdivide_blocks": ["DownsampleGroupNormBlock3d", "SubdivideConvBlock3d", "SubdivideGroupNormBlock3d", "prune"],
    "point_encoder": ["LocalPoolPointNet"],
    "feed_forward": ["FeedForward"],
    "layouts": ["batched_coords", "dense_layout", "layout_of", "pack", "per_token", "sample_rows"],
    "attention": [
        "AttentionConfig", "FullAttention", "MultiHeadAttention", "SharedRMSNorm", "make_attention", "self_pairs",
    ],
    "windows": [
        "Grouped", "GroupedAttention", "SerialisedAttention", "SerialisedConfig", "WindowAttention", "WindowConfig",
        "pieces_of", "windows_of",
    ],
    "positions": ["AbsolutePositionEmbedding", "FrequencyEmbedding", "rotary_phases", "rotate"],
    "timesteps": ["TimestepEmbedding", "timestep_frequencies"],
    "modulation": ["Modulation", "ModulationLayer", "modulations"],
    "blocks": ["CrossTransformerBlock", "ModulatedCrossBlock", "ModulatedTransformerBlock", "TransformerBlock"],
    "conditions": ["foreground_tokens"],
    "flow_transformer": ["FlowTransformer", "FlowTransformerConfig", "as_context", "grid_coords", "initialise"],
    "spatial_sparse_attention": [
        "BlockCompressionV1", "BlockCompressionV2", "Blocks", "SpatialSparseAttention", "SpatialSparseConfig",
    ],
    "gaussian": ["DiagonalGaussian"],
    "precision": ["cast_products", "cast_values", "autocast_type"],
    "checkpointing": ["checkpoint", "checkpointed_blocks"],
}  # fmt: skip
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}
__all__ = [*_HOME_OF]  # noqa: PLE0604

if TYPE_CHECKING:
    from .attention import *  # noqa: F403
    from .blocks import *  # noqa: F403
    from .checkpointing import *  # noqa: F403
    from .conditions import *  # noqa: F403
    from .convolution import *  # noqa: F403
    from .feed_forward import *  # noqa: F403
    from .flow_transformer import *  # noqa: F403
    from .gaussian import *  # noqa: F403
    from .layouts import *  # noqa: F403
    from .linear import *  # noqa: F403
    from .modulation import *  # noqa: F403
    from .norms import *  # noqa: F403
    from .point_encoder import *  # noqa: F403
    from .positions import *  # noqa: F403
    from .precision import *  # noqa: F403
    from .resampling import *  # noqa: F403
    from .residual_blocks import *  # noqa: F403
    from .sampling import *  # noqa: F403
    from .spatial_sparse_attention import *  # noqa: F403
    from .structure import *  # noqa: F403
    from .subdivide_blocks import *  # noqa: F403
    from .timesteps import *  # noqa: F403
    from .windows import *  # noqa: F403


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module 'shapewright.nn' has no attribute {name!r}")
    return getattr(import_module(f".{home}", __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)
