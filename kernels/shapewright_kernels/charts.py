"""Charts of a mesh: connected groups of faces with normals in a cone, which fall flat onto a plane without folds.

Charts grow by merging neighbours, the pair first that adds least to the deviation of normals (weighted by area) and to
the lengths of the rims. Faces that leave the cone of their chart are handed to a neighbour or become charts; faces of
one chart that would fall onto one another are parted at last, so that what is told holds for any input.
"""

from __future__ import annotations

from math import cos, pi, radians

import numpy as np
from numba import njit

from .arrays import Floats, Ints
from .chart_overlaps import parted
from .face_links import face_links
from .orientation import consistent_orientation
from .rows import cross_rows, norm_rows
from .topology import edge_topology

RIM_WEIGHT = 0.02
"""Share of a circle's area with the same rim that a longer rim costs, beside the deviation of normals times area."""
MEAN_SHARE = 0.55
"""A chart may grow while its mean deviation is that of a cap with this share of the cone's angle."""
HANDED = 4
"""Rounds in which faces outside the cone of their chart may join another one."""


def cone_charts(vertices: Floats, faces: Ints, *, degrees: float = 75.0) -> tuple[Ints, Floats]:
    """Charts whose normals lie within a cone, and their coordinates in the plane across its axis.

    Args:
        vertices: ``(V, 3)`` float64. faces: ``(F, 3)`` over merged vertices, each with an area. Windings may disagree;
            charts end where more than two faces meet, and where a surface has no two sides.
        degrees: half angle of the cone, below 90; no face is narrowed by more than its cosine.
    Returns:
        the chart of each face ``(F,)`` int64, numbered by their first faces, and ``(F, 3, 2)`` coordinates of its
        corners in the unit of length, each chart scaled to the area of its faces. No two faces of a chart overlap.
    """
    if not 0 < degrees < 90:
        raise ValueError(f"the half angle of the cone lies between 0 and 90 degrees, not {degrees}")
    topology = edge_topology(faces)
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    doubled = cross_rows(b - a, c - a)
    area = norm_rows(doubled) / 2
    flipped = consistent_orientation(faces, area, topology).flipped
    vectors = np.where(flipped[:, None], -doubled, doubled) / 2
    normals = vectors / np.maximum(area, np.finfo(np.float64).tiny)[:, None]
    two = topology.face_counts == 2
    pairs = topology.manifold_pairs
    agree = ~(topology.inconsistent[two] ^ flipped[pairs[:, 0]] ^ flipped[pairs[:, 1]])
    ends = vertices[topology.edges[two][agree]]
    pairs, lengths = np.ascontiguousarray(pairs[agree]), norm_rows(ends[:, 0] - ends[:, 1])
    rims = norm_rows(b - a) + norm_rows(c - b) + norm_rows(a - c)
    limit = (1 - cos(MEAN_SHARE * radians(degrees))) / 2
    labels = _merged(vectors, area, rims, pairs, lengths, limit, RIM_WEIGHT)
    starts, sides = face_links(pairs, len(faces))
    links = pairs.reshape(-1)[sides ^ 1]
    _keep_in_cones(labels, vectors, normals, starts, links, cos(radians(degrees)), cos(radians(degrees) / 2))
    flat = _projected(vertices, faces, labels, vectors, area)
    return _pieces(parted(labels, flat, starts, links), starts, links), flat


def _projected(vertices: Floats, faces: Ints, labels: Ints, vectors: Floats, area: Floats) -> Floats:
    """``(F, 3, 2)``: corners in the plane across the axis of the chart, which keeps the area of the chart."""
    count = int(labels.max()) + 1
    axis: Floats = np.stack([np.bincount(labels, vectors[:, k], count).astype(np.float64) for k in range(3)], axis=1)
    axis /= np.maximum(norm_rows(axis), np.finfo(np.float64).tiny)[:, None]
    # the coordinate axis farthest from the chart's, made perpendicular, so charts of boxes stay upright
    other = np.eye(3)[np.argmin(np.abs(axis), axis=1)]
    u = cross_rows(other, axis)
    u /= np.maximum(norm_rows(u), np.finfo(np.float64).tiny)[:, None]
    v = cross_rows(axis, u)
    corners = (vertices - vertices.mean(axis=0))[faces]
    flat = np.stack([(corners * w[labels][:, None]).sum(axis=2) for w in (u, v)], axis=2)
    one, two = flat[:, 1] - flat[:, 0], flat[:, 2] - flat[:, 0]
    shadow = np.bincount(labels, np.abs(one[:, 0] * two[:, 1] - one[:, 1] * two[:, 0]) / 2, count)
    scale = np.sqrt(np.bincount(labels, area, count) / np.maximum(shadow, np.finfo(np.float64).tiny))
    return np.asarray(flat * scale[labels][:, None, None], np.float64)


@njit(nogil=True, cache=True, error_model="numpy", inline="always")
def _root(parent: Ints, chart: int) -> int:
    while parent[chart] != chart:
        parent[chart] = parent[parent[chart]]
        chart = parent[chart]
    return chart


@njit(nogil=True, cache=True, error_model="numpy", inline="always")
def _before(costs: Floats, a: int, b: int) -> bool:
    return costs[a] < costs[b] or (costs[a] == costs[b] and a < b)


@njit(nogil=True, cache=True, error_model="numpy")
def _sink(heap: Ints, size: int, costs: Floats, place: int) -> None:
    item = heap[place]
    while True:
        child = 2 * place + 1
        if child >= size:
            break
        if child + 1 < size and _before(costs, heap[child + 1], heap[child]):
            child += 1
        if not _before(costs, heap[child], item):
            break
        heap[place] = heap[child]
        place = child
    heap[place] = item


@njit(nogil=True, cache=True, error_model="numpy")
def _merged(
    vectors: Floats, areas: Floats, rims: Floats, pairs: Ints, lengths: Floats, limit: float, weight: float
) -> Ints:
    """Labels ``(F,)`` after greedy merging; the root of each chart is its smallest face.

    ``parent`` joins charts, ``vector``, ``area`` and ``rim`` belong to the roots. Each pair is two entries of the lists
    of its charts (``first``, ``last``, ``after``); a pair found parallel to another one is melted into it, so each pair
    of charts soon has a single one. Costs are brought up to date where they come up.
    """
    count, edges = len(areas), len(pairs)
    parent = np.arange(count)
    vector, area, rim = vectors.copy(), areas.copy(), rims.copy()
    length = lengths.copy()
    size = np.zeros(count, np.int64)
    first, last = np.full(count, -1, np.int64), np.full(count, -1, np.int64)
    after = np.full(2 * edges, -1, np.int64)
    for edge in range(edges):
        for side in range(2):
            chart = pairs[edge, side]
            entry = 2 * edge + side
            if first[chart] < 0:
                first[chart] = entry
            else:
                after[last[chart]] = entry
            last[chart] = entry
            size[chart] += 1
    dead = np.zeros(edges, np.bool_)
    age, known = np.zeros(count, np.int64), np.full(edges, -1, np.int64)
    costs = np.zeros(edges)
    heap = np.empty(edges, np.int64)
    merged = True
    while merged:
        merged = False
        filled = 0
        for edge in range(edges):
            a, b = _root(parent, pairs[edge, 0]), _root(parent, pairs[edge, 1])
            if a == b:
                dead[edge] = True
            if not dead[edge]:
                costs[edge], known[edge] = -np.inf, -1
                heap[filled] = edge
                filled += 1
        while filled > 0:
            edge = heap[0]
            a, b = _root(parent, pairs[edge, 0]), _root(parent, pairs[edge, 1])
            if a == b or dead[edge]:
                dead[edge] = True
                filled -= 1
                heap[0] = heap[filled]
                _sink(heap, filled, costs, 0)
                continue
            if known[edge] != age[a] + age[b]:
                # ages only grow and the sum names the state of both, as charts never part
                known[edge] = age[a] + age[b]
                if size[b] < size[a]:
                    a, b = b, a
                previous, entry = -1, first[a]
                while entry >= 0:  # melt parallel pairs and drop inner ones
                    own = entry >> 1
                    far = _root(parent, pairs[own, 0])
                    if far == a:
                        far = _root(parent, pairs[own, 1])
                    if far == a or dead[own] or (far == b and own != edge):
                        if far == b and not dead[own]:
                            length[edge] += length[own]
                        dead[own] = True
                        size[a] -= 1
                        if previous < 0:
                            first[a] = after[entry]
                        else:
                            after[previous] = after[entry]
                        if last[a] == entry:
                            last[a] = previous
                    else:
                        previous = entry
                    entry = after[entry]
                total = area[a] + area[b]
                x, y, z = vector[a, 0] + vector[b, 0], vector[a, 1] + vector[b, 1], vector[a, 2] + vector[b, 2]
                deviation = total - np.sqrt(x * x + y * y + z * z)
                if deviation > limit * total:
                    filled -= 1
                    heap[0] = heap[filled]
                    _sink(heap, filled, costs, 0)
                    continue
                for chart in (a, b):
                    x, y, z = vector[chart, 0], vector[chart, 1], vector[chart, 2]
                    deviation -= area[chart] - np.sqrt(x * x + y * y + z * z)
                outer = rim[a] + rim[b] - 2 * length[edge]
                costs[edge] = deviation + weight * (outer * outer - rim[a] * rim[a] - rim[b] * rim[b]) / (4 * pi)
                _sink(heap, filled, costs, 0)
                continue
            merged = True
            keep, gone = min(a, b), max(a, b)
            parent[gone] = keep
            for axis in range(3):
                vector[keep, axis] += vector[gone, axis]
            area[keep] += area[gone]
            rim[keep] += rim[gone] - 2 * length[edge]
            age[keep] += age[gone] + 1
            size[keep] += size[gone]
            if first[gone] >= 0:
                if first[keep] < 0:
                    first[keep] = first[gone]
                else:
                    after[last[keep]] = first[gone]
                last[keep] = last[gone]
            dead[edge] = True
            filled -= 1
            heap[0] = heap[filled]
            _sink(heap, filled, costs, 0)
    labels = np.empty(count, np.int64)
    for face in range(count):
        labels[face] = _root(parent, face)
    return labels


@njit(nogil=True, cache=True, error_model="numpy")
def _axes(labels: Ints, vectors: Floats, charts: int) -> Floats:
    axes = np.zeros((charts, 3))
    for face in range(len(labels)):
        for k in range(3):
            axes[labels[face], k] += vectors[face, k]
    for chart in range(charts):
        x, y, z = axes[chart, 0], axes[chart, 1], axes[chart, 2]
        size = np.sqrt(x * x + y * y + z * z)
        if size > 0.0:
            for k in range(3):
                axes[chart, k] /= size
    return axes


@njit(nogil=True, cache=True, error_model="numpy", inline="always")
def _dot(a: Floats, i: int, b: Floats, j: int) -> float:
    return a[i, 0] * b[j, 0] + a[i, 1] * b[j, 1] + a[i, 2] * b[j, 2]


@njit(nogil=True, cache=True, error_model="numpy")
def _keep_in_cones(
    labels: Ints, vectors: Floats, normals: Floats, starts: Ints, links: Ints, least: float, close: float
) -> None:
    """Faces outside the cone of their chart go to the best neighbouring chart in whose cone they are, else to charts of
    their own, in place.

    The axes move with what comes and goes, so the later rounds only take away. What lies within half the cone of a
    first face lies within the cone of its own mean, so those charts stay as they are and the rounds end.
    """
    count = len(labels)
    out, stack = np.empty(count, np.int64), np.empty(count, np.int64)
    turn = 0
    while True:
        labels[:] = _pieces(labels, starts, links)  # each has an axis of its own
        charts = labels.max() + 1
        axes = _axes(labels, vectors, charts)
        found = 0
        for face in range(count):
            if not _dot(normals, face, axes, labels[face]) >= least:
                out[found] = face
                found += 1
        if found == 0:
            return
        for place in range(found):
            labels[out[place]] = -1
        if turn < HANDED:
            _hand_over(labels, normals, axes, starts, links, out[:found], least)
        turn += 1
        for place in range(found):
            seed = out[place]
            if labels[seed] >= 0:
                continue
            labels[seed] = charts
            stack[0], top = seed, 1
            while top > 0:
                top -= 1
                face = stack[top]
                for link in range(starts[face], starts[face + 1]):
                    other = links[link]
                    if labels[other] < 0 and _dot(normals, other, normals, seed) >= close:
                        labels[other] = charts
                        stack[top] = other
                        top += 1
            charts += 1


@njit(nogil=True, cache=True, error_model="numpy")
def _hand_over(
    labels: Ints, normals: Floats, axes: Floats, starts: Ints, links: Ints, faces: Ints, least: float
) -> None:
    changed = True
    while changed:
        changed = False
        for face in faces:
            if labels[face] >= 0:
                continue
            best, chosen = least, -1
            for link in range(starts[face], starts[face + 1]):
                chart = labels[links[link]]
                if chart >= 0:
                    dot = _dot(normals, face, axes, chart)
                    if dot > best or (dot == best and (chosen < 0 or chart < chosen)):
                        best, chosen = dot, chart
            if chosen >= 0:
                labels[face] = chosen
                changed = True


@njit(nogil=True, cache=True, error_model="numpy")
def _pieces(labels: Ints, starts: Ints, links: Ints) -> Ints:
    count = len(labels)
    pieces, stack = np.full(count, -1, np.int64), np.empty(count, np.int64)
    found = 0
    for seed in range(count):
        if pieces[seed] >= 0:
            continue
        pieces[seed] = found
        stack[0], top = seed, 1
        while top > 0:
            top -= 1
            face = stack[top]
            for link in range(starts[face], starts[face + 1]):
                other = links[link]
                if pieces[other] < 0 and labels[other] == labels[face]:
                    pieces[other] = found
                    stack[top] = other
                    top += 1
        found += 1
    return pieces
