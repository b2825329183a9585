"""Mesh to mesh: fewer faces, holes filled, winding repaired, hidden and small parts removed, new surfaces."""

from __future__ import annotations

from collections.abc import Iterable

from shapewright.plugin import Capabilities, ComponentSpec, Verb, hookimpl

_MODULE = "shapewright_plugins.mesh_transforms"
_CPU = frozenset({"cpu"})


def _transform(name: str, factory: str, summary: str, capabilities: Capabilities, cite: str = "") -> ComponentSpec:
    verbs = {"apply": Verb({"mesh": "mesh"}, {"mesh": "mesh"})}
    return ComponentSpec("transform", name, f"{_MODULE}.{factory}", verbs, capabilities, summary=summary, cite=cite)


@hookimpl
def register_components() -> Iterable[ComponentSpec]:
    """Transforms with the ports ``mesh`` and ``mesh``."""
    keeps = Capabilities(open_surfaces=True, interiors=True, non_manifold=True, pbr=True, devices=_CPU)
    return [
        _transform(
            "simplify",
            "simplify:Simplify",
            "fewer faces by quadric error; boundaries stay boundaries",
            Capabilities(open_surfaces=True, interiors=True, devices=_CPU),
            "Garland and Heckbert, SIGGRAPH 1997",
        ),
        _transform(
            "fill-holes",
            "fill_holes:FillHoles",
            "closes boundary loops below a length with fans",
            Capabilities(interiors=True, non_manifold=True, pbr=True, devices=_CPU),
        ),
        _transform("fix-winding", "fix_winding:FixWinding", "neighbours agree, closed parts face outward", keeps),
        _transform(
            "remove-inner-shells",
            "inner_shells:RemoveInnerShells",
            "drops connected parts that cannot be seen from outside",
            Capabilities(open_surfaces=True, non_manifold=True, pbr=True, devices=_CPU),
        ),
        _transform(
            "split-non-manifold",
            "split_non_manifold:SplitNonManifold",
            "cuts apart what meets in edges of three faces and more, and in single vertices",
            Capabilities(open_surfaces=True, interiors=True, pbr=True, devices=_CPU),
        ),
        _transform(
            "drop-small-parts", "small_parts:DropSmallParts", "drops tiny connected parts, flat faces and copies", keeps
        ),
        _transform(
            "remesh",
            "remesh:Remesh",
            "a closed two-manifold around any mesh, by dual contouring of its distance",
            Capabilities(interiors=True, devices=_CPU),
            "TRELLIS.2 (arXiv 2512.14692)",
        ),
    ]
