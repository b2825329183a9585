"""Run the checks of one component: from basic to derived, stopping at the first basic failure."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from time import perf_counter
from typing import Any

from ..errors import ConfigError, MissingExtraError
from ..host import Catalog, discover
from ..spec import API_VERSION
from .check import Check, CheckFailure, NotHere, Outcome, Status
from .subject import Inputs, Subject
from .suites import checks_of

__all__ = ["Outcome", "Suite", "conform"]


@dataclass(frozen=True)
class Suite:
    """The checks that one component is to pass, and what has been found so far."""

    subject: Subject
    checks: tuple[Check, ...]
    expected: Mapping[str, str]
    _found: dict[str, Outcome] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        key: str,
        *,
        expected_failures: Mapping[str, str] | None = None,
        options: Mapping[str, Any] | None = None,
        inputs: Inputs | None = None,
        api: str | None = None,
        catalog: Catalog | None = None,
    ) -> Suite:
        """See :func:`shapewright.testing.conformance` for the arguments and errors."""
        catalog = discover() if catalog is None else catalog
        spec = catalog.get(key)
        checks = selected(checks_of(spec.kind), api)
        expected = dict(expected_failures or {})
        names = [check.name for check in checks]
        for name in expected:
            if name not in names:
                close = get_close_matches(name, names, n=1)
                hint = f"did you mean {close[0]!r}?" if close else f"there is {', '.join(names)}"
                raise ConfigError(f"{key} has no check {name!r}; {hint}")
        return cls(Subject(catalog, spec, dict(options or {}), dict(inputs or {})), checks, expected)

    @property
    def names(self) -> list[str]:
        """Names of the checks, from basic to derived."""
        return [check.name for check in self.checks]

    def outcome(self, name: str) -> Outcome:
        """The verdict on one check; basic ones that come before it are run first."""
        if name not in self._found:
            check = next(check for check in self.checks if check.name == name)
            self._found[name] = self._stopped(check) or self._verdict(check)
        return self._found[name]

    def _stopped(self, check: Check) -> Outcome | None:
        for before in self.checks[: self.checks.index(check)]:
            if before.basic and self.outcome(before.name).status in ("fail", "not run"):
                first = next(c.name for c in self.checks if self._found[c.name].status == "fail")
                return Outcome(self.subject.spec.key, check.name, "not run", 0.0, f"{first} failed")
        return None

    def _verdict(self, check: Check) -> Outcome:
        spec = self.subject.spec
        claimed = not check.claim or bool(getattr(spec.capabilities, check.claim))
        start = perf_counter()
        status: Status
        if not claimed and check.name not in self.expected:
            status, reason = "skipped", f"{check.claim} is not claimed"
        else:
            status, reason = _tried(check, self.subject)
        if check.name in self.expected:
            if status == "fail":
                status, reason = "expected failure", self.expected[check.name]
            elif status == "pass":
                status = "fail"
                reason = f"passes, though expected to fail ({self.expected[check.name]}); take it off the list" + (
                    "" if claimed else f" and claim {check.claim}"
                )
        return Outcome(spec.key, check.name, status, perf_counter() - start, reason)


def _tried(check: Check, subject: Subject) -> tuple[Status, str]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd shapes are meant to be odd
            check.run(subject)
    except NotHere as missing:
        return "skipped", str(missing)
    except MissingExtraError as missing:
        return "skipped", str(missing)
    except CheckFailure as failure:
        return "fail", str(failure)
    except Exception as error:  # a plugin may fail in any way; that is the verdict
        return "fail", f"{type(error).__name__}: {' '.join(str(error).split())}"
    return "pass", ""


def selected(checks: Sequence[Check], api: str | None) -> tuple[Check, ...]:
    """The checks that version ``api`` of the plugin contract asks for; the installed version when ``None``."""
    provided = ".".join(map(str, API_VERSION))
    if api is None:
        wanted = API_VERSION
    else:
        try:
            major, minor = (int(part) for part in api.split("."))
        except ValueError:
            raise ConfigError(f"api must read 'major.minor', such as {provided}, not {api!r}") from None
        wanted = (major, minor)
        if major != API_VERSION[0] or not 0 <= minor <= API_VERSION[1]:
            raise ConfigError(f"this Shapewright checks plugin API {API_VERSION[0]}.0 to {provided}, not {api}")
    return tuple(check for check in checks if check.since <= wanted)


def conform(
    key: str,
    *,
    expected_failures: Mapping[str, str] | None = None,
    options: Mapping[str, Any] | None = None,
    inputs: Inputs | None = None,
    api: str | None = None,
    catalog: Catalog | None = None,
    announce: Callable[[Outcome], None] = lambda outcome: None,
) -> list[Outcome]:
    """All verdicts on the component ``key``, in order; ``announce`` hears each as it falls.

    Arguments and errors as of :func:`shapewright.testing.conformance`.
    """
    suite = Suite.of(key, expected_failures=expected_failures, options=options, inputs=inputs, api=api, catalog=catalog)
    outcomes = []
    for name in suite.names:
        outcomes.append(suite.outcome(name))
        announce(outcomes[-1])
    return outcomes
