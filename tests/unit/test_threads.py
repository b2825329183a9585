"""Pieces that are written to one output while their sizes are still being found."""

from __future__ import annotations

import time

import pytest
from shapewright_kernels.threads import OrderedPieces, run_chunks


def test_pieces_follow_one_another_whatever_their_speed() -> None:
    pieces = OrderedPieces()

    def work(piece: int) -> tuple[int, int]:
        with pieces.failing_together():
            time.sleep(0.002 * (piece % 3 == 0))
            return pieces.place(piece, piece + 1)

    found = run_chunks(work, range(12), threads=4)
    assert [start for start, _ in found] == [0, *(stop for _, stop in found[:-1])]
    assert [stop - start for start, stop in found] == list(range(1, 13))
    assert pieces.total == 78


def test_a_piece_that_fails_ends_the_work_with_its_own_error() -> None:
    pieces = OrderedPieces()

    def work(piece: int) -> None:
        with pieces.failing_together():
            if piece == 1:
                time.sleep(0.01)  # the pieces after it wait by now
                raise MemoryError("piece 1")
            pieces.place(piece, 1)

    with pytest.raises(MemoryError, match="piece 1"):
        run_chunks(work, range(6), threads=4)
