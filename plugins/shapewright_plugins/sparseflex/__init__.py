"""SparseFlex: signed distance, deformation and FlexiCubes weights on the voxels that a surface touches."""

from collections.abc import Iterable

from shapewright.plugin import Capabilities, ComponentSpec, ParityHandler, Verb, hookimpl

_CITE = "He et al. 2025, SparseFlex (arXiv 2503.21732); Shen et al. 2023, FlexiCubes (arXiv 2308.05371)"


@hookimpl
def register_components() -> Iterable[ComponentSpec]:
    return [
        ComponentSpec(
            "representation",
            "sparseflex",
            "shapewright_plugins.sparseflex.representation:SparseFlex",
            {"from_mesh": Verb({"mesh": "mesh"}, {"state": "sparseflex"})},
            Capabilities(open_surfaces=True, interiors=True, sharp_edges=True, devices=frozenset({"cpu"})),
            summary="Corner distances and fitted weights on the voxels a mesh touches; keeps borders and inner walls.",
            cite=_CITE,
        ),
        ComponentSpec(
            "extractor",
            "flexicubes",
            "shapewright_plugins.sparseflex.extractor:FlexiCubes",
            {"extract": Verb({"state": "sparseflex|sdf.grid|sdf.sparse"}, {"mesh": "mesh"})},
            Capabilities(open_surfaces=True, interiors=True, sharp_edges=True, differentiable=True),
            summary="Dual surface with learnable weights; differentiable; opens where voxels are missing.",
            cite=_CITE,
        ),
    ]


@hookimpl
def register_parity_handlers() -> Iterable[ParityHandler]:
    return [
        ParityHandler("triposf", "flexicubes", "shapewright_plugins.sparseflex.parity:flexicubes_case"),
        ParityHandler("triposf", "sparseflex_to_mesh", "shapewright_plugins.sparseflex.parity:sparseflex_case"),
    ]
