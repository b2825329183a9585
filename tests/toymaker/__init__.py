"""A third party's plugin for tests: an image to a mesh by three small networks, one of which is needed to read its
result."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from shapewright.plugin import ComponentSpec, Verb, hookimpl


@hookimpl
def register_components() -> Iterable[ComponentSpec]:
    sample = Verb(
        {"condition": "condition", "support": "support.tokens?", "noise": "latent.tokens?"}, {"latent": "latent.tokens"}
    )
    return [
        ComponentSpec(
            "conditioner",
            "toy-eye",
            "toymaker.networks:Eye",
            {"encode": Verb({"image": "image"}, {"condition": "condition"})},
        ),
        ComponentSpec("generator", "toy-flow", "toymaker.networks:Flow", {"sample": sample}),
        ComponentSpec("generator", "toy-lone-flow", "toymaker.networks:LoneFlow", {"sample": sample}),
        ComponentSpec(
            "encoder",
            "toy-vae",
            "toymaker.networks:VAE",
            {
                "decode": Verb({"latent": "latent.tokens"}, {"state": "sdf.function"}),
                "encode": Verb({"source": "mesh"}, {"latent": "latent.tokens"}),
            },
        ),
        ComponentSpec(
            "extractor", "toy-star", "toymaker.networks:Star", {"extract": Verb({"state": "sdf"}, {"mesh": "mesh"})}
        ),
        ComponentSpec(
            "transform",
            "toy-judge",
            "toymaker.networks:Judge",
            {"apply": Verb({"latent": "latent.tokens"}, {"latent": "latent.tokens"})},
        ),
    ]


@hookimpl
def register_registries() -> Iterable[Path]:
    return [Path(__file__).with_name("pipelines.yaml")]
