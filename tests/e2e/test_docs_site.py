"""The site builds without a warning, and its references are complete."""

from __future__ import annotations

import html
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import shapewright
import shapewright.nn
import shapewright.plugin
import shapewright.testing
from documents import ROOT
from shapewright.cli import COMMANDS, group

pytest.importorskip("sphinx")
pytest.importorskip("furo")
pytest.importorskip("myst_parser")
pytest.importorskip("sphinx_click")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("site")
    options = ["--quiet", "--fail-on-warning", "--keep-going", "--doctree-dir", str(out / "doctrees")]
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", *options, str(ROOT / "docs"), str(out / "html")],
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    return out / "html"


def text_of(page: Path) -> str:
    return html.unescape(re.sub(r"<[^>]+>", "", page.read_text(encoding="utf-8")))


def command_list() -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    for name in COMMANDS:
        command = group.get_command(context, name)
        assert command is not None
        yield name, command


def test_every_page_is_built_and_in_the_navigation(site: Path) -> None:
    index = (site / "index.html").read_text(encoding="utf-8")
    for page in (ROOT / "docs").rglob("*.md"):
        name = page.relative_to(ROOT / "docs").with_suffix(".html").as_posix()
        assert (site / name).is_file(), name
        assert f'href="{name}"' in index or name == "index.html", name


def test_the_command_line_reference_has_every_command_and_option(site: Path) -> None:
    page = text_of(site / "cli.html")
    for name, command in command_list():
        section = page.partition(f"shapewright {name} [OPTIONS]")[2]
        assert section, name
        for parameter in command.params:
            wanted = (
                parameter.opts[0]
                if isinstance(parameter, click.Option)
                else parameter.make_metavar(click.Context(command))
            )
            assert wanted in section, f"{name}: {wanted}"


def test_every_command_says_what_it_does() -> None:
    assert [name for name, command in command_list() if not (command.help or "").strip()] == []


def test_the_api_reference_has_every_public_name(site: Path) -> None:
    pages = "".join(page.read_text(encoding="utf-8") for page in (site / "api").glob("*.html"))
    documented = {name.rpartition(".")[2] for name in re.findall(r'id="(shapewright[\w.]*)"', pages)}
    public = {
        *shapewright.__all__,
        *shapewright.plugin.__all__,
        *shapewright.testing.__all__,
        *shapewright.nn.__all__,
    }
    assert public - documented - {"__version__"} == set()


def test_no_page_names_a_machine(site: Path) -> None:
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 20
    assert [page.name for page in pages if str(ROOT) in page.read_text(encoding="utf-8")] == []
