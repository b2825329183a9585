"""Every example in a docstring runs and says what it prints."""

from __future__ import annotations

import doctest
import pkgutil
from importlib import import_module

import pytest
import shapewright
import shapewright_kernels
import shapewright_plugins

MODULES = sorted(
    module.name
    for package in (shapewright, shapewright_kernels, shapewright_plugins)
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + ".")
    if not module.name.endswith("__main__")
)

NEED_TRITON = [f"shapewright_kernels.spatial_sparse_attention_{part}" for part in ("tiles", "top")]


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings_are_true(name: str) -> None:
    if name.endswith("_triton") or name in NEED_TRITON:
        pytest.importorskip("triton")
    module = import_module(name)
    finder = doctest.DocTestFinder(exclude_empty=True)
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    for example in finder.find(module, globs=vars(module) | {"torch": import_module("torch")}):
        runner.run(example)
    assert runner.failures == 0


def test_there_are_examples() -> None:
    assert len(MODULES) > 100
