"""Folders as a bench leaves them, made in a moment: for tests of the report."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from shapewright.report.display_mesh import DisplayMesh, encode
from shapewright.report.paint import Paint, PaintMaterial
from shapewright.report.run_folder import write_run_file
from shapewright.report.simplification import edges_by_use

COLUMNS = [
    {"title": "CD-L1 ×10³", "figure": "chamfer-l1/v1", "scale": 1000, "better": "low", "failure": 0.5},
    {"title": "F@0.001", "figure": "f-score@0.001/v1", "better": "high", "failure": 0},
    {"title": "s", "figure": "seconds.total", "better": "low"},
    {"title": "MB", "figure": "peak_memory_bytes", "scale": 1.0e-6, "better": "low"},
    {"title": "faces", "figure": "faces"},
]
DEFINITIONS = {
    "chamfer-l1/v1": ["(mean comp + mean acc) / 2", "box1", False],
    "f-score@0.001/v1": ["2 P R / (P + R) at distance 0.001", "", True],
}


def bumpy_sphere(steps: int, bumps: float = 0.0, *, hole: bool = False) -> DisplayMesh:
    """A closed sphere of radius 0.5 of ``2 * steps * (steps - 1)`` faces or so, outward; errors are the bumps."""
    theta = np.linspace(0, np.pi, steps + 1)[1:-1]
    phi = np.linspace(0, 2 * np.pi, steps, endpoint=False)
    t, p = np.meshgrid(theta, phi, indexing="ij")
    unit = np.stack([np.sin(t) * np.cos(p), np.cos(t), -np.sin(t) * np.sin(p)], axis=-1).reshape(-1, 3)
    height = bumps * np.abs(np.sin(7 * t) * np.sin(5 * p)).reshape(-1)
    vertices = np.concatenate([unit * (0.5 + height[:, None]), [[0, 0.5, 0], [0, -0.5, 0]]])
    rows, columns = np.meshgrid(np.arange(len(theta) - 1), np.arange(steps), indexing="ij")
    a, b = rows * steps + columns, rows * steps + (columns + 1) % steps
    c, d = a + steps, b + steps
    body = np.stack([np.stack([a, c, b], -1), np.stack([b, c, d], -1)], axis=2).reshape(-1, 3)
    ring, after = np.arange(steps), (np.arange(steps) + 1) % steps
    last = (len(theta) - 1) * steps
    top = np.stack([np.full(steps, len(unit)), ring, after], axis=1)
    bottom = np.stack([np.full(steps, len(unit) + 1), last + after, last + ring], axis=1)
    faces = np.concatenate([top, body, bottom] if not hole else [body, bottom]).astype(np.int64)
    boundary, junctions = edges_by_use(faces)
    errors = np.concatenate([height, [0, 0]]) + 1e-5
    return DisplayMesh(vertices, faces, boundary, junctions, errors, True, len(faces))


def painted(mesh: DisplayMesh, picture: NDArray[np.uint8] | None = None) -> DisplayMesh:
    """The mesh with a picture around its y axis, seen from outside; the lower half red and the upper half green where
    none is given."""
    from shapewright.report.textures import packed

    if picture is None:
        picture = np.zeros((2, 2, 3), np.uint8)
        picture[0], picture[1] = (0, 255, 0), (255, 0, 0)
    corners = mesh.vertices[mesh.faces]
    around = np.arctan2(corners[:, :, 0], corners[:, :, 2]) / (2 * np.pi) + 0.5
    uvs = np.stack([around, corners[:, :, 1] + 0.5], axis=2).astype(np.float32)
    paint = Paint((PaintMaterial(image=0),), np.zeros(len(corners), np.int64), (packed(picture),), uvs)
    return replace(mesh, paint=paint)


def cell(pipeline: str, sample: str, resolution: int, value: float, **changes: Any) -> dict[str, Any]:
    """One cell that is ok, unless ``changes`` say otherwise."""
    representation, _, extractor = pipeline.partition("+")
    provenance = {
        "config": {"rep": {"use": f"representation/{representation}", "with": {"resolution": resolution}}},
        "content": "c0ffee" * 8,
        "license": "CC0-1.0",
        "machine": {"processor": "toy processor", "cores": 2},
        "identity": {"api": "1.0", "code": {"shapewright": "abc"}, "plugins": {}, "libraries": {"numpy": "2"}},
        "date": "2026-01-02T03:04:05+00:00",
    }
    made = {
        "schema": 1,
        "key": "0" * 32,
        "pipeline": pipeline,
        "representation": representation,
        "extractor": extractor,
        "dataset": "toys",
        "sample": sample,
        "tags": ["closed"],
        "resolution": resolution,
        "seed": 0,
        "status": "ok",
        "reason": "",
        "warnings": [],
        "metrics": {"chamfer-l1/v1": value, "f-score@0.001/v1": 1 - value},
        "noise_floor": {},
        "health": {},
        "seconds": {"total": resolution / 500 + value},
        "peak_memory_bytes": resolution * 100_000,
        "faces": 100,
        "vertices": 52,
        "mesh": None,
        "view": None,
        "reference_view": None,
        "provenance": provenance,
    }
    return made | changes


def write_run(out: Path, cells: list[dict[str, Any]], meshes: Mapping[str, DisplayMesh | bytes] | None = None) -> Path:
    """``out`` as a finished bench leaves it, as far as the report reads it."""
    (out / "views").mkdir(parents=True)
    for place, mesh in (meshes or {}).items():
        (out / place).write_bytes(mesh if isinstance(mesh, bytes) else encode(mesh))
    (out / "cells.json").write_text(json.dumps(cells))
    definitions = {
        name: {"metric": "metric/toy", "definition": text, "unit": unit, "group": "metrics", "higher_is_better": high}
        for name, (text, unit, high) in DEFINITIONS.items()
    }
    (out / "metrics.json").write_text(json.dumps(definitions))
    write_run_file(out, {"columns": COLUMNS, "caption": "A toy run."}, {"resolutions": [16, 32]}, "0.0")
    return out


def small_run(out: Path) -> Path:
    """Two shapes, two pipelines, two resolutions: eight cells, one of them failed, and a pair that does not fit."""
    meshes: dict[str, DisplayMesh | bytes] = {"views/reference.swdm": bumpy_sphere(24)}
    cells = []
    for sample in ("ball", "egg"):
        for resolution in (16, 32):
            for index, pipeline in enumerate(("alpha+cubes", "beta+cubes")):
                place = f"views/{sample}-{resolution}-{index}.swdm"
                meshes[place] = bumpy_sphere(resolution, 0.4 * (index + 1) / resolution, hole=index == 1)
                value = (index + 1) / resolution / 10 * (1.5 if sample == "egg" else 1)
                views = {"view": place, "reference_view": "views/reference.swdm"}
                cells.append(cell(pipeline, sample, resolution, value, **views))
    cells[-1] |= {"status": "failed", "reason": "RuntimeError: out of <wool> & yarn", "metrics": {}, "view": None}
    cells.append(cell("alpha+nothing", "", 0, 0) | {"status": "skipped", "reason": "they do not fit", "dataset": None})
    return write_run(out, cells, meshes)
