"""The result of a study. No jax."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from dlbench.storage.results import StudyRecord, TrialResult
from dlbench.storage.studies import read_study

if TYPE_CHECKING:
    import pandas as pd


class StudyResult(StudyRecord):
    """The result of a study: its trials, the best of them, and conversions."""

    def best(self) -> TrialResult:
        """The completed trial with the highest validation accuracy.

        Ties are resolved by the lower validation loss, then by the order of the trials.

        The choice is made on validation images, so the test accuracy of the chosen trial is an unbiased estimate. That
        a trial is chosen does not show that it is better than the next one: repeat both with several seeds and compare.

        Raises:
            ValueError: no trial has completed.
        """
        if not self.complete:
            cause = f": {self.failed[0].failure}" if self.failed else ""
            raise ValueError(f"no trial of this study has completed{cause}")

        def order(trial: TrialResult) -> tuple[float, float]:
            accuracy, loss = trial.best_val_accuracy, trial.best_val_loss
            return (math.inf if accuracy is None else -accuracy, math.inf if loss is None else loss)

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
