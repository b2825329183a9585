"""Answers of :mod:`shapewright.nn` to the golden cases of sparse tensors, convolutions, norms and resampling."""

from collections.abc import Iterable

from shapewright.plugin import ParityHandler, hookimpl

_ANSWERS = {
    ("direct3d_s2", "sparse_conv3d"): "parity:torchsparse_convolution",
    ("direct3d_s2", "sparse_group_norm"): "parity:group_norm",
    ("direct3d_s2", "sparse_resample"): "parity:resample",
    ("direct3d_s2", "ssvae_blocks"): "parity:ssvae_blocks",
    ("direct3d_s2", "sparse2mesh"): "parity_meshes:sparse_to_mesh",
    ("direct3d_s2", "mesh2index"): "parity_meshes:mesh_to_index",
    ("triposf", "submanifold_conv"): "parity:spconv_convolution",
    ("triposf", "sparse_subdivide_block"): "parity:subdivide_block",
    ("triposf", "local_pool_pointnet"): "parity:local_pool_pointnet",
    ("trellis2", "SparseConv3d"): "parity:convolution",
    ("trellis2", "sparse_spatial_ops"): "parity:spatial_ops",
    ("trellis2", "SparseUnetVae nearest resblocks"): "parity_unet:nearest_resblocks",
    ("trellis2", "grid_sample_3d"): "parity:grid_sample",
}


@hookimpl
def register_parity_handlers() -> Iterable[ParityHandler]:
    module = "shapewright_plugins.sparse_networks"
    return [ParityHandler(system, component, f"{module}.{place}") for (system, component), place in _ANSWERS.items()]
