"""TRELLIS.2: flow transformers over a dense structure grid and over sparse latents."""

from __future__ import annotations

from collections.abc import Iterable

from shapewright.plugin import ParityHandler, hookimpl

_HERE = "shapewright_plugins.trellis2"

_ANSWERED = {
    "DinoV3FeatureExtractor": "parity_images:dinov3_case",
    "FlexiDualGridVaeDecoder": "parity_networks:shape_decoder_case",
    "FlexiDualGridVaeDecoder.train": "parity_networks:shape_training_case",
    "FlexiDualGridVaeEncoder": "parity_networks:shape_encoder_case",
    "FlowEulerCfgSampler": "parity_flow:sampler_case",
    "FlowEulerGuidanceIntervalSampler": "parity_flow:sampler_case",
    "FlowEulerSampler": "parity_flow:sampler_case",
    "SLatFlowModel": "parity:latent_flow_case",
    "SparseStructureDecoder": "parity_networks:structure_decoder_case",
    "SparseStructureEncoder": "parity_networks:structure_encoder_case",
    "SparseStructureFlowModel": "parity:structure_flow_case",
    "SparseUnetVaeDecoder": "parity_networks:texture_decoder_case",
    "SparseUnetVaeEncoder": "parity_networks:texture_encoder_case",
    "cascade_coords": "parity_stages:cascade_case",
    "flow matching": "parity_flow:targets_case",
    "preprocess_image": "parity_images:prepare_case",
    "sparse_structure_to_coords": "parity_stages:structure_coords_case",
    "training utilities": "parity_stages:training_case",
}


@hookimpl
def register_parity_handlers() -> Iterable[ParityHandler]:
    """Who answers for which golden case."""
    return [ParityHandler("trellis2", component, f"{_HERE}.{function}") for component, function in _ANSWERED.items()]
