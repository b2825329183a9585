"""O-Voxel geometry: the flexible dual grid, one vertex a voxel and one flag a grid edge; no sign, no watertightness."""

from collections.abc import Iterable

from shapewright.plugin import Capabilities, ComponentSpec, FileFormat, ParityHandler, Verb, hookimpl

_CITE = "TRELLIS.2: Native and Compact Structured Latents for 3D Generation (arXiv 2512.14692)"
_FILES = "shapewright_plugins.o_voxel.parity_files"


@hookimpl
def register_components() -> Iterable[ComponentSpec]:
    return [
        ComponentSpec(
            "representation",
            "o-voxel",
            "shapewright_plugins.o_voxel.representation:OVoxel",
            {"from_mesh": Verb({"mesh": "mesh"}, {"state": "dualgrid.flexible"})},
            Capabilities(
                open_surfaces=True,
                interiors=True,
                non_manifold=True,
                oriented=False,
                sharp_edges=True,
                pbr=True,
                devices=frozenset({"cpu"}),
            ),
            summary="Flexible dual grid: crossed grid edges and a dual vertex a voxel; open, nested, crossing, sharp.",
            cite=_CITE,
        ),
        ComponentSpec(
            "extractor",
            "flexible-dual-grid",
            "shapewright_plugins.o_voxel.extractor:FlexibleDualGridMesh",
            {"extract": Verb({"state": "dualgrid.flexible"}, {"mesh": "mesh"})},
            Capabilities(
                open_surfaces=True,
                interiors=True,
                non_manifold=True,
                oriented=False,
                sharp_edges=True,
                pbr=True,
                differentiable=True,
            ),
            summary="One quad a crossed grid edge, cut by split weights; differentiable; without orientation.",
            cite=_CITE,
        ),
    ]


@hookimpl
def register_parity_handlers() -> Iterable[ParityHandler]:
    return [
        ParityHandler("trellis2", "mesh_to_flexible_dual_grid", "shapewright_plugins.o_voxel.parity:to_grid_case"),
        ParityHandler("trellis2", "flexible_dual_grid_to_mesh", "shapewright_plugins.o_voxel.parity:to_mesh_case"),
        ParityHandler("trellis2", "textured_mesh_to_volumetric_attr", f"{_FILES}:attributes_case"),
        ParityHandler("trellis2", "svo", f"{_FILES}:octree_case"),
        ParityHandler("trellis2", "vxz", f"{_FILES}:vxz_case"),
        ParityHandler("trellis2", "ply", f"{_FILES}:ply_case"),
    ]


@hookimpl
def register_formats() -> Iterable[FileFormat]:
    home = "shapewright_plugins.o_voxel.state_files"
    return [
        FileFormat(suffix, "dualgrid.flexible", f"{home}:read_state", f"{home}:write_state", f"{home}:describe")
        for suffix in (".vxz", ".npz", ".voxels.ply")
    ]
