"""Every kernel beside the fastest libraries that pip installs, in turns, in one process.

    python benchmarks/kernels.py [--quick] [--json FILE] [--operation A,B] [--mesh A,B] [--resolution 128,256]
                                 [--data DIR] [--note TEXT]

Rows are printed as they come and written to ``--json`` after each, so an interrupted run keeps what it has. What the
columns mean, the tolerances and the rules: docs/performance.md.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import operations_distances as distances
import operations_images as images
import operations_networks as networks
import operations_surfaces as surfaces
import operations_voxels as voxels
import psutil
from harness import FULL, QUICK, Case, measure, note
from peers import PACKAGES
from shapes import load_shapes
from shapewright_kernels.threads import thread_count

OPERATIONS: Mapping[str, Callable[[distances.Request], Iterator[Case]]] = {
    "mesh-to-flexible-dual-grid": surfaces.grid_cases,
    "textured-o-voxel": surfaces.textured_cases,
    "flexible-dual-grid-to-mesh": surfaces.mesh_cases,
    "narrow-band-signed-distance": distances.narrow_band_cases,
    "marching-cubes": surfaces.marching_cubes_cases,
    "marching-cubes-dense": surfaces.dense_cases,
    "dual-contouring": surfaces.contouring_cases,
    "flexicubes-forward": partial(surfaces.flexicubes_cases, backward=False),
    "flexicubes-forward-backward": partial(surfaces.flexicubes_cases, backward=True),
    "metrics": distances.metric_cases,
    "nearest-points": distances.nearest_cases,
    "area-sampling": distances.sampling_cases,
    "winding-numbers": distances.winding_cases,
    "surface-voxelisation": voxels.voxelisation_cases,
    "neighbour-map-27": voxels.neighbour_cases,
    "sparse-convolution": networks.convolution_cases,
    "depth-normal-image": images.image_cases,
}
RESOLUTIONS = (128, 256, 512, 1024)
RESOLUTIONS_QUICK = (64, 128)


def processor() -> str:
    """Name of the processor, as far as the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def provenance(arguments: argparse.Namespace) -> dict[str, Any]:
    """When, on what and how a run was made; paths of the machine are not part of it."""
    versions = {"python": platform.python_version()}
    for package in ("shapewright", "numba", "numpy", *PACKAGES.values()):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    words = ["python benchmarks/kernels.py"]
    words += ["--quick"] if arguments.quick else []
    for name in ("operation", "mesh", "resolution"):
        values = getattr(arguments, name)
        words += [f"--{name} {','.join(map(str, values))}"] if values else []
    words += ["--data DATA"] if arguments.data else []
    return {
        "date": datetime.now(UTC).isoformat(timespec="minutes"),
        "machine": f"{processor()}, {thread_count()} threads, {psutil.virtual_memory().total / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.machine()}",
        "command": " ".join(words),
        "note": arguments.note,
        "versions": versions,
    }


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _numbers(text: str) -> list[int]:
    numbers = [int(name) for name in _names(text)]
    if not numbers or not all(8 <= number <= 4096 for number in numbers):
        raise argparse.ArgumentTypeError("resolutions lie between 8 and 4096")
    return numbers


def parser() -> argparse.ArgumentParser:
    """The command line."""
    found = argparse.ArgumentParser(description="Kernels beside the fastest libraries that pip installs.")
    found.add_argument("--quick", action="store_true", help="small sizes and few rounds, under a minute")
    found.add_argument("--json", type=Path, metavar="FILE", help="write rows here, after each")
    found.add_argument("--operation", type=_names, default=[], metavar="A,B", help=", ".join(OPERATIONS))
    found.add_argument("--mesh", type=_names, default=[], metavar="A,B", help="ids of the stress suite or of --data")
    found.add_argument("--resolution", type=_numbers, default=[], metavar="128,256")
    found.add_argument("--data", type=Path, metavar="DIR", help="a folder of meshes to measure on as well")
    found.add_argument("--note", default="", help="goes into every row, e.g. that the machine was shared")
    return found


def line(row: Mapping[str, Any]) -> str:
    """One row for the terminal."""
    where = f"{row['operation']:<28} {row['mesh']:<18} {row['resolution'] or '-':>5}"
    ours = f"{row['ours_s'] * 1e3:10.1f} ms {row['ours_peak_bytes'] / 2**20:7.0f} MiB"
    if row["peer"] is None:
        per = row.get("seconds_per_million")
        return f"{where} {ours}" + (f"   {per:.3f} s per million {row['unit']}" if per is not None else "")
    wanted = f" (goal {row['goal']:g})" if row["goal"] else ""
    differs = "" if row["equal"] else "  OUTPUTS DIFFER"
    return f"{where} {ours}   {row['ratio']:6.2f}x {row['peer']}{wanted}{differs}"


def run(arguments: argparse.Namespace, report: Callable[[dict[str, Any]], None]) -> None:
    """Measure what was asked for; every row is given to ``report``."""
    shapes = load_shapes(arguments.data, arguments.quick, arguments.mesh)
    resolutions: Sequence[int] = arguments.resolution or (RESOLUTIONS_QUICK if arguments.quick else RESOLUTIONS)
    request = distances.Request(shapes, resolutions, arguments.quick)
    made = provenance(arguments)
    effort = QUICK if arguments.quick else FULL
    for operation in arguments.operation or OPERATIONS:
        for case in OPERATIONS[operation](request):
            load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
            report({**measure(case, effort), "load_average": load, "quick": arguments.quick, "run": made})
            del case
            gc.collect()


def main(words: Sequence[str] | None = None) -> int:
    """Parse, measure, print, write."""
    found = parser()
    arguments = found.parse_args(words)
    for name in arguments.operation:
        if name not in OPERATIONS:
            found.error(f"no operation is named {name!r}; there are {', '.join(OPERATIONS)}")
    if arguments.data is not None and not arguments.data.is_dir():
        found.error(f"--data {arguments.data} is not a folder")
    rows: list[dict[str, Any]] = []

    def report(row: dict[str, Any]) -> None:
        rows.append(row)
        print(line(row), flush=True)
        if arguments.json is not None:
            text = "[\n" + ",\n".join(json.dumps(each) for each in rows) + "\n]\n"
            arguments.json.write_text(text)

    run(arguments, report)
    if not rows:
        note("nothing was measured: no operation fits the meshes")
    return 0 if rows else 1


if __name__ == "__main__":
    sys.exit(main())
