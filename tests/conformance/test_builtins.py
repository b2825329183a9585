"""Everything that ships keeps its contract and its claims; the tests are made from the catalog.

A component that is added is checked without a line here. Documented gaps go into ``EXPECTED`` with their reason.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from shapewright import Frame, Mesh, discover, save_mesh
from shapewright.testing import conformance, toys

CATALOG = discover()
SHIPPED = [key for key in CATALOG.specs if CATALOG.owner(key).distribution == "shapewright"]
EXPECTED: dict[str, dict[str, str]] = {}
"""Component to check to reason."""
OPTIONS: dict[str, dict[str, Any]] = {f"metric/{name}-p2p": {"samples": 20_000} for name in ("chamfer", "f-score")}
"""Options at which a component takes less time than at its defaults."""
INPUTS: dict[str, dict[str, Any]] = {}
"""Example values for ports that the kit cannot fill."""

for _key in SHIPPED:
    if _key == "dataset/folder":
        continue
    globals()[f"test_{_key.replace('/', '_').replace('-', '_')}"] = conformance(
        _key,
        expected_failures=EXPECTED.get(_key),
        options=OPTIONS.get(_key),
        inputs=INPUTS.get(_key),
        catalog=CATALOG,
    )


def test_a_folder_of_meshes_conforms(tmp_path: Path) -> None:
    from shapewright.testing import conform

    for name, mesh in (("sphere", toys.sphere()), ("cube", toys.cube()), ("tetrahedron", toys.tetrahedron())):
        save_mesh(Mesh(mesh.vertices, mesh.faces, Frame()), tmp_path / f"{name}.obj")
    found = conform("dataset/folder", options={"path": str(tmp_path)}, catalog=CATALOG)
    assert {outcome.status for outcome in found} == {"pass"}, found


def test_every_component_that_ships_has_its_test_here() -> None:
    assert {"representation/o-voxel", "extractor/flexicubes", "metric/chamfer", "dataset/stress-suite"} <= set(SHIPPED)
    for table in (EXPECTED, OPTIONS, INPUTS):
        assert set(table) <= set(SHIPPED)


@pytest.mark.parametrize("claim", ["open_surfaces", "interiors", "non_manifold", "sharp_edges", "differentiable"])
def test_every_claim_is_made_by_something_that_ships(claim: str) -> None:
    """So that each check is shown on a real component, not on toys alone."""
    assert any(getattr(CATALOG.specs[key].capabilities, claim) for key in SHIPPED)
