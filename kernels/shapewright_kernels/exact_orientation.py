"""On which side of a line through two points a third one lies: exact for float64 coordinates, fast where it is clear.

Source: Shewchuk 1997, "Adaptive precision floating-point arithmetic and fast robust geometric predicates".
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

ERROR = 3.3306690738754716e-16
"""``(3 + 16 eps) eps``: bound of the rounding of the determinant relative to the sum of its products."""
SPLITTER = 134217729.0
"""``2^27 + 1``: parts a float64 in two halves whose products are exact."""


@njit(nogil=True, cache=True, error_model="numpy")
def orientation(ax: float, ay: float, bx: float, by: float, px: float, py: float) -> Any:
    """Sign (-1, 0, 1) of ``(b - a) x (p - a)`` (*compiled*).

    Exact as long as products of coordinates neither overflow nor underflow; swapping ``a`` and ``b`` turns the sign.
    """
    left, right = (bx - ax) * (py - ay), (by - ay) * (px - ax)
    value = left - right
    bound = ERROR * (abs(left) + abs(right))
    if value > bound:
        return 1
    if -value > bound:
        return -1
    return _exact(ax, ay, bx, by, px, py)


@njit(nogil=True, cache=True, error_model="numpy")
def _exact(ax: float, ay: float, bx: float, by: float, px: float, py: float) -> Any:
    """Sign of ``a x b + b x p + p x a``: twelve terms summed without rounding."""
    terms = np.empty(12, np.float64)
    _product(ax, by, terms, 0)
    _product(-ay, bx, terms, 2)
    _product(bx, py, terms, 4)
    _product(-by, px, terms, 6)
    _product(px, ay, terms, 8)
    _product(-py, ax, terms, 10)
    parts = np.zeros(12, np.float64)  # ascending, no two share a bit
    for count in range(12):
        total = terms[count]
        for part in range(count):
            before, added = total, parts[part]
            total = before + added
            virtual = total - before
            parts[part] = (before - (total - virtual)) + (added - virtual)
        parts[count] = total
    for part in range(11, -1, -1):
        if parts[part] != 0.0:
            return 1 if parts[part] > 0.0 else -1
    return 0


@njit(nogil=True, cache=True, error_model="numpy")
def _product(a: float, b: float, terms: Any, at: int) -> None:
    """``a * b`` as rounded product and its error (Dekker 1971)."""
    product = a * b
    wide = SPLITTER * a
    a_high = wide - (wide - a)
    a_low = a - a_high
    wide = SPLITTER * b
    b_high = wide - (wide - b)
    b_low = b - b_high
    terms[at] = a_low * b_low - (((product - a_high * b_high) - a_low * b_high) - a_high * b_low)
    terms[at + 1] = product
