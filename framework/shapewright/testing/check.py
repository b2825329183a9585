"""What a check is, and how it says that something is wrong or cannot be tried here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from .subject import Subject

Status = Literal["pass", "fail", "expected failure", "skipped", "not run"]


class CheckFailure(AssertionError):  # noqa: N818 (a verdict, not an error of the kit)
    """The component does not keep its contract; the message says what was wanted and what was found."""


class NotHere(Exception):  # noqa: N818 (nothing is wrong with the component)
    """The check cannot be tried here; the message says what is missing."""


def require(holds: object, message: str) -> None:
    """Raises:
    CheckFailure: ``holds`` is false. A function, not ``assert``, because ``python -O`` must not change a verdict.
    """
    if not holds:
        raise CheckFailure(message)


@dataclass(frozen=True, slots=True)
class Check:
    """One statement about a component.

    ``basic``: nothing that comes later means much where this fails, so the run stops there. ``claim``: the capability
    that asks for this check; it is skipped where the spec does not claim it. ``since``: the version of the plugin
    contract that brought the statement.
    """

    name: str
    proves: str
    run: Callable[[Subject], None]
    basic: bool = False
    claim: str = ""
    since: tuple[int, int] = (1, 0)


@dataclass(frozen=True, slots=True)
class Outcome:
    """Verdict of one check on one component."""

    component: str
    check: str
    status: Status
    seconds: float
    reason: str = ""
