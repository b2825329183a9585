"""Which checks a component of each kind is to pass, from basic to derived."""

from __future__ import annotations

from . import claims, common, geometry
from .check import Check
from .common import BUILDS, DETERMINISTIC, DEVICES, DIFFERENTIABLE, DTYPE, FIRST, LIGHT_IMPORT, OUTPUTS, PORTS, PURE

_REPRESENTATION = (
    *FIRST,
    DETERMINISTIC,
    Check("frames", "the state's frame holds the mesh's, up kept; results come back in place",
          geometry.representation_frames, basic=True),
    PURE,
    Check("dtype", "meshes in single and in double precision mean the same state", geometry.representation_dtype),
    Check("degenerate", "an empty mesh and one triangle: a result, or an error of Shapewright's",
          geometry.representation_degenerate),
    DEVICES,
    *claims.GEOMETRIC,
    DIFFERENTIABLE,
)  # fmt: skip
_EXTRACTOR = (
    *FIRST,
    DETERMINISTIC,
    Check("frames", "meshes lie in the state's frame, in its units, and say so", geometry.extractor_frames, basic=True),
    PURE,
    DTYPE,
    Check("degenerate", "a state without surface: no faces, or an error of Shapewright's",
          geometry.extractor_degenerate),
    DEVICES,
    claims.HONEST_WINDING,
    *claims.GEOMETRIC,
    DIFFERENTIABLE,
)  # fmt: skip

_BY_KIND: dict[str, tuple[Check, ...]] = {"representation": _REPRESENTATION, "extractor": _EXTRACTOR}


def checks_of(kind: str) -> tuple[Check, ...]:
    """The checks of one kind in the order in which they are run."""
    return _BY_KIND.get(kind, (LIGHT_IMPORT, BUILDS, PORTS, OUTPUTS, DETERMINISTIC, PURE))


__all__ = ["checks_of", "common"]
