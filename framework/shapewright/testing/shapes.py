"""Data sets: stable ids, loading that does not depend on what was loaded before."""

from __future__ import annotations

from itertools import islice

from ..errors import ConfigError, ShapewrightError
from ..interfaces import Sample
from .check import Check, CheckFailure, NotHere, require
from .subject import Subject
from .values import difference
from .wellformed import require_well_formed

FEW = 3


def _ids(subject: Subject) -> list[str]:
    try:
        return list(subject.component.ids())
    except ConfigError as error:
        if subject.options:
            raise
        raise NotHere(f"{error}; give options") from None


def _few(subject: Subject) -> list[str]:
    """The first ids that hold usable geometry; others raise a typed error, as they should."""
    found: list[str] = []
    for id in _ids(subject)[: 4 * FEW]:
        try:
            _sample(subject, id)
            found.append(id)
        except ShapewrightError:
            continue
        if len(found) == FEW:
            break
    return found


def _sample(subject: Subject, id: str) -> Sample:
    found: Sample = subject.kept(f"sample/{id}", lambda: subject.component.load(id))
    return found


def outputs(subject: Subject) -> None:
    """There are ids, and loading one gives its sample."""
    ids = _ids(subject)
    require(ids, "there is no sample")
    require(all(isinstance(id, str) and id for id in ids), "an id is not a text, or empty")
    require(len(set(ids)) == len(ids), "an id comes twice")
    few = _few(subject)
    require(few, f"none of the first {4 * FEW} samples can be loaded")
    for id in few:
        sample = _sample(subject, id)
        require(isinstance(sample, Sample), f"load({id!r}) gives a {type(sample).__name__}, not a Sample")
        require(sample.id == id, f"load({id!r}) gives the sample {sample.id!r}")
        require_well_formed(sample.mesh, f"load({id!r})")
        require(len(sample.mesh.faces), f"load({id!r}) has no face; raise MeshError")
        require(isinstance(sample.tags, frozenset), f"the tags of {id!r} are a {type(sample.tags).__name__}")


def stable_ids(subject: Subject) -> None:
    """The same ids in the same order, from this instance and from another; iterating follows them."""
    ids = _ids(subject)
    require(list(subject.component.ids()) == ids, "ids() gives another list the second time")
    require(list(subject.fresh().ids()) == ids, "ids() of another instance gives another list")
    few = _few(subject)
    if few == ids[: len(few)]:
        order = [sample.id for sample in islice(iter(subject.component), len(few))]
        require(order == few, f"iterating gives {order}, ids() says {few}")


def deterministic(subject: Subject) -> None:
    """A sample is the same however often, in whatever order and by whichever instance it is loaded."""
    few = _few(subject)
    other = subject.fresh()
    for id in reversed(few):
        found = difference(other.load(id), _sample(subject, id), path=id)
        require(not found, f"loaded again, in another order: {found}")


def content(subject: Subject) -> None:
    """The content of a sample names its geometry: it is there, and differs where meshes do."""
    samples = [_sample(subject, id) for id in _few(subject)]
    for sample in samples:
        require(
            sample.content, f"{sample.id!r} has no content hash, so cached results would be served for other shapes"
        )
    for one in samples:
        for other in samples:
            if one.content == other.content:
                found = difference(one.mesh, other.mesh, path="mesh")
                require(not found, f"{one.id!r} and {other.id!r} have one content hash and different meshes: {found}")


def unknown(subject: Subject) -> None:
    """An id that there is not is refused by name."""
    wrong = "no such sample, certainly"
    try:
        subject.component.load(wrong)
    except ShapewrightError:
        return
    except Exception as error:
        raise CheckFailure(
            f"an unknown id raises {type(error).__name__}; raise ConfigError with the nearest"
        ) from error
    raise CheckFailure("an unknown id is loaded without complaint")


OUTPUTS = Check("outputs", "ids are texts, none twice; loading gives their samples, with faces", outputs, basic=True)
DETERMINISTIC = Check(
    "deterministic", "a sample is the same in whatever order it is loaded", deterministic, claim="deterministic"
)
CHECKS = (
    Check("stable_ids", "the same ids in the same order, every time", stable_ids),
    DETERMINISTIC,
    Check("content", "the content hash is there and tells meshes apart", content),
    Check("unknown", "an id that there is not is an error of Shapewright's", unknown),
)
