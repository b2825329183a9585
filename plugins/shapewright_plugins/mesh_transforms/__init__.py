"""Mesh to mesh: fewer faces, holes filled, winding repaired, hidden shells removed."""

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
    """Four transforms with the ports ``mesh`` and ``mesh``."""
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
    ]
