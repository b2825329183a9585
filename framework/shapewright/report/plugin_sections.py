"""Sections that plugins add to a report (the hook ``report_sections``)."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import cast

from ..host import Catalog


def plugin_sections(catalog: Catalog, cards: Path) -> list[tuple[str, str]]:
    """Titles and plain texts, plugin by plugin. One that raises has its error told in its place and spoils no other."""
    sections: list[tuple[str, str]] = []
    for implementation in catalog.hook.report_sections.get_hookimpls():
        arguments = dict.fromkeys(implementation.argnames, cards)
        try:
            made = cast("Iterable[tuple[str, str]]", implementation.function(**arguments))
            sections += [(str(title), str(text)) for title, text in made]
        except Exception as error:  # a plugin may fail in any way: the figures are not to be lost for it
            reason = f"{type(error).__name__}: {error}"
            sections.append((f"No section of {implementation.plugin_name}", f"The plugin failed with {reason}"))
    return sections
