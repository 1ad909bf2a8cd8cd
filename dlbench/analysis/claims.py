"""Pre-registered claims, tested against the trials of their study. No jax."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from dlbench.analysis.comparison import compare_models
from dlbench.analysis.configurations import best_first, configurations, overlap_of
from dlbench.analysis.convergence import censored_epoch
from dlbench.analysis.failures import measured
from dlbench.analysis.looks import ALPHA, study_alpha
from dlbench.analysis.outlook import SeedCount, power_to_find, seeds_to_find
from dlbench.analysis.selection import select
from dlbench.records import TrialStatus
from dlbench.spec.claims import Claim, Key, Selection
from dlbench.spec.metrics import metric as metric_named
from dlbench.spec.metrics import metric_key, report_metric
from dlbench.stats import (
    Comparison,
    PairwiseComparison,
    compare_groups,
    holm,
    logrank_p,
    spread_comparison,
    welch_comparison,
)
from dlbench.stats.resampling import without_test
from dlbench.storage.results import StudyRecord, TrialResult


class Verdict(StrEnum):
    """What the trials say of a claim, by direction and size."""

    HOLDS = "holds"
    DIRECTION = "direction only"
    REFUTED = "refuted"
    OPEN = "open"


@dataclass(frozen=True)
class Judgement:
    """A claim and its test.

    Attributes:
        claim: the claim.
        verdict: what the trials say of it.
        comparison: the first side against the second, positive where it favours the claim; ``None`` if a side
            has no value.
        p_adjusted: the p-value after Holm's correction over all tests of the study; 1 if there is no test.
        p_refuted: the p-value of the hypothesis that the difference is the bound (:func:`lower_bound`) or more, after
            Holm's correction over the claims of the study.
        counts: the number of values on each side.
        trial_ids: the trials on each side.
        power: the probability that this study finds the claimed difference, or else the smallest of interest, if it
            exists; ``None`` where that cannot be computed.
        seeds: for an open claim, the seeds that would probably find that difference; ``None`` where that cannot be
            computed.
        unconverged_ids: for a claim about the epoch of convergence, the trials that ended before they converged.
            They are censored, and count with their last epoch in the means.
    """

    claim: Claim
    verdict: Verdict
    comparison: Comparison | None
    p_adjusted: float
    p_refuted: float
    counts: tuple[int, int]
    trial_ids: tuple[tuple[str, ...], tuple[str, ...]]
    power: float | None = None
    seeds: SeedCount | None = None
    unconverged_ids: frozenset[str] = frozenset()

    @property
    def is_paired(self) -> bool:
        """Whether the sides were compared seed by seed."""
        return self.comparison is not None and self.comparison.is_paired

    @property
    def is_tested(self) -> bool:
        """Whether the claim could be tested."""
        return _is_tested(self.claim, self.comparison)


@dataclass(frozen=True)
class StudyClaims:
    """The claims of a study with their verdicts, and the tests that share one error rate with them.

    Attributes:
        judgements: one per claim.
        alpha: the family-wise error rate.
        ranked: p-values of the tests of the study's ranking, not corrected.
        others: p-values of the claims that the ranking does not answer, not corrected.
        places: for each claim, the place of its test among ``ranked`` and ``others``; ``None`` if it has none.
        p_refuted: for each claim, the p-value that refutes it, not corrected; 1 if it has no test.
    """

    judgements: tuple[Judgement, ...]
    alpha: float
    ranked: tuple[float, ...]
    others: tuple[float, ...]
    places: tuple[int | None, ...]
    p_refuted: tuple[float, ...]


def judge_study(claims: Sequence[Claim], result: StudyRecord) -> StudyClaims:
    """Test the claims of a study together with the ranking that its report shows, as one family.

    A claim that compares two configurations which the ranking compares too, by the same metric, is answered by the
    ranking, so that the two never differ.

    Args:
        claims: the claims.
        result: the study; of a growing one, the trials of its last look are used.
    """
    trials, metric, names, pairs = _ranked(result)
    claims = _measured(claims, trials)
    if result.spec.design != "comparison" and not any(
        _pair(claim, trials, metric, names) for claim in claims
    ):
        pairs = ()
    num_others = sum(
        not claim.metric.is_timing and _pair(claim, trials, metric, names) not in {_key(p) for p in pairs}
        for claim in claims
    )
    alpha = study_alpha(result, len(pairs) + num_others)
    return judge(claims, trials, alpha, metric, names, pairs)


def _measured(claims: Sequence[Claim], trials: Sequence[TrialResult]) -> list[Claim]:
    """The claims with the metric that is reported of the trials, where they name none."""
    default = metric_key(report_metric(trial.trial.spec for trial in trials))
    return [claim.measured_by(default) for claim in claims]


def _ranked(
    result: StudyRecord,
) -> tuple[Sequence[TrialResult], str, Mapping[str, str], Sequence[PairwiseComparison]]:
    """The trials that are analysed, and the study's ranking: metric, configuration by trial id, comparisons."""
    if result.spec.design == "comparison":
        found = compare_models(result)
        names = {trial.id: name for name, group in found.configurations.items() for trial in group.trials}
        pairs = found.ranking.comparisons if found.ranking and found.is_conclusive else ()
        return found.trials, metric_key(found.metric), names, pairs
    groups = [group for group in best_first(configurations(result.trials)) if group.complete]
    selected = select(groups)
    names = {trial.id: str(number) for number, group in enumerate(groups) for trial in group.trials}
    pairs = selected.separation.comparisons if selected and selected.separation else ()
    return result.trials, metric_key(selected.metric) if selected else "", names, pairs


def _key(pair: PairwiseComparison) -> frozenset[str]:
    return frozenset((pair.a, pair.b))


def _pair(
    claim: Claim, trials: Sequence[TrialResult], metric: str, names: Mapping[str, str]
) -> frozenset[str] | None:
    """The two configurations that a claim compares by a metric; ``None`` if it compares anything else."""
    if claim.spread or {claim.first.metric, claim.second.metric} != {metric}:
        return None
    found = [{t.id for t in trials if side.selects(t.trial.spec)} for side in (claim.first, claim.second)]
    compared = [{names.get(each) for each in side} for side in found]
    if any(len(side) != 1 or None in side for side in compared):
        return None
    whole = [{each for each, name in names.items() if name in side} for side in compared]
    return frozenset(name for side in compared for name in side if name) if found == whole else None


def judge(
    claims: Sequence[Claim],
    trials: Sequence[TrialResult],
    alpha: float = ALPHA,
    metric: str = "",
    names: Mapping[str, str] | None = None,
    pairs: Sequence[PairwiseComparison] = (),
) -> StudyClaims:
    """Test each claim, with Holm's correction for the number of tests.

    Means are compared seed by seed if the sides share two seeds or more, else as independent samples; by ranks, if some
    trials of a configuration failed and others did not; epochs of convergence, which trials may end before, by the
    log-rank test. Variation is compared by :func:`dlbench.stats.spread_comparison`. Of folds, which are not
    independent, only means are tested, and only in pairs. A claim that cannot be tested counts as p = 1. The times of
    a study are never tested, because its trials share the machine.

    Two kinds of error are held at ``alpha`` each: any direction that does not exist, and any claim that is refuted
    although the difference is at least its bound (:func:`lower_bound`).

    Args:
        claims: the claims of one study.
        trials: its trials, those without a result included.
        alpha: the family-wise error rate, at most :data:`ALPHA`; 0 if nothing may be concluded yet.
        metric: the metric by which the study ranks configurations.
        names: the configuration of each trial id in that ranking.
        pairs: the comparisons of the ranking.
    """
    claims = _measured(claims, trials)
    places = {_key(pair): number for number, pair in enumerate(pairs)}
    confidence = 1 - (alpha or ALPHA)
    sides = [_sides(claim, trials) for claim in claims]
    found = [_compare(claim, *side, confidence) for claim, side in zip(claims, sides, strict=True)]
    ranked = tuple(1.0 if math.isnan(p := pair.comparison.p_value) else p for pair in pairs)
    others: list[float] = []
    tests: list[int | None] = []
    refuting: list[float] = []
    for claim, (first, second), comparison in zip(claims, sides, found, strict=True):
        pair = _pair(claim, trials, metric, names or {})
        if pair is not None and pair in places:
            tests.append(places[pair])
        elif claim.metric.is_timing:
            tests.append(None)
        else:
            tests.append(len(ranked) + len(others))
            others.append(comparison.p_value if comparison and _is_tested(claim, comparison) else 1.0)
        bound = lower_bound(claim) / claim.metric.factor
        below = _compare(claim, first, second, confidence, bound)
        is_below = below is not None and _is_tested(claim, below) and below.difference.estimate < bound
        refuting.append(below.p_value if below is not None and is_below else 1.0)
    adjusted, adjusted_refuting = holm([*ranked, *others]), holm(refuting)
    judgements = []
    for number, (claim, (first, second), comparison) in enumerate(zip(claims, sides, found, strict=True)):
        place = tests[number]
        p_adjusted, p_refuted = 1.0 if place is None else adjusted[place], adjusted_refuting[number]
        verdict = _verdict(claim, comparison, p_adjusted, p_refuted, alpha)
        wanted = (claim.points or claim.margin) / claim.metric.factor
        planning = (
            comparison if _is_tested(claim, comparison) else None,
            abs(wanted),
            alpha or ALPHA,
            len(adjusted),
        )
        judgements.append(
            Judgement(
                claim,
                verdict,
                comparison,
                p_adjusted,
                p_refuted,
                (len(first.values), len(second.values)),
                (first.trial_ids, second.trial_ids),
                power_to_find(*planning),
                seeds_to_find(*planning) if verdict is Verdict.OPEN else None,
                _unconverged(first, second),
            )
        )
    return StudyClaims(tuple(judgements), alpha, ranked, tuple(others), tuple(tests), tuple(refuting))


def judged_together(studies: Sequence[StudyClaims]) -> list[tuple[Verdict, ...]]:
    """The verdicts that the claims of several studies would have if all their tests shared one error rate."""
    adjusted = iter(holm([p for study in studies for p in (*study.ranked, *study.others)]))
    refuting = iter(holm([p for study in studies for p in study.p_refuted]))
    found = []
    for study in studies:
        family = [next(adjusted) for _ in (*study.ranked, *study.others)]
        found.append(
            tuple(
                _verdict(
                    each.claim,
                    each.comparison,
                    1.0 if place is None else family[place],
                    next(refuting),
                    study.alpha,
                )
                for each, place in zip(study.judgements, study.places, strict=True)
            )
        )
    return found


def lower_bound(claim: Claim) -> float:
    """The smallest difference that would still be the claimed one, in the unit of the metric.

    It is the claimed difference less the smallest effect of interest, but at least that effect.
    """
    return max(claim.margin, (claim.points or 0.0) - claim.margin)


@dataclass(frozen=True)
class _Side:
    """The trials on one side of a claim, their values, and whether a configuration among them is a mixture."""

    selection: Selection
    trials: tuple[TrialResult, ...]
    values: dict[Key, float]
    is_mixture: bool

    @property
    def trial_ids(self) -> tuple[str, ...]:
        return tuple(trial.id for trial in self.trials)


def _sides(claim: Claim, trials: Sequence[TrialResult]) -> tuple[_Side, _Side]:
    first, second = (
        (side, tuple(trial for trial in trials if side.selects(trial.trial.spec)))
        for side in (claim.first, claim.second)
    )
    values = (side_values(*first), side_values(*second))
    mixed = [any(group.is_mixture for group in configurations(trials)) for _, trials in (first, second)]
    return _Side(*first, values[0], mixed[0]), _Side(*second, values[1], mixed[1])


def _compare(
    claim: Claim, first: _Side, second: _Side, confidence: float, null: float = 0.0
) -> Comparison | None:
    if not first.values or not second.values:
        return None
    overlap = max(overlap_of(trial.trial.spec) for trial in (*first.trials, *second.trials))
    if claim.spread:
        found = spread_comparison(first.values.values(), second.values.values(), confidence, null)
        return without_test(found) if overlap else found
    sign = -1.0 if claim.metric.lower_is_better else 1.0
    a, b = ({key: sign * value for key, value in side.values.items()} for side in (first, second))
    if claim.metric.is_censored:
        means = welch_comparison(a.values(), b.values(), confidence, null)
        return without_test(means) if overlap else _compare_censored(first, second, means, null)
    return compare_groups(a, b, confidence, null, overlap, by_ranks=first.is_mixture or second.is_mixture)


def _compare_censored(first: _Side, second: _Side, means: Comparison, null: float) -> Comparison:
    """The comparison of restricted means, in which trials that end before the event count with their last epoch.

    The hypothesis of no difference is tested by the log-rank test.
    """
    events = [
        [
            found
            for t in side.trials
            if t.status is TrialStatus.COMPLETE and (found := censored_epoch(t, side.selection.metric))
        ]
        for side in (first, second)
    ]
    p_value = means.p_value if null else logrank_p(*events)
    return replace(means, p_value=p_value, effect_size=math.nan, test="log-rank")


def _is_tested(claim: Claim, found: Comparison | None) -> bool:
    return found is not None and not math.isnan(found.p_value) and not claim.metric.is_timing


def _verdict(
    claim: Claim, found: Comparison | None, p_adjusted: float, p_refuted: float, alpha: float
) -> Verdict:
    if found is None or not _is_tested(claim, found):
        return Verdict.OPEN
    difference, factor = found.difference, claim.metric.factor
    if p_adjusted <= alpha and difference.estimate > 0:
        least, most = (claim.margin, math.inf) if claim.points is None else (claim.points, claim.points)
        has_size = factor * difference.high >= least and factor * difference.low <= most
        return Verdict.HOLDS if has_size else Verdict.DIRECTION
    return Verdict.REFUTED if min(p_adjusted, p_refuted) <= alpha else Verdict.OPEN


def _unconverged(*sides: _Side) -> frozenset[str]:
    return frozenset(
        trial.id
        for side in sides
        if metric_named(side.selection.metric).is_censored
        for trial in side.trials
        if trial.status is TrialStatus.COMPLETE
        and (found := censored_epoch(trial, side.selection.metric)) is not None
        and not found[1]
    )


def side_values(side: Selection, trials: Sequence[TrialResult]) -> dict[Key, float]:
    """The metric by replicate: the mean over the side's configurations, where all of them have a value.

    Diverged trials count with the worst value of the metric (:func:`dlbench.analysis.failures.measured`).
    """
    found = configurations(trials)
    groups = measured(
        {str(number): group for number, group in enumerate(found)}, side.metric or "test_accuracy"
    )
    if len(groups) < len(found):
        return {}
    shared = set.intersection(*map(set, groups.values())) if groups else set()
    return {key: statistics.fmean(group[key] for group in groups.values()) for key in sorted(shared)}
