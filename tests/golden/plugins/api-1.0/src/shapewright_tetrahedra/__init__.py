"""Signed distances on a body-centred cubic lattice, and marching tetrahedra: a plugin of Shapewright."""

from collections.abc import Iterable

from shapewright.plugin import Capabilities, ComponentSpec, Verb, hookimpl


@hookimpl
def register_components() -> Iterable[ComponentSpec]:
    """One representation and the extractor that reads it."""
    return [
        ComponentSpec(
            "representation",
            "tetrahedral",
            "shapewright_tetrahedra.representation:Tetrahedral",
            {"from_mesh": Verb({"mesh": "mesh"}, {"state": "tetrahedral"})},
            Capabilities(devices=frozenset({"cpu"})),
            summary="Signed distance in a narrow band of a body-centred cubic lattice; solids only.",
            license="Apache-2.0",
        ),
        ComponentSpec(
            "extractor",
            "marching-tetrahedra",
            "shapewright_tetrahedra.extractor:MarchingTetrahedra",
            {"extract": Verb({"state": "tetrahedral"}, {"mesh": "mesh"})},
            Capabilities(interiors=True, differentiable=True),
            summary="Triangles through the crossing edges of tetrahedra; always 2-manifold, no case table.",
            cite="Doi and Koide 1991; Labelle and Shewchuk 2007 for the lattice",
            license="Apache-2.0",
        ),
    ]
