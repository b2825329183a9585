"""Charts side by side on one square texture: each falls, by its outline, to where it loses least room.

Source: Levy, Petitjean, Ray and Maillot 2002, "Least squares conformal maps", section 4 (the horizon), with charts also
upside down, and the largest scale at which all of them fit.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

from .arrays import Floats, Ints

MARGIN = 1
"""Texels that stay free at the border of the texture, so no chart is looked up beyond it."""
ANGLES = 30
"""Turns of a quarter circle that are tried for the smallest box of a chart."""
SEARCHES = 9
"""Times that the distance between a scale that fits and one that does not is cut."""
FULL = 0.85
"""Share of the texture that charts never fill: where the search for a scale starts."""


class Packing(NamedTuple):
    """Result of :func:`pack_charts`."""

    uvs: Floats
    """``(F, 3, 2)`` in [0, 1], measured from the lower left corner."""
    scale: float
    """Texels a unit of length."""
    padding: int
    """Texels between charts; less than asked for only where so many charts leave no room."""


def pack_charts(labels: Ints, flat: Floats, *, size: int, padding: int) -> Packing:
    """Place charts on a texture.

    Args:
        labels: ``(F,)`` charts, numbered from 0. flat: ``(F, 3, 2)`` corners in units of length, any place and turn.
        size: texels along the side. padding: texels between charts at least.
    Raises:
        ValueError: so many charts that no scale makes room for them.

    >>> box = np.array([[[0, 0], [2, 0], [2, 1]], [[0, 0], [2, 1], [0, 1]]], float)
    >>> packing = pack_charts(np.zeros(2, int), box, size=64, padding=0)
    >>> bool(packing.scale > 30), float(packing.uvs.min()), bool(packing.uvs.max() <= 1)
    (True, 0.015625, True)
    """
    count = int(labels.max()) + 1
    upright, boxes = _upright(labels, flat, count, ANGLES)
    order = np.argsort(-boxes[:, 1], kind="stable")
    faces = np.argsort(labels, kind="stable")
    starts = np.searchsorted(labels[faces], np.arange(count + 1))
    one, two = flat[:, 1] - flat[:, 0], flat[:, 2] - flat[:, 0]
    area = float(np.abs(one[:, 0] * two[:, 1] - one[:, 1] * two[:, 0]).sum()) / 2
    inner = size - 2 * MARGIN
    longest = float(boxes.max())
    while True:
        most = min(np.sqrt(FULL * inner * inner / max(area, 1e-300)), (inner - 1) / max(longest, 1e-300))
        low, high, best = 0.0, most, None
        for turn in range(SEARCHES):
            scale = most if turn == 0 else (0.85 * high if best is None else (low + high) / 2)
            places, fits = _packed(upright, boxes, faces, starts, order, scale, inner, padding)
            if fits:
                low, best = scale, places
                if turn == 0:
                    break
            else:
                high = scale
        while best is None and high > 1e-9 * most:  # so many charts that the padding decides
            high /= 4
            places, fits = _packed(upright, boxes, faces, starts, order, high, inner, padding)
            if fits:
                low, best = high, places
        if best is not None:
            break
        if padding == 0:
            raise ValueError(f"{count} charts do not fit into {size} x {size} texels")
        padding //= 2
    moved = upright * low
    turned = best[:, 2] == 1
    extent = boxes * low
    moved = np.where(turned[labels][:, None, None], extent[labels][:, None] - moved, moved)
    uvs = (moved + best[labels, None, :2] + MARGIN) / size
    return Packing(np.clip(uvs, 0.0, 1.0), low, padding)


@njit(nogil=True, cache=True, error_model="numpy")
def _upright(labels: Ints, flat: Floats, count: int, angles: int) -> tuple[Floats, Floats]:
    """The charts turned so that their boxes are small and stand upright with a corner at 0, and the boxes' sizes."""
    low, high = np.empty((angles, count, 2)), np.empty((angles, count, 2))
    low[:] = np.inf
    high[:] = -np.inf
    for turn in range(angles):
        c, s = np.cos(0.5 * np.pi * turn / angles), np.sin(0.5 * np.pi * turn / angles)
        for face in range(len(labels)):
            chart = labels[face]
            for corner in range(3):
                x = c * flat[face, corner, 0] - s * flat[face, corner, 1]
                y = s * flat[face, corner, 0] + c * flat[face, corner, 1]
                low[turn, chart, 0], high[turn, chart, 0] = min(low[turn, chart, 0], x), max(high[turn, chart, 0], x)
                low[turn, chart, 1], high[turn, chart, 1] = min(low[turn, chart, 1], y), max(high[turn, chart, 1], y)
    result, boxes = np.empty_like(flat), np.empty((count, 2))
    best = np.zeros(count, np.int64)
    for chart in range(count):
        smallest = np.inf
        for turn in range(angles):
            w, h = high[turn, chart, 0] - low[turn, chart, 0], high[turn, chart, 1] - low[turn, chart, 1]
            if w * h < smallest * (1 - 1e-9):
                smallest, best[chart] = w * h, turn
                boxes[chart, 0], boxes[chart, 1] = min(w, h), max(w, h)
    for face in range(len(labels)):
        chart = labels[face]
        turn = best[chart]
        c, s = np.cos(0.5 * np.pi * turn / angles), np.sin(0.5 * np.pi * turn / angles)
        wide = high[turn, chart, 0] - low[turn, chart, 0] > high[turn, chart, 1] - low[turn, chart, 1]
        for corner in range(3):
            x = c * flat[face, corner, 0] - s * flat[face, corner, 1] - low[turn, chart, 0]
            y = s * flat[face, corner, 0] + c * flat[face, corner, 1] - low[turn, chart, 1]
            if wide:  # a quarter turn
                x, y = high[turn, chart, 1] - low[turn, chart, 1] - y, x
            result[face, corner, 0], result[face, corner, 1] = x, y
    return result, boxes


@njit(nogil=True, cache=True, error_model="numpy")
def _outline(upright: Floats, faces: Ints, scale: float, bottom: Ints, top: Ints) -> None:
    """Lowest and highest texel that a chart touches in each of its columns."""
    columns = len(bottom)
    bottom[:] = 1 << 40
    top[:] = -1
    for face in faces:
        for corner in range(3):
            ax, ay = scale * upright[face, corner, 0], scale * upright[face, corner, 1]
            bx, by = scale * upright[face, (corner + 1) % 3, 0], scale * upright[face, (corner + 1) % 3, 1]
            if bx < ax:
                ax, ay, bx, by = bx, by, ax, ay
            first, last = min(int(ax), columns - 1), min(int(bx), columns - 1)
            slope = (by - ay) / (bx - ax) if bx > ax else 0.0
            for column in range(first, last + 1):
                begin = ay if column == first else ay + slope * (column - ax)
                end = by if column == last else ay + slope * (column + 1 - ax)
                bottom[column] = min(bottom[column], int(max(min(begin, end), 0.0)))
                top[column] = max(top[column], int(max(begin, end)))
    for column in range(1, columns):  # a column without an edge cannot be, but for rounding
        if top[column] < 0:
            bottom[column], top[column] = bottom[column - 1], top[column - 1]


@njit(nogil=True, cache=True, error_model="numpy")
def _upside_down(bottom: Ints, top: Ints, wide: float, tall: float) -> None:
    """Add the outline of the chart turned by half a circle within its box as the second row.

    The box ends between texels, so each column covers parts of two columns of the first row.
    """
    columns = bottom.shape[1]
    for column in range(columns):
        one = min(max(int(np.floor(wide - column)), 0), columns - 1)
        two = min(max(int(np.floor(wide - column - 1)), 0), columns - 1)
        bottom[1, column] = max(int(tall - 1 - max(top[0, one], top[0, two])), 0)
        top[1, column] = int(tall - min(bottom[0, one], bottom[0, two]))


@njit(nogil=True, cache=True, error_model="numpy")
def _packed(
    upright: Floats, boxes: Floats, faces: Ints, starts: Ints, order: Ints, scale: float, size: int, padding: int
) -> tuple[Floats, bool]:
    """Column, row and whether upside down ``(C, 3)`` of each chart, and whether all fit into the square.

    Each chart goes where the texels lost below it and those of its width below its upper end are fewest.
    """
    places = np.zeros((len(order), 3))
    horizon = np.zeros(size, np.int64)
    used = 0
    for chart in order:
        wide, tall = scale * boxes[chart, 0], scale * boxes[chart, 1]
        w, h = int(wide) + 1, int(tall) + 1
        if w > size or h > size:
            return places, False
        bottom, top = np.empty((2, w), np.int64), np.empty((2, w), np.int64)
        _outline(upright, faces[starts[chart] : starts[chart + 1]], scale, bottom[0], top[0])
        _upside_down(bottom, top, wide, tall)
        for column in range(w):
            used += top[0, column] + 1 - bottom[0, column]
        if used > size * size:
            return places, False
        least, best_x, best_y, best_turn = size * size * size, -1, 0, 0
        for turn in range(2):
            for x in range(size - w + 1):
                y = 0
                for column in range(w):
                    y = max(y, horizon[x + column] - bottom[turn, column])
                cost = (y + h) * w
                if y + h > size or cost >= least:
                    continue
                for column in range(w):
                    cost += y + bottom[turn, column] - horizon[x + column]
                if cost < least:
                    least, best_x, best_y, best_turn = cost, x, y, turn
        if best_x < 0:
            return places, False
        places[chart, 0], places[chart, 1], places[chart, 2] = best_x, best_y, best_turn
        for column in range(w):
            level = best_y + top[best_turn, column] + 1 + padding
            for near in range(max(best_x + column - padding, 0), min(best_x + column + padding + 1, size)):
                horizon[near] = max(horizon[near], level)
    return places, True
