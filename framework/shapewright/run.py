"""Build the components of a plan and run its stages on one sample."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from time import perf_counter
from typing import Any

import psutil
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from .errors import ConfigError, ResourceError, StateError
from .host import Catalog
from .plan import Plan, Stage
from .spec import satisfies
from .streams import stage_stream


@dataclass(frozen=True, slots=True)
class Nested:
    """A component named inside another's options (``{use: ..., with: ...}``): call it to build a fresh one."""

    catalog: Catalog
    key: str
    options: Mapping[str, Any]

    def __call__(self, **overrides: Any) -> Any:
        return build(self.catalog, self.key, {**self.options, **overrides})

    @property
    def component(self) -> Any:
        """The class that a call builds."""
        return self.catalog.load(self.key)


def configure(cls: type[Any], options: Mapping[str, Any], where: str) -> Any:
    """``options`` merged into the frozen dataclass ``cls.Config``, with types checked and unknown keys refused.

    Raises:
        ConfigError: naming ``where``, the key, and the closest key that exists.
    """
    try:
        merged = OmegaConf.merge(OmegaConf.structured(cls.Config), dict(options))
        return OmegaConf.to_object(merged)
    except OmegaConfBaseException as error:
        key = getattr(error, "full_key", None) or getattr(error, "key", None)
        message = str(error).splitlines()[0]
        known = ", ".join(f.name for f in fields(cls.Config))
        hint = "" if "Did you mean" in message else f" (options: {known or 'none'})"
        raise ConfigError(f"{where}{f'.{key}' if key else ''}: {message}{hint}") from None
    except ConfigError as error:  # from the config's own checks, which do not know where they are
        raise ConfigError(f"{where}: {error}") from None


def resolved_options(catalog: Catalog, key: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """All options of a component with their defaults, as plain values for cards and cache keys."""
    cls = catalog.load(key)
    merged = OmegaConf.structured(configure(cls, options, key))
    plain: dict[str, Any] = OmegaConf.to_container(merged)  # type: ignore[assignment]
    return plain


def build(catalog: Catalog, key: str, options: Mapping[str, Any], where: str = "") -> Any:
    """Import, configure and construct one component; nested components become :class:`Nested` factories."""
    cls = catalog.load(key)
    config = configure(cls, options, where or key)
    nested = {
        f.name: Nested(catalog, value["use"], value.get("with") or {})
        for f in fields(config)
        if isinstance(value := getattr(config, f.name), Mapping) and isinstance(value.get("use"), str)
    }
    return cls(replace(config, **nested) if nested else config)


def build_parts(plan: Plan, catalog: Catalog) -> dict[str, Any]:
    """Construct every component of ``plan`` and check what only instances can tell (latent statistics)."""
    parts = {
        alias: build(catalog, part.spec.key, part.options, f"{plan.name}: components.{alias}.with")
        for alias, part in plan.parts.items()
    }
    check_latents(plan, parts)
    return parts


def check_latents(plan: Plan, parts: Mapping[str, Any]) -> None:
    """Compare the :class:`~shapewright.states.LatentSpec` of whoever makes a latent with that of whoever takes it.

    A component says what it makes by ``latent_spec``. It takes the same, or by port what ``latent_specs`` (a mapping)
    says; ``concat`` is another component's latent by nature and is compared only if ``latent_specs`` names it. A
    component without either (a transform) passes on what it was given.

    Raises:
        ConfigError: two components need weights trained for one another.
    """
    specs: dict[str, tuple[str, Any]] = {}
    for stage in plan.stages:
        part = parts[stage.component]
        own, by_port = getattr(part, "latent_spec", None), getattr(part, "latent_specs", {})
        passed: list[tuple[str, Any]] = []
        for port, value in stage.inputs.items():
            if value not in specs or not satisfies(plan.tags[value], "latent"):
                continue
            maker, made = specs[value]
            taken = by_port.get(port, None if port == "concat" else own)
            if taken is not None and made != taken:
                raise ConfigError(
                    f"{plan.name}: {plan.parts[stage.component].spec.key} takes latents of {taken}, "
                    f"{plan.parts[maker].spec.key} makes {made}; they need weights trained for one another"
                )
            passed.append(specs[value])
        for value in stage.outputs.values():
            if satisfies(plan.tags[value], "latent"):
                if own is not None:
                    specs[value] = (stage.component, own)
                elif passed:
                    specs[value] = passed[0]


def refuse_what_cannot_fit(parts: Mapping[str, Any], where: str) -> None:
    """Raise :class:`ResourceError` before anything is allocated when a component's estimate exceeds free memory."""
    for alias, part in parts.items():
        needed = part.peak_bytes() if hasattr(part, "peak_bytes") else 0
        what = f"{where}: {alias} ({type(part).__name__})"
        refuse_bytes(needed, what, "lower the resolution or use a sparse representation")


def refuse_bytes(needed: int, what: str, advice: str) -> None:
    """Raise :class:`ResourceError` when ``what`` needs more bytes than are free; the message ends with ``advice``."""
    free = psutil.virtual_memory().available
    if needed > free:
        raise ResourceError(
            f"{what} needs about {needed / 2**30:.1f} GiB and {free / 2**30:.1f} GiB are free; {advice}"
        )


@dataclass(frozen=True)
class Run:
    """What a pipeline made: every named value, and seconds by stage."""

    values: Mapping[str, Any]
    seconds: Mapping[str, float]
    output: Any


def accepted_options(plan: Plan, stage: Stage, verb: Any) -> Mapping[str, inspect.Parameter]:
    """Parameters of ``verb``; raises :class:`ConfigError` where the stage's ``with`` names something else."""
    accepted = inspect.signature(verb).parameters
    unknown = [name for name in stage.options if name not in accepted]
    if unknown:
        raise ConfigError(f"{plan.name}: stage {stage.id} has no option {unknown[0]!r}; it takes {', '.join(accepted)}")
    return accepted


def named_outputs(plan: Plan, stage: Stage, result: Any) -> dict[str, Any]:
    """What a verb returned, by the names of the pipeline; tags are compared with what the component declares."""
    ports = result._asdict() if hasattr(result, "_asdict") else dict.fromkeys(stage.outputs, result)
    made = {}
    for port, name in stage.outputs.items():
        tag = getattr(ports[port], "tag", plan.tags[name])
        if not satisfies(tag, plan.tags[name]):
            raise StateError(f"stage {stage.id}: {port!r} was declared {plan.tags[name]!r} but is {tag!r}")
        made[name] = ports[port]
    return made


def call_stage(
    plan: Plan, catalog: Catalog, stage: Stage, part: Any, given: Mapping[str, Any], rng: Any
) -> tuple[dict[str, Any], float]:
    """Call a stage's verb on ``given`` ports, with ``rng`` if it draws: named outputs, and the seconds of the verb."""
    verb = getattr(part, stage.verb)
    arguments = {**given, **stage.options}
    if "rng" in accepted_options(plan, stage, verb):
        arguments["rng"] = rng
    catalog.hook.before_stage(stage=stage.id, inputs={name: given[port] for port, name in stage.inputs.items()})
    start = perf_counter()
    result = verb(**arguments)
    seconds = perf_counter() - start
    made = named_outputs(plan, stage, result)
    catalog.hook.after_stage(stage=stage.id, outputs=made, seconds=seconds)
    return made, seconds


def execute(
    plan: Plan,
    catalog: Catalog,
    inputs: Mapping[str, Any],
    *,
    parts: Mapping[str, Any] | None = None,
    seed: int = 0,
    sample: object = 0,
) -> Run:
    """Run all stages on one sample.

    Args:
        plan: from :func:`shapewright.plan.check`.
        catalog: the one the plan was checked against.
        inputs: values for ``plan.inputs``.
        parts: components built before (:func:`build_parts`); built here when ``None``.
        seed, sample: with the stage's id they name the random stream of every stage.
    Raises:
        StateError: an input is missing, or a component returns another tag than it declares.
        ResourceError: a component says beforehand that it needs more memory than is free.
    """
    missing = [name for name in plan.inputs if name not in inputs]
    if missing:
        raise StateError(f"pipeline {plan.name!r} wants the input(s) {', '.join(missing)}")
    parts = build_parts(plan, catalog) if parts is None else parts
    refuse_what_cannot_fit(parts, plan.name)
    values = dict(inputs)
    seconds: dict[str, float] = {}
    for stage in plan.stages:
        given = {port: values[name] for port, name in stage.inputs.items()}
        made, seconds[stage.id] = call_stage(
            plan, catalog, stage, parts[stage.component], given, stage_stream(seed, stage.id, sample)
        )
        values |= made
    return Run(values, seconds, values[plan.output])
