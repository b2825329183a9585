"""Materials of a glTF document, and which texture coordinates their textures are looked up with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from ..materials import Colour, Material, Texture
from ..srgb import to_srgb
from .gltf_document import GltfDocument
from .polygons import Array
from .texture_files import Images, alpha_channel, colour_channels

_WRAPS = {10497: "repeat", 33071: "clamp", 33648: "mirror"}
_NEAREST = (9728, 9984, 9986)
_SOURCES = ("EXT_texture_webp", "EXT_texture_avif")

Lookup = tuple[tuple[float, ...], int]
"""Offset, angle and scale of ``KHR_texture_transform``, and the number of a ``TEXCOORD`` attribute."""


class GltfMaterials:
    """All materials; ``lookups`` has one entry for each UV set that their textures need."""

    def __init__(self, gltf: GltfDocument, images: Images) -> None:
        self._gltf, self._images = gltf, images
        self.lookups: list[Lookup] = []
        self.materials = tuple(self._material(body) for body in gltf.entries("materials"))

    def _material(self, body: Mapping[str, Any]) -> Material:
        def one(channel: int) -> Any:
            return lambda pixels: (channel if pixels.shape[2] >= 3 else 0,)

        def alpha(pixels: torch.Tensor) -> tuple[int] | None:
            channel = alpha_channel(pixels)
            return None if channel is None else (channel,)

        pbr = body.get("pbrMetallicRoughness", {})
        factor, color = pbr.get("baseColorFactor", (1.0, 1.0, 1.0, 1.0)), pbr.get("baseColorTexture")
        metallic, roughness = pbr.get("metallicFactor", 1.0), pbr.get("roughnessFactor", 1.0)
        older = body.get("extensions", {}).get("KHR_materials_pbrSpecularGlossiness")
        if older is not None and not pbr:  # its specular colour has no place here; what it paints has
            factor, color = older.get("diffuseFactor", (1.0, 1.0, 1.0, 1.0)), older.get("diffuseTexture")
            metallic, roughness = 0.0, 1.0 - older.get("glossinessFactor", 1.0)
        opacity = float(factor[3])
        mode = str(body.get("alphaMode", "OPAQUE")).lower()
        rough = pbr.get("metallicRoughnessTexture")
        return Material(
            str(body.get("name", "")),
            _encoded(factor),
            float(metallic),
            float(roughness),
            opacity,
            _encoded(body.get("emissiveFactor", (0.0, 0.0, 0.0))),
            self._texture(color, colour_channels),
            self._texture(rough, one(2)),
            self._texture(rough, one(1)),
            self._texture(color, alpha) if mode != "opaque" else None,
            self._texture(body.get("emissiveTexture"), colour_channels),
            self._texture(body.get("normalTexture"), colour_channels),
            mode if mode in ("opaque", "mask", "blend") else "opaque",
            float(body.get("alphaCutoff", 0.5)),
            bool(body.get("doubleSided", False)),
        )

    def _texture(self, reference: Any, channels: Any) -> Texture | None:
        if not reference:
            return None
        gltf = self._gltf
        body = gltf.entry("textures", reference["index"])
        extensions = body.get("extensions", {})
        offered = [extensions[name]["source"] for name in _SOURCES if "source" in extensions.get(name, {})]
        source = offered[0] if offered else body.get("source")
        if source is None:
            what = ", ".join(extensions) or "it names no image"
            self._images.notes[f"texture {reference['index']} ({what} is not read)"] += 1
            return None
        image = gltf.entry("images", source)
        name = image.get("name") or str(image.get("uri", ""))[:60] or f"image {source}"

        def read() -> memoryview:
            return gltf.view(image["bufferView"]) if "bufferView" in image else gltf.resource(image["uri"])

        pixels = self._images.pixels(source, name, read)
        chosen = None if pixels is None else channels(pixels)
        if pixels is None or chosen is None:
            return None
        sampler = gltf.entry("samplers", body["sampler"]) if "sampler" in body else {}
        return Texture(
            pixels,
            chosen,
            "nearest" if sampler.get("magFilter") in _NEAREST else "linear",
            (_WRAPS.get(sampler.get("wrapS", 10497), "repeat"), _WRAPS.get(sampler.get("wrapT", 10497), "repeat")),
            self._lookup(reference),
            name,
        )

    def _lookup(self, reference: Mapping[str, Any]) -> int:
        change = reference.get("extensions", {}).get("KHR_texture_transform", {})
        offset, scale = change.get("offset", (0.0, 0.0)), change.get("scale", (1.0, 1.0))
        texcoord = change.get("texCoord", reference.get("texCoord", 0))
        key = ((*map(float, offset), float(change.get("rotation", 0.0)), *map(float, scale)), texcoord)
        if key not in self.lookups:
            self.lookups.append(key)
        return self.lookups.index(key)


def _encoded(factor: Sequence[float]) -> Colour:
    """A colour factor, which is linear in the file, as textures are encoded. Black and white are met exactly."""
    red, green, blue = to_srgb(np.asarray(factor[:3], np.float64)).round(12).tolist()
    return red, green, blue


def looked_up(stored: Array, lookup: Lookup) -> Array:
    """``KHR_texture_transform`` on stored coordinates ``(N, 2)``, then ``v`` upward."""
    dx, dy, angle, sx, sy = lookup[0]
    u, v = stored[:, 0] * sx, stored[:, 1] * sy
    cosine, sine = np.cos(angle), np.sin(angle)
    with np.errstate(invalid="ignore", over="ignore"):
        return np.stack([cosine * u + sine * v + dx, 1.0 - (-sine * u + cosine * v + dy)], axis=1)
