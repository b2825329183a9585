"""Read the code blocks of the documentation and run them. How to write them: CONTRIBUTING.md, "Documentation"."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from in_process import run

ROOT = Path(__file__).resolve().parents[1]
LANGUAGES = {"python", "shell", "toml", "yaml", "json", "text", "{toctree}", "{eval-rst}", "{module-table}"}
COMMANDS = re.compile(r"^(\$ )?(shapewright|pip|python|make|pytest|cd|git|npm)\b", re.MULTILINE)
_FENCE = re.compile(r"^```([^\n`]*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """One fenced block of a page."""

    page: str
    line: int
    language: str
    marked: bool
    """Whether the page says ``no-test``: it needs a network, minutes, a GPU or another program."""
    text: str

    @property
    def first(self) -> str:
        return self.text.splitlines()[0] if self.text.strip() else ""

    @property
    def file(self) -> str:
        """The name that a block ``# path/name.ext`` gives itself, or nothing."""
        found = re.fullmatch(r"# ([\w./-]+\.\w+)( .*)?", self.first)
        return found.group(1) if found else ""

    @property
    def transcript(self) -> bool:
        """Whether it shows a command and what that prints."""
        return self.language == "text" and self.first.startswith("$ shapewright ")

    @property
    def runs(self) -> bool:
        """Whether tests run it."""
        return (self.language in ("python", "shell") or self.transcript) and not self.marked

    @property
    def where(self) -> str:
        return f"{self.page}:{self.line}"


def pages() -> list[Path]:
    """README.md, CONTRIBUTING.md and every page of docs/."""
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of ``page`` in order."""
    text = page.read_text(encoding="utf-8")
    name = page.relative_to(ROOT).as_posix()
    found = []
    for match in _FENCE.finditer(text):
        language, *marks = match.group(1).split() or [""]
        line = text.count("\n", 0, match.start()) + 2
        found.append(Block(name, line, language, "no-test" in marks, match.group(2)))
    return found


def commands(block: Block) -> Iterator[list[str]]:
    """Words of every command of a ``shell`` block; comments and continued lines as a shell reads them."""
    for line in block.text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if words:
            yield words


def run_block(block: Block, names: dict[str, Any], folder: Path) -> None:
    """Run one block in ``folder``, which is the working directory; Python blocks of a page share ``names``.

    A block that names a file is written there. A command must be ``shapewright`` and succeed.
    """
    if block.file:
        target = folder / block.file
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(block.text, encoding="utf-8")
    if block.language == "python":
        code = compile("\n" * (block.line - 1) + block.text, block.page, "exec")
        exec(code, names)
    elif block.transcript:
        done = run(*shlex.split(block.first)[2:])
        assert (done.stdout + done.stderr).strip() == block.text.partition("\n")[2].strip(), block.where
    elif block.language == "shell":
        for words in commands(block):
            assert words[0] == "shapewright", (
                f"{block.where}: {words[0]} cannot be run by tests; mark the block no-test"
            )
            done = run(*words[1:])
            assert done.returncode == 0, f"{block.where}: {' '.join(words)}\n{done.stdout}{done.stderr}"
