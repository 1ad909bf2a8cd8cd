"""Pre-registered claims: what is said of configurations before they are trained, and what their trials say. No jax."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from dlbench.errors import ConfigError
from dlbench.registry import label, normalise
from dlbench.results import TrialResult, TrialStatus
from dlbench.spec import TrialSpec
from dlbench.stats import Comparison, compare_all, holm, spread_comparison

#: Probability of any wrong verdict among the claims of a study, were all of their differences none.
ALPHA = 0.05
#: A trial's place in a study: seed and seed of the split.
Key = tuple[int, int]


@dataclass(frozen=True)
class Measure:
    """A figure of a trial that a claim may be about.

    Attributes:
        unit: what its differences are shown in.
        factor: from the figure to that unit.
        lower_is_better: true of losses and times.
    """

    unit: str
    factor: float = 1.0
    lower_is_better: bool = False


_POINTS, _SECONDS = Measure("points", 100.0), Measure("s", lower_is_better=True)
_NATS, _EPOCHS = Measure("nats", lower_is_better=True), Measure("epochs", lower_is_better=True)
MEASURES: Mapping[str, Measure] = {
    "test_accuracy": _POINTS,
    "test_accuracy_augmented": _POINTS,
    "best_val_accuracy": _POINTS,
    "macro_precision": _POINTS,
    "macro_recall": _POINTS,
    "macro_f1": _POINTS,
    "roc_auc": _POINTS,
    "test_loss": _NATS,
    "best_val_loss": _NATS,
    "best_epoch": _EPOCHS,
    "convergence_epoch": _EPOCHS,
    "train_time_s": _SECONDS,
    "eval_time_s": _SECONDS,
    "compile_time_s": _SECONDS,
    "io_time_s": _SECONDS,
    "images_per_s": Measure("images/s"),
}


@dataclass(frozen=True)
class Selection:
    """The trials that one side of a claim is about.

    Attributes:
        fields: the values allowed, by field of :class:`~dlbench.spec.TrialSpec`.
        figure: what is compared, a key of ``MEASURES``.
        place: file and line.
    """

    fields: tuple[tuple[str, tuple[Any, ...]], ...]
    figure: str = "test_accuracy"
    place: str = ""

    def selects(self, spec: TrialSpec) -> bool:
        """Whether a trial belongs to it."""
        return all(
            any(_same(name, getattr(spec, name), value) for value in values) for name, values in self.fields
        )

    def values(self, trials: Sequence[TrialResult]) -> dict[Key, float]:
        """The figure by seed and split: the mean of its configurations, where each of them has one."""
        groups: dict[TrialSpec, dict[Key, float]] = {}
        for trial in trials:
            group = groups.setdefault(trial.trial.spec.model_copy(update={"seed": 0, "split_seed": 0}), {})
            value = getattr(trial, self.figure)
            if trial.status is TrialStatus.COMPLETE and value is not None:
                group[trial.seed, trial.split_seed] = value
        shared = set.intersection(*map(set, groups.values())) if groups else set()
        return {key: statistics.fmean(group[key] for group in groups.values()) for key in sorted(shared)}


def _same(name: str, value: Any, wanted: Any) -> bool:
    if name == "model" and ":" not in wanted:
        return normalise(label(value)) == normalise(wanted)
    return bool(value == wanted)


@dataclass(frozen=True)
class Claim:
    """One sentence that trials can support or contradict.

    Attributes:
        says: the sentence, as it is quoted.
        first: what it says is better, or varies more.
        second: than what.
        spread: whether it is about the variation between seeds, not about the mean.
        points: the difference it states, in the unit of the figure; ``None`` if it states none.
    """

    says: str
    first: Selection
    second: Selection
    spread: bool = False
    points: float | None = None

    @property
    def measure(self) -> Measure:
        """What its difference is measured in."""
        return MEASURES[self.first.figure]


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
    first, second = claim.first.values(sides[0]), claim.second.values(sides[1])
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


def check(claims: Sequence[Claim], trials: Sequence[TrialSpec]) -> None:
    """Make sure that both sides of every claim select trials of the study, and no trial is on both.

    Raises:
        ConfigError: with file and line of the side, and the values that the study has.
    """
    for claim in claims:
        chosen = []
        for side in (claim.first, claim.second):
            chosen.append({spec for spec in trials if side.selects(spec)})
            if not chosen[-1]:
                raise ConfigError(f"{side.place}: this selects no trial of the study; {_known(side, trials)}")
        if chosen[0] & chosen[1] and claim.first.figure == claim.second.figure:
            raise ConfigError(
                f"{claim.second.place}: {len(chosen[0] & chosen[1])} trials are on both sides of this claim; "
                "name a field in which the sides differ"
            )


def _known(side: Selection, trials: Sequence[TrialSpec]) -> str:
    """The values that the study has of the fields that a side names."""
    known = {
        name: list(dict.fromkeys(str(getattr(spec, name)) for spec in trials)) for name, _ in side.fields
    }
    return "; ".join(
        f"{name} is {', '.join(values[:8])}{', ...' if len(values) > 8 else ''} there"
        for name, values in known.items()
    )
