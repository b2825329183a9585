"""The exact side of a line, and pictures that do not depend on how a mesh is stored."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from shapewright_kernels.cameras import look_at, perspective
from shapewright_kernels.exact_orientation import orientation
from shapewright_kernels.rasterise import rasterise

SETTINGS = settings(max_examples=60, deadline=None)
COORDINATES = st.floats(-1e6, 1e6).map(lambda value: float(np.float64(value) + 256.0) - 256.0)


def exact_side(a: tuple, b: tuple, p: tuple) -> int:
    (ax, ay), (bx, by), (px, py) = (tuple(map(Fraction, point)) for point in (a, b, p))
    value = (bx - ax) * (py - ay) - (by - ay) * (px - ax)
    return (value > 0) - (value < 0)


@SETTINGS
@given(*[st.tuples(COORDINATES, COORDINATES)] * 2, st.floats(-1, 2), st.integers(-2, 2), st.integers(-2, 2))
def test_side_of_a_line_equals_rational_arithmetic(a: tuple, b: tuple, share: float, right: int, down: int) -> None:
    """Points a few units in the last place from the line, where floating point alone guesses."""
    x, y = (a[axis] + share * (b[axis] - a[axis]) for axis in (0, 1))
    p = (x + right * np.spacing(max(abs(x), 1.0)), y + down * np.spacing(max(abs(y), 1.0)))
    assert orientation(*a, *b, *p) == exact_side(a, b, p)
    assert orientation(*b, *a, *p) == -exact_side(a, b, p)


@SETTINGS
@given(st.integers(0, 2**32), st.integers(0, 2**32))
def test_storage_order_only_renames_faces(seed: int, order_seed: int) -> None:
    rng, other = np.random.default_rng(seed), np.random.default_rng(order_seed)
    vertices, faces = rng.uniform(-1, 1, (30, 3)), rng.integers(0, 30, (40, 3))
    # of copies only the first is seen, so there are none here
    faces = faces[np.unique(np.sort(faces, axis=1), axis=0, return_index=True)[1]]
    camera = perspective(look_at((0, 0.3, 1.1), (0, 0, 0)), fov=80, near=0.4)
    order = other.permutation(len(faces))
    turned = np.array([np.roll(face, other.integers(3)) for face in faces[order]])
    one, two = rasterise(vertices, faces, camera, 40, 50), rasterise(vertices, turned, camera, 40, 50)
    assert np.array_equal(one.depth, two.depth)
    assert np.array_equal(one.face_ids, np.append(order, -1)[two.face_ids])
    assert np.allclose(one.normal, two.normal, atol=1e-6)
    assert one.skipped_faces == two.skipped_faces
