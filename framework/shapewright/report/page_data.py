"""What the page's script needs, as one JSON value: rows of the table, cells by number, and where the meshes are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from ..bench.summary import Column, Table, shown, summarise
from .display_mesh import DisplayMeshError, decode, encode
from .run_folder import RunFolder
from .simplification import simplified
from .textures import smaller

FEWEST_FACES = 1_500
"""However many results there are, a mesh is not made coarser than this."""
_MARGIN = 0.97
_ROUNDS = 3


@dataclass(frozen=True)
class Mesh:
    """A display mesh as it goes into the page: its bytes, and how many faces of how many it has."""

    blob: bytes
    faces: int
    full_faces: int
    radius: float
    """Of the smallest ball around the origin that holds it: what the camera has to see."""
    pictures: bool = False
    """Whether it carries textures."""
    painted: bool = False


def meshes_within(run: RunFolder, most_bytes: int) -> tuple[dict[str, Mesh], list[str]]:
    """Display meshes of all cells by path, the largest made coarser until all fit ``most_bytes``; and what could not be
    read, one line each."""
    places = dict.fromkeys(
        place for cell in run.cells for place in (cell["reference_view"], cell["view"]) if place is not None
    )
    meshes: dict[str, Mesh] = {}
    problems: list[str] = []
    for place in places:
        blob = run.view(place)
        if blob is None:
            problems.append(f"{place} is missing")
            continue
        try:
            found = decode(blob)
        except DisplayMeshError as error:
            problems.append(f"{place} {error}")
            continue
        radius = float(np.linalg.norm(found.vertices, axis=1).max(initial=0.0))
        meshes[place] = Mesh(
            blob,
            len(found.faces),
            found.full_faces,
            radius,
            bool(found.paint and found.paint.images),
            bool(found.paint),
        )
    share = 1.0
    with ThreadPoolExecutor() as pool:
        for _ in range(_ROUNDS):
            sizes = [len(mesh.blob) for mesh in meshes.values()]
            if sum(sizes) <= most_bytes:
                break
            cap = _water_level(sizes, int(most_bytes * _MARGIN * share))
            coarser = pool.map(partial(_coarser, run, cap), meshes, meshes.values())
            meshes = dict(zip(meshes, coarser, strict=True))
            share *= _MARGIN
    return meshes, problems


def _coarser(run: RunFolder, most_bytes: float, place: str, mesh: Mesh) -> Mesh:
    """One mesh in about ``most_bytes``, always made from the stored one."""
    share = most_bytes / len(mesh.blob)
    faces = max(FEWEST_FACES, int(mesh.faces * share))
    if share >= 1 or (faces >= mesh.faces and not mesh.pictures):
        return mesh
    stored = run.view(place)
    assert stored is not None  # it was read before
    small = simplified(decode(stored), faces)
    if small.paint is not None:
        images = tuple(smaller(image, share) for image in small.paint.images)
        small = replace(small, paint=replace(small.paint, images=images))
    return replace(mesh, blob=encode(small), faces=len(small.faces))


def _water_level(sizes: Sequence[int], total: int) -> float:
    """The size at which the larger ones must be cut so that all together make ``total``."""
    left = float(total)
    for index, size in enumerate(ascending := sorted(sizes)):
        level = left / (len(ascending) - index)
        if size > level:
            return level
        left -= size
    return float("inf")


def page_data(run: RunFolder, meshes: Mapping[str, Mesh]) -> dict[str, Any]:
    """Everything of the page that is not a mesh or plain text."""
    columns = [Column(**column) for column in run.columns]
    table = summarise(run.cells, run.columns)
    used = [column for column in columns if column in table.columns]
    tried = [cell for cell in run.cells if cell["status"] != "skipped"]
    pipelines = sorted({cell["pipeline"] for cell in tried})
    order = {place: index for index, place in enumerate(meshes)}
    radius = {place: _rounded(mesh.radius) for place, mesh in meshes.items()}
    numbers: dict[tuple[str, str], int] = {}
    samples: dict[int, dict[str, Any]] = {}
    cells = []
    for cell in tried:
        key = (cell["dataset"], cell["sample"])
        number = numbers.setdefault(key, len(numbers))
        sample = samples.setdefault(
            number, {"dataset": key[0], "id": key[1], "tags": cell["tags"], "view": -1, "radius": 0.87}
        )
        if cell["tags"]:
            sample["tags"] = cell["tags"]
        if sample["view"] < 0 and cell["reference_view"] in order:
            sample["view"], sample["radius"] = order[cell["reference_view"]], radius[cell["reference_view"]]
        values = [_rounded(_value(column, cell)) for column in used]
        cells.append(
            {
                "pipeline": pipelines.index(cell["pipeline"]),
                "sample": number,
                "resolution": cell["resolution"],
                "status": cell["status"],
                "reason": cell["reason"],
                "warnings": cell["warnings"],
                "values": values,
                "faces": cell["faces"],
                "view": order.get(cell["view"], -1),
            }
        )
    shown = list(meshes.values())
    painted = sum(shown[sample["view"]].painted for sample in samples.values() if sample["view"] >= 0)
    return {
        "columns": [_column(column, run.definitions) for column in used],
        "rows": rows(table),
        "pipelines": pipelines,
        "samples": list(samples.values()),
        "cells": cells,
        "materials": any(mesh.painted for mesh in shown),
        "edges": 2 * painted <= len(samples),  # at first; they would cover the colours of shapes that have some
        "views": [[mesh.faces, mesh.full_faces] for mesh in shown],
    }


def rows(table: Table) -> list[dict[str, Any]]:
    """Rows of the summary with means, intervals, and which is the best of its dataset and resolution."""
    best = [table.best(index) for index in range(len(table.columns))]
    return [
        {
            "dataset": row.dataset,
            "resolution": row.resolution,
            "pipeline": row.pipeline,
            "ok": row.ok,
            "total": row.total,
            "entries": [
                None if entry is None else [_rounded(v) for v in (entry.mean, entry.low, entry.high)]
                for entry in row.entries
            ],
            "texts": [shown(entry) for entry in row.entries],
            "best": [index in group for group in best],
        }
        for index, row in enumerate(table.rows)
    ]


def _column(column: Column, definitions: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    definition = definitions.get(column.figure, {})
    return {
        "title": column.title,
        "figure": column.figure,
        "better": column.better,
        "detail": column.detail,
        "text": definition.get("definition", ""),
    }


def _value(column: Column, cell: Mapping[str, Any]) -> float | None:
    """A failed cell has no figure of its own; what it counts as in means is no measurement."""
    if cell["status"] != "ok":
        return None
    value = column.value(cell)
    return None if value is None else value * column.scale


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.6g}")
