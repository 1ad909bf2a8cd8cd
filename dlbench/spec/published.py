"""Results that others have published, to be shown beside one's own. No jax."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dlbench.errors import SpecError
from dlbench.spec.claims import Selection
from dlbench.spec.metrics import metric, metric_key


@dataclass(frozen=True)
class Published:
    """A published result, or another one that is shown in its way.

    It is a baseline, or the result of one run of a configuration that the study trains too.

    Attributes:
        name: what it is a result of.
        source: where it was published.
        values: metrics by their key in a flat record, and ``num_params``: accuracies in [0, 1], times in seconds.
        is_published: False for what was computed here.
        of: the trials of the study that repeat it, each with a seed of its own; ``None`` for a baseline.
    """

    name: str
    source: str
    values: Mapping[str, float]
    is_published: bool = True
    of: Selection | None = None


def published_value(name: str, value: object) -> tuple[str, float]:
    """The key and the value of a published metric.

    Args:
        name: the metric, "test/accuracy" or ``test_accuracy``; or ``num_params``.
        value: its value.

    Raises:
        UnknownNameError: there is no such metric.
        SpecError: the value is no number, or no accuracy.
    """
    key = name if name == "num_params" else metric_key(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise SpecError.must_be(name, "a number", value)
    if key != "num_params" and metric(key).unit == "points" and not 0 <= value <= 1:
        remedy = f"write {value / 100:g}" if 1 < value <= 100 else None
        raise SpecError.must_be(name, "in [0, 1]", value, remedy=remedy)
    return key, float(value)
