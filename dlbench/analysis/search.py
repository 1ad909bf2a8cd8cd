"""What a search found: its winner, the bias of its selection, and what smaller budgets would find. No jax."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from dlbench.analysis.configurations import Configuration, axes_of, axes_of_specs, configurations
from dlbench.analysis.failures import measured
from dlbench.records import TrialStatus
from dlbench.spec.claims import value_of
from dlbench.spec.metrics import metric as metric_named
from dlbench.spec.naming import model_names
from dlbench.spec.spaces import SearchSpec
from dlbench.spec.trial import PARTS, TrialSpec
from dlbench.stats import Comparison, compare_groups, expected_best
from dlbench.storage.results import StudyRecord, TrialResult


@dataclass(frozen=True)
class Candidate:
    """A configuration that a search proposed.

    Attributes:
        number: its place in the order of proposal, from 1, without repetitions.
        configuration: its trials with the seeds of the search, those of the most epochs.
        value: the mean of the search's metric over them; a trial without a result counts as the worst.
        is_complete: whether it was trained with all seeds and epochs, so that it can win; False where halving stopped
            it.
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
        name: the model that was tuned; "" in a study that is a search.
    """

    search: SearchSpec
    candidates: tuple[Candidate, ...]
    winner: Candidate | None
    confirmation: Configuration | None
    selection_bias: Comparison | None
    expected: tuple[float, ...]
    name: str = ""

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


def searches(result: StudyRecord) -> tuple[SearchFindings, ...]:
    """What a search has found so far; in a comparison of tuned models, the search of each model.

    Args:
        result: the study; its trials must be proposed.
    """
    search = result.spec.search
    assert search is not None
    by_subject: dict[object, list[TrialResult]] = {}
    for trial in result.trials:
        by_subject.setdefault(search.subject(trial.trial.spec), []).append(trial)
    subjects = [part.base[0] for part in search.parts]
    models, axes = model_names(spec.model for spec in subjects), compared_axes(result)
    names = [Configuration(spec, (), models).label(axes) if len(subjects) > 1 else "" for spec in subjects]
    return tuple(
        replace(_findings(part, by_subject.get(search.subject(spec), [])), name=name)
        for part, spec, name in zip(search.parts, subjects, names, strict=True)
    )


def concluded(result: StudyRecord) -> tuple[TrialResult, ...]:
    """The trials that the conclusions of a study are about.

    Of a search, those by which configurations are chosen; of a comparison of tuned models, those with the seeds on
    which the models are compared; of any other study, all of them.
    """
    search = result.spec.search
    if search is None:
        return result.trials
    seeds = search.seeds if result.spec.design == "search" else search.new_seeds
    return tuple(trial for trial in result.trials if trial.seed in seeds)


def compared_axes(result: StudyRecord) -> list[str]:
    """The fields that distinguish the configurations of a study; not those that models were tuned in."""
    search = result.spec.search
    if search is None or result.spec.design == "search":
        return axes_of(concluded(result))
    return axes_of_specs(search.base)


def search_findings(result: StudyRecord) -> SearchFindings:
    """What a search has found so far.

    Args:
        result: the study; it must be a search.
    """
    (found,) = searches(result)
    return found


def _findings(search: SearchSpec, trials: Sequence[TrialResult]) -> SearchFindings:
    ended = [
        group
        for group in configurations(trial for trial in trials if trial.seed in search.seeds)
        if all(trial.status.has_ended for trial in group.trials)
    ]
    farthest: dict[TrialSpec, Configuration] = {}  # each configuration at the last rung that it reached
    for group in ended:
        spec = search.at_end(group.spec)
        farthest[spec] = max(farthest.get(spec, group), group, key=lambda each: each.spec.num_epochs)
    candidates = tuple(
        Candidate(
            number,
            group,
            score(group.trials, search.metric),
            len(group.trials) == len(search.base) and group.spec == spec,
        )
        for number, (spec, group) in enumerate(farthest.items(), start=1)
    )
    able = [each for each in candidates if each.is_complete and each.configuration.complete]
    winner = min(able, key=lambda each: sort_key(each.configuration.trials, search.metric), default=None)
    confirmation = _confirmation(trials, search, winner)
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


def _confirmation(
    trials: Sequence[TrialResult], search: SearchSpec, winner: Candidate | None
) -> Configuration | None:
    new = [trial for trial in trials if trial.seed in search.new_seeds and trial.seed not in search.seeds]
    if winner is None:
        return None
    alike = [group for group in configurations(new) if group.spec == winner.configuration.spec]
    has_ended = bool(alike) and any(trial.status.is_finished for trial in alike[0].trials)
    return alike[0] if has_ended else None


def _selection_bias(
    search: SearchSpec, winner: Candidate | None, confirmation: Configuration | None
) -> Comparison | None:
    if winner is None or confirmation is None:
        return None
    groups = {"before": winner.configuration, "after": confirmation}
    values = measured(groups, search.metric)
    if len(values) < len(groups):
        return None
    by_ranks = any(group.is_mixture for group in groups.values())
    overlap = winner.configuration.overlap
    return compare_groups(values["before"], values["after"], overlap=overlap, by_ranks=by_ranks)


def _is_better(best: float, value: float, metric: str) -> bool:
    """Whether a value known so far is better than, or as good as, another; `nan` is worse than any."""
    return best <= value if metric_named(metric).lower_is_better else best >= value
