"""TripoSG: a set of latent tokens, a rectified-flow transformer over it, and a field that is a function."""

from __future__ import annotations

from collections.abc import Iterable

from shapewright.plugin import Capabilities, ComponentSpec, ParityHandler, Verb, hookimpl

_CITE = "Li et al. 2025, TripoSG (arXiv 2502.06608)"
_HERE = "shapewright_plugins.triposg"
_CPU = frozenset({"cpu"})

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


def _components() -> Iterable[ComponentSpec]:
    yield ComponentSpec(
        "encoder",
        "triposg-vae",
        f"{_HERE}.vae:TripoSGVAE",
        {
            "encode": Verb({"source": "surface", "support": "support.tokens?"}, {"latent": "latent.tokens"}),
            "decode": Verb({"latent": "latent.tokens"}, {"state": "sdf.function"}),
        },
        # Decoding is differentiable twice, encoding where its choice of points stays; the claim would be of both.
        summary="Surface samples to a set of tokens; tokens to a signed field, 16 blocks once a shape.",
        cite=_CITE,
        license="Apache-2.0; published weights: MIT",
    )
    inputs = {"condition": "condition", "support": "support.tokens?", "noise": "latent.tokens?"}
    yield ComponentSpec(
        "generator",
        "triposg-dit",
        f"{_HERE}.dit:TripoSGDiT",
        {"sample": Verb(inputs, {"latent": "latent.tokens"})},
        summary="Rectified-flow transformer with long skips, one or two conditions, optional mixture of experts.",
        cite=_CITE,
        license="Apache-2.0; published weights: MIT",
    )
    yield ComponentSpec(
        "generator",
        "triposg-scribble-dit",
        f"{_HERE}.dit:TripoSGScribbleDiT",
        {"sample": Verb({**inputs, "condition_2": "condition"}, {"latent": "latent.tokens"})},
        summary="The same transformer under two conditions: a prompt, and a scribble.",
        cite=_CITE,
        license="Apache-2.0; published weights: MIT",
    )
    yield ComponentSpec(
        "sampler",
        "rectified-flow-euler",
        f"{_HERE}.sampler:RectifiedFlowEuler",
        summary="Euler steps from noise to data; static, dynamic or own schedule; guidance on an interval.",
        cite="Liu et al. 2022, Flow straight and fast",
        license="Apache-2.0",
    )
    yield ComponentSpec(
        "sampler",
        "rectified-flow-heun",
        f"{_HERE}.sampler:RectifiedFlowHeun",
        summary="The same schedules with Heun's steps: second order for twice the evaluations.",
        cite="Karras et al. 2022, Elucidating the design space of diffusion-based generative models",
        license="Apache-2.0",
    )
    yield ComponentSpec(
        "conditioner",
        "dinov2",
        f"{_HERE}.conditioners:DINOv2",
        {"encode": Verb({"image": "image"}, {"condition": "condition"})},
        summary="All tokens of a DINOv2 (large by default), for any generator that attends to an image.",
        cite="Oquab et al. 2023, DINOv2",
        license="Apache-2.0 (code and published weights)",
    )
    yield ComponentSpec(
        "conditioner",
        "clip-text",
        f"{_HERE}.conditioners:CLIPText",
        {"encode": Verb({"text": "text"}, {"condition": "condition"})},
        summary="All 77 tokens of a prompt from the text half of CLIP-L.",
        cite="Radford et al. 2021, CLIP",
        license="MIT (published weights)",
    )
    yield ComponentSpec(
        "transform",
        "prepare-image",
        f"{_HERE}.prepare_image:PrepareImage",
        {"apply": Verb({"image": "image"}, {"image": "image"})},
        Capabilities(devices=_CPU),
        summary="Cut an object out by its alpha channel or a matting network; white, square, with a margin.",
        cite=_CITE,
        license="Apache-2.0",
    )
    yield ComponentSpec(
        "transform",
        "surface-samples",
        f"{_HERE}.surface_samples:SampleSurface",
        {"apply": Verb({"mesh": "mesh"}, {"surface": "surface"})},
        Capabilities(devices=_CPU),
        summary="Uniform points with normals on a mesh, in the cube that an encoder was trained in.",
        cite="Osada et al. 2002, Shape distributions",
        license="Apache-2.0",
    )
    yield ComponentSpec(
        "transform",
        "return-to-mesh",
        f"{_HERE}.surface_samples:ReturnToMesh",
        {"apply": Verb({"mesh": "mesh", "reference": "mesh"}, {"mesh": "mesh"})},
        Capabilities(open_surfaces=True, interiors=True, non_manifold=True, devices=_CPU),
        summary="A mesh decoded in an encoder's cube, moved to where the mesh that was sampled is.",
        license="Apache-2.0",
    )
    field = {"extract": Verb({"state": "sdf.function"}, {"mesh": "mesh"})}
    yield ComponentSpec(
        "extractor",
        "hierarchical-marching-cubes",
        f"{_HERE}.hierarchical:HierarchicalMarchingCubes",
        field,
        Capabilities(interiors=True),
        summary="Marching cubes of a function refined from a coarse lattice; also exactly as published.",
        cite=_CITE,
        license="Apache-2.0",
    )
    yield ComponentSpec(
        "extractor",
        "flash-dual",
        f"{_HERE}.flash:FlashDual",
        field,
        Capabilities(interiors=True),
        summary="Four levels of points near the surface and one dual vertex a patch; fewest evaluations.",
        cite="Nielson 2004, Dual marching cubes; " + _CITE,
        license="Apache-2.0",
    )


@hookimpl
def register_components() -> Iterable[ComponentSpec]:
    """Networks, sampler, conditions, extractors and the steps before them."""
    return list(_components())


@hookimpl
def register_parity_handlers() -> Iterable[ParityHandler]:
    """Who answers for which golden case."""
    return [
        ParityHandler("triposg", component, f"shapewright_plugins.triposg.{function}")
        for component, function in _ANSWERED.items()
    ]
