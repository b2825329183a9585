"""The same checks as one parametrised test function for pytest."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..host import Catalog
from .runner import Suite
from .subject import Inputs


def conformance(
    key: str,
    *,
    expected_failures: Mapping[str, str] | None = None,
    options: Mapping[str, Any] | None = None,
    inputs: Inputs | None = None,
    api: str | None = None,
    catalog: Catalog | None = None,
) -> Callable[[str], None]:
    """A test function with one case for each check of the component ``key``; assign it to a name that pytest collects.

    Args:
        key: ``"kind/name"`` of an installed component.
        expected_failures: check to reason. Such a check is run, whether claimed or not, and must fail; one that passes
            fails the test, so that the list does not outlive its reasons.
        options: options of the component, as under ``with`` in a registry file; small sizes for learned components.
        inputs: port to example values (at least two, one sample each), or to a function that makes them, for ports
            whose values neither the kit nor an installed component can make.
        api: version of the plugin contract to check against; the installed one when ``None``.
        catalog: what is installed; discovered when ``None``.
    Raises:
        UnknownComponentError: nothing installed provides ``key``.
        ConfigError: ``expected_failures`` names a check that there is not, or ``api`` is not one this version knows.
    """
    import pytest

    suite = Suite.of(key, expected_failures=expected_failures, options=options, inputs=inputs, api=api, catalog=catalog)

    @pytest.mark.parametrize("check", suite.names)
    def test(check: str) -> None:
        outcome = suite.outcome(check)
        if outcome.status == "fail":
            pytest.fail(f"{key} {check}: {outcome.reason}", pytrace=False)
        if outcome.status == "expected failure":
            pytest.xfail(outcome.reason)
        if outcome.status in ("skipped", "not run"):
            pytest.skip(f"{outcome.status}: {outcome.reason}")

    test.__doc__ = f"Conformance of {key}."
    return test
