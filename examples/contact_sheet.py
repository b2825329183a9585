"""Draw the results of a bench side by side: one row a shape, one column a pipeline. No display, no GPU.

    shapewright bench --samples 's0*' --resolution 64 --keep-meshes --out results
    python examples/contact_sheet.py results sheet.png --resolution 64 --samples s01-leaf,s03-nested-spheres --cut z

Fronts are blue, backs orange, surfaces without orientation green; with --cut only the half below the middle of that
axis is drawn, so that the inside shows. Needs pillow (pip install pillow) to write the picture.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from shapewright.mesh_io import load_mesh
from shapewright_kernels.cameras import look_at, orthographic
from shapewright_kernels.rasterise import rasterise

FRONT, BACK, TWO_SIDED = np.array([178.0, 200, 232]), np.array([236.0, 140, 108]), np.array([176.0, 212, 180])
LIGHT = np.array([0.35, 0.5, 0.79])
CAPTION = 16


def draw(path: Path, size: int, cut: str) -> Image.Image:
    """One mesh in the unit box, seen from the upper right."""
    mesh = load_mesh(path, repair=False)
    vertices, faces = mesh.vertices.numpy(), mesh.faces.numpy()
    if cut:
        faces = faces[vertices[faces].mean(axis=1)[:, "xyz".index(cut)] < 0]
    view = look_at((1.4, 1.0, 2.0), (0, 0, 0))
    images = rasterise(
        vertices, faces, orthographic(view, extent=1.55), size, size, supersample=2, facing=not mesh.oriented
    )
    normals = images.normal @ view[:3, :3].T
    shade = 0.25 + 0.75 * np.abs(normals @ LIGHT)
    front = FRONT if mesh.oriented else TWO_SIDED
    colour = np.where(normals[..., 2:] >= 0, front, BACK) * shade[..., None]
    cover = images.coverage[..., None]
    return Image.fromarray((colour * cover + 255 * (1 - cover)).clip(0, 255).astype(np.uint8))


def main() -> None:
    """Read ``cells.json`` of a bench with kept meshes and write the sheet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--resolution", type=int)
    parser.add_argument("--samples", default="")
    parser.add_argument("--pipelines", default="")
    parser.add_argument("--cut", choices=["x", "y", "z"], default="")
    parser.add_argument("--size", type=int, default=240)
    options = parser.parse_args()
    cells = json.loads((options.results / "cells.json").read_text())
    cells = [cell for cell in cells if cell["mesh"] and options.resolution in (None, cell["resolution"])]
    if not cells:
        parser.error(f"{options.results} holds no kept meshes; run the bench with --keep-meshes")
    samples = list(filter(None, options.samples.split(","))) or sorted({cell["sample"] for cell in cells})
    pipelines = list(filter(None, options.pipelines.split(","))) or sorted({cell["pipeline"] for cell in cells})
    size = options.size
    sheet = Image.new("RGB", (size * len(pipelines), (size + CAPTION) * len(samples)), "white")
    pen = ImageDraw.Draw(sheet)
    for cell in cells:
        if cell["sample"] in samples and cell["pipeline"] in pipelines:
            x = pipelines.index(cell["pipeline"]) * size
            y = samples.index(cell["sample"]) * (size + CAPTION)
            sheet.paste(draw(options.results / cell["mesh"], size, options.cut), (x, y + CAPTION))
            pen.text((x + 4, y + 2), f"{cell['sample']}  {cell['pipeline']}", fill="black")
    sheet.save(options.picture)


if __name__ == "__main__":
    main()
