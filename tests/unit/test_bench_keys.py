"""What decides the numbers of a cell decides its key: otherwise a sweep that resumes would serve old numbers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from shapewright.bench.matrix import Cell, expand
from shapewright.bench.request import Request
from shapewright.bench.worker import Bench, Job
from shapewright.host import Catalog
from shapewright.mesh_io import save_mesh
from shapewright.registry import load_registry
from shapewright.testing.toys import tetrahedron


def keys_of(bench: Bench, cell: Cell) -> str:
    plan, options, _ = bench.prepare(cell)
    reference = bench.load(Job(cell.source, cell.sample, ((0, cell),)))
    return bench.key(cell, plan, options, reference)


def test_whatever_decides_the_numbers_decides_the_key(tmp_path: Path, catalog: Catalog) -> None:
    shapes = tmp_path / "shapes"
    mesh = tetrahedron()
    save_mesh(mesh, shapes / "one.obj")
    save_mesh(mesh, shapes / "two.obj")
    request = Request(
        folders=(str(shapes),), representations=("sdf",), extractors=("marching-cubes",), metrics=("chamfer",),
        resolutions=(8,),
    )  # fmt: skip
    one, two = expand(request, catalog, load_registry(catalog=catalog)).cells

    def bench(**metric_options: Any) -> Bench:
        return Bench(tmp_path / "out", {"metric/chamfer": metric_options}, False, False, False)

    usual = bench()
    first = keys_of(usual, one)
    assert keys_of(bench(), one) == first
    found = {
        "sample": keys_of(usual, two),
        "seed": keys_of(usual, replace(one, seed=1)),
        "resolution": keys_of(usual, replace(one, resolution=9)),
        "options of a metric": keys_of(bench(samples=123), one),
        "kept meshes": keys_of(Bench(tmp_path / "out", {"metric/chamfer": {}}, True, False, False), one),
    }
    save_mesh(replace(mesh, vertices=mesh.vertices * mesh.vertices.new_tensor([1, 1, 2])), shapes / "one.obj",
              overwrite=True)  # fmt: skip
    found["data"] = keys_of(usual, one)
    assert len({first, *found.values()}) == 1 + len(found), found
