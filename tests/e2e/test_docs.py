"""What the documentation shows works: every code block runs, or is listed here with the reason why it does not."""

from __future__ import annotations

import json
from pathlib import Path
from shutil import copy
from typing import Any

import pytest
import torch
from documents import COMMANDS, LANGUAGES, ROOT, Block, blocks, pages, run_block
from PIL import Image
from shapewright import Mesh, save_mesh

BLOCKS = [block for page in pages() for block in blocks(page)]

NOT_RUN = {
    "README.md: make bench": "minutes",
    "CONTRIBUTING.md: make test": "minutes",
    "docs/tutorial.md: pip install torch": "network",
    "docs/publish-a-plugin.md: shapewright new-plugin bumpy-field --kind representation":
        "pip; tests/e2e/test_new_plugin.py goes these steps",
    "docs/add-a-representation.md: shapewright bench --representation my-field,sdf --resolution 32":
        "the plugin is not installed; tests/e2e/test_new_plugin.py runs a bench of a new one",
    "docs/appearance.md: shapewright bench --data ../shared/data/meshes --representation o-voxel \\":
        "minutes, and shapes that are not in the repository",
    "docs/appearance.md: python benchmarks/round_trip.py ../shared/data/meshes --out round-trips --resolution 512,1024":
        "minutes, and shapes that are not in the repository",
    "docs/triposg.md: python benchmarks/triposg_memory.py --residency keep one-at-a-time": "minutes, gigabytes",
    "docs/performance.md: make bench-kernels [DATA=folder] [NOTE='...'] [ARGS=--quick]": "minutes, other packages",
}  # fmt: skip
"""First command or line of every block marked ``no-test``, with the reason."""

ELSEWHERE = {"docs/add-a-representation.md": "tests/e2e/test_docs_add_a_representation.py"}
"""Pages whose blocks need more than one process; the named test runs them."""


def tilted_cube() -> Mesh:
    corners = torch.tensor([[x, y, z] for x in (0.0, 1.0) for y in (0.0, 1.0) for z in (0.0, 1.0)], dtype=torch.float64)
    faces = torch.tensor(
        [[0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5], [0, 4, 5], [0, 5, 1], [2, 3, 7], [2, 7, 6], [0, 2, 6], [0, 6, 4],
         [1, 5, 7], [1, 7, 3]]
    )  # fmt: skip
    turn = torch.linalg.qr(torch.tensor([[3.0, 1, 0], [-1, 3, 1], [0, -1, 3]], dtype=torch.float64)).Q
    turn = turn * torch.linalg.det(turn).sign()
    return Mesh(corners @ turn.T, faces)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with the files that the pages speak of."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("NO_COLOR", "1")
    cube = tilted_cube()
    for name in ("in.glb", "in.stl", "chair.glb", "chair.stl", "meshes/chair.stl"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        save_mesh(cube, tmp_path / name)
    Image.linear_gradient("L").convert("RGB").save(tmp_path / "image.png")
    cases = tmp_path / "golden-cases"
    cases.mkdir()
    for name in ("fc_kaolin_unit_field_r4", "fc_random_eval_r6"):
        copy(ROOT / "tests" / "golden" / "triposf" / f"{name}.safetensors", cases)
    return tmp_path


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.where)
def test_blocks_say_what_they_are(block: Block) -> None:
    assert block.language in LANGUAGES, f"{block.where}: name the language, `text` for what is not code"
    if block.language not in ("python", "shell"):
        assert not block.marked, f"{block.where}: only code is marked no-test"
    if block.language == "text" and not block.transcript and "[--" not in block.text:  # a synopsis is no command
        assert not COMMANDS.search(block.text), f"{block.where}: commands belong into a `shell` block"


def test_blocks_that_are_not_run_are_listed() -> None:
    assert {f"{block.page}: {block.first.partition('  #')[0].strip()}" for block in BLOCKS if block.marked} == set(
        NOT_RUN
    )


@pytest.mark.parametrize("page", [p for p in dict.fromkeys(b.page for b in BLOCKS if b.runs) if p not in ELSEWHERE])
def test_blocks_of_a_page_run_in_order(page: str, folder: Path) -> None:
    names: dict[str, Any] = {"__name__": "page"}
    for block in BLOCKS:
        if block.page == page and (block.runs or block.file):
            run_block(block, names, folder)


@pytest.mark.parametrize("page", ELSEWHERE)
def test_pages_with_a_test_of_their_own_have_it(page: str) -> None:
    assert Path(page).name in (ROOT / ELSEWHERE[page]).read_text(encoding="utf-8")


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.language == "json"], ids=lambda block: block.where)
def test_json_blocks_are_json(block: Block) -> None:
    json.loads(block.text)
