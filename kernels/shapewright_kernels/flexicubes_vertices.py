"""Positions of FlexiCubes' dual vertices in one compiled pass, and their derivatives in another.

The same arithmetic in the same order as the torch expressions of :mod:`.flexicubes`, so that both agree to the rounding
of tanh; what is saved are the temporaries, a dozen arrays of the size of all (dual vertex, edge) incidences and their
scattered gradients. First derivatives only, as there.
Source: Shen et al. 2023, equations 3 to 7.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.function import once_differentiable

from .arrays import Floats, Ints
from .flexicubes_tables import EDGES
from .flexicubes_topology import Topology
from .threads import run_chunks, spans

Bytes = NDArray[np.uint8]
_CHUNK = 1 << 14


@njit(nogil=True, cache=True, error_model="numpy")
def _place(
    dual_voxel: Ints, dual_start: Ints, edge: Bytes, ends: Ints, rows: Ints, positions: Floats, sdf: Floats,
    alpha: Floats, beta: Floats, edges: Ints, one: float, scale: float, low: int, high: int, vertices: Floats,
) -> None:  # fmt: skip
    """``alpha`` and ``beta`` are hyperbolic tangents of the raw weights, empty for neutral ones. ``one`` and ``scale``
    have the precision of the positions, to keep everything in it."""
    for d in range(low, high):
        row = rows[dual_voxel[d]]
        total = x = y = z = one - one
        for i in range(dual_start[d], dual_start[d + 1]):
            a, b = ends[i, 0], ends[i, 1]
            near, far = sdf[a], sdf[b]
            if alpha.shape[0] > 0:
                near *= one + scale * alpha[row, edges[edge[i], 0]]
                far *= one + scale * alpha[row, edges[edge[i], 1]]
            share = one
            if beta.shape[0] > 0:
                share += scale * beta[row, edge[i]]
            run = far - near
            x += (positions[a, 0] * far - positions[b, 0] * near) / run * share
            y += (positions[a, 1] * far - positions[b, 1] * near) / run * share
            z += (positions[a, 2] * far - positions[b, 2] * near) / run * share
            total += share
        vertices[d, 0], vertices[d, 1], vertices[d, 2] = x / total, y / total, z / total


@njit(nogil=True, cache=True, error_model="numpy")
def _pull_back(
    dual_voxel: Ints, dual_start: Ints, edge: Bytes, ends: Ints, rows: Ints, voxels: Ints, positions: Floats,
    sdf: Floats, alpha: Floats, beta: Floats, edges: Ints, one: float, scale: float, vertices: Floats, wanted: Floats,
    to_positions: Floats, to_sdf: Floats, to_alpha: Floats, to_beta: Floats,
) -> None:  # fmt: skip
    """Add to the gradients of all inputs, given ``wanted`` of the vertices; outputs of size 0 are left out. ``rows`` of
    ``alpha`` and ``beta`` belong to ``voxels``, the rows of their gradients."""
    u = np.empty(3, positions.dtype)
    pull = np.empty(3, positions.dtype)
    for d in range(len(dual_voxel)):
        row, voxel = rows[dual_voxel[d]], voxels[dual_voxel[d]]
        total = one - one
        for i in range(dual_start[d], dual_start[d + 1]):
            total += one + scale * beta[row, edge[i]] if beta.shape[0] > 0 else one
        for i in range(dual_start[d], dual_start[d + 1]):
            a, b, e = ends[i, 0], ends[i, 1], edge[i]
            weight_near = weight_far = one
            if alpha.shape[0] > 0:
                weight_near += scale * alpha[row, edges[e, 0]]
                weight_far += scale * alpha[row, edges[e, 1]]
            share = one + scale * beta[row, e] if beta.shape[0] > 0 else one
            near, far = sdf[a] * weight_near, sdf[b] * weight_far
            run = far - near
            by_share = by_near = by_far = one - one
            for axis in range(3):
                u[axis] = (positions[a, axis] * far - positions[b, axis] * near) / run
                pull[axis] = wanted[d, axis] / total
                by_share += pull[axis] * (u[axis] - vertices[d, axis])
                pull[axis] *= share
                by_near += pull[axis] * (u[axis] - positions[b, axis])
                by_far += pull[axis] * (positions[a, axis] - u[axis])
            by_near /= run
            by_far /= run
            if to_positions.shape[0] > 0:
                for axis in range(3):
                    to_positions[a, axis] += pull[axis] * far / run
                    to_positions[b, axis] -= pull[axis] * near / run
            if to_sdf.shape[0] > 0:
                to_sdf[a] += by_near * weight_near
                to_sdf[b] += by_far * weight_far
            if to_alpha.shape[0] > 0:
                tanh = alpha[row, edges[e, 0]]
                to_alpha[voxel, edges[e, 0]] += by_near * sdf[a] * scale * (one - tanh * tanh)
                tanh = alpha[row, edges[e, 1]]
                to_alpha[voxel, edges[e, 1]] += by_far * sdf[b] * scale * (one - tanh * tanh)
            if to_beta.shape[0] > 0:
                tanh = beta[row, e]
                to_beta[voxel, e] += by_share * scale * (one - tanh * tanh)


@njit(nogil=True, cache=True, error_model="numpy")
def _triangles(quads: Ints, rows: Ints, dual_voxel: Ints, gamma: Floats, low: int, high: int, faces: Ints) -> None:
    for q in range(low, high):
        a, b, c, d = quads[q, 0], quads[q, 1], quads[q, 2], quads[q, 3]
        along = False
        if gamma.shape[0] > 0:
            first = gamma[rows[dual_voxel[a]]] * gamma[rows[dual_voxel[c]]]
            along = first > gamma[rows[dual_voxel[b]]] * gamma[rows[dual_voxel[d]]]
        faces[2 * q, 0], faces[2 * q, 1] = a, b
        if along:
            faces[2 * q, 2] = c
            faces[2 * q + 1, 0], faces[2 * q + 1, 1], faces[2 * q + 1, 2] = a, c, d
        else:
            faces[2 * q, 2] = d
            faces[2 * q + 1, 0], faces[2 * q + 1, 1], faces[2 * q + 1, 2] = d, b, c


def _array(tensor: Tensor | None, like: Tensor) -> NDArray[Any]:
    """Contiguous, in the type of ``like``; no rows for ``None``."""
    if tensor is None:
        return np.empty((0, 0), like.detach().numpy().dtype)
    return np.ascontiguousarray(tensor.detach().to(like.dtype).numpy())


class _DualVertices(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, found: Topology, scale: float, threads: int | None,
        positions: Tensor, sdf: Tensor, alpha: Tensor | None, beta: Tensor | None,
    ) -> Tensor:  # fmt: skip
        # Weights of voxels without surface are not looked at; where those are many, leave them out.
        rows, given = found.voxels, alpha if alpha is not None else beta
        chosen = None if given is None or len(given) < 2 * len(rows) else torch.from_numpy(rows)
        if chosen is not None:
            rows = np.arange(len(rows))
        squashed = [
            None if raw is None else torch.tanh(raw if chosen is None else raw[chosen]) for raw in (alpha, beta)
        ]
        points, values, near, share = (_array(t, positions) for t in (positions, sdf, *squashed))
        vertices = np.empty((len(found.dual_voxel), 3), points.dtype)
        one, limit = points.dtype.type(1), points.dtype.type(scale)
        run_chunks(
            lambda span: _place(
                found.dual_voxel, found.dual_start, found.edge, found.ends, rows, points, values, near, share,
                EDGES, one, limit, *span, vertices,
            ),
            spans(len(vertices), _CHUNK),
            threads,
        )  # fmt: skip
        result = torch.from_numpy(vertices)
        ctx.settings = found, scale
        ctx.squashed = near, share, rows
        ctx.save_for_backward(positions, sdf, alpha, beta, result)
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, wanted: Tensor) -> Any:
        found, scale = ctx.settings
        *inputs, vertices = ctx.saved_tensors
        needed = ctx.needs_input_grad[3:]
        points, values = (_array(tensor, inputs[0]) for tensor in inputs[:2])
        to_positions, to_sdf, to_alpha, to_beta = (
            np.zeros(tensor.shape if need else (0, 0, 0)[: tensor.ndim], points.dtype)
            if tensor is not None
            else np.zeros((0, 0), points.dtype)
            for tensor, need in zip(inputs, needed, strict=True)
        )
        near, share, rows = ctx.squashed
        _pull_back(
            found.dual_voxel, found.dual_start, found.edge, found.ends, rows, found.voxels, points, values, near, share,
            EDGES, points.dtype.type(1), points.dtype.type(scale), _array(vertices, inputs[0]),
            _array(wanted, inputs[0]), to_positions, to_sdf, to_alpha, to_beta,
        )  # fmt: skip
        results = (to_positions, to_sdf, to_alpha, to_beta)
        found_gradients = (torch.from_numpy(r) if need else None for r, need in zip(results, needed, strict=True))
        return None, None, None, *found_gradients


def dual_vertices(
    found: Topology,
    positions: Tensor,
    sdf: Tensor,
    alpha: Tensor | None,
    beta: Tensor | None,
    scale: float,
    threads: int | None = None,
) -> Tensor:
    """``(D, 3)`` dual vertices of CPU tensors, differentiable once.

    Args:
        positions: ``(C, 3)``. sdf: ``(C,)``. alpha, beta: raw, ``(N, 8)`` and ``(N, 12)``, or ``None``.
        scale: range of the weights about 1.
        threads: never changes the result.
    """
    result: Tensor = _DualVertices.apply(found, scale, threads, positions, sdf, alpha, beta)  # type: ignore[no-untyped-call]
    return result


def split_faces(found: Topology, gamma: Tensor | None, threads: int | None = None) -> Tensor:
    """``(2 Q, 3)`` int64 triangles; ``gamma`` ``(N,)`` squashed to (0, 1), on the CPU. The diagonal with the larger
    product of weights is cut along; ties and ``None`` take the second one."""
    weights: Floats = np.empty(0) if gamma is None else np.ascontiguousarray(gamma.detach().numpy())
    faces = np.empty((2 * len(found.quads), 3), np.int64)
    run_chunks(
        lambda span: _triangles(found.quads, found.voxels, found.dual_voxel, weights, *span, faces),
        spans(len(found.quads), _CHUNK),
        threads,
    )
    return torch.from_numpy(faces)
