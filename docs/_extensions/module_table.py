"""A directive that lists the modules of a package with the first sentence of each, read without importing them.

```{module-table} shapewright_kernels
```
"""

from __future__ import annotations

import ast
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.util.docutils import SphinxDirective


def summaries(package: str) -> list[tuple[str, str]]:
    """Name and first sentence of the docstring of every module and sub-package directly below ``package``."""
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(f"{package} is not an installed package")
    found = []
    for folder in map(Path, spec.submodule_search_locations):
        for path in [*folder.glob("*.py"), *folder.glob("*/__init__.py")]:
            name = path.parent.name if path.name == "__init__.py" else path.stem
            if path.parent == folder and path.name == "__init__.py":
                continue
            text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
            found.append((name, " ".join(text.partition("\n\n")[0].split())))
    return sorted(found)


class ModuleTable(SphinxDirective):
    """``{module-table} PACKAGE``: a table of two columns."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """The table; docstrings are reStructuredText, so that is what reads their first sentences."""
        lines = [
            ".. list-table::",
            "   :header-rows: 1",
            "   :widths: 30 70",
            "",
            "   * - module",
            "     - what it does",
        ]
        for name, summary in summaries(self.arguments[0]):
            lines += [f"   * - ``{name}``", f"     - {summary}"]
        return self.parse_text_to_nodes("\n".join(["```{eval-rst}", *lines, "```"]))


def setup(app: Any) -> dict[str, bool]:
    """Make the directive known to Sphinx."""
    app.add_directive("module-table", ModuleTable)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
