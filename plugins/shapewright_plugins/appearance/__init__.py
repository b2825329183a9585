"""How meshes look: pictures, baked textures, and figures about both (docs/appearance.md)."""

from __future__ import annotations

from collections.abc import Iterable

from shapewright.plugin import Capabilities, ComponentSpec, Verb, hookimpl

_MODULE = "shapewright_plugins.appearance"
_CPU = frozenset({"cpu"})


@hookimpl
def register_components() -> Iterable[ComponentSpec]:
    """The renderer, the transform that bakes, and the metrics of both."""
    render = {"render": Verb({"mesh": "mesh", "cameras": "cameras?"}, {"images": "images"})}
    return [
        ComponentSpec(
            "renderer",
            "raster",
            f"{_MODULE}.renderer:Raster",
            render,
            Capabilities(open_surfaces=True, interiors=True, non_manifold=True, pbr=True, devices=_CPU),
            summary="depth, normal, mask, material and shaded pictures on the CPU, without a display",
        ),
        ComponentSpec(
            "transform",
            "bake-pbr",
            f"{_MODULE}.bake:BakePbr",
            {
                "apply": Verb(
                    {"mesh": "mesh", "source": "attributes.voxels|mesh?", "surface": "mesh?"}, {"mesh": "mesh"}
                )
            },
            Capabilities(open_surfaces=True, interiors=True, non_manifold=True, pbr=True, devices=_CPU),
            summary="textures of base colour, alpha, metallic and roughness from voxels or from another mesh",
            cite="TRELLIS.2 (arXiv 2512.14692)",
        ),
        _metric(
            "pbr-attributes", "pbr_attributes:PbrAttributes", "PSNR of material values at closest points", pbr=True
        ),
        _metric("rendered-materials", "rendered:RenderedMaterials", "PSNR and SSIM of pictures of materials", pbr=True),
        _metric("rendered-normals", "rendered:RenderedNormals", "PSNR and SSIM of pictures of normals"),
    ]


def _metric(name: str, factory: str, summary: str, *, pbr: bool = False) -> ComponentSpec:
    verbs = {"measure": Verb({"predicted": "mesh", "reference": "mesh"}, {"values": "metrics"})}
    return ComponentSpec("metric", name, f"{_MODULE}.{factory}", verbs, Capabilities(pbr=pbr), summary=summary)
