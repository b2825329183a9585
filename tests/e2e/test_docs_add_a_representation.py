"""docs/add-a-representation.md is true: its files make a plugin that is found, fits, passes the kit and runs."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

from distributions import environment, install

PAGE = Path(__file__).resolve().parents[2] / "docs" / "add-a-representation.md"


def test_the_page_can_be_followed_block_by_block(tmp_path: Path) -> None:
    blocks = re.findall(r"```(python|toml)\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    files = {block.splitlines()[0][2:]: block for _, block in blocks if block.startswith("# ")}
    scripts = [block for language, block in blocks if language == "python" and not block.startswith("# ")]
    assert set(files) == {"my_field/__init__.py", "my_field/core.py", "pyproject.toml", "tests/test_conformance.py"}
    assert len(scripts) == 1
    assert len(blocks) == 5
    project = tomllib.loads(files["pyproject.toml"])["project"]
    modules = {name: text for name, text in files.items() if name.startswith("my_field/")}
    install(tmp_path / "site", project["name"], modules, project["entry-points"]["shapewright.plugins"])
    test = tmp_path / "test_conformance.py"
    test.write_text(files["tests/test_conformance.py"])
    options = ["-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path)]
    for arguments in (["-c", scripts[0]], ["-m", "pytest", *options, str(test)]):
        done = subprocess.run(
            [sys.executable, *arguments],
            env=environment(tmp_path / "site"),
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"\d+ passed", done.stdout)
    assert "failed" not in done.stdout
