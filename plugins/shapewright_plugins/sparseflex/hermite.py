"""Hermite data of a mesh on a sparse lattice, and the FlexiCubes weights that follow from them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from shapewright_kernels.arrays import Bools, Floats, Ints
from shapewright_kernels.closest_point import ClosestPointIndex
from shapewright_kernels.flexicubes_features import Weights, neutral_weights
from shapewright_kernels.flexicubes_fit import fit_weights, split_weights
from shapewright_kernels.flexicubes_hits import Hits, nearest_hits
from shapewright_kernels.flexicubes_sheets import Sheets
from shapewright_kernels.flexicubes_targets import (
    Crossings,
    bent_quads,
    hermite_targets,
    rim_vertices,
    single_face,
)
from shapewright_kernels.flexicubes_topology import Topology, topology

_FAR = 1.0
"""A sign change without a crossing nearby takes the closest surface point up to this many cells away."""
_LIFT = 2 / 3
_BULGE = 0.1
"""Height in cells up to which a target beside the surface is taken for curvature; two cells of radius have 0.125."""
_TURNS = 60
"""Tries to find a point of the border inside a voxel; few voxels, which the border cuts at a corner, need many."""
_TOUCH = 1e-3
"""Cells by which a border may miss a voxel and still count as passing through it."""
_BENT = 0.01
"""Distance in cells between the middles of its diagonals below which a quad counts as flat."""


def fitted_weights(
    voxels: NDArray[np.int32],
    cubes: Ints,
    corners: NDArray[np.int32],
    magnitudes: Floats,
    inside: Bools,
    steps: Ints,
    hits: Hits,
    sheets: Sheets,
    index: ClosestPointIndex,
) -> Weights:
    """Raw deformation and weights that put dual vertices on the creases and corners of the mesh.

    Args:
        voxels: ``(N, 3)`` active voxels, lexicographic. cubes: ``(N, 8)`` rows of the ``C`` corners.
        corners: ``(C, 3)``. magnitudes, inside: ``(C,)`` unsigned distances in cells, and sides.
        steps, hits: of the same corners.
        sheets, index: the mesh in cells.
    """
    found = topology(cubes, voxels, inside, ~inside)
    if len(found.voxels) == 0:
        return neutral_weights()
    crossing, edges, crossings = _crossings(found.ends, magnitudes, corners, steps, hits, sheets, index)
    targets = hermite_targets(found, voxels, crossing, crossings)
    origin = voxels[found.voxels[found.dual_voxel]]
    _settle(targets, origin, single_face(found.dual_start, crossing, hits.face), index)
    if len(sheets.border):
        _snap_to_border(targets, origin, rim_vertices(found, edges, steps), sheets)
    del crossing, edges, crossings
    alpha, beta, moved, residuals = fit_weights(found, cubes, magnitudes, targets)
    residuals += targets
    residuals += origin
    gamma = _diagonals(found, residuals, index)
    offset = np.flatnonzero(moved.any(axis=1))
    moved[offset] = np.arctanh(2 * moved[offset])
    return Weights(moved, found.voxels, beta, alpha, gamma)


def _settle(targets: Floats, origin: NDArray[np.int32], flat: Bools, index: ClosestPointIndex) -> None:
    """Move targets towards the surface, in place, where that keeps them in their voxels. Those of one ``flat`` face are
    means of its points and lie on it.

    A point that misses the surface by much is an artefact of nearly parallel planes and goes onto it. One that misses
    it by little stands outside a curved surface; its flat faces are best when it keeps two thirds of that height (for a
    paraboloid the mean sag of a face is two thirds of the height at which the tangent planes around a vertex meet).
    """
    known = np.flatnonzero(~np.isnan(targets[:, 0]) & ~flat)
    off, _, onto = index.query(targets[known] + origin[known])
    onto -= origin[known]
    curved = off <= _BULGE
    onto[curved] += _LIFT * (targets[known][curved] - onto[curved])
    within = ((onto >= 0) & (onto <= 1)).all(axis=1)
    targets[known[within]] = onto[within]


def _snap_to_border(targets: Floats, origin: NDArray[np.int32], rim: Bools, sheets: Sheets) -> None:
    """Put rim targets on the mesh's border, in place, where it passes through their voxel; else rims would be
    stairs."""
    rim &= ~np.isnan(targets[:, 0])
    if not rim.any():
        return
    segments = sheets.border[:, [0, 1, 1]]  # the index takes a triangle without area for its longest edge
    index = ClosestPointIndex(sheets.vertices, segments)
    rows = np.flatnonzero(rim)
    place = targets[rows]
    for _ in range(_TURNS):  # alternate between border and voxel: they meet if the border passes through
        _, _, onto = index.query(place + origin[rows])
        onto -= origin[rows]
        place = np.clip(onto, 0, 1)
        within = (np.abs(place - onto) < _TOUCH).all(axis=1)
        targets[rows[within]] = place[within]
        rows, place = rows[~within], place[~within]
        if len(rows) == 0:
            break


def _diagonals(found: Topology, vertices: Floats, index: ClosestPointIndex) -> Floats:
    """Raw gamma ``(S,)`` by comparing how far the middles of both diagonals of each bent quad are from the surface."""
    bent, middles = bent_quads(found.quads, vertices, _BENT)
    distances = index.query(middles.reshape(-1, 3))[0].reshape(-1, 2)
    gains = distances[:, 1] - distances[:, 0]
    asking = np.abs(gains) > _BENT / 4
    return split_weights(found.quads[bent[asking]], found.dual_voxel, gains[asking], len(found.voxels))


def _crossings(
    ends: Ints,
    magnitudes: Floats,
    corners: NDArray[np.int32],
    steps: Ints,
    hits: Hits,
    sheets: Sheets,
    index: ClosestPointIndex,
) -> tuple[Ints, Ints, Crossings]:
    """Row of each incidence in a list of surface points with normals: exact hits, then projections where none is; the
    number of each incidence's lattice edge; the list."""
    crossing, edges = nearest_hits(hits, ends, steps, magnitudes)
    missing = np.flatnonzero(crossing < 0)
    bare, at = np.unique(edges[missing], return_inverse=True)
    low, axis = bare // 3, bare % 3
    zero = corners[low].astype(np.float64)
    zero[np.arange(len(bare)), axis] += magnitudes[low] / (magnitudes[low] + magnitudes[steps[low, axis]])
    distances, faces, closest = index.query(zero)
    crossing[missing] = np.where(distances[at] <= _FAR, len(hits.face) + at, -1)
    normals = sheets.normals.faces
    return crossing, edges, Crossings(hits, corners, normals, closest, normals[faces])
