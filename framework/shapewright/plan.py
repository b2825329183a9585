"""Type-check a pipeline against the catalog from tags alone: nothing heavy is imported, all problems come together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from .errors import PlanError, UnknownComponentError
from .host import Catalog
from .spec import ComponentSpec, satisfies
from .weights.entry import KEYS as WEIGHTS_KEYS
from .weights.entry import problems as weights_problems

PIPELINE_KEYS = ("summary", "inputs", "components", "stages", "output")
COMPONENT_KEYS = ("use", "with", "weights")
STAGE_KEYS = ("id", "run", "in", "out", "with")


@dataclass(frozen=True, slots=True)
class Stage:
    """One call: ``component.verb`` with values by port name."""

    id: str
    component: str
    verb: str
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    options: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Part:
    """One component of a pipeline: its spec, its options (``with``) and its weights entry."""

    spec: ComponentSpec
    options: Mapping[str, Any] = field(default_factory=dict)
    weights: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Plan:
    """A pipeline whose wiring fits. ``tags`` gives the tag of every named value."""

    name: str
    inputs: Mapping[str, str]
    output: str
    parts: Mapping[str, Part]
    stages: tuple[Stage, ...]
    tags: Mapping[str, str]


def nested_uses(options: Any, path: str = "with") -> Iterable[tuple[str, str]]:
    """``(path, key)`` of every ``{use: kind/name, with: ...}`` inside a component's options."""
    if isinstance(options, Mapping):
        if isinstance(options.get("use"), str):
            yield path, options["use"]
        for name, value in options.items():
            yield from nested_uses(value, f"{path}.{name}")
    elif isinstance(options, list | tuple):
        for index, value in enumerate(options):
            yield from nested_uses(value, f"{path}[{index}]")


def _suggest(name: str, known: Iterable[str]) -> str:
    close = get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


class _Checker:
    def __init__(self, entry: Mapping[str, Any], catalog: Catalog) -> None:
        self.entry = entry
        self.catalog = catalog
        self.problems: list[str] = []
        self.parts: dict[str, Part] = {}
        self.stages: list[Stage] = []
        self.tags: dict[str, str] = {}

    def mapping(self, value: Any, where: str, allowed: Iterable[str] | None = None) -> Mapping[str, Any]:
        if value is None:
            return {}
        if not isinstance(value, Mapping):
            self.problems.append(f"{where}: wants a mapping, found {value!r}")
            return {}
        if allowed is not None:
            for key in value:
                if key not in allowed:
                    self.problems.append(f"{where}: unknown key {key!r}{_suggest(str(key), allowed)}")
        return value

    def component(self, alias: str, body: Any) -> None:
        where = f"components.{alias}"
        body = self.mapping(body, where, COMPONENT_KEYS)
        if not isinstance(body.get("use"), str):
            self.problems.append(f"{where}: 'use: kind/name' is missing")
            return
        options = self.mapping(body.get("with"), f"{where}.with")
        weights = self.mapping(body.get("weights"), f"{where}.weights", WEIGHTS_KEYS)
        for path, key in [("use", body["use"]), *nested_uses(options)]:
            try:
                self.catalog.get(key, where=f"{where}.{path}")
            except UnknownComponentError as error:
                self.problems.append(str(error))
                if path == "use":
                    return
        trained = self.mapping(weights.get("trained_with"), f"{where}.weights.trained_with")
        for name, key in trained.items():
            chosen = options.get(name)
            used = chosen.get("use") if isinstance(chosen, Mapping) else chosen
            if used is not None and used != key:
                self.problems.append(
                    f"{where}: the weights were trained with {key!r} as {name}, not {used!r}; "
                    f"use weights trained for it, or take {name} back to {key!r}"
                )
        self.problems += [f"{where}.weights: {problem}" for problem in weights_problems(weights)]
        self.parts[alias] = Part(self.catalog.get(body["use"]), dict(options), dict(weights))

    def stage(self, index: int, body: Any) -> None:
        body = self.mapping(body, f"stages[{index}]", STAGE_KEYS)
        run = str(body.get("run", ""))
        alias, _, verb_name = run.partition(".")
        where = f"stages[{index}] {run}"
        given = self.mapping(body.get("in"), f"{where}: in")
        outputs = self.mapping(body.get("out"), f"{where}: out")
        declared = self.mapping(self.entry.get("components"), "components")
        part = self.parts.get(alias)
        if part is None or verb_name not in part.spec.verbs:
            if alias not in declared:
                self.problems.append(f"{where}: no component is declared as {alias!r}{_suggest(alias, declared)}")
            elif part is not None:
                verbs = ", ".join(sorted(part.spec.verbs)) or "none"
                self.problems.append(f"{where}: {part.spec.key} has no verb {verb_name!r}; it has {verbs}")
            # What this stage would have made is taken as made, so that one mistake is one problem.
            self.tags |= {str(value): "" for value in outputs.values() if value not in self.tags}
            return
        verb = part.spec.verbs[verb_name]
        self.inputs(where, part.spec, verb_name, given)
        for port, value in outputs.items():
            if port not in verb.outputs:
                known = ", ".join(verb.outputs)
                self.problems.append(f"{where}: {part.spec.key}.{verb_name} has no output {port!r}; it has {known}")
                self.tags.setdefault(value, "")
            elif value in self.tags:
                self.problems.append(f"{where}: {value!r} is already made; names are written once")
            else:
                self.tags[value] = verb.outputs[port]
        identity = str(body.get("id", run))
        if identity in {stage.id for stage in self.stages}:
            self.problems.append(f"{where}: two stages are called {identity!r}; give one of them an 'id:'")
        options = self.mapping(body.get("with"), f"{where}: with")
        self.stages.append(Stage(identity, alias, verb_name, dict(given), dict(outputs), dict(options)))

    def inputs(self, where: str, spec: ComponentSpec, verb_name: str, given: Mapping[str, Any]) -> None:
        verb = spec.verbs[verb_name]
        for port, wanted in verb.inputs.items():
            value = given.get(port)
            if value is None:
                if not wanted.endswith("?"):
                    self.problems.append(f"{where}: input {port!r} ({wanted}) is missing")
            elif value not in self.tags:
                hint = _suggest(str(value), self.tags)
                self.problems.append(f"{where}: {value!r} is not made by an earlier stage{hint}")
            elif self.tags[value] and not satisfies(self.tags[value], wanted):
                fits = sorted(
                    other.name
                    for other in self.catalog.of_kind(spec.kind)
                    if verb_name in other.verbs
                    and satisfies(self.tags[value], other.verbs[verb_name].inputs.get(port, "-"))
                )
                hint = f"; {spec.kind}s that fit: {', '.join(fits)}" if fits else f"; no {spec.kind} here takes it"
                wanted = wanted.rstrip("?").replace("|", " or ")
                self.problems.append(
                    f"{where}: input {port!r} wants {wanted!r} but {value!r} is {self.tags[value]!r}{hint}"
                )
        for port in given:
            if port not in verb.inputs:
                self.problems.append(
                    f"{where}: {spec.key}.{verb_name} has no input {port!r}{_suggest(port, verb.inputs)}"
                )

    def run(self, name: str) -> Plan:
        entry = self.mapping(self.entry, name, PIPELINE_KEYS)
        inputs = self.mapping(entry.get("inputs"), "inputs")
        self.tags |= {str(key): str(tag) for key, tag in inputs.items()}
        for alias, body in self.mapping(entry.get("components"), "components").items():
            self.component(alias, body)
        stages = entry.get("stages")
        if not isinstance(stages, list | tuple) or not stages:
            self.problems.append("stages: wants a list with at least one stage")
            stages = []
        for index, body in enumerate(stages):
            self.stage(index, body)
        output = entry.get("output")
        if output not in self.tags:
            self.problems.append(f"output: {output!r} is made by no stage{_suggest(str(output), self.tags)}")
        if self.problems:
            raise PlanError(name, self.problems)
        return Plan(name, dict(inputs), str(output), self.parts, tuple(self.stages), self.tags)


def check(name: str, entry: Mapping[str, Any], catalog: Catalog) -> Plan:
    """Check the wiring of one registry entry.

    Args:
        name: of the pipeline, for messages.
        entry: ``{inputs, components, stages, output}`` as in registry.yaml.
        catalog: what is installed.
    Returns:
        The plan, without having imported any component.
    Raises:
        PlanError: with every problem found, each with its place and what would fit.
    """
    return _Checker(entry, catalog).run(name)


def started_from(plan: Plan, given: Iterable[str]) -> Plan:
    """``plan`` with the values ``given`` as inputs, and only the stages (and components) that its output still needs.

    Raises:
        PlanError: a name is no value of the pipeline.
    """
    given = list(given)
    unknown = [name for name in given if name not in plan.tags]
    if unknown:
        raise PlanError(plan.name, [f"{name!r} is no value of it{_suggest(name, plan.tags)}" for name in unknown])
    wanted, kept = {plan.output}, []
    for stage in reversed(plan.stages):
        if wanted & (set(stage.outputs.values()) - set(given)):
            kept.append(stage)
            wanted |= set(stage.inputs.values())
    made = {value for stage in kept for value in stage.outputs.values()}
    again = sorted(made & set(given))
    if again:
        raise PlanError(
            plan.name, [f"{name!r} is given, but its stage must run for its other outputs" for name in again]
        )
    used = {stage.component for stage in kept}
    inputs = {name: plan.tags[name] for name in plan.tags if name in wanted and name not in made}
    parts = {alias: part for alias, part in plan.parts.items() if alias in used}
    return Plan(plan.name, inputs, plan.output, parts, tuple(reversed(kept)), plan.tags)


@dataclass(frozen=True, slots=True)
class Pairing:
    """Whether an extractor takes what a representation makes; ``reason`` is empty when it does."""

    representation: ComponentSpec
    extractor: ComponentSpec
    reason: str = ""


def pairings(catalog: Catalog) -> list[Pairing]:
    """Every representation with every extractor, in the order of their names."""
    found = []
    for representation in catalog.of_kind("representation"):
        for extractor in catalog.of_kind("extractor"):
            made = representation.verbs["from_mesh"].outputs["state"] if "from_mesh" in representation.verbs else ""
            wanted = extractor.verbs["extract"].inputs["state"] if "extract" in extractor.verbs else ""
            if not made or not wanted:
                lacking = representation.key if not made else extractor.key
                reason = f"{lacking} declares no {'from_mesh' if not made else 'extract'}"
            elif satisfies(made, wanted):
                reason = ""
            else:
                reason = f"{extractor.name} wants {wanted.replace('|', ' or ')}, {representation.name} makes {made}"
            found.append(Pairing(representation, extractor, reason))
    return found


def roundtrip(representation: str, extractor: str) -> dict[str, Any]:
    """The registry entry of mesh -> representation -> extractor -> mesh (names with or without their kind)."""
    return {
        "summary": f"mesh through {representation} and back by {extractor}",
        "inputs": {"reference": "mesh"},
        "components": {
            "rep": {"use": f"representation/{representation.removeprefix('representation/')}"},
            "mesher": {"use": f"extractor/{extractor.removeprefix('extractor/')}"},
        },
        "stages": [
            {"run": "rep.from_mesh", "in": {"mesh": "reference"}, "out": {"state": "state"}},
            {"run": "mesher.extract", "in": {"state": "state"}, "out": {"mesh": "mesh"}},
        ],
        "output": "mesh",
    }
