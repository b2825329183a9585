"""Encoders, generators and conditioners: batches, noise, streams, images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..spec import satisfies
from ..streams import stream
from .check import Check, NotHere, require
from .common import result_ports
from .examples import STEPS, calls, examples
from .subject import Call, Subject, tag_of
from .values import difference, map_tensors

RELATIVE, ABSOLUTE = 1e-4, 1e-5


# --- batches ----------------------------------------------------------------------------------------------------------
def stacked(values: Sequence[Any]) -> Any:
    """One batch of several states. Raises NotHere where their class cannot do that."""
    stack = getattr(type(values[0]), "stack", None)
    if stack is None:
        raise NotHere(f"a {type(values[0]).__name__} has no stack, so it comes one sample at a time")
    return stack(values)


def batching(subject: Subject) -> None:
    """A sample gets in a batch what it gets alone."""
    tried = False
    reasons = []
    for name, verb in subject.spec.verbs.items():
        needed = [(port, tag) for port, tag in verb.inputs.items() if not tag.endswith("?")]
        try:
            columns = {port: [value for _, value in examples(subject, port, tag)][:2] for port, tag in needed}
            columns = {port: _same_kind(column) for port, column in columns.items()}
            batch = {port: stacked(column) for port, column in columns.items()}
            extra = _noise(subject, columns) if subject.spec.kind == "generator" else [{}, {}]
        except NotHere as reason:
            reasons.append(str(reason))
            continue
        tried = True
        if extra[0]:
            batch["noise"] = stacked([each["noise"] for each in extra])
        whole = subject.run(Call("batch", name, {**batch, **_steps(subject)}))
        for index in (0, 1):
            single = {port: column[index] for port, column in columns.items()}
            alone = subject.run(Call("alone", name, {**single, **extra[index], **_steps(subject)}))
            for port, part in _ports(subject, name, alone).items():
                mine = _sample(_ports(subject, name, whole)[port], index)
                found = difference(mine, part, path=port, relative=RELATIVE, absolute=ABSOLUTE)
                require(not found, f"{name}: sample {index} of a batch against alone: {found}")
    if not tried:
        raise NotHere("; ".join(dict.fromkeys(reasons)) or "no verb takes a batch")


def _same_kind(column: Sequence[Any]) -> list[Any]:
    first = column[0]
    return [first, next((value for value in column[1:] if type(value) is type(first)), first)]


def _ports(subject: Subject, verb: str, result: Any) -> dict[str, Any]:
    declared = list(subject.spec.verbs[verb].outputs)
    return dict(result._asdict()) if hasattr(result, "_asdict") else {declared[0]: result}


def _sample(value: Any, index: int) -> Any:
    if isinstance(value, tuple | list):
        return type(value)(_sample(item, index) for item in value)
    return value.unbind()[index] if hasattr(value, "unbind") else value


def _steps(subject: Subject) -> dict[str, Any]:
    return {"steps": STEPS} if subject.spec.kind == "generator" else {}


# --- generators -------------------------------------------------------------------------------------------------------
def _noise(subject: Subject, columns: dict[str, list[Any]]) -> list[dict[str, Any]]:
    """Two draws in the shape of what the generator makes of the first and of the second sample."""
    found = []
    for index in (0, 1):
        arguments = {port: column[index] for port, column in columns.items()}
        latent = subject.run(Call("shape", "sample", {**arguments, **_steps(subject)}))
        found.append({"noise": _drawn(latent, index)})
    return found


def _drawn(latent: Any, name: object) -> Any:
    def draw(tensor: Tensor) -> Tensor:
        if not tensor.is_floating_point():
            return tensor
        return torch.randn(tensor.shape, generator=stream(0, "noise", name), dtype=tensor.dtype)

    return map_tensors(latent, draw)


def _first(subject: Subject) -> Call:
    call = calls(subject)[0]
    return Call(call.label, call.verb, {**call.arguments, **_steps(subject)})


def streams(subject: Subject) -> None:
    """Another stream gives another sample, and the samples of one batch are not copies of one draw."""
    call = _first(subject)
    one, other = (subject.run(call, draw=draw) for draw in ("one", "other"))
    require(difference(one, other), "two different streams give the same sample; draw the noise from `rng`")
    batch = {port: stacked([value, value]) for port, value in call.arguments.items() if hasattr(value, "stack")}
    if not batch:
        return
    result = subject.run(Call("batch of two", call.verb, {**call.arguments, **batch}))
    if hasattr(result, "unbind") and len(both := result.unbind()) == 2:
        require(difference(*both), "two samples of a batch under one condition are the same; each needs its own noise")


def noise(subject: Subject) -> None:
    """Noise that is passed in is used instead of a draw: the stream does not matter then, the noise does."""
    call = _first(subject)
    draws = [_drawn(subject.run(call), index) for index in (0, 1)]

    def made(index: int, draw: str) -> Any:
        return subject.run(Call(call.label, call.verb, {**call.arguments, "noise": draws[index]}), draw=draw)

    found = difference(made(0, "one"), made(0, "other"))
    require(not found, f"the same noise with another stream gives another sample: {found}")
    require(difference(made(0, "one"), made(1, "one")), "different noise gives the same sample; `noise` is not used")


def condition(subject: Subject) -> None:
    """The condition matters under guidance."""
    conditions = examples(subject, "condition", subject.spec.verbs["sample"].inputs["condition"])
    if len(conditions) < 2:
        raise NotHere("only one condition is given")
    call = _first(subject)
    made = [subject.run(Call(call.label, call.verb, {**call.arguments, "condition": value})) for _, value in conditions]
    require(difference(made[0], made[1]), "two conditions give the same sample under one stream")


# --- encoders ---------------------------------------------------------------------------------------------------------
def decodes_states(subject: Subject) -> None:
    """What is decoded is a state, not a mesh: meshing belongs to an extractor."""
    found = [call for call in calls(subject) if call.verb == "decode"]
    if not found:
        raise NotHere("the component does not decode")
    for call in found:
        for port, value in result_ports(subject, call).items():
            require(not satisfies(tag_of(value) or "-", "mesh"), f"decode({call.label}) {port} is a mesh")


# --- conditioners -----------------------------------------------------------------------------------------------------
def images(subject: Subject) -> None:
    """An image means the same in bytes and in floats, and its pixels matter."""
    labelled = examples(subject, "image", "image")
    (_, first), (_, second) = labelled[0], labelled[-1]
    quantised = (first * 255).round().to(torch.uint8)
    by_bytes, by_floats = (
        subject.run(Call("image", "encode", {"image": image})) for image in (quantised, quantised.float() / 255)
    )
    found = difference(by_bytes, by_floats, relative=1e-3, absolute=1e-3)
    require(not found, f"the same image in uint8 and in floats: {found}")
    other = subject.run(Call("image", "encode", {"image": second}))
    require(difference(by_floats, other), "two images give the same condition")


def alpha(subject: Subject) -> None:
    """An image with an opaque alpha channel means what it means without."""
    first = examples(subject, "image", "image")[0][1][..., :3]
    opaque = torch.cat([first, torch.ones_like(first[..., :1])], dim=-1)
    plain, with_alpha = (subject.run(Call("image", "encode", {"image": image})) for image in (first, opaque))
    found = difference(with_alpha, plain, relative=1e-3, absolute=1e-3)
    require(not found, f"an opaque alpha channel changes the condition: {found}")


BATCHING = Check("batching", "a sample gets in a batch what it gets alone", batching)
GENERATOR = (
    Check("streams", "another stream, another sample; samples of a batch are not copies", streams),
    Check("noise", "noise that is passed in replaces the draw", noise, basic=True),
    Check("condition", "the condition matters", condition),
)
ENCODER = (Check("decodes_states", "decoding gives states, never meshes", decodes_states, basic=True),)
CONDITIONER = (
    Check("images", "an image means the same in bytes and in floats, and matters", images),
    Check("alpha", "an opaque alpha channel changes nothing", alpha),
)
