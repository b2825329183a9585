"""What decoders return."""

from __future__ import annotations

from typing import NamedTuple

from .frame import State
from .sparse import SparseTensor


class Decoded(NamedTuple):
    """Result of :meth:`Encoder.decode`; field names are the port names."""

    state: State
    guides: tuple[SparseTensor, ...] = ()
