"""A comparison of configurations: how they rank, and which one the data tell from the others. No jax."""

from __future__ import annotations

from dataclasses import dataclass

from dlbench.analysis.configurations import Configuration, axes_of, configurations, labelled
from dlbench.analysis.looks import alpha_of, last_look
from dlbench.spec.looks import Look, seeds_at
from dlbench.stats import Ranking, ranking
from dlbench.storage.results import StudyRecord, TrialResult

#: Family-wise error rate of a comparison: of one of a fixed size, or of all the looks at a growing one.
ALPHA = 0.05


@dataclass(frozen=True)
class Judged:
    """A comparison as far as it may be judged.

    Attributes:
        trials: those that are judged: of a growing study, those of its last look.
        groups: their configurations, by label.
        ranked: the ranking of those that completed trials.
        look: the look, of a growing study.
    """

    trials: tuple[TrialResult, ...]
    groups: dict[str, Configuration]
    ranked: Ranking | None
    look: Look | None

    @property
    def is_conclusive(self) -> bool:
        """Whether every model has the seeds that a verdict takes."""
        groups = [group for group in self.groups.values() if group.complete]
        return len(groups) > 1 and all(len(group.complete) > 1 for group in groups)

    @property
    def winner(self) -> str | None:
        """The model that the data tell from each of the others."""
        return self.ranked.winner if self.ranked and self.is_conclusive else None


def judge(result: StudyRecord) -> Judged:
    """Rank the models at the level that the study's look allows; before the first look, rank none."""
    trials, looks = result.trials, result.spec.looks
    look = last_look(looks, trials)
    if look:
        seeds = seeds_at(look, (trial.seed for trial in trials))
        trials = tuple(trial for trial in trials if trial.seed in seeds)
    groups = labelled(configurations(trials), axes_of(trials))
    measured = {label: group.by_seed("test_accuracy") for label, group in groups.items() if group.complete}
    alpha = alpha_of(look) if look else ALPHA
    ranked = (
        ranking(measured, confidence=1 - alpha, alpha=alpha)
        if measured and bool(look) == bool(looks)
        else None
    )
    return Judged(trials, groups, ranked, look)


def compared(result: StudyRecord) -> dict[str, list[TrialResult]]:
    """The completed trials that are judged, by model, in the order of the ranking; none where nothing is."""
    judged = judge(result)
    entries = judged.ranked.entries if judged.ranked else ()
    return {entry.name: judged.groups[entry.name].complete for entry in entries}


def winner(result: StudyRecord) -> str | None:
    """The model that the data tell from each of the others, at the level that the study's look allows."""
    return judge(result).winner
