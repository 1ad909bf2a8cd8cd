"""What a search finds with a given budget, and what a study with few seeds says."""

from __future__ import annotations

from collections.abc import Iterable

from dlbench.errors import InputError
from dlbench.stats.intervals import finite


def expected_best(
    values: Iterable[float], max_budget: int | None = None, higher_is_better: bool = True
) -> tuple[float, ...]:
    """The expected best of 1, 2, 3, ... configurations, as if each had been drawn from those that were tried.

    With F the empirical distribution of n values, the expected maximum of B draws is the sum over the values v of
    v · (F(v)^B - F(v-)^B). It holds for configurations that are drawn independently (random search). At B = n it is
    lower than the best value seen, because the same configuration can be drawn twice.

    Args:
        values: one number per configuration.
        max_budget: the largest number of configurations; by default the number of values.
        higher_is_better: False for losses.

    Returns:
        The expected best at each budget from 1 on.

    Raises:
        InputError: no values, a value that is not finite, or a budget below 1.

    References:
        Dodge et al. (2019), "Show your work: improved reporting of experimental results", EMNLP, equation 8.
    """
    sign = 1.0 if higher_is_better else -1.0
    sample = sorted(sign * value for value in finite(values))
    n = len(sample)
    most = n if max_budget is None else max_budget
    if most < 1:
        raise InputError(f"a budget is at least one configuration; got {most}.")
    return tuple(
        sign * sum(value * ((i / n) ** budget - ((i - 1) / n) ** budget) for i, value in enumerate(sample, 1))
        for budget in range(1, most + 1)
    )


def wrong_winner(
    a: Iterable[float], b: Iterable[float], num_seeds: int, num_resamples: int = 10_000
) -> float:
    """How often a study with few seeds would rank two groups otherwise than their means do.

    As many values of each group are drawn with replacement, independently, and their means compared; ties count half.

    Args:
        a: the values of the group with the higher mean, one per seed.
        b: the values of the other group.
        num_seeds: number of seeds of the study, at least 1.
        num_resamples: number of studies that are drawn; the same ones in every call.

    Returns:
        The share of studies in which b comes first, in [0, 1].

    Raises:
        InputError: no values, a value that is not finite, or fewer than one seed.
    """
    import numpy as np

    if num_seeds < 1:
        raise InputError(f"a study has at least one seed; got {num_seeds}.")
    draw = np.random.default_rng(0)
    means = []
    for values in map(sorted, map(finite, (a, b))):
        places = draw.integers(len(values), size=(num_resamples, num_seeds))
        means.append(np.asarray(values)[places].mean(axis=1))
    return float((means[1] > means[0]).mean() + (means[1] == means[0]).mean() / 2)
