"""What plugins are written against does not change under their feet.

``tests/golden/api/MAJOR.txt`` lists the public names and signatures of ``shapewright``, ``shapewright.plugin``,
``shapewright.testing`` and what else plugins use. ``python tests/unit/test_api_snapshot.py`` writes it anew.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from shapewright.spec import API_VERSION, KINDS

RECORDS = Path(__file__).resolve().parents[1] / "golden" / "api"
RECORD = RECORDS / f"{API_VERSION[0]}.txt"
COMMAND = "python tests/unit/test_api_snapshot.py"
MODULES = {
    "shapewright": None,
    "shapewright.plugin": None,
    "shapewright.testing": None,
    "shapewright.geometry": ("lattice", "sample_surface"),
    "shapewright.streams": ("stream",),
    "shapewright.mesh_io": ("content_hash",),
    "shapewright.normalise": ("Placement", "normalise"),
}
"""``None`` stands for the module's ``__all__``."""


# --- what there is ----------------------------------------------------------------------------------------------------
def current() -> dict[str, str]:
    """Every public thing as ``"word name"`` (``"method shapewright.Frame.grown"``) with its signature or value."""
    found = {f"kind {kind}": "" for kind in KINDS}
    for module_name, names in MODULES.items():
        module = import_module(module_name)
        for name in sorted(names or module.__all__):
            if name not in ("__version__", "API_VERSION"):
                found |= dict(described(f"{module_name}.{name}", getattr(module, name)))
    hooks = import_module("shapewright.hookspecs")
    for name, value in sorted(vars(hooks).items()):
        if hasattr(value, "shapewright_spec"):
            found[f"hook {name}"] = signature(value)
    return found


def described(name: str, value: Any) -> Iterator[tuple[str, str]]:
    if inspect.isclass(value):
        yield f"class {name}", ", ".join(base.__name__ for base in value.__mro__[1:-1])
        if ("__init__" in vars(value) or hasattr(value, "_fields")) and not getattr(value, "_is_protocol", False):
            yield f"new {name}", signature(value)
        for member, inner in sorted(vars(value).items()):
            inner = getattr(inner, "__func__", inner)
            if member.startswith("_") and member != "__call__":
                continue
            if inspect.isfunction(inner):
                word = "abstract" if getattr(inner, "__isabstractmethod__", False) else "method"
                yield f"{word} {name}.{member}", signature(inner)
            elif isinstance(inner, property):
                yield f"property {name}.{member}", str(inner.fget.__annotations__.get("return", ""))
            elif member == "tag":
                yield f"value {name}.tag", repr(inner)
    elif callable(value):
        yield f"function {name}", signature(value)
    else:
        yield f"value {name}", re.sub(r"shapewright\.[\w.]+\.", "", repr(value)) if "|" in repr(value) else ""


class Verbatim(str):
    """Text that is its own representation, so that annotations read as they were written."""

    def __repr__(self) -> str:
        return str(self)


def signature(function: Any) -> str:
    """Parameters but private ones, annotations as written; ``...`` for defaults that are no plain values."""
    whole = inspect.signature(function)

    def as_written(annotation: Any) -> Any:
        return Verbatim(annotation) if isinstance(annotation, str) else annotation

    def plain(default: Any) -> Any:
        return (
            default
            if default is whole.empty or isinstance(default, str | int | float | type(None))
            else Verbatim("...")
        )

    kept = [
        each.replace(annotation=as_written(each.annotation), default=plain(each.default))
        for name, each in whole.parameters.items()
        if not name.startswith("_")
    ]
    return str(whole.replace(parameters=kept, return_annotation=as_written(whole.return_annotation)))


def read(text: str) -> dict[str, str]:
    lines = (line for line in text.splitlines() if line and not line.startswith("#"))
    return {line.partition(" ::")[0]: line.partition(" ::")[2].strip() for line in lines}


def written(entries: dict[str, str]) -> str:
    version = ".".join(map(str, API_VERSION))
    head = f"# The plugin API, version {version}. Written by `{COMMAND}`; see docs/publish-a-plugin.md.\n"
    return head + "".join(f"{name} :: {detail}".rstrip() + "\n" for name, detail in sorted(entries.items()))


# --- what may change --------------------------------------------------------------------------------------------------
def changes(before: dict[str, str], after: dict[str, str]) -> tuple[list[str], list[str]]:
    """Changes that break a plugin, and changes that none would notice."""
    broken, added = [], []
    classes = {name.partition(" ")[2] for name in before if name.startswith("class ")}
    for name, detail in before.items():
        if name not in after:
            made_concrete = name.startswith("abstract ") and "method " + name.partition(" ")[2] in after
            (added if made_concrete else broken).append(f"{name} is gone")
        elif after[name] != detail:
            reason = noticed(name, detail, after[name])
            (broken if reason else added).append(f"{name}: {reason or 'grew'}: {detail or '-'} -> {after[name]}")
    for name in after.keys() - before.keys():
        word, _, path = name.partition(" ")
        if word == "abstract" and path.rpartition(".")[0] in classes:
            broken.append(f"{name} is new, and classes of plugins do not define it")
        else:
            added.append(f"{name} is new")
    return sorted(broken), sorted(added)


def noticed(name: str, before: str, after: str) -> str:
    """Why a caller written for ``before`` would notice ``after``; empty where it would not."""
    word = name.partition(" ")[0]
    if word == "class":
        lost = set(before.split(", ")) - set(after.split(", ")) - {""}
        return f"no longer derives from {', '.join(sorted(lost))}" if lost else ""
    if word in ("property", "value"):
        return "another type or value"
    old, new = parameters(before), parameters(after)
    for key, (place, annotation, optional) in old.items():
        if key not in new:
            return f"the parameter {key} is gone"
        if new[key][:2] != (place, annotation):
            return f"the parameter {key} moved or changed its type"
        if optional and not new[key][2]:
            return f"the parameter {key} lost its default"
    required = [key for key in new.keys() - old.keys() if not new[key][2]]
    if required and word != "hook":  # an implementation of a hook may take fewer arguments than there are
        return f"the new parameter {required[0]} has no default"
    return "another result" if before.partition(" -> ")[2] != after.partition(" -> ")[2] else ""


def parameters(text: str) -> dict[str, tuple[object, str, bool]]:
    """Name to place (an index, or ``"keyword"``), annotation, and whether there is a default."""
    tree = ast.parse(f"def f{text}: pass").body[0]
    assert isinstance(tree, ast.FunctionDef)
    ordered = [*tree.args.posonlyargs, *tree.args.args]
    first_default = len(ordered) - len(tree.args.defaults)
    found: dict[str, tuple[object, str, bool]] = {}
    for index, each in enumerate(ordered):
        found[each.arg] = (index, ast.unparse(each.annotation) if each.annotation else "", index >= first_default)
    for each, default in zip(tree.args.kwonlyargs, tree.args.kw_defaults, strict=True):
        found[each.arg] = ("keyword", ast.unparse(each.annotation) if each.annotation else "", default is not None)
    return found


# --- tests ------------------------------------------------------------------------------------------------------------
def test_the_public_api_is_the_recorded_one() -> None:
    assert RECORD.is_file(), f"API {API_VERSION[0]} has no record yet: {COMMAND}"
    broken, added = changes(read(RECORD.read_text()), current())
    assert not broken, (
        "plugins written for this API would notice:\n  "
        + "\n  ".join(broken)
        + f"\nundo it, or raise the major of API_VERSION in framework/shapewright/spec.py and record that: {COMMAND}"
    )
    assert not added, (
        "the API grew:\n  "
        + "\n  ".join(added)
        + f"\nrecord it (and raise the minor of API_VERSION if the present one was released): {COMMAND}"
    )


def test_the_record_is_what_the_command_writes() -> None:
    assert RECORD.read_text() == written(current())


BEFORE = {
    "class m.A": "Component",
    "new m.A": "(config: int, *, size: float = 1.0) -> None",
    "abstract m.A.run": "(self, x: Tensor) -> Mesh",
    "function m.f": "(x: Tensor, y: int = 0) -> Tensor",
    "hook h": "(stage: str)",
    "value m.A.tag": "'a'",
}


@pytest.mark.parametrize(
    ("name", "detail", "reason"),
    [
        ("function m.f", None, "is gone"),
        ("function m.f", "(z: Tensor, y: int = 0) -> Tensor", "the parameter x is gone"),
        ("function m.f", "(y: int = 0, *, x: Tensor) -> Tensor", "moved"),
        ("function m.f", "(x: Tensor, y: int) -> Tensor", "lost its default"),
        ("function m.f", "(x: Tensor, y: int = 0, *, z: int) -> Tensor", "has no default"),
        ("function m.f", "(x: Tensor, y: int = 0) -> Mesh", "another result"),
        ("class m.A", "", "no longer derives from Component"),
        ("value m.A.tag", "'b'", "another type or value"),
        ("abstract m.A.stop", "(self) -> None", "do not define it"),
    ],
)
def test_what_a_plugin_would_notice_is_refused(name: str, detail: str | None, reason: str) -> None:
    after = {**BEFORE, name: detail or ""}
    if detail is None:
        del after[name]
    broken, added = changes(BEFORE, after)
    assert (len(broken), added) == (1, [])
    assert reason in broken[0]


@pytest.mark.parametrize(
    ("name", "detail"),
    [
        ("function m.f", "(x: Tensor, y: int = 0, z: int = 1) -> Tensor"),
        ("new m.A", "(config: int, *, size: float = 1.0, more: int = 2) -> None"),
        ("class m.A", "Component, Generic"),
        ("function m.g", "() -> None"),
        ("method m.A.more", "(self) -> None"),
        ("abstract m.B.run", "(self) -> None"),
        ("hook h", "(stage: str, seconds: float)"),
    ],
)
def test_what_no_plugin_would_notice_is_growth(name: str, detail: str) -> None:
    broken, added = changes(BEFORE, {**BEFORE, name: detail})
    assert (broken, len(added)) == ([], 1)


def test_what_may_be_left_undefined_is_growth() -> None:
    after = {name.replace("abstract", "method"): detail for name, detail in BEFORE.items()}
    broken, added = changes(BEFORE, after)
    assert broken == []
    assert added


if __name__ == "__main__":
    RECORDS.mkdir(parents=True, exist_ok=True)
    RECORD.write_text(written(current()))
    print(RECORD)
