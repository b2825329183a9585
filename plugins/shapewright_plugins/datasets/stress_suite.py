"""``dataset/stress-suite``: procedural shapes, each tied to a claim about representations, with known ground truth."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from shapewright.interfaces import Dataset, Sample
from shapewright.mesh_cleaning import consistent_winding
from shapewright.normalise import content_hash
from shapewright.states import Frame, Mesh

from . import pbr_box, scene, sheets, solids
from .samples import split_of, unknown_sample
from .triangles import Triangles


@dataclass(frozen=True, slots=True)
class Shape:
    """A generator (every size, count and seed is a parameter with the suite's value as default) and what it shows."""

    build: Callable[[], Triangles]
    tags: frozenset[str]


def _shape(build: Callable[[], Triangles], tags: str) -> Shape:
    return Shape(build, frozenset({"procedural", *tags.split()}))


SHAPES: dict[str, Shape] = {
    "s01-leaf": _shape(sheets.leaf, "open sheets sharp thin"),
    "s02a-crossed-sheets": _shape(sheets.crossed_sheets, "open sheets non-manifold"),
    "s02b-piercing-sheets": _shape(sheets.piercing_sheets, "open sheets self-intersecting"),
    "s03-nested-spheres": _shape(solids.nested_spheres, "closed interior nested"),
    "s04-bottle": _shape(solids.bottle, "closed interior nested thin overlapping-parts self-intersecting pbr"),
    "s04b-cup": _shape(sheets.cup, "open sheets"),
    "s05-thin-wire": _shape(solids.thin_wire, "closed thin"),
    "s06-gears": _shape(solids.gears, "closed sharp cad overlapping-parts self-intersecting genus"),
    "s07-spiked-icosahedron": _shape(solids.spiked_icosahedron, "closed sharp low-poly"),
    "s08-gyroid": _shape(sheets.gyroid, "open sheets genus high-genus"),
    "s09-trefoil-knot": _shape(solids.trefoil_knot, "closed genus"),
    "s10a-overlapping-solids": _shape(
        solids.overlapping_solids, "closed interior overlapping-parts self-intersecting sharp"
    ),
    "s10b-overlapping-union": _shape(solids.overlapping_union, "closed sharp"),
    "s11-moebius-strip": _shape(sheets.moebius_strip, "open sheets non-orientable"),
    "s12-rolled-cloth": _shape(sheets.rolled_cloth, "open sheets thin interior"),
    "s13-cubic-lattice": _shape(solids.cubic_lattice, "closed sharp cad genus high-genus"),
    "s14-pineapple": _shape(solids.pineapple, "closed sharp"),
    "s15-pbr-box": _shape(pbr_box.pbr_box, "closed sharp low-poly pbr"),
    "s15b-enclosed-pbr-box": _shape(pbr_box.enclosed_pbr_box, "closed sharp low-poly pbr interior nested"),
    "s16-scene": _shape(
        scene.scene,
        "open scene interior nested sharp multi-part overlapping-parts self-intersecting pbr multi-material",
    ),
}
"""Shapes by id, in the order of the suite. Ids never change: they name cache entries and rows of published tables."""


@dataclass(frozen=True)
class Config:
    """Nothing to choose: the shapes are fixed, and a sweep picks among them by id or tag."""


class StressSuite(Dataset[Config]):
    """Sixteen families of shapes, z up, in raw coordinates, built when asked for."""

    Config = Config

    def ids(self) -> Sequence[str]:
        """Ids in the order of the suite."""
        return tuple(SHAPES)

    def load(self, id: str) -> Sample:
        """Build one shape; a second or less."""
        if id not in SHAPES:
            raise unknown_sample("stress-suite", id, self.ids())
        mesh = as_mesh(SHAPES[id].build())
        return Sample(id, mesh, SHAPES[id].tags, "CC0-1.0", split_of(id), content_hash(mesh))


def as_mesh(shape: Triangles) -> Mesh:
    """A raw mesh of the framework, z up, in the frame of its bounding box."""
    low, high = shape.vertices.min(axis=0).tolist(), shape.vertices.max(axis=0).tolist()
    return Mesh(
        torch.from_numpy(shape.vertices.copy()),
        torch.from_numpy(shape.faces.copy()),
        Frame(tuple(low), tuple(high), "z"),
        oriented=consistent_winding(shape.faces),
    )
