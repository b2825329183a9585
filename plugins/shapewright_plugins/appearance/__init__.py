"""How meshes look: pictures, baked textures, and figures about both (docs/appearance.md)."""

from __future__ import annotations

from collections.abc import Iterable

from shapewright.plugin import Capabilities, ComponentSpec, Verb, hookimpl

_MODULE = "shapewright_plugins.appearance"
_CPU = frozenset({"cpu"})


@hookimpl
def register_components() -> Iterable[ComponentSpec]:
    """The renderer and the transform that bakes."""
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
            {"apply": Verb({"mesh": "mesh", "source": "attributes.voxels|mesh?"}, {"mesh": "mesh"})},
            Capabilities(open_surfaces=True, interiors=True, non_manifold=True, pbr=True, devices=_CPU),
            summary="textures of base colour, alpha, metallic and roughness from voxels or from another mesh",
            cite="TRELLIS.2 (arXiv 2512.14692)",
        ),
    ]
