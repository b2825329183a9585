"""Extractors of level sets from dense grids, sparse lattice points and functions."""

from collections.abc import Iterable

from shapewright.plugin import Capabilities, ComponentSpec, Verb, hookimpl


@hookimpl
def register_components() -> Iterable[ComponentSpec]:
    """Marching cubes and dual contouring."""
    verbs = {"extract": Verb({"state": "sdf.grid|sdf.sparse|sdf.function"}, {"mesh": "mesh"})}
    return [
        ComponentSpec(
            kind="extractor",
            name="marching-cubes",
            factory="shapewright_plugins.isosurface.marching_cubes:MarchingCubes",
            verbs=verbs,
            capabilities=Capabilities(interiors=True, differentiable=True),
            summary="triangles through the crossing edges of a lattice; 2-manifold, differentiable, bevels creases",
            cite="Lorensen and Cline 1987",
            license="Apache-2.0",
        ),
        ComponentSpec(
            kind="extractor",
            name="dual-contouring",
            factory="shapewright_plugins.isosurface.dual_contouring:DualContouring",
            verbs=verbs,
            capabilities=Capabilities(interiors=True, sharp_edges=True),
            summary="a vertex for each patch of surface in a cell, placed on creases by tangent planes; 2-manifold",
            cite="Ju, Losasso, Schaefer and Warren 2002; Schaefer, Ju and Warren 2007",
            license="Apache-2.0",
        ),
    ]
