"""Signed distance fields of the toys in every storage of the framework, so that extractors need no representation."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..states import Frame, FunctionField, GridField, SparseField, SparseTensor
from . import toys
from .subject import RESOLUTION

FRAME = Frame().with_margin(RESOLUTION, 1.25)
BAND = 2.5
"""Cells on each side of the surface in which the sparse field has lattice points."""


@dataclass(frozen=True)
class Ball:
    """Distance to a sphere; its radius and centre are tensors, so gradients may reach them."""

    radius: Tensor
    centre: Tensor

    def __call__(self, points: Tensor) -> Tensor:
        distances: Tensor = (points - self.centre).norm(dim=-1) - self.radius
        return distances


@dataclass(frozen=True)
class Hollow:
    """A ball with a ball taken out of its middle."""

    outer: Ball
    inner: Ball

    def __call__(self, points: Tensor) -> Tensor:
        return torch.maximum(self.outer(points), -self.inner(points))


@dataclass(frozen=True)
class Polytope:
    """Distance to a convex solid inside and near its sides (the largest of the distances to their planes)."""

    normals: Tensor
    offsets: Tensor
    centre: Tensor

    def __call__(self, points: Tensor) -> Tensor:
        return ((points - self.centre) @ self.normals.T - self.offsets).amax(dim=-1)


Solid = Ball | Hollow | Polytope


def _centre() -> Tensor:
    return torch.tensor(toys.CENTRE, dtype=torch.float64)


def ball(radius: float = toys.SPHERE) -> Ball:
    """The solid that :func:`.toys.sphere` bounds."""
    return Ball(torch.tensor([radius], dtype=torch.float64), _centre())


def solids() -> dict[str, Solid]:
    """``sphere``, ``nested`` and ``cube``."""
    normals, offsets = toys.cube_sides()
    return {
        "sphere": ball(),
        "nested": Hollow(ball(), ball(toys.INNER)),
        "cube": Polytope(normals, offsets, _centre()),
    }


def stored(solid: Solid, tag: str) -> GridField | SparseField | FunctionField:
    """The field of ``solid`` as a value tagged ``tag``, in single precision, with exact gradients."""
    if tag == FunctionField.tag:
        return FunctionField(solid, FRAME)
    count = RESOLUTION + 1
    steps = [torch.linspace(low, high, count, dtype=torch.float64) for low, high in zip(FRAME.lower, FRAME.upper)]
    points = torch.stack(torch.meshgrid(*steps, indexing="ij"), dim=-1).requires_grad_()
    with torch.enable_grad():
        values = solid(points)
        (gradients,) = torch.autograd.grad(values.sum(), points)
    grid = GridField(values.detach().float(), FRAME, gradients=gradients.float())
    return grid if tag == GridField.tag else _band(grid)


def _band(grid: GridField) -> SparseField:
    near = grid.values.abs() < BAND * grid.spacing[0]
    places = near.nonzero()
    coords = torch.cat([torch.zeros_like(places[:, :1]), places], dim=1).int()
    values = SparseTensor(coords, grid.values[near][:, None], RESOLUTION)
    assert grid.gradients is not None
    return SparseField(values, frame=grid.frame, gradients=grid.gradients[near])


def without_surface(tag: str) -> GridField | SparseField | FunctionField:
    """A field that is positive everywhere."""
    found = stored(ball(), tag)
    if isinstance(found, GridField):
        return replace(found, values=torch.ones_like(found.values))
    if isinstance(found, SparseField):
        return replace(found, values=found.values.replace(torch.ones_like(found.values.feats)))
    return FunctionField(lambda points: torch.ones_like(points[..., 0]), found.frame)


TAGS = (GridField.tag, SparseField.tag, FunctionField.tag)
