"""Pre-registered claims, tested against the trials of their study. No jax."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from dlbench.analysis.configurations import overlap_of
from dlbench.analysis.convergence import converged_epoch
from dlbench.analysis.looks import ALPHA
from dlbench.analysis.outlook import PAIRED
from dlbench.records import TrialStatus
from dlbench.spec.claims import Claim, Key, Selection, key_of
from dlbench.spec.metrics import metric_key, report_metric
from dlbench.spec.trial import REPLICATES, TrialSpec
from dlbench.stats import Comparison, compare_all, holm, spread_comparison
from dlbench.storage.results import TrialResult


class Verdict(StrEnum):
    """Whether the trials support a claim."""

    SUPPORTED = "supported"
    REVERSED = "reversed"
    UNSUPPORTED = "not supported"
    UNMEASURED = "not measured"


@dataclass(frozen=True)
class Judgement:
    """A claim and its test.

    Attributes:
        claim: the claim.
        verdict: whether the trials support it.
        comparison: the first side against the second, positive where it favours the claim; ``None`` if a side
            has no value.
        p_adjusted: the p-value after Holm's correction over the claims of the study.
        counts: the number of values on each side.
        trial_ids: the trials on each side.
        unconverged_ids: for a claim about the convergence epoch, the trials that ended before they converged.
            They count with their last epoch.
    """

    claim: Claim
    verdict: Verdict
    comparison: Comparison | None
    p_adjusted: float
    counts: tuple[int, int]
    trial_ids: tuple[tuple[str, ...], tuple[str, ...]]
    unconverged_ids: frozenset[str] = frozenset()

    @property
    def is_paired(self) -> bool:
        """Whether the sides were compared seed by seed."""
        return self.comparison is not None and self.comparison.test in PAIRED


def judge(claims: Sequence[Claim], trials: Sequence[TrialResult], alpha: float = ALPHA) -> list[Judgement]:
    """Test each claim, with Holm's correction for their number.

    Means are compared seed by seed if the sides share two seeds or more, else as independent samples; variation
    is compared by :func:`dlbench.stats.spread_comparison`. A claim that cannot be tested counts as p = 1.

    Args:
        claims: the claims of one study.
        trials: its trials, those without a result included.
        alpha: the family-wise error rate, at most :data:`ALPHA`.
    """
    default = metric_key(report_metric(trial.trial.spec for trial in trials))
    claims = [claim.measured_by(default) for claim in claims]
    sides = [_sides(claim, trials) for claim in claims]
    found = [_compare(claim, *side) for claim, side in zip(claims, sides, strict=True)]
    p_values = [1.0 if each is None or math.isnan(each.p_value) else each.p_value for each in found]
    return [
        Judgement(
            claim,
            _verdict(comparison, p, alpha),
            comparison,
            p,
            (len(first.values), len(second.values)),
            (first.trial_ids, second.trial_ids),
            frozenset(
                trial.id
                for side in (first, second)
                if side.selection.metric == "convergence_epoch"
                for trial in side.trials
                if trial.status is TrialStatus.COMPLETE and converged_epoch(trial) is None
            ),
        )
        for claim, (first, second), comparison, p in zip(claims, sides, found, holm(p_values), strict=True)
    ]


@dataclass(frozen=True)
class _Side:
    """The trials on one side of a claim, and their values."""

    selection: Selection
    trials: tuple[TrialResult, ...]
    values: dict[Key, float]

    @property
    def trial_ids(self) -> tuple[str, ...]:
        return tuple(trial.id for trial in self.trials)


def _sides(claim: Claim, trials: Sequence[TrialResult]) -> tuple[_Side, _Side]:
    first, second = (
        (side, tuple(trial for trial in trials if side.selects(trial.trial.spec)))
        for side in (claim.first, claim.second)
    )
    return _Side(*first, side_values(*first)), _Side(*second, side_values(*second))


def _compare(claim: Claim, first: _Side, second: _Side) -> Comparison | None:
    if not first.values or not second.values:
        return None
    if claim.spread:
        return spread_comparison(first.values.values(), second.values.values())
    sign = -1.0 if claim.metric.lower_is_better else 1.0
    groups = {
        name: {key: sign * value for key, value in side.values.items()}
        for name, side in (("first", first), ("second", second))
    }
    trials = (*first.trials, *second.trials)
    (pair,) = compare_all(groups, overlap=max(overlap_of(trial.trial.spec) for trial in trials))
    return pair.comparison


def _verdict(found: Comparison | None, p_adjusted: float, alpha: float) -> Verdict:
    if found is None or math.isnan(found.p_value):
        return Verdict.UNMEASURED
    if p_adjusted > alpha:
        return Verdict.UNSUPPORTED
    return Verdict.SUPPORTED if found.difference.estimate > 0 else Verdict.REVERSED


def side_values(side: Selection, trials: Sequence[TrialResult]) -> dict[Key, float]:
    """The metric by replicate: the mean over the side's configurations, where all of them have a value."""
    groups: dict[TrialSpec, dict[Key, float]] = {}
    for trial in trials:
        group = groups.setdefault(trial.trial.spec.model_copy(update=dict.fromkeys(REPLICATES, 0)), {})
        value = trial.value(side.metric or "test_accuracy")
        if trial.status is TrialStatus.COMPLETE and value is not None:
            group[key_of(trial.trial.spec)] = value
    shared = set.intersection(*map(set, groups.values())) if groups else set()
    return {key: statistics.fmean(group[key] for group in groups.values()) for key in sorted(shared)}
