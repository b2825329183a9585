"""Metrics: figures with definitions that hold."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise

import torch

from ..errors import ShapewrightError
from ..interfaces import MeshPair, MetricDefinition
from ..states import Mesh
from . import toys
from .check import Check, CheckFailure, NotHere, require
from .examples import calls
from .subject import Call, Subject
from .toys import turn

LENGTHS = ("box1",)
FLOOR = 0.01
"""What a distance of a shape to itself may be at most, in units of its size: two sample sets never coincide."""


def _measure(subject: Subject, predicted: Mesh, reference: Mesh) -> Mapping[str, float]:
    if subject.spec.capabilities.pbr:  # it measures nothing of meshes without materials
        same = predicted is reference
        reference = _painted(reference)
        predicted = reference if same else _painted(predicted)
    pair = MeshPair(predicted, reference, sample="toy")
    found: Mapping[str, float] = subject.run(Call("toy", "measure", {"pair": pair}))
    return found


def _painted(mesh: Mesh) -> Mesh:
    return mesh if mesh.attributes else toys.painted(mesh)


def _definition(subject: Subject, figure: str) -> MetricDefinition:
    protocols: Mapping[str, MetricDefinition] = subject.cls.protocols
    base = re.match(r".*?/v\d+", figure)
    found = protocols.get(figure) or protocols.get(base.group() if base else "")
    if found is None:
        raise CheckFailure(f"{figure!r} is not among the protocols of the metric")
    return found


def protocols(subject: Subject) -> None:
    """Every figure is a finite number with a definition, under an id that carries its version."""
    require(getattr(subject.cls, "protocols", None), "the class defines no protocols")
    for figure in subject.cls.protocols:
        require(re.fullmatch(r"\S+/v\d+", figure), f"the id {figure!r} does not end in a version such as /v1")
    require(any(subject.result(call) for call in calls(subject)), "neither a sphere nor a cube gives any figure")
    for call in calls(subject):
        values = subject.result(call)
        for figure, value in values.items():
            _definition(subject, figure)
            require(isinstance(value, float | int), f"{figure} is a {type(value).__name__}, not a number")
            require(math.isfinite(value), f"{figure} is {value}")


def itself(subject: Subject) -> None:
    """A shape is at no distance from itself."""
    for mesh in (toys.sphere(), toys.cube()):
        for figure, value in _measure(subject, mesh, mesh).items():
            entry = _definition(subject, figure)
            if entry.group == "metrics" and entry.unit in LENGTHS:
                require(abs(value) <= FLOOR, f"{figure} of a shape and itself is {value:.3g} of its size")


def direction(subject: Subject) -> None:
    """The worse the result, the worse the figure, in the direction that its definition names; failing is the worst."""
    mesh = toys.sphere()
    mesh = toys.painted(mesh) if subject.spec.capabilities.pbr else mesh
    series = [_measure(subject, _spoilt(mesh, amount), mesh) for amount in (0, 0.01, 0.04, 0.16)]
    for figure in series[0]:
        entry = _definition(subject, figure)
        if entry.group != "metrics" or any(figure not in found for found in series):
            continue
        values = [found[figure] for found in series]
        loss = [_worse(after, before, entry) for before, after in pairwise(values)]
        slack = 0.05 * max(map(abs, values)) + 1e-9
        says = "higher" if entry.higher_is_better else "lower"
        trail = ", ".join(f"{value:.4g}" for value in values)
        require(min(loss) >= -slack, f"{figure} goes {trail} as the result gets worse, but {says} is better")
        if entry.failure is not None:
            require(
                _worse(entry.failure, values[-1], entry) >= -slack,
                f"{figure}: a failed cell counts as {entry.failure:g}, better than {values[-1]:.4g} of a poor one",
            )


def _worse(value: float, than: float, entry: MetricDefinition) -> float:
    """How much worse the first is; negative where it is better."""
    return than - value if entry.higher_is_better else value - than


def _spoilt(mesh: Mesh, amount: float) -> Mesh:
    """Bent, shrunk and moved by about ``amount``; the same every time."""
    points = mesh.vertices
    waves = torch.sin(9 * points.roll(1, dims=1) + 1) * amount / 3
    return replace(mesh, vertices=points * (1 - amount) + waves + points.new_tensor([amount, 0.3 * amount, 0]))


def order(subject: Subject) -> None:
    """Vertices and faces in another order are the same mesh."""
    first = calls(subject)[0].arguments["pair"]
    one = _measure(subject, first.predicted, first.reference)
    other = _measure(subject, _shuffled(subject, first.predicted, 0), _shuffled(subject, first.reference, 1))
    _require_alike(one, other, "with vertices and faces in another order", 0.05)


def _shuffled(subject: Subject, mesh: Mesh, name: int) -> Mesh:
    vertices = torch.randperm(len(mesh.vertices), generator=subject.rng("vertices", name))
    faces = torch.randperm(len(mesh.faces), generator=subject.rng("faces", name))
    place = torch.empty_like(vertices)
    place[vertices] = torch.arange(len(vertices))
    attributes = {name: values[vertices] for name, values in mesh.attributes.items()}
    rows = place[mesh.faces][faces].roll(1, dims=1)
    return replace(mesh, vertices=mesh.vertices[vertices], faces=rows, attributes=attributes)


def motion(subject: Subject) -> None:
    """Result and reference turned together are as far apart as before."""
    first = calls(subject)[0].arguments["pair"]
    one = _measure(subject, first.predicted, first.reference)
    turned = [replace(m, vertices=m.vertices @ turn().T.to(m.vertices)) for m in (first.predicted, first.reference)]
    _require_alike(one, _measure(subject, *turned), "turned together", 0.1)


def symmetric(subject: Subject) -> None:
    """Figures whose definition is symmetric stay when result and reference change places, also where one has more."""
    more, fewer = toys.nested_spheres(), toys.sphere()
    one, other = _measure(subject, more, fewer), _measure(subject, fewer, more)
    kept = {figure for figure in one if _definition(subject, figure).symmetric}
    if not kept:
        raise NotHere("no figure is defined as symmetric")
    first, second = ({figure: value for figure, value in side.items() if figure in kept} for side in (one, other))
    _require_alike(first, second, "with result and reference exchanged", 0.1)


def _require_alike(one: Mapping[str, float], other: Mapping[str, float], how: str, share: float) -> None:
    require(set(one) == set(other), f"other figures {how}: {sorted(set(one) ^ set(other))[:3]}")
    for figure, value in one.items():
        close = abs(value - other[figure]) <= share * max(abs(value), abs(other[figure])) + 2e-3
        require(close, f"{figure} is {value:.5g}, {how} {other[figure]:.5g}")


def dtype(subject: Subject) -> None:
    """Meshes in single precision measure as in double."""
    for call in calls(subject):
        pair = call.arguments["pair"]
        single = [replace(m, vertices=m.vertices.float()) for m in (pair.predicted, pair.reference)]
        _require_alike(subject.result(call), _measure(subject, *single), "in single precision", 0.05)


def degenerate(subject: Subject) -> None:
    """A result without faces is refused by an error of Shapewright's, or measured by finite numbers."""
    for name, predicted in (("an empty result", toys.empty()), ("a result of one triangle", toys.triangle())):
        try:
            found = _measure(subject, predicted, toys.sphere())
        except ShapewrightError:
            continue
        except Exception as error:
            raise CheckFailure(f"{name}: {type(error).__name__}: {error}; raise MeshError") from error
        bad = [figure for figure, value in found.items() if not math.isfinite(value)]
        require(not bad, f"{name}: {', '.join(bad)} is not finite; leave out what does not apply")


PROTOCOLS = Check("outputs", "figures are finite numbers with a definition and a version", protocols, basic=True)
CHECKS = (
    Check("itself", "a shape is at no distance from itself", itself),
    Check("direction", "worse results have worse figures; failing is the worst", direction),
    Check("order", "vertices and faces may come in any order", order),
    Check("motion", "result and reference may be turned together", motion),
    Check("symmetric", "symmetric figures stay when the two meshes change places", symmetric),
    Check("dtype", "single precision measures as double does", dtype),
    Check("degenerate", "an empty result and one triangle: an error of Shapewright's, or finite numbers", degenerate),
)
