from __future__ import annotations

import pytest
from shapewright.spec import API_VERSION, ComponentSpec, api_compatible, satisfies


@pytest.mark.parametrize(
    ("offered", "wanted", "fits"),
    [
        ("sdf.sparse", "sdf", True),
        ("sdf.sparse", "sdf.sparse", True),
        ("sdf", "sdf.sparse", False),
        ("sdfx", "sdf", False),
        ("mesh.textured", "mesh?", True),
        ("sdf.grid", "sparseflex|sdf.grid|sdf.sparse", True),
        ("mycubes", "sparseflex|sdf.grid?", False),
    ],
)
def test_a_special_tag_satisfies_a_general_one(offered: str, wanted: str, fits: bool) -> None:
    assert satisfies(offered, wanted) is fits


def test_api_is_compatible_within_a_major_up_to_the_hosts_minor() -> None:
    major, minor = API_VERSION
    assert api_compatible(f"{major}.{minor}")
    assert not api_compatible(f"{major}.{minor + 1}")
    assert not api_compatible(f"{major + 1}.0")


def test_key_is_kind_and_name() -> None:
    assert ComponentSpec("extractor", "x", "a:B").key == "extractor/x"
