"""Discovery: a plugin that is broken in any way is one row, and everybody else works."""

from __future__ import annotations

from pathlib import Path

import pytest
from distributions import install, shapewright
from shapewright import UnknownComponentError, discover

GOOD = """
    from shapewright.plugin import ComponentSpec, Verb, hookimpl

    @hookimpl
    def register_components():
        verbs = {"from_mesh": Verb({"mesh": "mesh"}, {"state": "mycubes"})}
        return [ComponentSpec("representation", "my-cubes", "good_heavy:MyCubes", verbs, summary="third party")]
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    site = tmp_path_factory.mktemp("site")
    install(site, "good-plugin", {"good_plugin.py": GOOD}, {"good": "good_plugin"})
    install(site, "needs-missing", {"needs_missing.py": "import not_there"}, {"needs": "needs_missing"})
    misspelt = GOOD.replace("register_components", "register_component").replace("my-cubes", "misspelt")
    install(site, "misspelt-hook", {"misspelt_hook.py": misspelt}, {"misspelt": "misspelt_hook"})
    newer = GOOD.replace('summary="third party"', 'api="2.1"').replace("my-cubes", "newer")
    install(site, "newer-api", {"newer_api.py": newer}, {"newer": "newer_api"})
    install(site, "zz-duplicate", {"zz_duplicate.py": GOOD}, {"duplicate": "zz_duplicate"})
    takes_ours = GOOD.replace("my-cubes", "sdf")
    install(site, "aa-takes-ours", {"aa_takes_ours.py": takes_ours}, {"aa": "aa_takes_ours"})
    raises = (
        "from shapewright.plugin import hookimpl\n\n@hookimpl\ndef register_components():\n    raise RuntimeError('no')"
    )
    install(site, "raises-late", {"raises_late.py": raises}, {"late": "raises_late"})
    return site


def test_each_broken_plugin_is_one_row_with_its_reason(site: Path) -> None:
    done = shapewright("plugins", "--json", sites=(site,))
    assert done.returncode == 0
    import json

    rows = {row["distribution"]: row for row in json.loads(done.stdout) if row["distribution"] != "shapewright"}
    assert rows["good-plugin"]["state"] == "ok"
    assert "not_there" in rows["needs-missing"]["reason"]
    assert "register_component" in rows["misspelt-hook"]["reason"]
    assert rows["newer-api"]["state"] == "incompatible"
    assert "2.1" in rows["newer-api"]["reason"]
    assert "good-plugin" in rows["zz-duplicate"]["reason"]
    assert "zz-duplicate" in rows["zz-duplicate"]["reason"]
    assert "shapewright" in rows["aa-takes-ours"]["reason"]
    assert "RuntimeError: no" in rows["raises-late"]["reason"]
    assert len(rows) == 7


def test_broken_plugins_harm_nobody(site: Path) -> None:
    done = shapewright("list", "representation", sites=(site,))
    assert done.returncode == 0
    assert "my-cubes" in done.stdout
    assert "o-voxel" in done.stdout
    assert "misspelt" not in done.stdout


def test_plugins_errors_shows_only_what_failed_and_says_so_by_its_exit(site: Path) -> None:
    done = shapewright("plugins", "--errors", sites=(site,))
    assert done.returncode == 1
    assert "my-cubes" not in [line.split()[-1] for line in done.stdout.splitlines()]
    assert "not_there" in done.stdout


def test_a_listed_component_whose_class_cannot_be_imported_says_so(site: Path) -> None:
    done = shapewright("bench", "--representation", "my-cubes", "--extractor", "marching-cubes", sites=(site,))
    assert done.returncode == 2
    assert "my-cubes makes mycubes" in done.stderr


def test_all_built_in_plugins_load(catalog) -> None:  # type: ignore[no-untyped-def]
    assert [plugin for plugin in catalog.plugins if plugin.state != "ok"] == []


def test_every_factory_of_the_catalog_imports_and_its_config_builds_from_defaults(catalog) -> None:  # type: ignore[no-untyped-def]
    from shapewright.run import configure

    for key in catalog.specs:
        cls = catalog.load(key)
        if key != "dataset/folder":  # has no default folder
            configure(cls, {}, key)


def test_unknown_names_suggest_the_same_kind_and_mention_failed_plugins(catalog) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(UnknownComponentError, match="extractor/flexicubes") as caught:
        catalog.get("extractor/flexicube")
    assert "representation/" not in str(caught.value)


def test_discovery_makes_a_new_catalog_each_time() -> None:
    first, second = discover(), discover()
    assert first is not second
    assert dict(first.specs) == dict(second.specs)
    with pytest.raises(TypeError):
        first.specs["extractor/x"] = None  # type: ignore[index]
