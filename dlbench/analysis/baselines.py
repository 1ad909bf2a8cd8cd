"""What results must be seen beside: the majority class, and results that others have published. No jax."""

from __future__ import annotations

from dlbench.analysis.configurations import Configuration
from dlbench.spec.published import Published
from dlbench.storage.results import StudyRecord

MAJORITY = "majority class"


def baselines(result: StudyRecord) -> tuple[Published, ...]:
    """The majority class of each data set, then the published baselines that the study names.

    The majority class is the accuracy of always predicting the most frequent class of the test images.
    """
    datasets = dict.fromkeys(trial.dataset for trial in result)
    found = []
    for dataset in datasets:
        trials = tuple(trial for trial in result if trial.dataset == dataset)
        chance = Configuration(trials[0].trial.spec, trials).chance
        if chance is not None:
            name = MAJORITY if len(datasets) == 1 else f"{MAJORITY} of {dataset}"
            found.append(Published(name, "the labels of the test images", {"test_accuracy": chance}))
    return (*found, *(each for each in result.published if each.of is None))
