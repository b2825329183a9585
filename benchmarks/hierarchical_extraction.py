"""Extractors that refine a function near its surface, against dense marching cubes on the same field.

    python benchmarks/hierarchical_extraction.py                   # 256 and 512 cells, a minute or two
    python benchmarks/hierarchical_extraction.py --cells 256 --json out.json

Fields are analytic: distances, and the same as steep logits, as TripoSG's decoder answers. Evaluations are counted by
the field itself. Chamfer distances (mean of both directions, in edges of the box) go from random points of a mesh to
the other mesh. The floor is the distance of dense marching cubes to the exact surface: smaller ones mean nothing.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from shapewright.geometry import sample_surface
from shapewright.states import Frame, FunctionField, Mesh
from shapewright_kernels.closest_point import ClosestPointIndex
from shapewright_kernels.marching_cubes import marching_cubes
from shapewright_plugins.triposg.field import SATURATION, LatentField
from shapewright_plugins.triposg.flash import Config as FlashConfig
from shapewright_plugins.triposg.flash import FlashDual
from shapewright_plugins.triposg.hierarchical import Config as NestedConfig
from shapewright_plugins.triposg.hierarchical import HierarchicalMarchingCubes
from torch import Tensor

HALF = 1.005
FRAME = Frame((-HALF,) * 3, (HALF,) * 3)
SLOPE = 200.0
"""Logits a unit of distance: the truncation of 0.01 that was measured on the published decoder."""
SAMPLES = 100_000


def torus(points: Tensor) -> Tensor:
    """Distance to a torus."""
    around = torch.linalg.vector_norm(points[..., :2], dim=-1) - 0.55
    return torch.sqrt(around**2 + points[..., 2] ** 2) - 0.24


def rounded_box(points: Tensor) -> Tensor:
    """Distance to a box with rounded edges."""
    outer = points.abs() - points.new_tensor([0.55, 0.4, 0.3])
    return torch.linalg.vector_norm(outer.clamp(min=0), dim=-1) + outer.amax(dim=-1).clamp(max=0) - 0.08


FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {"torus": torus, "rounded box": rounded_box}


@dataclass
class Counted:
    """A function that counts the points it is asked at."""

    function: Callable[[Tensor], Tensor]
    scale: float
    count: int = field(default=0)

    def __call__(self, points: Tensor) -> Tensor:
        self.count += points[..., 0].numel()
        return self.scale * self.function(points)


@dataclass(frozen=True)
class Row:
    """One measurement."""

    shape: str
    values: str
    cells: int
    extractor: str
    evaluations: int
    fewer: float
    seconds: float
    chamfer: float
    floor: float


def dense_mesh(function: Callable[[Tensor], Tensor], cells: int) -> Mesh:
    """Marching cubes of all points of the lattice, evaluated slab by slab."""
    ticks = torch.linspace(-HALF, HALF, cells + 1)
    grid = np.empty((cells + 1,) * 3, np.float32)
    plane = torch.stack(torch.meshgrid(ticks, ticks, indexing="ij"), dim=-1)
    for index, x in enumerate(ticks):
        points = torch.cat([x.expand(*plane.shape[:2], 1), plane], dim=-1)
        grid[index] = function(points).numpy()
    vertices, faces = marching_cubes(grid)
    return Mesh(torch.from_numpy(vertices) / cells * 2 * HALF - HALF, torch.from_numpy(faces), FRAME)


def extractors(cells: int) -> dict[str, HierarchicalMarchingCubes | FlashDual]:
    """Both, at the depth that has ``cells``; the flash one has 63/64 of them."""
    depth = cells.bit_length() - 1
    nested = NestedConfig(coarse_depth=depth - 2 if depth < 9 else 7, fine_depth=depth)
    return {
        "hierarchical-marching-cubes": HierarchicalMarchingCubes(nested),
        "flash-dual": FlashDual(FlashConfig(depth)),
    }


def distances(mesh: Mesh, other: Mesh, seed: int) -> float:
    """Mean distance of points on ``mesh`` to ``other``."""
    points, _ = sample_surface(mesh, SAMPLES, rng=torch.Generator().manual_seed(seed))
    index = ClosestPointIndex(other.vertices.double().numpy(), other.faces.numpy())
    return float(index.query(points.double().numpy())[0].mean())


def chamfer(mesh: Mesh, other: Mesh) -> float:
    """Mean of both directions, in edges of the box."""
    return (distances(mesh, other, 0) + distances(other, mesh, 1)) / 2 / (2 * HALF)


def to_exact(mesh: Mesh, function: Callable[[Tensor], Tensor]) -> float:
    """Mean distance of points on ``mesh`` to the surface that ``function`` is the distance to, in edges of the box."""
    points, _ = sample_surface(mesh, SAMPLES, rng=torch.Generator().manual_seed(2))
    return float(function(points.double()).abs().mean()) / (2 * HALF)


def measured(cells: int, name: str) -> list[Row]:
    """All extractors and both kinds of values for one shape."""
    function, rows = FUNCTIONS[name], []
    start = time.perf_counter()
    dense = dense_mesh(function, cells)
    seconds = time.perf_counter() - start
    points, floor = (cells + 1) ** 3, to_exact(dense, function)
    rows.append(Row(name, "distance", cells, "dense marching cubes", points, 1.0, seconds, 0.0, floor))
    for values in ("distance", "logits"):
        for extractor, component in extractors(cells).items():
            counted = Counted(function, 1.0 if values == "distance" else SLOPE)
            state: FunctionField = (
                FunctionField(counted, FRAME) if values == "distance" else LatentField(counted, FRAME, SATURATION)
            )
            start = time.perf_counter()
            mesh = component.extract(state)
            seconds = time.perf_counter() - start
            rows.append(
                Row(
                    name, values, cells, extractor, counted.count, points / counted.count, seconds,
                    chamfer(mesh, dense), floor,
                )
            )  # fmt: skip
    return rows


def table(rows: list[Row]) -> str:
    """As Markdown."""
    lines = [
        "| shape | values | cells | extractor | evaluations | fewer | seconds | Chamfer ×10⁶ | floor ×10⁶ |",
        "|---|---|--:|---|--:|--:|--:|--:|--:|",
    ]
    lines += [
        f"| {r.shape} | {r.values} | {r.cells} | {r.extractor} | {r.evaluations:,} | {r.fewer:.1f}× | {r.seconds:.2f} "
        f"| {r.chamfer * 1e6:.2f} | {r.floor * 1e6:.2f} |"
        for r in rows
    ]
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", type=int, nargs="+", default=[256, 512], choices=[64, 128, 256, 512])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    for component in extractors(64).values():  # compile
        component.extract(FunctionField(torus, FRAME))
    dense_mesh(torus, 64)
    rows = []
    for cells in options.cells:
        for name in FUNCTIONS:
            print(f"{name} at {cells}", file=sys.stderr, flush=True)
            rows += measured(cells, name)
    print(table(rows))
    if options.json is not None:
        options.json.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")


if __name__ == "__main__":
    main()
