"""Registry files: pipelines and defaults in YAML, with user files and ``--set`` overrides on top."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from .errors import RegistryError
from .host import Catalog
from .plan import COMPONENT_KEYS, STAGE_KEYS
from .weights.entry import KEYS as WEIGHTS_KEYS

SCHEMA = 1


@dataclass(frozen=True)
class Registry:
    """Pipelines and defaults of all registry files, later files winning by whole pipeline.

    ``pipelines`` maps a name to its entry, ``defaults`` holds option defaults by component key and by command,
    ``origins`` says which file (and line) a pipeline comes from.
    """

    pipelines: Mapping[str, Mapping[str, Any]]
    defaults: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    origins: Mapping[str, str] = field(default_factory=dict)

    def pipeline(self, name: str, overrides: Sequence[str] = ()) -> dict[str, Any]:
        """A fresh, editable copy of one entry with component defaults filled in and ``a.b=c`` overrides applied.

        Raises:
            RegistryError: the name or the path of an override is unknown; the closest ones are named.
        """
        if name not in self.pipelines:
            close = get_close_matches(name, self.pipelines, n=3)
            hint = f"did you mean {' or '.join(map(repr, close))}? " if close else ""
            known = ", ".join(sorted(self.pipelines)) or "none"
            raise RegistryError(f"no pipeline is named {name!r}; {hint}registered: {known}")
        entry: dict[str, Any] = _copy(self.pipelines[name])
        self.fill_defaults(entry)
        for override in overrides:
            apply_override(entry, override, name)
        return entry

    def fill_defaults(self, entry: dict[str, Any]) -> None:
        """Put ``defaults.components`` beneath the options that the entry gives itself."""
        defaults = self.defaults.get("components", {})
        components = entry.get("components")
        for body in components.values() if isinstance(components, dict) else ():
            if isinstance(body, dict) and body.get("use") in defaults:
                body["with"] = {**_copy(defaults[body["use"]]), **(body.get("with") or {})}


def _copy(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _copy(item) for key, item in value.items()}
    return [_copy(item) for item in value] if isinstance(value, list | tuple) else value


def split_override(text: str) -> tuple[list[str], Any]:
    """``"a.b=c"`` to ``(["a", "b"], c)``, the value read as YAML.

    >>> split_override("rep.resolution=64")
    (['rep', 'resolution'], 64)
    """
    path, equals, raw = text.partition("=")
    if not equals or not path.strip() or not all(path.strip().split(".")):
        raise RegistryError(f"--set {text!r}: write it as path.to.option=value")
    try:
        return path.strip().split("."), yaml.safe_load(raw) if raw else ""
    except yaml.YAMLError:
        raise RegistryError(f"--set {text!r}: {raw!r} is not a YAML value; quote it") from None


def apply_override(entry: dict[str, Any], text: str, name: str = "") -> None:
    """Apply one ``--set``: a full path (``components.rep.with.resolution=64``, optionally led by ``pipeline.``) or the
    short form ``rep.resolution=64`` for an option of one component. Only existing parts of an entry can be named;
    whether the component has the option is checked when it is configured."""
    path, value = split_override(text)
    if path[0] == "pipeline":
        path = path[1:]
    elif len(path) > 2 and path[:2] == ["pipelines", name]:
        path = path[2:]
    components = entry.get("components") or {}
    if len(path) == 1 and path[0] in components:
        example = f"{path[0]}.resolution=64"
        raise RegistryError(f"--set {text!r}: {path[0]} is a component; name an option of it, as {example}")
    if path[0] in components:
        path = ["components", path[0], "with", *path[1:]]
    target: Any = entry
    for depth, key in enumerate(path[:-1]):
        here = ".".join(path[:depth]) or name
        if isinstance(target, list):
            if not key.isdigit() or int(key) >= len(target):
                raise RegistryError(f"--set {text!r}: {here} has {len(target)} entries, 0 to {len(target) - 1}")
            target = target[int(key)]
            continue
        if not isinstance(target, dict):
            raise RegistryError(f"--set {text!r}: {here} is a single value, nothing lies below it")
        inside_options = depth >= 3 and path[0] in ("components", "stages") and path[2] == "with"
        weights = depth == 2 and path[0] == "components" and key == "weights"
        if key not in target and (key == "with" or weights or inside_options):
            target[key] = {}
        if key not in target:
            allowed = {"components": COMPONENT_KEYS, "stages": STAGE_KEYS}.get(path[0], ()) if depth == 2 else ()
            known = [*dict.fromkeys([*target, *allowed, *(components if depth == 0 else ())])]
            close = get_close_matches(key, known, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"there is {', '.join(known)}"
            raise RegistryError(f"--set {text!r}: {here} has no {key!r}; {hint}")
        if target[key] is None:
            target[key] = {}
        target = target[key]
    last = path[-1]
    if isinstance(target, list) or not isinstance(target, dict):
        raise RegistryError(f"--set {text!r}: {'.'.join(path[:-1])} takes no named option")
    of_weights = len(path) == 4 and path[0] == "components" and path[2] == "weights" and last in WEIGHTS_KEYS
    below_options = of_weights or (len(path) > 2 and "with" in path[:-1])
    if not below_options and last not in target and not (path[0] == "components" and last == "use"):
        close = get_close_matches(last, [*target, *(components if len(path) == 1 else ())], n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"there is {', '.join(map(str, target))}"
        raise RegistryError(f"--set {text!r}: {'.'.join(path[:-1]) or name} has no {last!r}; {hint}")
    target[last] = value


def packaged_registry() -> Path:
    """registry.yaml inside the installed package, or at the top of the source tree in an editable install."""
    packaged = Path(str(files("shapewright"))) / "registry.yaml"
    if packaged.is_file():
        return packaged
    source = Path(__file__).resolve().parents[2] / "registry.yaml"
    if source.is_file():
        return source
    raise RegistryError(f"registry.yaml is neither at {packaged} nor at {source}; reinstall shapewright")


def _read(path: Path) -> tuple[dict[str, Any], dict[str, int]]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "not UTF-8 text"
        raise RegistryError(f"registry {path}: {reason}") from None
    try:
        node = yaml.compose(text, yaml.SafeLoader)
        document = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        at = f":{mark.line + 1}" if mark else ""
        raise RegistryError(f"registry {path}{at}: {getattr(error, 'problem', None) or 'not YAML'}") from None
    lines: dict[str, int] = {}
    for key, value in node.value if isinstance(node, yaml.MappingNode) else ():
        lines[key.value] = key.start_mark.line + 1
        if isinstance(value, yaml.MappingNode):
            lines |= {f"{key.value}.{sub.value}": sub.start_mark.line + 1 for sub, _ in value.value}
    if not isinstance(document, dict):
        raise RegistryError(f"registry {path}: wants a mapping with 'schema' and 'pipelines'")
    return document, lines


def load_registry(user: Iterable[str | Path] = (), catalog: Catalog | None = None) -> Registry:
    """Read the packaged registry, then those of installed plugins, then ``user`` files in order; later ones win.

    Raises:
        RegistryError: a file is missing, is not YAML, has an unknown key or another schema; file and line are named.
    """
    paths = [packaged_registry()]
    if catalog is not None:
        paths += [Path(path) for group in catalog.hook.register_registries() for path in group]
    paths += [Path(path) for path in user]
    pipelines: dict[str, Mapping[str, Any]] = {}
    defaults: dict[str, dict[str, Any]] = {}
    origins: dict[str, str] = {}
    for path in paths:
        document, lines = _read(path)
        for key in document:
            if key not in ("schema", "pipelines", "defaults"):
                close = get_close_matches(str(key), ["schema", "pipelines", "defaults"], n=1)
                hint = f"; did you mean {close[0]!r}?" if close else ""
                raise RegistryError(f"registry {path}:{lines.get(str(key), 1)}: unknown key {key!r}{hint}")
        if document.get("schema", SCHEMA) != SCHEMA:
            raise RegistryError(
                f"registry {path}: schema {document['schema']!r}; this Shapewright reads schema {SCHEMA}"
            )
        for section in ("pipelines", "defaults"):
            for name, body in (document.get(section) or {}).items():
                if not isinstance(body, dict):
                    line = lines.get(f"{section}.{name}", 1)
                    raise RegistryError(f"registry {path}:{line}: {section}.{name} wants a mapping, found {body!r}")
        for name, entry in (document.get("pipelines") or {}).items():
            pipelines[name] = entry
            origins[name] = f"{path}:{lines.get(f'pipelines.{name}', 1)}"
        for name, body in (document.get("defaults") or {}).items():
            defaults[name] = {**defaults.get(name, {}), **body}
    return Registry(pipelines, defaults, origins)
