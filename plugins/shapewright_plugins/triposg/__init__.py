"""TripoSG: a set of latent tokens, a rectified-flow transformer over it, and a field that is only known as a function."""

from __future__ import annotations

from collections.abc import Iterable

from shapewright.plugin import ParityHandler, hookimpl

_ANSWERED = {
    "attention": "parity:attention_case",
    "block": "parity:block_case",
    "extraction_helpers": "parity_extraction:helpers_case",
    "farthest_point_sampling": "parity:farthest_case",
    "flash_extraction": "parity_extraction:flash_case",
    "flow_sampler": "parity:sampler_case",
    "flow_scheduler": "parity:scheduler_case",
    "flow_transformer": "parity:transformer_case",
    "frequency_embedding": "parity:frequency_case",
    "hierarchical_extraction": "parity_extraction:hierarchical_case",
    "image_encoder": "parity_images:dinov2_case",
    "image_preprocessing": "parity_images:images_case",
    "latent_gaussian": "parity:gaussian_case",
    "moe_ffn": "parity:moe_case",
    "text_encoder": "parity_images:clip_text_case",
    "time_embedding": "parity:time_case",
    "timestep_sampling": "parity:time_sampling_case",
    "vae_decode": "parity:vae_decode_case",
    "vae_decode_gradient": "parity:vae_gradient_case",
    "vae_encode": "parity:vae_encode_case",
    "vae_losses": "parity:losses_case",
}


@hookimpl
def register_parity_handlers() -> Iterable[ParityHandler]:
    """Who answers for which golden case."""
    return [
        ParityHandler("triposg", component, f"shapewright_plugins.triposg.{function}")
        for component, function in _ANSWERED.items()
    ]
