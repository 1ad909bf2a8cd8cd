"""What results must be seen beside: the majority class, a linear model, and what others have published. No jax."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence

from dlbench.analysis.configurations import Configuration
from dlbench.analysis.search import concluded
from dlbench.spec.published import Published
from dlbench.storage.results import LinearModel, StudyRecord, TrialResult, split_key

MAJORITY = "majority class"
LINEAR = "linear model"


def baselines(result: StudyRecord) -> tuple[Published, ...]:
    """The majority class and the linear model of each data set, then the published baselines that the study names.

    The majority class is the accuracy of always predicting the most frequent class of the test images. The values of
    the linear model are means over the splits that it was fitted to.
    """
    by_dataset: dict[str, list[TrialResult]] = {}
    for trial in concluded(result):
        by_dataset.setdefault(trial.dataset, []).append(trial)
    found = (
        Published(
            name if len(by_dataset) == 1 else f"{name} of {dataset}", source, values, is_published=False
        )
        for dataset, trials in by_dataset.items()
        for name, source, values in _computed(result, trials)
    )
    return (*found, *(each for each in result.published if each.of is None))


def _computed(
    result: StudyRecord, trials: Sequence[TrialResult]
) -> Iterator[tuple[str, str, dict[str, float]]]:
    chance = Configuration(trials[0].trial.spec, tuple(trials)).chance
    if chance is not None:
        yield MAJORITY, "the labels of the test images", {"test_accuracy": chance}
    keys = dict.fromkeys(split_key(trial.trial) for trial in trials)
    fitted = [result.linear[key] for key in keys if key in result.linear]
    if fitted:
        splits = f"mean over {len(fitted)} splits" if len(fitted) > 1 else "one split"
        yield LINEAR, f"{fitted[0].method}, {splits}", _means(fitted)


def _means(fitted: Sequence[LinearModel]) -> dict[str, float]:
    names = [name for name in fitted[0].values if all(name in each.values for each in fitted)]
    return {name: statistics.fmean(each.values[name] for each in fitted) for name in names}
