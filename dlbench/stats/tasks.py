"""Comparisons over several tasks (data sets): mean ranks, performance profiles, probability of improvement."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dlbench.errors import InputError
from dlbench.stats.intervals import Interval, check_fraction, finite

if TYPE_CHECKING:
    from numpy.typing import NDArray

Scores = Mapping[str, Mapping[str, Sequence[float]]]
"""Name of a method → name of a task → values of its replicates. Every method has values for every task."""


@dataclass(frozen=True)
class MeanRanks:
    """Methods ranked on each task, and the ranks averaged over tasks; rank 1 is the best.

    Attributes:
        ranks: the mean rank of each method, the best first, with its bootstrap interval over replicates.
        p_value: of the hypothesis that all methods are alike, by Iman and Davenport's version of Friedman's test.
        critical_difference: mean ranks that differ by more are significantly different (Nemenyi's test).
        alpha: family-wise error rate of that test.
        num_tasks: number of tasks.
    """

    ranks: Mapping[str, Interval]
    p_value: float
    critical_difference: float
    alpha: float
    num_tasks: int

    def differ(self, a: str, b: str) -> bool:
        """Whether two methods are significantly different over the tasks."""
        return abs(self.ranks[a].estimate - self.ranks[b].estimate) > self.critical_difference


@dataclass(frozen=True)
class Profile:
    """The share of tasks on which a method's cost is at most a multiple of the least cost of any method.

    Attributes:
        ratios: the multiples, from 1 on.
        shares: the share of tasks for each of them, in [0, 1].
        low: lower end of the bootstrap band over replicates, point by point.
        high: its upper end.
    """

    ratios: tuple[float, ...]
    shares: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


def mean_ranks(
    scores: Scores,
    higher_is_better: bool = True,
    alpha: float = 0.05,
    seed: int = 0,
    num_resamples: int = 2000,
    confidence: float = 0.95,
) -> MeanRanks:
    """Rank methods by their mean on each task, and average the ranks over tasks.

    With k methods on N tasks, Friedman's χ² = 12 N / (k (k + 1)) · (Σ R² - k (k + 1)² / 4), and
    F = (N - 1) χ² / (N (k - 1) - χ²) with k - 1 and (k - 1)(N - 1) degrees of freedom. The critical difference of
    Nemenyi is q · √(k (k + 1) / (6 N)), where q is the quantile of the studentized range over √2. The tests take the
    tasks as a sample of tasks; the intervals resample the replicates of each task and take the tasks as they are.

    Args:
        scores: the values.
        higher_is_better: False for losses and times.
        alpha: family-wise error rate, in (0, 1).
        seed: seed of the resampling.
        num_resamples: number of bootstrap samples.
        confidence: nominal coverage of each interval, in (0, 1).

    Raises:
        InputError: fewer than two methods or tasks, a task without values, a value that is not finite, or an alpha or
            confidence outside (0, 1).

    References:
        Demšar (2006), "Statistical comparisons of classifiers over multiple data sets", JMLR 7.
    """
    import numpy as np
    import scipy.special
    import scipy.stats

    check_fraction("alpha", alpha)
    names, tasks = _names(scores)
    sign = -1 if higher_is_better else 1
    means = sign * _means(scores, names, tasks)
    k, n = len(names), len(tasks)
    ranks = scipy.stats.rankdata(means, axis=0).mean(axis=1)
    chi2 = 12 * n / (k * (k + 1)) * (float((ranks**2).sum()) - k * (k + 1) ** 2 / 4)
    left = n * (k - 1) - chi2
    p_value = (
        float(scipy.special.fdtrc(k - 1, (k - 1) * (n - 1), (n - 1) * chi2 / left))
        if left > 1e-9
        else float(math.factorial(k)) ** (1 - n)  # of all rankings, one in k! is that of the first task
    )
    critical = float(scipy.stats.studentized_range.ppf(1 - alpha, k, np.inf)) / math.sqrt(2)
    drawn = sign * _resampled_means(scores, names, tasks, seed, num_resamples)
    low, high = _band(scipy.stats.rankdata(drawn, axis=1).mean(axis=2), confidence)
    spread = [float(np.std(_ranks, ddof=1)) for _ranks in scipy.stats.rankdata(means, axis=0)]
    found = {
        name: Interval(float(ranks[i]), float(low[i]), float(high[i]), "bootstrap", n, spread[i], confidence)
        for i, name in enumerate(names)
    }
    ordered = dict(sorted(found.items(), key=lambda item: (item[1].estimate, item[0])))
    return MeanRanks(ordered, p_value, critical * math.sqrt(k * (k + 1) / (6 * n)), alpha, n)


def performance_profiles(
    costs: Scores,
    ratios: Sequence[float] = (1.0, 1.1, 1.25, 1.5, 2.0, 4.0),
    seed: int = 0,
    num_resamples: int = 2000,
    confidence: float = 0.95,
) -> dict[str, Profile]:
    """Performance profiles: how often is a method within a factor of the best one?

    For each task, the mean cost of a method is divided by the least mean cost of any method.

    Args:
        costs: the values, such as error rates or times, at least 0; lower is better.
        ratios: the factors, at least 1 and ascending.
        seed: seed of the resampling.
        num_resamples: number of bootstrap samples.
        confidence: nominal coverage of the bands at each factor, in (0, 1).

    Raises:
        InputError: as for `mean_ranks`, a negative cost, or factors that are below 1 or not ascending.

    References:
        Dolan and Moré (2002), "Benchmarking optimization software with performance profiles", Math. Program. 91(2).
    """
    import numpy as np

    names, tasks = _names(costs)
    factors = np.array(ratios, float)
    if not factors.size or factors[0] < 1 or (np.diff(factors) <= 0).any():
        raise InputError(f"factors of a profile ascend from 1; got {list(ratios)}.")

    def shares(means: NDArray[Any]) -> NDArray[Any]:  # [..., methods, tasks] -> [..., methods, factors]
        best = means.min(axis=-2, keepdims=True)
        within = means[..., None] <= best[..., None] * factors * (1 + 1e-12)
        result: NDArray[Any] = within.mean(axis=-2)
        return result

    means = _means(costs, names, tasks)
    if (means < 0).any():
        raise InputError("costs of a profile are at least 0.")
    low, high = _band(shares(_resampled_means(costs, names, tasks, seed, num_resamples)), confidence)
    found = shares(means)
    return {
        name: Profile(tuple(map(float, ratios)), *(tuple(map(float, each[i])) for each in (found, low, high)))
        for i, name in enumerate(names)
    }


def probability_of_improvement(
    scores: Scores,
    a: str,
    b: str,
    higher_is_better: bool = True,
    seed: int = 0,
    num_resamples: int = 2000,
    confidence: float = 0.95,
) -> Interval:
    """The probability that a replicate of A beats one of B on a task drawn at random; ties count half.

    The mean over tasks of the share of pairs of replicates in which A is better, with a percentile interval of a
    bootstrap that resamples the replicates of each task.

    Args:
        scores: the values.
        a: name of the first method.
        b: name of the other.
        higher_is_better: False for losses and times.
        seed: seed of the resampling.
        num_resamples: number of bootstrap samples.
        confidence: nominal coverage, in (0, 1).

    Raises:
        InputError: as for `mean_ranks`, or an unknown name.

    References:
        Agarwal et al. (2021), "Deep reinforcement learning at the edge of the statistical precipice", NeurIPS.
    """
    import numpy as np

    names, tasks = _names(scores)
    if not {a, b} <= {*names}:
        raise InputError(f"unknown method; known: {', '.join(names)}.")
    check_fraction("confidence", confidence)
    draw = np.random.default_rng(seed)
    sign = 1 if higher_is_better else -1
    estimates, resampled = [], np.zeros(num_resamples)
    for task in tasks:
        x, y = (sign * np.array(finite(scores[name][task])) for name in (a, b))
        wins = (x[:, None] > y).astype(float) + (x[:, None] == y) / 2
        estimates.append(float(wins.mean()))
        rows = draw.multinomial(len(x), [1 / len(x)] * len(x), size=num_resamples) / len(x)
        columns = draw.multinomial(len(y), [1 / len(y)] * len(y), size=num_resamples) / len(y)
        resampled += ((rows @ wins) * columns).sum(axis=1) / len(tasks)
    low, high = np.quantile(resampled, [(1 - confidence) / 2, (1 + confidence) / 2])
    std = float(np.std(estimates, ddof=1))
    return Interval(
        float(np.mean(estimates)), float(low), float(high), "bootstrap", len(tasks), std, confidence
    )


def _names(scores: Scores) -> tuple[list[str], list[str]]:
    """The methods and the tasks.

    Raises:
        InputError: fewer than two of either, or a task without values of a method.
    """
    names = list(scores)
    tasks = list(dict.fromkeys(itertools.chain.from_iterable(scores.values())))
    missing = [(name, task) for name in names for task in tasks if not len(scores[name].get(task, ()))]
    if len(names) < 2 or len(tasks) < 2 or missing:
        lacking = f"; {missing[0][0]} has none on {missing[0][1]}" if missing else ""
        raise InputError(
            "comparing over tasks needs at least two methods and two tasks, with values of every method on every "
            f"task; got {len(names)} and {len(tasks)}{lacking}."
        )
    return names, tasks


def _means(scores: Scores, names: Sequence[str], tasks: Sequence[str]) -> NDArray[Any]:
    """The mean of each method on each task, shape [methods, tasks]."""
    import numpy as np

    return np.array([[np.mean(finite(scores[name][task])) for task in tasks] for name in names])


def _resampled_means(
    scores: Scores, names: Sequence[str], tasks: Sequence[str], seed: int, num_resamples: int
) -> NDArray[Any]:
    """The means of replicates that are drawn with replacement within each task, shape [samples, methods, tasks]."""
    import numpy as np

    draw = np.random.default_rng(seed)
    found = np.empty((num_resamples, len(names), len(tasks)))
    for i, name in enumerate(names):
        for j, task in enumerate(tasks):
            values = np.array(finite(scores[name][task]))
            weights = draw.multinomial(len(values), [1 / len(values)] * len(values), size=num_resamples)
            found[:, i, j] = weights @ values / len(values)
    return found


def _band(samples: NDArray[Any], confidence: float) -> tuple[NDArray[Any], NDArray[Any]]:
    """Lower and upper percentiles over the first axis."""
    import numpy as np

    check_fraction("confidence", confidence)
    low, high = np.quantile(samples, [(1 - confidence) / 2, (1 + confidence) / 2], axis=0)
    return low, high
