"""The component under test with what its checks need: an instance, random streams, example values for its ports."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import torch
from torch import nn

from ..errors import ConfigError
from ..host import Catalog
from ..interfaces import MeshPair
from ..run import build
from ..spec import ComponentSpec
from ..streams import stream
from .check import CheckFailure, NotHere
from .values import map_tensors

Inputs = Mapping[str, Sequence[Any] | Callable[[], Sequence[Any]]]
"""Port to example values, or to a function that makes them when they are needed."""
RESOLUTION = 32
"""Of components that have such an option: a second's work, and enough cells between the walls of every toy."""


@dataclass(frozen=True)
class Call:
    """One way to call a verb: a label for messages, and its arguments without ``rng``."""

    label: str
    verb: str
    arguments: Mapping[str, Any]


@dataclass
class Subject:
    """One component; everything made from it is made once and kept."""

    catalog: Catalog
    spec: ComponentSpec
    options: dict[str, Any]
    inputs: dict[str, Any]
    _kept: dict[str, Any] = field(default_factory=dict)

    def kept(self, name: str, make: Callable[[], Any]) -> Any:
        """``make()``, once; an example that cannot be made stays one."""
        if name not in self._kept:
            try:
                self._kept[name] = make()
            except NotHere as missing:
                self._kept[name] = missing
        found = self._kept[name]
        if isinstance(found, NotHere):
            raise found
        return found

    @property
    def cls(self) -> Any:
        """The component's class."""
        return self.catalog.load(self.spec.key)

    def fresh(self) -> Any:
        """A new instance; learned ones in evaluation mode, with weights drawn from a fixed stream."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            made = self._build()
        return made.eval() if isinstance(made, nn.Module) else made

    def _build(self) -> Any:
        return built(self.catalog, self.spec, self.options, self.cls)

    @property
    def component(self) -> Any:
        """The instance that most checks share."""
        return self.kept("component", self.fresh)

    def rng(self, *names: object) -> torch.Generator:
        """A stream of its own for each path of names."""
        return stream(0, "conformance", *names)

    def run(self, call: Call, component: Any = None, *, draw: object = 0) -> Any:
        """The result of ``call``, with a fresh stream named by ``draw`` where the verb takes one."""
        verb = getattr(self.component if component is None else component, call.verb)
        arguments = {name: _unremembered(value) for name, value in call.arguments.items()}
        if "rng" in inspect.signature(verb).parameters:
            arguments["rng"] = self.rng(call.verb, draw)
        return verb(**arguments)

    def result(self, call: Call) -> Any:
        """The result of ``call``, computed once; checks must not change it."""
        return self.kept(f"result/{call.verb}/{call.label}", lambda: self.run(call))

    def given(self, port: str) -> list[Any]:
        """Example values that the caller gave for ``port``; empty where there are none."""

        def make() -> list[Any]:
            offered = self.inputs.get(port, ())
            return list(offered() if callable(offered) else offered)

        found: list[Any] = self.kept(f"given/{port}", make)
        return found

    def option(self, *names: str) -> Any:
        """The first of these fields that the config has and that is not ``None``; ``None`` where it has none."""
        config = self.component.config
        return next((value for name in names if (value := getattr(config, name, None)) is not None), None)


def with_toy_resolution(cls: Any, options: Mapping[str, Any]) -> dict[str, Any]:
    """``options``, and a small resolution where the config has one that is not given."""
    has = "resolution" in {f.name for f in fields(cls.Config)}
    return {"resolution": RESOLUTION, **options} if has and "resolution" not in options else dict(options)


def built(catalog: Catalog, spec: ComponentSpec, options: Mapping[str, Any], cls: Any) -> Any:
    """An instance at toy size, or as configured where that size does not suit it.

    Raises:
        NotHere: the component needs options and was given none.
    """
    small = with_toy_resolution(cls, options)
    try:
        return build(catalog, spec.key, small)
    except ConfigError as error:
        if small != options:
            return build(catalog, spec.key, options)
        if options:
            raise
        raise NotHere(f"{error}; give options") from None


def _unremembered(value: Any) -> Any:
    """A pair of meshes without the intermediates that an earlier measurement left in it."""
    if isinstance(value, MeshPair):
        return MeshPair(value.predicted, value.reference, value.sample, value.seed, value.open_reference)
    return value


def on_device(value: Any, device: str) -> Any:
    """``value`` with all its tensors on ``device``."""
    return map_tensors(value, lambda tensor: tensor.to(device))


def tag_of(value: Any) -> str:
    """The tag of a value; plain tensors, numbers and mappings have none."""
    tag = getattr(value, "tag", "")
    if not isinstance(tag, str):
        raise CheckFailure(f"the tag of a {type(value).__name__} must be a string, not {tag!r}")
    return tag
