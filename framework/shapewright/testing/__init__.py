"""The conformance kit: a component's whole test in three lines.

    from shapewright.testing import conformance

    test_my_representation = conformance("representation/mine")

``conform`` runs the same outside pytest; docs/conformance.md lists every check and what it proves.
"""

from .pytest_function import conformance
from .runner import Outcome, conform

__all__ = ["Outcome", "conform", "conformance"]
