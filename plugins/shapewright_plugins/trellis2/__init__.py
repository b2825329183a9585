"""TRELLIS.2: structure, shape and texture from an image by three flows over latents on voxels."""

from __future__ import annotations

from collections.abc import Iterable

from shapewright.plugin import Capabilities, ComponentSpec, ParityHandler, Verb, hookimpl

_CITE = "Xiang et al. 2025, TRELLIS.2 (arXiv 2512.14692)"
_HERE = "shapewright_plugins.trellis2"
_ANYWHERE = Capabilities()
_CPU = Capabilities(devices=frozenset({"cpu"}))

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


def _components() -> Iterable[ComponentSpec]:
    latent, guides = "latent.sparse", "guides.subdivisions"
    yield _spec(
        "encoder",
        "trellis2-structure-vae",
        "structure_vae:StructureVAE",
        {
            "encode": Verb({"source": "occupancy|support.voxels"}, {"latent": "latent.grid"}),
            "decode": Verb({"latent": "latent.grid"}, {"state": "occupancy.grid"}),
        },
        "Coarse occupancy, 64 cells an axis, to a dense latent of 16, and back.",
    )
    yield _spec(
        "encoder",
        "trellis2-shape-vae",
        "shape_vae:ShapeVAE",
        {
            "encode": Verb({"source": "dualgrid.flexible"}, {"latent": latent}),
            "decode": Verb({"latent": latent}, {"state": "dualgrid.flexible", "guides": guides}),
            "upsample": Verb({"latent": latent}, {"support": "support.voxels"}),
            "subdivide": Verb({"source": "dualgrid.flexible"}, {"guides": guides, "support": "support.voxels"}),
        },
        "Dual grid to latents on voxels 16 times as large; back by predicted, early pruned subdivision.",
    )
    yield _spec(
        "encoder",
        "trellis2-texture-vae",
        "texture_vae:TextureVAE",
        {
            "encode": Verb({"source": "attributes.voxels"}, {"latent": latent}),
            "decode": Verb({"latent": latent, "guides": guides}, {"state": "attributes.voxels"}),
        },
        "Material attributes on voxels to latents, and back on the voxels of a shape.",
        Capabilities(pbr=True),
    )
    yield _spec(
        "generator",
        "trellis2-structure-flow",
        "generators:StructureFlowGenerator",
        {"sample": Verb({"condition": "condition", "noise": "latent.grid?"}, {"latent": "latent.grid"})},
        "Flow transformer over a dense grid of 16: which cells a shape takes up.",
    )
    inputs = {"condition": "condition", "support": "support.voxels", "concat": f"{latent}?", "noise": f"{latent}?"}
    yield _spec(
        "generator",
        "trellis2-slat-flow",
        "generators:SlatFlowGenerator",
        {"sample": Verb(inputs, {"latent": latent})},
        "Flow transformer over voxels: latent of a shape, or of a texture beside that of its shape.",
    )
    yield _spec(
        "sampler",
        "trellis2-euler",
        "sampler:Trellis2Euler",
        {},
        "Euler steps of a rectified flow; guidance on an interval, its spread brought back.",
    )
    yield _spec(
        "conditioner",
        "dinov3",
        "conditioner:DINOv3",
        {"encode": Verb({"image": "image"}, {"condition": "condition"})},
        "All tokens of a DINOv3 (ViT-L/16) at any size, normalised; published weights are gated.",
        cite="Simeoni et al. 2025, DINOv3",
        license="MIT (code); published weights: DINOv3 License, gated",
    )
    yield _spec(
        "transform",
        "trellis2-prepare-image",
        "prepare_image:PrepareImage",
        {"apply": Verb({"image": "image"}, {"image": "image"})},
        "Cut an object out by its transparency or a matting network; square, on black.",
        _CPU,
    )
    yield _spec(
        "transform",
        "occupied-voxels",
        "cascade:OccupiedVoxels",
        {"apply": Verb({"occupancy": "occupancy.grid"}, {"support": "support.voxels"})},
        "Occupied cells of a grid, on its own resolution or on a coarser one.",
    )
    yield _spec(
        "transform",
        "requantise-voxels",
        "cascade:RequantiseVoxels",
        {"apply": Verb({"support": "support.voxels"}, {"support": "support.voxels"})},
        "Voxels of a coarse result as the support of a finer one, within a budget of tokens.",
    )
    yield _spec(
        "transform",
        "up-axis",
        "up_axis:UpAxis",
        {"apply": Verb({"mesh": "mesh"}, {"mesh": "mesh"})},
        "Turn a mesh so that y, or z, is up.",
        cite="Khronos Group, glTF 2.0: +y is up",
    )


def _spec(
    kind: str,
    name: str,
    place: str,
    verbs: dict[str, Verb],
    summary: str,
    capabilities: Capabilities = _ANYWHERE,
    *,
    cite: str = _CITE,
    license: str = "MIT",
) -> ComponentSpec:
    return ComponentSpec(
        kind,  # type: ignore[arg-type]  # one of the literals; light modules do not import typing
        name,
        f"{_HERE}.{place}",
        verbs,
        capabilities,
        summary=summary,
        cite=cite,
        license=license,
    )


@hookimpl
def register_components() -> Iterable[ComponentSpec]:
    """Networks, sampler, conditioner and the steps between them."""
    return list(_components())


@hookimpl
def register_parity_handlers() -> Iterable[ParityHandler]:
    """Who answers for which golden case."""
    return [ParityHandler("trellis2", component, f"{_HERE}.{function}") for component, function in _ANSWERED.items()]
