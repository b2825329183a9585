"""``shapewright new-plugin``."""

from __future__ import annotations

import importlib.util
import keyword
import re
import tomllib
from datetime import date
from pathlib import Path
from typing import Any

import click

from ..errors import ConfigError, OutputExistsError
from ..host import Catalog
from ..spec import API_VERSION, KINDS

TEMPLATES = Path(__file__).parents[1] / "templates"
LICENSES = ("Apache-2.0", "BSD-3-Clause", "MIT")
LONGEST_NAME = 32
"""So that every line of the written files keeps to its length."""
FILES = {
    "pyproject.toml": "plugin/pyproject.toml.jinja",
    "README.md": "plugin/README.md.jinja",
    "LICENSE": "licenses/{license}.txt",
    ".gitignore": "plugin/gitignore.jinja",
    ".github/workflows/test.yml": "plugin/test.yml.jinja",
    "src/{module}/__init__.py": "plugin/__init__.py.jinja",
    "src/{module}/core.py": "kinds/{kind}.py.jinja",
    "src/{module}/py.typed": "",
    "tests/test_conformance.py": "plugin/test_conformance.py.jinja",
}
"""Files of a package and the templates they come from."""


@click.command("new-plugin")
@click.argument("name")
@click.option("--kind", required=True, metavar="KIND", help=f"What it is: {', '.join(KINDS)}.")
@click.option("--into", type=click.Path(path_type=Path), default=Path(), help="Parent folder; here by default.")
@click.option("--license", type=click.Choice(LICENSES), default="Apache-2.0", show_default=True)
@click.option("--author", help="Who holds the copyright; 'the authors of PACKAGE' by default.")
def command(name: str, kind: str, into: Path, license: str, author: str | None) -> None:
    """Write the package of a plugin: a component that works, its description, its test, ready to publish.

    NAME is the component's name, such as point-sdf; the package becomes shapewright-NAME.
    """
    from ..host import discover

    check_name(name, kind, discover())
    files = render(name, kind, license=license, author=author)
    folder = into / f"shapewright-{name}"
    write(files, folder)
    click.echo(f"{folder}: {kind}/{name} in {len(files)} files. Next:")
    click.echo(f"  cd {folder}\n  pip install --editable '.[test]'\n  pytest")


def check_name(name: str, kind: str, catalog: Catalog) -> None:
    """Refuse what could not be installed beside what is there.

    Raises:
        ConfigError: the kind is unknown, or the name is malformed or taken.
    """
    if kind not in KINDS:
        from difflib import get_close_matches

        close = get_close_matches(kind, KINDS, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"kinds are {', '.join(KINDS)}"
        raise ConfigError(f"there is no kind {kind!r}; {hint}")
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name):
        raise ConfigError(f"{name!r} is no component's name; use lower case words with hyphens, such as 'point-sdf'")
    if len(name) > LONGEST_NAME:
        raise ConfigError(f"{name!r} is too long; use at most {LONGEST_NAME} characters")
    if name.split("-")[0] == "shapewright":
        raise ConfigError(f"leave 'shapewright' out of the name {name!r}; the package gets it by itself")
    key = f"{kind}/{name}"
    if key in catalog.specs:
        raise ConfigError(f"{key} is already provided by {catalog.owner(key).distribution}; choose another name")
    if importlib.util.find_spec(module_name(name)) is not None:
        raise ConfigError(f"a module named {module_name(name)} is already installed; choose another name")


def module_name(name: str) -> str:
    """The import name of the package.

    >>> module_name("point-sdf")
    'shapewright_point_sdf'
    """
    return f"shapewright_{name.replace('-', '_')}"


def class_name(name: str, kind: str) -> str:
    """The name of the class, which must not hide a name that its module imports.

    >>> class_name("point-sdf", "representation"), class_name("mesh", "transform")
    ('PointSdf', 'MeshTransform')
    """
    from .. import __all__ as public

    words = "".join(part.capitalize() for part in name.split("-"))
    taken = {*public, "Any", "ClassVar", "Config", "F", "Mapping", "Sequence", "Tensor", "Tokens"}
    return words + kind.capitalize() if words in taken or keyword.iskeyword(words) else words


def render(name: str, kind: str, *, license: str = "Apache-2.0", author: str | None = None) -> dict[str, str]:
    """Path to text of every file of the package."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    from .. import __version__

    distribution = f"shapewright-{name}"
    values: dict[str, Any] = {
        "about": {"bench": "", "test_imports": "", "test_setup": "", "test_arguments": ""} | _kinds()[kind],
        "api": ".".join(map(str, API_VERSION)),
        "class": class_name(name, kind),
        "distribution": distribution,
        "holder": author or f"the authors of {distribution}",
        "kind": kind,
        "license": license,
        "module": module_name(name),
        "name": name,
        "version": __version__,
        "year": date.today().year,
    }
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        undefined=StrictUndefined,  # a misspelt variable is an error, not an empty string
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,  # nothing here is HTML
    )
    return {
        path.format(**values): environment.get_template(source.format(**values)).render(values) if source else ""
        for path, source in FILES.items()
    }


def _kinds() -> dict[str, dict[str, str]]:
    with (TEMPLATES / "kinds.toml").open("rb") as file:
        return tomllib.load(file)


def write(files: dict[str, str], folder: Path) -> None:
    """Create ``folder`` with ``files`` in it.

    Raises:
        OutputExistsError: there is something of that name; nothing was written.
    """
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        raise OutputExistsError(f"{folder} exists already; move it away, or give another name or --into") from None
    for path, text in files.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
