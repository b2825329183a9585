"""Protocol ids and the definitions behind them."""

from __future__ import annotations

from shapewright.interfaces import MetricDefinition

FAILED_DISTANCE = 0.5
"""What a failed cell counts as, in ``box1`` units (docs/protocols.md, "Failures")."""


def versioned(name: str, samples: int, standard: int) -> str:
    """``name/v1``, marked where the sample count is not the protocol's: ``chamfer-l1/v1@20k``.

    >>> versioned("chamfer-l1", 100_000, 100_000), versioned("chamfer-l1", 20_000, 100_000)
    ('chamfer-l1/v1', 'chamfer-l1/v1@20k')
    """
    return f"{name}/v1" if samples == standard else f"{name}/v1@{count_name(samples)}"


def count_name(count: int) -> str:
    """
    >>> count_name(20_000), count_name(1_000_000), count_name(1_500)
    ('20k', '1M', '1500')
    """
    for size, unit in ((1_000_000, "M"), (1_000, "k")):
        if count >= size and count % size == 0:
            return f"{count // size}{unit}"
    return str(count)


def distance(definition: str, *, symmetric: bool = False) -> MetricDefinition:
    """A length in ``box1`` units, less is better."""
    return MetricDefinition(definition, False, "box1", failure=FAILED_DISTANCE, symmetric=symmetric)


def squared(definition: str, *, symmetric: bool = False) -> MetricDefinition:
    """A sum over both directions of mean squared lengths, less is better."""
    return MetricDefinition(definition, False, "box1^2", failure=2 * FAILED_DISTANCE**2, symmetric=symmetric)


def share(definition: str, *, symmetric: bool = False) -> MetricDefinition:
    """A number of at most 1, more is better."""
    return MetricDefinition(definition, True, "1", failure=0.0, symmetric=symmetric)


def health(definition: str, unit: str = "count", *, higher_is_better: bool = False) -> MetricDefinition:
    """A statement about the mesh itself; failed cells are counted, not averaged."""
    return MetricDefinition(definition, higher_is_better, unit, group="health")
