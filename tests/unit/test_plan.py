from __future__ import annotations

from types import ModuleType

import pytest
from shapewright import PlanError, RegistryError, check
from shapewright.host import discover
from shapewright.plan import pairings, roundtrip
from shapewright.plugin import ComponentSpec, Verb, hookimpl
from shapewright.registry import apply_override, load_registry


def toy_plugin() -> ModuleType:
    module = ModuleType("toy")

    @hookimpl
    def register_components() -> list[ComponentSpec]:
        mesh = Verb({"mesh": "mesh"}, {"state": "toy.cubes"})
        back = Verb({"state": "toy"}, {"mesh": "mesh"})
        flow = Verb({"condition": "condition", "support": "support?"}, {"latent": "latent.tokens"})
        return [
            ComponentSpec("representation", "toy", "toy:Toy", {"from_mesh": mesh}),
            ComponentSpec("extractor", "toy-mesher", "toy:Mesher", {"extract": back}),
            ComponentSpec("extractor", "other", "toy:Other", {"extract": Verb({"state": "latent"}, {"mesh": "mesh"})}),
            ComponentSpec("generator", "flow", "toy:Flow", {"sample": flow}),
            ComponentSpec("attention", "a", "toy:A"),
            ComponentSpec("attention", "b", "toy:B"),
        ]

    module.register_components = register_components  # type: ignore[attr-defined]
    return module


CATALOG = discover(points=[], extra=[toy_plugin()])


def test_a_fitting_pipeline_knows_the_tag_of_every_value() -> None:
    plan = check("p", roundtrip("toy", "toy-mesher"), CATALOG)
    assert plan.tags == {"reference": "mesh", "state": "toy.cubes", "mesh": "mesh"}
    assert [stage.id for stage in plan.stages] == ["rep.from_mesh", "mesher.extract"]


def test_all_problems_are_reported_together_with_suggestions() -> None:
    entry = roundtrip("toy", "other")
    entry["stages"][0]["in"]["mesh"] = "referense"
    entry["stages"][0]["wiht"] = {}
    entry["components"]["lost"] = {"use": "extractor/toy-masher"}
    with pytest.raises(PlanError) as caught:
        check("p", entry, CATALOG)
    text = str(caught.value)
    assert "(4 problems)" in text
    assert "did you mean 'reference'?" in text
    assert "unknown key 'wiht'; did you mean 'with'?" in text
    assert "extractor/toy-mesher" in text
    assert "wants 'latent' but 'state' is 'toy.cubes'; extractors that fit: toy-mesher" in text


def test_one_mistake_is_one_problem() -> None:
    entry = roundtrip("toy", "toy-mesher")
    entry["stages"][0]["run"] = "rep.from_mush"
    with pytest.raises(PlanError) as caught:
        check("p", entry, CATALOG)
    assert caught.value.problems == (
        "stages[0] rep.from_mush: representation/toy has no verb 'from_mush'; it has from_mesh",
    )


def test_names_are_written_once_and_stage_ids_are_unique() -> None:
    entry = roundtrip("toy", "toy-mesher")
    entry["stages"].append(dict(entry["stages"][0]))
    with pytest.raises(PlanError, match="names are written once") as caught:
        check("p", entry, CATALOG)
    assert "two stages are called" in str(caught.value)


def test_optional_inputs_may_be_left_out_and_required_ones_may_not() -> None:
    entry = {
        "inputs": {"c": "condition"},
        "components": {"flow": {"use": "generator/flow"}},
        "stages": [{"run": "flow.sample", "in": {"condition": "c"}, "out": {"latent": "z"}}],
        "output": "z",
    }
    assert check("p", entry, CATALOG).output == "z"
    entry["stages"][0]["in"] = {}  # type: ignore[index]
    with pytest.raises(PlanError, match=r"input 'condition' \(condition\) is missing"):
        check("p", entry, CATALOG)


def test_nested_components_are_looked_up_and_weights_say_what_they_were_trained_with() -> None:
    flow = {"use": "generator/flow", "with": {"attention": {"use": "attention/b"}}}
    entry = {
        "inputs": {"c": "condition"},
        "components": {"flow": {**flow, "weights": {"uri": "x", "trained_with": {"attention": "attention/a"}}}},
        "stages": [{"run": "flow.sample", "in": {"condition": "c"}, "out": {"latent": "z"}}],
        "output": "z",
    }
    with pytest.raises(PlanError, match="trained with 'attention/a' as attention, not 'attention/b'"):
        check("p", entry, CATALOG)
    entry["components"]["flow"] = {"use": "generator/flow", "with": {"attention": {"use": "attention/c"}}}  # type: ignore[index]
    with pytest.raises(PlanError, match="attention/c"):
        check("p", entry, CATALOG)


def test_pairings_give_a_reason_for_what_does_not_fit() -> None:
    reasons = {(p.representation.name, p.extractor.name): p.reason for p in pairings(CATALOG)}
    assert reasons["toy", "toy-mesher"] == ""
    assert reasons["toy", "other"] == "other wants latent, toy makes toy.cubes"


def test_overrides_reach_options_by_full_and_short_path() -> None:
    entry = roundtrip("toy", "toy-mesher")
    apply_override(entry, "pipeline.components.rep.with.resolution=64")
    apply_override(entry, "rep.nested.depth=[1, 2]")
    assert entry["components"]["rep"]["with"] == {"resolution": 64, "nested": {"depth": [1, 2]}}


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("rep", "write it as path.to.option=value"),
        ("rep=3", "rep is a component; name an option of it"),
        ("repp.resolution=3", "did you mean 'rep'?"),
        ("components.rep.wth.resolution=3", "did you mean 'with'?"),
        ("stages.7.with.steps=3", "2 entries"),
        ("outputs=mesh", "did you mean 'output'?"),
        ("rep.x=[1", "not a YAML value"),
    ],
)
def test_a_wrong_override_says_what_exists(text: str, wanted: str) -> None:
    with pytest.raises(RegistryError, match=wanted.replace("?", r"\?").replace(".", r"\.")):
        apply_override(roundtrip("toy", "toy-mesher"), text, "p")


def test_a_later_registry_file_replaces_a_whole_pipeline(tmp_path) -> None:  # type: ignore[no-untyped-def]
    mine = tmp_path / "mine.yaml"
    mine.write_text("schema: 1\npipelines:\n  roundtrip-sdf: {summary: mine, output: x}\n")
    registry = load_registry([mine])
    assert registry.pipelines["roundtrip-sdf"] == {"summary": "mine", "output": "x"}
    assert registry.origins["roundtrip-sdf"] == f"{mine}:3"
    assert "roundtrip-o-voxel" in registry.pipelines


def test_defaults_of_registry_files_are_merged_and_the_later_file_wins(tmp_path) -> None:  # type: ignore[no-untyped-def]
    one, two = tmp_path / "one.yaml", tmp_path / "two.yaml"
    one.write_text(
        "defaults:\n  components:\n    representation/toy: {resolution: 3, depth: 1}\n  bench: {a: 1, b: 1}\n"
    )
    two.write_text(
        "defaults:\n  bench: {b: 2, c: 2}\npipelines:\n  p: {components: {rep: {use: representation/toy}}}\n"
    )
    registry = load_registry([one, two])
    assert {name: registry.defaults["bench"][name] for name in "abc"} == {"a": 1, "b": 2, "c": 2}
    assert load_registry([two, one]).defaults["bench"]["b"] == 1
    assert registry.pipeline("p")["components"]["rep"]["with"] == {"resolution": 3, "depth": 1}


def test_options_of_an_entry_win_over_defaults_and_copies_share_nothing(tmp_path) -> None:  # type: ignore[no-untyped-def]
    file = tmp_path / "r.yaml"
    file.write_text(
        "defaults: {components: {representation/toy: {resolution: 3, depth: [1]}}}\n"
        "pipelines: {p: {components: {rep: {use: representation/toy, with: {resolution: 9}}}}}\n"
    )
    registry = load_registry([file])
    entry = registry.pipeline("p")
    assert entry["components"]["rep"]["with"] == {"resolution": 9, "depth": [1]}
    entry["components"]["rep"]["with"]["depth"].append(2)
    entry["components"]["more"] = {}
    assert registry.pipeline("p")["components"] == {
        "rep": {"use": "representation/toy", "with": {"resolution": 9, "depth": [1]}}
    }


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("schema: 2\n", "reads schema 1"),
        ("pipelnes: {}\n", ":1: unknown key 'pipelnes'; did you mean 'pipelines'"),
        ("schema: 1\npipelines: {a: [}\n", ":2"),
        ("- 1\n", "wants a mapping"),
        ("schema: 1\npipelines:\n  a: 3\n", ":3: pipelines.a wants a mapping"),
    ],
)
def test_a_broken_registry_names_file_and_line(tmp_path, text: str, wanted: str) -> None:  # type: ignore[no-untyped-def]
    file = tmp_path / "r.yaml"
    file.write_text(text)
    with pytest.raises(RegistryError) as caught:
        load_registry([file])
    assert str(file) in str(caught.value)
    assert wanted in str(caught.value)


def test_a_missing_registry_file_is_named() -> None:
    with pytest.raises(RegistryError, match=r"nowhere.yaml: No such file"):
        load_registry(["nowhere.yaml"])


def test_every_packaged_pipeline_fits(catalog) -> None:  # type: ignore[no-untyped-def]
    registry = load_registry(catalog=catalog)
    assert registry.pipelines
    for name in registry.pipelines:
        check(name, registry.pipeline(name), catalog)


def test_an_unknown_pipeline_is_answered_with_the_closest_names() -> None:
    with pytest.raises(RegistryError, match="did you mean 'roundtrip-sdf'"):
        load_registry().pipeline("roundtrip-sfd")
