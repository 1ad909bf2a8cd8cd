"""The result of a study. No jax."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from dlbench.spec.metrics import metric, selection_metric
from dlbench.storage.results import StudyRecord, TrialResult
from dlbench.storage.studies import read_study

if TYPE_CHECKING:
    import pandas as pd


class StudyResult(StudyRecord):
    """The result of a study: its trials, the best of them, and conversions."""

    def best(self) -> TrialResult:
        """The completed trial with the best validation metric: the accuracy, unless the trials are chosen by another.

        Ties are resolved by the lower validation loss, then by the order of the trials.

        The choice is made on validation images, so the test metric of the chosen trial is an unbiased estimate. That
        a trial is chosen does not show that it is better than the next one: repeat both with several seeds and compare.

        Raises:
            ValueError: no trial has completed.
        """
        if not self.complete:
            cause = f": {self.failed[0].failure}" if self.failed else ""
            raise ValueError(f"no trial of this study has completed{cause}")

        name = selection_metric(trial.trial.spec for trial in self.complete)
        sign = 1 if metric(name).lower_is_better else -1

        def order(trial: TrialResult) -> tuple[float, float]:
            value, loss = trial.value(name), trial.best_val_loss
            return (math.inf if value is None else sign * value, math.inf if loss is None else loss)

        return min(self.complete, key=order)

    def to_dataframe(self) -> pd.DataFrame:
        """A data frame with one row per trial; needs pandas."""
        import pandas as pd

        return pd.DataFrame([trial.to_dict(history=False) for trial in self.trials])


def open_study(folder: Path | str, history: bool = True) -> StudyResult:
    """Open the study in a folder.

    Args:
        folder: the study's folder.
        history: whether to read the epochs of its trials as well, which takes most of the time.

    Raises:
        StoreError: the folder holds no study, or the study is damaged.
    """
    return StudyResult(**vars(read_study(Path(folder), history)))
