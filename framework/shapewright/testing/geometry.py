"""Representations and extractors: frames, odd input, and what a round trip may lose."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch

from ..errors import ShapewrightError
from ..spec import satisfies
from ..states import Frame, Mesh
from . import fields, toys
from .check import Check, CheckFailure, NotHere, require
from .common import in_precision
from .examples import SHAPES, calls, from_representations, partner, partners, state_of
from .measure import sample
from .subject import RESOLUTION, Call, Subject
from .values import difference, floats
from .wellformed import require_well_formed

ELSEWHERE = Frame((1.0, -2.0, 0.5), (3.0, 0.0, 2.5), "z")
"""A frame that is neither centred, of size 1, nor y up."""
_FIELD_OF = {"sphere": "sphere", "nested": "nested", "cube": "cube"}


def cell(subject: Subject) -> float:
    """Edge of a cell of the toys' lattice, in units of the frame of size 1."""
    resolution = subject.option("resolution")
    return 1 / resolution if isinstance(resolution, int) and resolution > 4 else 1 / RESOLUTION


def round_trips(subject: Subject, shape: str, claim: str = "") -> Iterator[tuple[str, Mesh]]:
    """A toy through the component and its partners, each with a label.

    Partners claim what is looked at: what a representation keeps shows only through an extractor that keeps it too.
    """
    if subject.spec.kind == "representation":
        state = subject.kept(
            f"state/{shape}", lambda: subject.component.from_mesh(SHAPES[shape](), rng=subject.rng(shape))
        )
        for spec in partners(subject, "extractor", claim):
            yield f"{shape}, extracted by {spec.key}", partner(subject, spec).extract(state)
        return
    for label, state in states(subject, shape, claim):
        yield label, subject.run(Call(label, "extract", {"state": state}))


def states(subject: Subject, shape: str, claim: str = "") -> list[tuple[str, object]]:
    """States of a toy that the extractor takes: the kit's own fields, and those of installed representations."""
    wanted = subject.spec.verbs["extract"].inputs["state"]
    found: list[tuple[str, object]] = []
    if shape in _FIELD_OF:
        solid = fields.solids()[_FIELD_OF[shape]]
        found += [(f"{shape} as {tag}", fields.stored(solid, tag)) for tag in fields.TAGS if satisfies(tag, wanted)]
    return found + from_representations(subject, wanted, shape, claim)


def demonstrate(subject: Subject, shape: str, claim: str, judge: Callable[[Mesh], None]) -> None:
    """``judge`` must be content with one of the round trips: the others may owe their loss to the partner.

    Raises:
        NotHere: nothing is installed through which the claim could be seen.
    """
    problems = []
    for label, mesh in round_trips(subject, shape, claim):
        try:
            judge(mesh)
            return
        except CheckFailure as problem:
            problems.append(f"{label}: {problem}")
    if problems:
        raise CheckFailure("; ".join(problems))
    other = "extractor" if subject.spec.kind == "representation" else "representation"
    raise NotHere(f"no installed {other} that fits claims {claim}, so the claim cannot be seen here")


# --- frames -----------------------------------------------------------------------------------------------------------
def representation_frames(subject: Subject) -> None:
    """The state's box holds the mesh's and keeps its up axis, wherever that box lies; results come back in place."""
    for label, frame in (("the unit frame", Frame()), ("a frame elsewhere, z up", ELSEWHERE)):
        mesh = toys.placed(toys.sphere(), frame)
        state = subject.component.from_mesh(mesh, rng=subject.rng(label))
        _require_holds(state.frame, frame, f"sphere in {label}")
        size = frame.extent[0]
        for spec in partners(subject, "extractor"):
            result = partner(subject, spec).extract(state)
            _require_near(result, mesh, cell(subject) * size, f"sphere in {label}, extracted by {spec.key}")
            break


def _require_holds(outer: Frame, inner: Frame, where: str) -> None:
    slack = [1e-6 * size for size in inner.extent]
    low = all(o <= i + s for o, i, s in zip(outer.lower, inner.lower, slack, strict=True))
    high = all(o >= i - s for o, i, s in zip(outer.upper, inner.upper, slack, strict=True))
    require(low and high, f"{where}: the state's frame {outer.lower} {outer.upper} does not hold the mesh's {inner}")
    require(outer.up == inner.up, f"{where}: the state says {outer.up!r} is up, the mesh {inner.up!r}")


def _require_near(result: Mesh, mesh: Mesh, limit: float, where: str) -> None:
    require(len(result.faces), f"{where}: no faces")
    apart = torch.cdist(torch.from_numpy(sample(result, 1500)), torch.from_numpy(sample(mesh, 1500)))
    there, back = (float(apart.amin(dim=axis).mean()) for axis in (0, 1))
    require(
        max(there, back) <= limit,
        f"{where}: {max(there, back):.3g} from the original on average, more than a cell ({limit:.3g})",
    )


def extractor_frames(subject: Subject) -> None:
    """The mesh lies in its state's frame, in its units, and says so."""
    seen = False
    for call in calls(subject):
        mesh, state = subject.result(call), call.arguments["state"]
        where = f"extract({call.label})"
        require(mesh.frame == state.frame, f"{where}: the mesh's frame is {mesh.frame}, its state's {state.frame}")
        low, high = np.array(state.frame.lower), np.array(state.frame.upper)
        points = mesh.vertices.detach().cpu().double().numpy()
        slack = 0.05 * (high - low)
        inside = len(points) == 0 or bool(((points >= low - slack) & (points <= high + slack)).all())
        require(inside, f"{where}: vertices leave the frame; they must be in its units")
    for label, mesh in round_trips(subject, "sphere"):
        seen = True
        limit = 1 / RESOLUTION
        _require_near(mesh, toys.sphere(), limit, label)
    if not seen:
        raise NotHere("no state of a known shape to extract; vertices were found inside the given states' frames")


# --- precision, odd input ---------------------------------------------------------------------------------------------
def representation_dtype(subject: Subject) -> None:
    """Meshes of either precision are taken and mean the same state."""
    for call in calls(subject):
        single, double = (in_precision(subject, call, precision) for precision in (torch.float32, torch.float64))
        where = f"{call.verb}({call.label})"
        for state in (single, double):
            require_well_formed(state, where)
        require(
            type(single) is type(double), f"{where}: {type(single).__name__} from single precision, not from double"
        )
        pairs = list(zip(floats(single), floats(double), strict=False))
        for (path, one), (_, other) in pairs:
            rows, others = one.shape[0] if one.ndim else 1, other.shape[0] if other.ndim else 1
            require(abs(rows - others) <= 0.02 * max(rows, others), f"{where}: {path} has {rows} rows from single "
                    f"precision and {others} from double")  # fmt: skip
            if one.shape == other.shape:
                found = difference(one.double(), other.double(), relative=1e-3, absolute=1e-3, path=path)
                require(not found, f"{where}: single and double precision disagree: {found}")


def representation_degenerate(subject: Subject) -> None:
    """No face and one face: a result that is well formed, or an error of Shapewright's; nothing else."""
    for name, mesh in (("an empty mesh", toys.empty()), ("one triangle", toys.triangle())):
        try:
            state = subject.component.from_mesh(mesh, rng=subject.rng(name))
        except ShapewrightError:
            continue
        except Exception as error:
            raise CheckFailure(_untyped(name, error)) from error
        require_well_formed(state, f"from_mesh({name})")


def extractor_degenerate(subject: Subject) -> None:
    """A state without surface gives a mesh without faces, or an error of Shapewright's; so does one triangle."""
    wanted = subject.spec.verbs["extract"].inputs["state"]
    odd = [(f"{tag} without surface", fields.without_surface(tag)) for tag in fields.TAGS if satisfies(tag, wanted)]
    for spec in partners(subject, "representation"):
        for name, mesh in (("an empty mesh", toys.empty()), ("one triangle", toys.triangle())):
            try:
                odd.append((f"{name} by {spec.key}", state_of(subject, spec, mesh)))
            except Exception:  # its own conformance says what is wrong with it
                continue
    if not odd:
        raise NotHere("no state without surface is known for this tag")
    for name, state in odd:
        try:
            mesh = subject.run(Call(name, "extract", {"state": state}))
        except ShapewrightError:
            continue
        except Exception as error:
            raise CheckFailure(_untyped(name, error)) from error
        require_well_formed(mesh, f"extract({name})")
        if "without surface" in name:
            require(not len(mesh.faces), f"extract({name}): {len(mesh.faces)} faces")


def _untyped(name: str, error: Exception) -> str:
    return (
        f"{name}: {type(error).__name__}: {' '.join(str(error).split())}; raise an error of shapewright.errors "
        "(MeshError, StateError) that says what to do"
    )


REPRESENTATION_FRAMES = Check(
    "frames", "the state's frame holds the mesh's, up kept; results come back in place", representation_frames, True
)
EXTRACTOR_FRAMES = Check("frames", "meshes lie in the state's frame, in its units, and say so", extractor_frames, True)
REPRESENTATION_DTYPE = Check("dtype", "meshes in single and double precision mean the same state", representation_dtype)
REPRESENTATION_DEGENERATE = Check(
    "degenerate",
    "an empty mesh and one triangle: a result, or an error of Shapewright's",
    representation_degenerate,
)
EXTRACTOR_DEGENERATE = Check(
    "degenerate", "a state without surface: no faces, or an error of Shapewright's", extractor_degenerate
)
