"""Discovery of plugins: each entry point alone, so that a broken one is a row in a table and not a traceback."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from types import MappingProxyType, ModuleType
from typing import Any, Literal, cast

import pluggy

from . import hookspecs
from .errors import ShapewrightError, UnknownComponentError
from .spec import API_VERSION, KINDS, ComponentSpec, api_compatible

GROUP = "shapewright.plugins"


@dataclass(frozen=True, slots=True)
class PluginStatus:
    """One installed plugin: where it comes from and whether it could be used."""

    name: str
    distribution: str
    version: str
    state: Literal["ok", "failed", "incompatible"]
    reason: str = ""
    components: tuple[str, ...] = ()


class ComponentLoadError(ShapewrightError, ImportError):
    """A component is listed, but its class cannot be imported here."""


@dataclass(frozen=True)
class Catalog:
    """Immutable view of everything installed, passed along explicitly: no module-level registry exists."""

    specs: Mapping[str, ComponentSpec]
    plugins: tuple[PluginStatus, ...]
    hook: pluggy.HookRelay = field(repr=False)
    manager: pluggy.PluginManager = field(repr=False)

    def get(self, key: str, where: str = "") -> ComponentSpec:
        """The spec of ``"kind/name"``; raises :class:`UnknownComponentError` with suggestions of the same kind."""
        try:
            return self.specs[key]
        except KeyError:
            failed = [p.name for p in self.plugins if p.state != "ok"]
            raise UnknownComponentError(key, self.specs, failed, where) from None

    def of_kind(self, kind: str) -> list[ComponentSpec]:
        """All specs of one kind, by name."""
        return sorted((spec for spec in self.specs.values() if spec.kind == kind), key=lambda spec: spec.name)

    def owner(self, key: str) -> PluginStatus:
        """The plugin that provides ``key``."""
        return next(plugin for plugin in self.plugins if key in plugin.components)

    def load(self, key: str) -> Any:
        """Import the class behind ``key``; raises :class:`ComponentLoadError` where its imports fail."""
        spec = self.get(key)
        module, _, attribute = spec.factory.partition(":")
        try:
            return getattr(importlib.import_module(module), attribute)
        except (ImportError, AttributeError) as error:
            raise ComponentLoadError(f"{key} is listed but {spec.factory} cannot be imported: {error}") from error


def _offered(manager: pluggy.PluginManager, name: str) -> Iterator[ComponentSpec]:
    for implementation in manager.hook.register_components.get_hookimpls():
        if implementation.plugin_name == name:
            yield from cast("Iterable[ComponentSpec]", implementation.function())


class IncompatibleError(Exception):
    """A plugin asks for a contract that this host does not have."""


def _validated(offered: Iterable[ComponentSpec], owners: Mapping[str, str], provider: str) -> dict[str, ComponentSpec]:
    specs: dict[str, ComponentSpec] = {}
    for spec in offered:
        if not isinstance(spec, ComponentSpec):
            raise TypeError(f"register_components must return ComponentSpec values, not {type(spec).__name__}")
        if not api_compatible(spec.api):
            host = ".".join(map(str, API_VERSION))
            raise IncompatibleError(f"{spec.key} wants plugin API {spec.api}, this Shapewright provides {host}")
        if spec.kind not in KINDS:
            raise ValueError(f"{spec.name!r} has the unknown kind {spec.kind!r}; kinds are {', '.join(KINDS)}")
        if ":" not in spec.factory:
            raise ValueError(f"{spec.key}: factory must read 'package.module:Class', not {spec.factory!r}")
        if spec.key in specs:
            raise ValueError(f"{spec.key} is offered twice by {provider}")
        if spec.key in owners:
            raise ValueError(f"{spec.key} is already provided by {owners[spec.key]}; {provider} may not replace it")
        specs[spec.key] = spec
    return specs


def discover(points: Iterable[EntryPoint] | None = None, extra: Iterable[ModuleType] = ()) -> Catalog:
    """Load every plugin alone and return an immutable catalog.

    Args:
        points: entry points to load; all installed ones of the group ``shapewright.plugins`` when ``None``.
        extra: modules to register as plugins as well (tests, notebooks).
    Returns:
        The catalog. A plugin that fails to import, misspells a hook, wants another API or offers a name that is taken
        is a row of ``plugins`` with its reason and contributes nothing.
    """
    manager = pluggy.PluginManager("shapewright")
    manager.add_hookspecs(hookspecs)
    specs: dict[str, ComponentSpec] = {}
    owners: dict[str, str] = {}
    statuses: list[PluginStatus] = []
    sources: list[tuple[str, Any, str, str]] = [(module.__name__, module, "", "") for module in extra]
    for point in entry_points(group=GROUP) if points is None else points:
        dist = point.dist
        sources.append((point.name, point, dist.name if dist else "", dist.version if dist else ""))
    # Shapewright's own plugins come first, so that a third party that takes one of their names is the one reported.
    sources.sort(key=lambda source: (source[2] != "shapewright", source[2], source[0]))
    for name, source, distribution, version in sources:
        registered = f"{distribution}:{name}"
        provider = f"plugin {name!r}" + (f" of {distribution} {version}" if distribution else "")
        try:
            module = source.load() if isinstance(source, EntryPoint) else source
            manager.register(module, name=registered)
            manager.check_pending()  # a misspelt hook is an error, not silence
            offered = _validated(_offered(manager, registered), owners, provider)
        except Exception as error:  # a plugin may fail in any way; the reason is kept
            state: Literal["failed", "incompatible"] = (
                "incompatible" if isinstance(error, IncompatibleError) else "failed"
            )
            reason = str(error) if isinstance(error, IncompatibleError) else f"{type(error).__name__}: {error}"
            if manager.has_plugin(registered):
                manager.unregister(name=registered)
            statuses.append(PluginStatus(name, distribution, version, state, " ".join(reason.split())))
            continue
        specs |= offered  # all of a plugin or nothing
        owners |= dict.fromkeys(offered, provider)
        statuses.append(PluginStatus(name, distribution, version, "ok", components=tuple(sorted(offered))))
    return Catalog(MappingProxyType(specs), tuple(statuses), manager.hook, manager)
