"""What a search found: its winner, the bias of its selection, and what smaller budgets would find. No jax."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dlbench.analysis.configurations import Configuration, configurations
from dlbench.records import TrialStatus
from dlbench.spec.claims import value_of
from dlbench.spec.metrics import metric as metric_named
from dlbench.spec.spaces import SearchSpec
from dlbench.spec.trial import PARTS
from dlbench.stats import Comparison, compare_groups, expected_best
from dlbench.storage.results import StudyRecord, TrialResult


@dataclass(frozen=True)
class Candidate:
    """A configuration that a search proposed.

    Attributes:
        number: its place in the order of proposal, from 1, without repetitions.
        configuration: its trials with the seeds of the search.
        value: the mean of the search's metric over them; a trial without a result counts as the worst.
        is_complete: whether it was trained with all seeds, so that it can win; False where halving stopped it.
    """

    number: int
    configuration: Configuration
    value: float
    is_complete: bool

    def settings(self, search: SearchSpec) -> dict[str, Any]:
        """The values of the settings that the search varies, by path; a part with its arguments as text."""
        spec, paths = self.configuration.spec, [path for path, _ in search.space]

        def part(name: str) -> str:
            given = getattr(spec, f"{name}_args")
            own = tuple(each for each in given if f"{name}.{each[0]}" not in paths)
            return PARTS[name].text(getattr(spec, name), own)

        return {path: part(path) if path in PARTS else value_of(spec, path) for path in paths}


@dataclass(frozen=True)
class SearchFindings:
    """What a search found.

    Attributes:
        search: the search.
        candidates: the configurations whose trials have ended, in the order of proposal.
        winner: the best of them; ``None`` if no trial completed.
        confirmation: the winner's trials with new seeds; ``None`` if there are none yet.
        selection_bias: the search's metric of the winner in the search against that with new seeds; without an interval
            where images are folded, because folds are not independent.
        expected: the expected best value of 1, 2, 3, ... configurations; empty for a sampler that learns, whose
            configurations are not independent, and with halving.
    """

    search: SearchSpec
    candidates: tuple[Candidate, ...]
    winner: Candidate | None
    confirmation: Configuration | None
    selection_bias: Comparison | None
    expected: tuple[float, ...]

    @property
    def best_so_far(self) -> tuple[float, ...]:
        """The best value after each configuration; those that halving stopped do not count."""
        best, found = math.nan, []
        for each in self.candidates:
            if each.is_complete and not _is_better(best, each.value, self.search.metric):
                best = each.value
            found.append(best)
        return tuple(found)


def score(trials: Sequence[TrialResult], metric: str) -> float:
    """The mean of a metric, in which a trial without a result counts as the worst: accuracy 0, loss infinity."""
    worst = metric_named(metric).worst
    assert worst is not None
    found = [trial.value(metric) if trial.status is TrialStatus.COMPLETE else None for trial in trials]
    return math.fsum(worst if value is None else value for value in found) / len(found)


def sort_key(trials: Sequence[TrialResult], metric: str) -> tuple[float, float, str]:
    """A key that sorts the best configuration first: by the metric, then by validation loss, then by id."""
    sign = 1 if metric_named(metric).lower_is_better else -1
    return sign * score(trials, metric), score(trials, "val/loss"), min(trial.id for trial in trials)


def search_findings(result: StudyRecord) -> SearchFindings:
    """What a search has found so far.

    Args:
        result: the study; it must be a search.
    """
    search = result.spec.search
    assert search is not None
    trials = [trial for trial in result.trials if trial.seed in search.seeds]
    ended = [
        group for group in configurations(trials) if all(trial.status.has_ended for trial in group.trials)
    ]
    candidates = tuple(
        Candidate(number, group, score(group.trials, search.metric), len(group.trials) == len(search.base))
        for number, group in enumerate(ended, start=1)
    )
    able = [each for each in candidates if each.is_complete and each.configuration.complete]
    winner = min(able, key=lambda each: sort_key(each.configuration.trials, search.metric), default=None)
    confirmation = _confirmation(result, search, winner)
    independent = search.sampler != "tpe" and not search.reduction_factor
    values = [each.value for each in candidates if math.isfinite(each.value)]
    lower = metric_named(search.metric).lower_is_better
    return SearchFindings(
        search,
        candidates,
        winner,
        confirmation,
        _selection_bias(search, winner, confirmation),
        expected_best(values, higher_is_better=not lower) if independent and values else (),
    )


def _confirmation(result: StudyRecord, search: SearchSpec, winner: Candidate | None) -> Configuration | None:
    new = [
        trial for trial in result.trials if trial.seed in search.new_seeds and trial.seed not in search.seeds
    ]
    if winner is None:
        return None
    alike = [group for group in configurations(new) if group.spec == winner.configuration.spec]
    return alike[0] if alike and alike[0].complete else None


def _selection_bias(
    search: SearchSpec, winner: Candidate | None, confirmation: Configuration | None
) -> Comparison | None:
    if winner is None or confirmation is None:
        return None
    before, after = (each.by_seed(search.metric) for each in (winner.configuration, confirmation))
    return compare_groups(before, after, overlap=winner.configuration.overlap)


def _is_better(best: float, value: float, metric: str) -> bool:
    """Whether a value known so far is better than, or as good as, another; `nan` is worse than any."""
    return best <= value if metric_named(metric).lower_is_better else best >= value
