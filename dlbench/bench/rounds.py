"""Medians, quartiles and ratios of measurements in rounds. Pure functions."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence

from dlbench.stats import mean_interval

#: Median, lower and upper quartile; or a ratio and its 95 % interval.
Triple = tuple[float, float, float]


def quartiles(values: Sequence[float]) -> Triple:
    """Median, lower quartile and upper quartile of at least one value."""
    if len(values) == 1:
        return values[0], values[0], values[0]
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return median, low, high


def ratio(numerators: Sequence[float], denominators: Sequence[float]) -> Triple:
    """How many times larger one quantity is than another that was measured in the same rounds.

    The geometric mean of the ratios of all rounds, with Student's 95 % interval, computed from their logarithms. If the
    machine is slower during a whole round, that cancels.

    Args:
        numerators: one positive number per round.
        denominators: likewise, in the same order.

    Returns:
        The ratio, its lower bound and its upper bound; the bounds are ``nan`` if there is only one round.
    """
    logs = [math.log(a / b) for a, b in zip(numerators, denominators, strict=True)]
    interval = mean_interval(logs)
    return math.exp(interval.estimate), math.exp(interval.low), math.exp(interval.high)


def best(samples: Mapping[str, Sequence[float]], names: Sequence[str]) -> str:
    """The setting with the highest median, among those of ``names`` that were measured."""
    return max((name for name in names if name in samples), key=lambda name: statistics.median(samples[name]))


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that is not exceeded by the given share of the values."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]
