"""A safetensors file begins with the length of its header, whose bytes may be those that pickles begin with."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
from shapewright.errors import WeightsError
from shapewright.weights.checkpoint import open_checkpoint


@pytest.mark.parametrize("length", [0x280, 0x480, 0x10280, 0x4B50], ids=hex)
def test_a_header_of_any_length_is_no_pickle(length: int, tmp_path: Path) -> None:
    entry = {"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}
    header = json.dumps(entry).encode().ljust(length)
    path = tmp_path / "model.safetensors"
    path.write_bytes(length.to_bytes(8, "little") + header + bytes(4))
    assert open_checkpoint([path]).tensors["a"].shape == (1,)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_pickle_is_told_apart(protocol: int, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(pickle.dumps({"a": list(range(100))}, protocol))
    with pytest.raises(WeightsError, match="is a pickle"):
        open_checkpoint([path])
