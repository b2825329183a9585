"""Signed distance of a mesh on a lattice: the watertight baseline, sparse (narrow band) or dense."""

from __future__ import annotations

from collections.abc import Iterable

from shapewright.plugin import Capabilities, ComponentSpec, Verb, hookimpl


@hookimpl
def register_components() -> Iterable[ComponentSpec]:
    """The specs of ``representation/sdf`` and ``representation/sdf-grid``."""
    capabilities = Capabilities(devices=frozenset({"cpu"}))
    module = "shapewright_plugins.sdf"
    return [
        ComponentSpec(
            "representation",
            "sdf",
            f"{module}.sparse:SparseSdf",
            {"from_mesh": Verb({"mesh": "mesh"}, {"state": "sdf.sparse"})},
            capabilities,
            summary="Signed distance in a narrow band, sign by winding number; shells on request. 1024 and beyond.",
            cite="Barill et al. 2018; Baerentzen and Aanaes 2005",
            license="Apache-2.0",
        ),
        ComponentSpec(
            "representation",
            "sdf-grid",
            f"{module}.grid:GridSdf",
            {"from_mesh": Verb({"mesh": "mesh"}, {"state": "sdf.grid"})},
            capabilities,
            summary="The same signed distance on a dense grid; memory grows with the cube of the resolution.",
            cite="Barill et al. 2018; Baerentzen and Aanaes 2005",
            license="Apache-2.0",
        ),
    ]
