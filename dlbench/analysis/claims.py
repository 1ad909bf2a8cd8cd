"""Pre-registered claims: what is said of configurations before they are trained, and what their trials say. No jax."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from dlbench.records import TrialStatus
from dlbench.spec.claims import Claim, Key, Selection
from dlbench.spec.trial import TrialSpec
from dlbench.stats import Comparison, compare_all, holm, spread_comparison
from dlbench.storage.results import TrialResult

#: Probability of any wrong verdict among the claims of a study, were all of their differences none.
ALPHA = 0.05


class Verdict(StrEnum):
    """What the trials say of a claim."""

    SUPPORTED = "supported"
    REVERSED = "reversed"
    UNSUPPORTED = "not supported"
    UNMEASURED = "not measured"


@dataclass(frozen=True)
class Judgement:
    """A claim and what the trials say of it.

    Attributes:
        claim: the claim.
        verdict: in one word or two.
        comparison: first against second, positive where it favours the claim; ``None`` if not measured.
        p_adjusted: after Holm's correction over the claims of the study.
        counts: values on either side.
        trial_ids: the trials of either side.
    """

    claim: Claim
    verdict: Verdict
    comparison: Comparison | None
    p_adjusted: float
    counts: tuple[int, int]
    trial_ids: tuple[tuple[str, ...], tuple[str, ...]]


def judge(claims: Sequence[Claim], trials: Sequence[TrialResult], alpha: float = ALPHA) -> list[Judgement]:
    """Compare what each claim compares, and correct for the number of claims by Holm's method.

    Means are compared in pairs of one seed and split where both sides share two or more, else as independent
    samples; spreads by :func:`dlbench.stats.spread_comparison`. A claim that cannot be tested counts as p = 1.

    Args:
        claims: the claims of one study.
        trials: its trials, those without a result included.
        alpha: the family-wise error rate; less than ``ALPHA`` at the looks of a study that grows.
    """
    tested = [_compare(claim, trials) for claim in claims]
    p_values = [1.0 if found is None or math.isnan(found.p_value) else found.p_value for found, *_ in tested]
    return [
        Judgement(claim, _verdict(found, p, alpha), found, p, counts, ids)
        for claim, (found, counts, ids), p in zip(claims, tested, holm(p_values), strict=True)
    ]


def _compare(
    claim: Claim, trials: Sequence[TrialResult]
) -> tuple[Comparison | None, tuple[int, int], tuple[tuple[str, ...], tuple[str, ...]]]:
    sides = [
        [trial for trial in trials if side.selects(trial.trial.spec)] for side in (claim.first, claim.second)
    ]
    first, second = side_values(claim.first, sides[0]), side_values(claim.second, sides[1])
    ids = tuple(trial.id for trial in sides[0]), tuple(trial.id for trial in sides[1])
    counts = len(first), len(second)
    if not first or not second:
        return None, counts, ids
    if claim.spread:
        return spread_comparison(first.values(), second.values()), counts, ids
    sign = -1.0 if claim.measure.lower_is_better else 1.0
    groups = {
        name: {key: sign * value for key, value in values.items()}
        for name, values in (("first", first), ("second", second))
    }
    (pair,) = compare_all(groups)
    return pair.comparison, counts, ids


def _verdict(found: Comparison | None, p_adjusted: float, alpha: float) -> Verdict:
    if found is None or math.isnan(found.p_value):
        return Verdict.UNMEASURED
    if p_adjusted > alpha:
        return Verdict.UNSUPPORTED
    return Verdict.SUPPORTED if found.difference.estimate > 0 else Verdict.REVERSED


def side_values(side: Selection, trials: Sequence[TrialResult]) -> dict[Key, float]:
    """The figure by seed and split: the mean of its configurations, where each of them has one."""
    groups: dict[TrialSpec, dict[Key, float]] = {}
    for trial in trials:
        group = groups.setdefault(trial.trial.spec.model_copy(update={"seed": 0, "split_seed": 0}), {})
        value = trial.value(side.figure)
        if trial.status is TrialStatus.COMPLETE and value is not None:
            group[trial.seed, trial.split_seed or 0] = value
    shared = set.intersection(*map(set, groups.values())) if groups else set()
    return {key: statistics.fmean(group[key] for group in groups.values()) for key in sorted(shared)}
