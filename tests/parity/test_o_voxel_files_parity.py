"""Sampled attributes and voxel files equal those of the published converter."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from shapewright.parity import load_case, run_case
from shapewright_plugins import o_voxel
from shapewright_plugins.o_voxel.vxz import read_vxz, read_vxz_header, vxz_bytes

GOLDEN = Path(__file__).parents[1] / "golden" / "trellis2"
CASES = sorted(p for p in GOLDEN.glob("*.safetensors") if p.name.startswith(("attr_", "vxz_", "ply_", "octree_")))
HANDLERS = {(h.system, h.component): h for h in o_voxel.register_parity_handlers()}


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_golden_copy_is_reproduced(path: Path) -> None:
    result = run_case(path, HANDLERS)
    assert result.status == "pass", result.reason


def test_golden_copies_are_here() -> None:
    assert len(CASES) == 8


@pytest.mark.parametrize("path", [p for p in CASES if p.name.startswith("vxz_")], ids=lambda path: path.stem)
def test_a_vxz_file_is_written_byte_for_byte(path: Path) -> None:
    pytest.importorskip("zstandard")
    data = load_case(path).inputs["file"].numpy().tobytes()
    header, table = read_vxz_header(io.BytesIO(data)), read_vxz(io.BytesIO(data))
    shuffled = table.select(np.random.default_rng(0).permutation(len(table.coords)))
    again = vxz_bytes(
        shuffled,
        chunk_size=header.chunk_size,
        filter=header.filter,
        compression=header.compression,
        compression_level=header.level,
        attr_interleave=header.interleave,
    )
    assert again == data
