"""Renderers: buffers of a sphere, and of nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from ..errors import ShapewrightError
from . import toys
from .check import Check, CheckFailure, require
from .examples import calls
from .subject import Call, Subject
from .values import difference

RELATIVE, ABSOLUTE = 1e-3, 1e-3


def buffers(subject: Subject) -> None:
    """Named ``(B, H, W, C)`` buffers of one size; the mask is a share, and a sphere covers a part of it."""
    for call in calls(subject):
        found = subject.result(call)
        where = f"render({call.label})"
        require(isinstance(found, Mapping) and found, f"{where} gives no named buffers")
        sizes = set()
        for name, buffer in found.items():
            require(isinstance(buffer, Tensor) and buffer.ndim == 4, f"{where}: {name!r} is not a tensor (B, H, W, C)")
            require(bool(torch.isfinite(buffer).all()), f"{where}: {name!r} is not finite")
            sizes.add(tuple(buffer.shape[:3]))
        require(len(sizes) == 1, f"{where}: buffers of different sizes {sorted(sizes)}")
        mask = found.get("mask")
        require(mask is not None, f"{where}: there is no 'mask' among {', '.join(found)}")
        assert mask is not None
        inside = mask.double()
        require(bool(((inside >= 0) & (inside <= 1)).all()), f"{where}: the mask leaves 0..1")
        require(0 < float(inside.mean()) < 1, f"{where}: the shape covers {float(inside.mean()):.0%} of the image")


def face_order(subject: Subject) -> None:
    """Faces in another order are the same picture."""
    call = calls(subject)[0]
    mesh = call.arguments["mesh"]
    faces = mesh.faces[torch.randperm(len(mesh.faces), generator=subject.rng("faces"))]
    other = subject.run(Call(call.label, call.verb, {**call.arguments, "mesh": replace(mesh, faces=faces)}))
    found = difference(dict(other), dict(subject.result(call)), path="buffers", relative=RELATIVE, absolute=ABSOLUTE)
    require(not found, f"faces in another order: {found}")


def degenerate(subject: Subject) -> None:
    """An empty mesh is an empty picture, or an error of Shapewright's."""
    call = calls(subject)[0]
    try:
        found = subject.run(Call("an empty mesh", call.verb, {**call.arguments, "mesh": toys.empty()}))
    except ShapewrightError:
        return
    except Exception as error:
        raise CheckFailure(f"an empty mesh: {type(error).__name__}: {error}; raise MeshError") from error
    require(not float(found["mask"].double().sum()), "an empty mesh covers pixels")


BUFFERS = Check(
    "buffers", "buffers are (B, H, W, C) of one size; a sphere covers a part of the mask", buffers, basic=True
)
CHECKS = (
    Check("face_order", "faces may come in any order", face_order),
    Check("degenerate", "an empty mesh: an empty picture, or an error of Shapewright's", degenerate),
)
