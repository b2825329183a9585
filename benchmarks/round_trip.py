"""Textured meshes to O-Voxel files and back to textured GLB files: seconds, sizes, geometry, appearance, pictures.

    python benchmarks/round_trip.py FOLDER --out round-trips [--resolution 512,1024] [--faces 100000]
                                    [--texture-size 2048] [--pattern 'a*'] [--samples 20000] [--seconds-only]

Every mesh file below FOLDER that has materials or colours goes the way of these two commands:

    shapewright convert asset.glb asset.vxz --resolution 512
    shapewright convert asset.vxz back.glb --pipeline textured-from-o-voxel

OUT gets the files, ``table.md``, ``rows.json``, and ``index.html`` with pictures of each asset before and after. An
asset that cannot be used is one line of the table, and the rest goes on.
"""

from __future__ import annotations

import argparse
import html
import json
import resource
import sys
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from PIL import Image
from shapewright.errors import ShapewrightError
from shapewright.host import Catalog, discover
from shapewright.interfaces import MeshPair
from shapewright.materials import Appearance, Material, Texture
from shapewright.mesh_io import READABLE, save_mesh
from shapewright.normalise import Placement, normalise
from shapewright.plan import check
from shapewright.registry import load_registry
from shapewright.run import build_parts, execute
from shapewright.states import Mesh
from shapewright.textured_meshes import load_textured_mesh
from shapewright_plugins.o_voxel.appearance import has_appearance
from shapewright_plugins.o_voxel.representation import Config, OVoxel
from shapewright_plugins.o_voxel.state_files import read_state, write_state

PIPELINE = "textured-from-o-voxel"
METRICS = ("chamfer", "f-score", "pbr-attributes", "rendered-materials", "rendered-normals")
COLUMNS = {
    "chamfer-l1/v1": "Chamfer L1",
    "f-score@0.001/v1": "F-score 0.001",
    "base-color-psnr/v1": "colour",
    "metallic-psnr/v1": "metallic",
    "roughness-psnr/v1": "roughness",
    "alpha-psnr/v1": "alpha",
    "rendered-shaded-psnr/v1": "shaded",
    "rendered-shaded-ssim/v1": "SSIM",
    "rendered-normal-psnr/v1": "normals",
}
"""Figures of the table by protocol id; PSNR in dB. ``rows.json`` has all of them."""
PICTURE, VIEWS = 320, 4


@dataclass
class Row:
    """One asset at one resolution; ``problem`` says why there is nothing else."""

    asset: str
    resolution: int
    faces: int = 0
    voxels: int = 0
    back_faces: int = 0
    bytes: dict[str, int] = field(default_factory=dict)
    """``asset``, ``vxz`` and ``glb``."""
    seconds: dict[str, float] = field(default_factory=dict)
    """By step: read, to-voxels, write-voxels; read-voxels, the stages of the pipeline, write-glb."""
    figures: dict[str, float] = field(default_factory=dict)
    notes: str = ""
    picture: str = ""
    problem: str = ""

    def both_ways(self) -> tuple[float, float]:
        """Seconds from the asset to the voxel file, and from there to the GLB."""
        there = sum(self.seconds.get(step, 0.0) for step in ("read", "to-voxels", "write-voxels"))
        return there, sum(self.seconds.values()) - there


class Clock:
    """Seconds of named steps."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._since = perf_counter()

    def step(self, name: str) -> None:
        """Give the time since the last step to ``name``."""
        now = perf_counter()
        self.seconds[name] = now - self._since
        self._since = now


def assets(folder: Path, pattern: str) -> list[Path]:
    """Mesh files below ``folder`` whose name or path fits ``pattern``."""
    found = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.suffix.lower() in READABLE]
    return [path for path in found if path.match(pattern) or path.relative_to(folder).match(pattern)]


class RoundTrips:
    """The way of one asset after another, with components that are built once."""

    def __init__(self, out: Path, faces: int, texture_size: int, samples: int, seconds_only: bool) -> None:
        self.out, self.pictures = out, not seconds_only
        self.catalog: Catalog = discover()
        entry = load_registry((), self.catalog).pipeline(
            PIPELINE, (f"simplify.faces={faces}", f"bake.texture_size={texture_size}")
        )
        self.plan = check(PIPELINE, entry, self.catalog)
        self.parts = build_parts(self.plan, self.catalog)
        self.metrics = [] if seconds_only else [self._metric(name, samples) for name in METRICS]

    def _metric(self, name: str, samples: int) -> Any:
        kind = self.catalog.load(f"metric/{name}")
        options = {"samples": samples} if samples and "samples" in kind.Config.__dataclass_fields__ else {}
        return kind(kind.Config(**options))

    def rows(self, asset: Path, name: str, resolutions: Sequence[int]) -> Iterator[Row]:
        """One row a resolution; a single one that says why where the asset cannot be used."""
        clock = Clock()
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                mesh = load_textured_mesh(asset)
            if not has_appearance(mesh):
                yield Row(name, 0, len(mesh.faces), problem="no materials and no colours")
                return
            reference, placement = normalise(mesh)
        except ShapewrightError as error:
            yield Row(name, 0, problem=_line(error))
            return
        clock.step("read")
        notes = "; ".join(_line(warning.message).removeprefix(f"{asset}: ") for warning in caught)
        results: list[Mesh] = []
        made: list[Row] = []
        memo: dict[str, Any] = {}
        for resolution in resolutions:
            row = Row(name, resolution, len(mesh.faces), notes=notes, seconds=dict(clock.seconds))
            row.bytes["asset"] = asset.stat().st_size
            try:
                result = self.there_and_back(reference, placement, row)
                pair = MeshPair(result, reference, sample=name, reference_memo=memo)
                row.figures = self.measured(pair)
                results.append(result)
            except ShapewrightError as error:
                row.problem = _line(error)
            made.append(row)
        if results and self.pictures:
            picture = f"pictures/{name.replace('/', '_')}.png"
            self._draw([reference, *results], self.out / picture)
            for row in made:
                row.picture = picture
        yield from made

    def measured(self, pair: MeshPair) -> dict[str, float]:
        """All figures that apply to a pair."""
        figures: dict[str, float] = {}
        for metric in self.metrics:
            figures |= dict(metric.measure(pair))
        return figures

    def there_and_back(self, reference: Mesh, placement: Placement, row: Row) -> Mesh:
        """The result in the place of the reference, as it is in the GLB file."""
        stem = self.out / f"{row.asset.replace('/', '_')}-{row.resolution}"
        voxels, back = stem.with_suffix(".vxz"), stem.with_suffix(".glb")
        clock = Clock()
        state = OVoxel(Config(resolution=row.resolution)).from_mesh(reference)
        clock.step("to-voxels")
        write_state(state, placement, voxels)
        clock.step("write-voxels")
        row.voxels, row.bytes["vxz"] = len(state.coords), voxels.stat().st_size
        del state
        clock.step("-")
        state, placement = read_state(voxels)
        clock.step("read-voxels")
        done = execute(self.plan, self.catalog, dict.fromkeys(self.plan.inputs, state), parts=self.parts)
        clock.step("-")
        save_mesh(placement.restore(done.output), back, overwrite=True)
        clock.step("write-glb")
        stages = {stage.split("-")[0] if stage in self.parts else stage: t for stage, t in done.seconds.items()}
        clock.seconds.pop("-")
        written = clock.seconds.pop("write-glb")
        row.seconds |= clock.seconds | stages | {"write-glb": written}
        row.bytes["glb"], row.back_faces = back.stat().st_size, len(done.output.faces)
        return placement.place(load_textured_mesh(back))

    def _draw(self, meshes: Sequence[Mesh], path: Path) -> None:
        """One line of pictures a mesh, shaded, seen from the same places."""
        from shapewright_plugins.appearance.renderer import Config as Looks
        from shapewright_plugins.appearance.renderer import Raster
        from shapewright_plugins.appearance.views import fitting_orbit

        raster = Raster(Looks(size=PICTURE, buffers=("color",), smooth=False))
        cameras = fitting_orbit(meshes[0], VIEWS, pitch=20.0, fov=36.0)
        lines = []
        for mesh in meshes:
            shown = raster.render(mesh, cameras)["color"].clamp(0, 1)
            lines.append(torch.cat(list(shown), dim=1))
        pixels = (torch.cat(lines) * 255).round().to(torch.uint8).numpy()
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.ascontiguousarray(pixels)).save(path)


def _line(error: object) -> str:
    return " ".join(str(error).split())[:200]


def table(rows: Sequence[Row]) -> str:
    """The rows as Markdown; figures that no row has take no column."""
    shown = {key: title for key, title in COLUMNS.items() if any(_figure(row, key) is not None for row in rows)}
    head = ["asset", "resolution", "faces", "voxels", "to .vxz", "to .glb", ".vxz", ".glb", *shown.values()]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" + "--:|" * (len(head) - 1)]
    for row in rows:
        if row.problem:
            lines.append(f"| {row.asset} | {row.resolution or ''} | {row.faces or ''} | {row.problem} |")
            continue
        there, back = row.both_ways()
        cells = [row.asset, str(row.resolution), f"{row.faces:,}", f"{row.voxels:,}", f"{there:.2f} s", f"{back:.2f} s"]
        cells += [f"{row.bytes[name] / 1e6:.1f} MB" for name in ("vxz", "glb")]
        for key in shown:
            value = _figure(row, key)
            cells.append("" if value is None else f"{value:.3g}" if abs(value) <= 1 else f"{value:.1f}")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _figure(row: Row, key: str) -> float | None:
    """A figure by its id, whatever number of samples it was measured with."""
    return next((value for name, value in row.figures.items() if name == key or name.startswith(f"{key}@")), None)


def page(rows: Sequence[Row], words: str) -> str:
    """The table with the pictures, as one HTML page beside them."""
    body = [f"<h1>Round trips</h1><p><code>{html.escape(words)}</code></p>"]
    body.append("<p>Pictures: the asset above, below it each resolution, from four sides.</p><table>")
    for number, line in enumerate(table(rows).splitlines()):
        if number != 1:
            tag = "th" if number == 0 else "td"
            cells = "".join(f"<{tag}>{html.escape(cell.strip())}</{tag}>" for cell in line.strip("|").split("|"))
            body.append(f"<tr>{cells}</tr>")
    body.append("</table>")
    for picture in dict.fromkeys(row.picture for row in rows if row.picture):
        shown = [row for row in rows if row.picture == picture]
        seconds = "; ".join(
            f"{row.resolution}: " + ", ".join(f"{step} {value:.2f} s" for step, value in row.seconds.items())
            for row in shown
        )
        body.append(f"<h2>{html.escape(shown[0].asset)}</h2><p>{html.escape(seconds)}</p>")
        body.append(f"<p>{html.escape(shown[0].notes)}</p><img src='{html.escape(picture)}' alt=''>")
    style = "body{font:14px sans-serif;margin:2em}td,th{padding:2px 8px;text-align:right;border-bottom:1px solid #ddd}"
    return f"<!doctype html><meta charset='utf-8'><title>Round trips</title><style>{style}</style>{''.join(body)}\n"


def _warm_up(trips: RoundTrips) -> None:
    """Compile everything once on a small textured shape, so that the first asset is not timed with it."""
    points = torch.tensor([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], dtype=torch.float64)
    faces = torch.tensor([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])
    texture = Texture(torch.arange(64, dtype=torch.uint8).reshape(4, 4, 4))
    material = Material(base_color_texture=texture, alpha_texture=replace(texture, channels=(3,)), alpha_mode="blend")
    look = Appearance((material,), uvs=(torch.rand(4, 3, 2, generator=torch.Generator().manual_seed(0)),))
    placed, placement = normalise(Mesh(points, faces, appearance=look))
    result = trips.there_and_back(placed, placement, Row("warm-up", 32))
    trips.measured(MeshPair(result, placed))
    for suffix in (".vxz", ".glb"):
        (trips.out / "warm-up-32").with_suffix(suffix).unlink()


def parser() -> argparse.ArgumentParser:
    """The command line."""
    found = argparse.ArgumentParser(description="Textured meshes to O-Voxel files and back to textured GLB files.")
    found.add_argument("folder", type=Path)
    found.add_argument("--out", type=Path, required=True)
    found.add_argument("--resolution", default="512,1024", help="voxels an axis, several with commas")
    found.add_argument("--faces", type=int, default=100_000, help="of the meshes that come back")
    found.add_argument("--texture-size", type=int, default=2048)
    found.add_argument("--pattern", default="*", help="which files, by name or path below FOLDER")
    found.add_argument("--seconds-only", action="store_true", help="no figures and no pictures, which take longer")
    found.add_argument("--samples", type=int, default=0, help="of metrics; 0 for those of the protocols")
    return found


def main(words: Sequence[str] | None = None) -> int:
    """Run the round trips; 1 where no asset came through."""
    given = parser().parse_args(words)
    resolutions = [int(text) for text in given.resolution.split(",")]
    found = assets(given.folder, given.pattern)
    if not found:
        print(f"{given.folder}: no mesh file fits {given.pattern}", file=sys.stderr)
        return 1
    given.out.mkdir(parents=True, exist_ok=True)
    trips = RoundTrips(given.out, given.faces, given.texture_size, given.samples, given.seconds_only)
    _warm_up(trips)
    rows: list[Row] = []
    shown = "benchmarks/round_trip.py " + " ".join(map(str, sys.argv[1:] if words is None else words))
    for path in found:
        for row in trips.rows(path, path.relative_to(given.folder).with_suffix("").as_posix(), resolutions):
            rows.append(row)
            print(table([row]).splitlines()[-1], flush=True)
        (given.out / "rows.json").write_text(json.dumps([asdict(row) for row in rows], indent=1))
        (given.out / "table.md").write_text(table(rows))
        (given.out / "index.html").write_text(page(rows, shown))
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.1f} GiB; {given.out}/index.html")
    return 0 if any(not row.problem for row in rows) else 1


if __name__ == "__main__":
    raise SystemExit(main())
