"""Values between stages go to files and come back with every bit; files decide nothing but data."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from shapewright.errors import OutputExistsError, StateError
from shapewright.state_files import NotStorableError, load_state, save_state
from shapewright.states import (
    Condition,
    Frame,
    FunctionField,
    GridField,
    Mesh,
    OccupancyVoxels,
    SparseField,
    SparseLatent,
    SparseTensor,
    TokenLatent,
    VoxelAttributes,
    Voxels,
)
from torch import Tensor

FRAME = Frame((-1.0, -1.0, -1.0), (1.0, 2.0, 1.0), "z")
SPARSE = SparseTensor(torch.tensor([[0, 1, 2, 3], [0, 3, 2, 1]], dtype=torch.int32), torch.randn(2, 1), 8)
VALUES = [
    torch.arange(6, dtype=torch.uint8).reshape(2, 3),
    TokenLatent(torch.randn(1, 4, 3).to(torch.bfloat16), FRAME),
    SparseLatent(SPARSE, FRAME),
    Condition(torch.randn(1, 2, 3), torch.zeros(1, 2, 3), torch.ones(1, 2, dtype=torch.bool)),
    Condition(torch.randn(1, 2, 3), torch.zeros(1, 2, 3)),
    GridField(torch.randn(3, 3, 3), FRAME, 0.5, torch.randn(3, 3, 3, 3)),
    SparseField(SPARSE, 2.0, FRAME),
    OccupancyVoxels(Voxels(SPARSE.coords, 8)),
    VoxelAttributes(SPARSE, {"metallic": slice(0, 1)}),
    Mesh(torch.eye(3, dtype=torch.float64), torch.tensor([[0, 1, 2]]), FRAME, False, {"color": torch.rand(3, 3)}),
    (SPARSE, SPARSE),
]


def same(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, tuple | list):
        return type(a) is type(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if hasattr(a, "__dataclass_fields__"):
        return type(a) is type(b) and all(same(getattr(a, name), getattr(b, name)) for name in a.__dataclass_fields__)
    return bool(a == b)


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_values_come_back_as_they_were(tmp_path: Path, value: Any) -> None:
    save_state(value, tmp_path / "value.safetensors")
    assert same(value, load_state(tmp_path / "value.safetensors"))


def test_the_comparison_of_these_tests_sees_differences() -> None:
    assert not same(TokenLatent(torch.zeros(1, 2, 3)), TokenLatent(torch.ones(1, 2, 3)))
    assert not same(TokenLatent(torch.zeros(1, 2, 3)), TokenLatent(torch.zeros(1, 2, 3), FRAME))


def test_functions_are_refused(tmp_path: Path) -> None:
    with pytest.raises(NotStorableError, match="which no file holds"):
        save_state(FunctionField(lambda points: points[..., 0]), tmp_path / "f.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_files_in_the_way_stay(tmp_path: Path) -> None:
    path = tmp_path / "value.safetensors"
    save_state(VALUES[1], path)
    with pytest.raises(OutputExistsError):
        save_state(VALUES[2], path)
    save_state(VALUES[2], path, overwrite=True)
    assert same(load_state(path), VALUES[2])


@dataclass(frozen=True)
class Foreign:
    values: Tensor


def test_a_file_never_chooses_a_class_outside_the_framework(tmp_path: Path) -> None:
    save_state(Foreign(torch.ones(2)), tmp_path / "value.safetensors")
    with pytest.raises(StateError, match=r"holds a .*:Foreign, which is not one of the framework's states"):
        load_state(tmp_path / "value.safetensors")


def test_damaged_and_foreign_files_are_one_line(tmp_path: Path) -> None:
    path = tmp_path / "value.safetensors"
    with pytest.raises(StateError, match="no such file"):
        load_state(path)
    path.write_bytes(b"nothing")
    with pytest.raises(StateError, match="damaged"):
        load_state(path)
    save_file({"a": torch.ones(1)}, path)
    with pytest.raises(StateError, match="not a value of Shapewright"):
        load_state(path)
    bad = {"schema": 1, "value": {"type": "TokenLatent", "fields": {"values": {"tensor": "elsewhere"}}}}
    save_file({"a": torch.ones(1)}, path, metadata={"shapewright": json.dumps(bad)})
    with pytest.raises(StateError, match="elsewhere"):
        load_state(path)
