"""Building blocks of sparse networks and attention, for our systems and for third parties. Names resolve lazily.

The layer above the core: it may import the kernels, and nothing of the core imports it. Blocks are plain
``torch.nn.Module`` whose parameters carry the names and layouts of the published checkpoints; they take and return
:class:`shapewright.SparseTensor`, and what may be shared between layers (neighbour maps, window partitions) is passed
along as a value.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

_HOMES: dict[str, list[str]] = {
}  # fmt: skip
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}
__all__ = [*_HOME_OF]  # noqa: PLE0604

if TYPE_CHECKING:
    pass


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module 'shapewright.nn' has no attribute {name!r}")
    return getattr(import_module(f".{home}", __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)
