"""Appearance in the bench: what a card's key knows of it, which failures its columns count, what runs unless named."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from shapewright import discover, load_mesh, save_mesh
from shapewright.bench.appearance import appearance_hash, textured
from shapewright.bench.cards import blank_cell
from shapewright.bench.matrix import expand
from shapewright.bench.request import Request
from shapewright.bench.summary import markdown, summarise
from shapewright.materials import Appearance, Material
from shapewright.registry import load_registry
from shapewright.states import Mesh
from shapewright_plugins.datasets.folder import Config, Folder

COLOUR = "base-color-psnr/v1"
COLUMNS = [
    {"title": "CD", "figure": "chamfer-l1/v1", "better": "low", "failure": 0.5},
    {"title": "dB", "figure": COLOUR, "better": "high", "failure": 0, "where_it_applies": True},
]


def triangle() -> Mesh:
    return Mesh(torch.eye(3, dtype=torch.float64), torch.tensor([[0, 1, 2]]))


def ok(pipeline: str, sample: str, colour: float | None = None, floor: bool = False) -> dict[str, Any]:
    cell = blank_cell(pipeline, pipeline, "e", "set", sample, 16, 0) | {"status": "ok"}
    cell["metrics"] = {"chamfer-l1/v1": 0.1} | ({} if colour is None else {COLOUR: colour})
    cell["noise_floor"] = {COLOUR: 100.0} if floor or colour is not None else {}
    return cell


def failed(pipeline: str, sample: str, floor: bool = False) -> dict[str, Any]:
    cell = blank_cell(pipeline, pipeline, "e", "set", sample, 16, 0) | {"reason": "it broke"}
    return cell | {"noise_floor": {COLOUR: 100.0} if floor else {}}


def means(*cells: dict[str, Any]) -> dict[str, list[float | None]]:
    """Means of the columns that are left, by pipeline."""
    table = summarise(cells, COLUMNS)
    return {row.pipeline: [entry and entry.mean for entry in row.entries] for row in table.rows}


def test_without_materials_there_is_no_column_whatever_fails() -> None:
    cells = [ok("a", "plain"), failed("a", "other"), failed("b", "plain")]
    assert means(*cells) == {"a": [pytest.approx(0.3)], "b": [0.5]}
    assert "dB" not in markdown(summarise(cells, COLUMNS))


def test_a_failed_cell_counts_where_its_shape_has_materials_and_its_pipeline_keeps_them() -> None:
    found = means(
        ok("colours", "painted", 30.0),
        failed("colours", "also-painted", floor=True),
        failed("colours", "plain"),
        ok("shapes", "painted", floor=True),
        failed("shapes", "also-painted", floor=True),
    )
    assert found["colours"] == [pytest.approx(1.1 / 3), 15.0]
    assert found["shapes"] == [pytest.approx(0.3), None]
    assert means(ok("colours", "painted", 30.0), failed("colours", "crashed"))["colours"][1] == 30.0


def test_the_hash_of_an_appearance_changes_with_everything_that_shows() -> None:
    mesh = textured(triangle())
    assert mesh.appearance is not None
    material = mesh.appearance.materials[0]
    texture = material.base_color_texture
    assert texture is not None
    pixels = texture.pixels.clone()
    pixels[3, 3, 0] += 1

    def with_material(changed: Material) -> Mesh:
        assert mesh.appearance is not None
        return replace(mesh, appearance=replace(mesh.appearance, materials=(changed,)))

    others = [
        triangle(),
        with_material(replace(material, base_color_texture=replace(texture, pixels=pixels))),
        with_material(replace(material, base_color_texture=replace(texture, filter="nearest"))),
        with_material(replace(material, roughness=0.25)),
        with_material(replace(material, alpha_mode="mask")),
        replace(mesh, appearance=replace(mesh.appearance, uvs=(mesh.appearance.uvs[0] + 1,))),
        replace(mesh, attributes={"color": torch.zeros(3, 3)}),
        replace(triangle(), attributes={"color": torch.zeros(3, 3)}),
        replace(triangle(), attributes={"color": torch.ones(3, 3)}),
        replace(triangle(), appearance=Appearance((Material(),))),
    ]
    assert len({appearance_hash(each) for each in [mesh, *others]}) == 1 + len(others)
    copied = replace(mesh, appearance=replace(mesh.appearance, uvs=(mesh.appearance.uvs[0].clone(),)))
    assert appearance_hash(copied) == appearance_hash(mesh)
    assert appearance_hash(triangle()) == ""


def test_pictures_are_compared_only_where_named() -> None:
    catalog = discover()
    registry = load_registry((), catalog)
    request = Request(representations=("o-voxel",), samples=("s01-leaf",), resolutions=(8,))
    chosen = set(expand(request, catalog, registry).metrics)
    every = {spec.key for spec in catalog.of_kind("metric")}
    assert every - chosen == {"metric/rendered-materials", "metric/rendered-normals"}
    named = expand(replace(request, metrics=("rendered-normals",)), catalog, registry)
    assert set(named.metrics) == {"metric/rendered-normals"}


def test_a_folder_brings_materials_and_the_same_geometry_without_them(tmp_path: Path) -> None:
    save_mesh(textured(triangle()), tmp_path / "painted.glb")
    with_them = Folder(Config(str(tmp_path))).load("painted")
    without = Folder(Config(str(tmp_path), materials=False)).load("painted")
    assert with_them.mesh.appearance is not None
    assert with_them.mesh.appearance.materials[0].base_color_texture is not None
    assert without.mesh.appearance is None
    assert with_them.content == without.content
    plain = load_mesh(tmp_path / "painted.glb")
    for mesh in (with_them.mesh, without.mesh):
        assert torch.equal(mesh.vertices, plain.vertices)
        assert torch.equal(mesh.faces, plain.faces)


def test_repairs_of_a_textured_file_are_notes_of_the_sample(tmp_path: Path) -> None:
    (tmp_path / "soup.obj").write_text("v 0 0 0\nv 1 0 0\nv 0 1 0\nv 5 5 5\nf 1 2 3\nf 1 2 2\n")
    for materials in (True, False):
        with pytest.warns(UserWarning, match="dropped"):
            sample = Folder(Config(str(tmp_path), materials=materials)).load("soup")
        assert any("zero-area" in note for note in sample.notes)
