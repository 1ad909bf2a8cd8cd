"""The result of a study: its trials, and what can be done with them. No jax."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from dlbench.storage.results import StudyRecord, TrialResult
from dlbench.storage.studies import read_study

if TYPE_CHECKING:
    import pandas as pd


class StudyResult(StudyRecord):
    """A study's result: its trials, the best of them, and conversions."""

    def best(self) -> TrialResult:
        """The completed trial of the highest validation accuracy (ties: lower loss there, then first).

        The choice is made on validation images; the test accuracy of what it picks is an honest estimate. That
        it is better than the second is not shown by being chosen: repeat it with seeds and compare.

        Raises:
            ValueError: no trial completed.
        """
        if not self.complete:
            cause = f": {self.failed[0].failure}" if self.failed else ""
            raise ValueError(f"no trial of this study completed, so none is the best{cause}")

        def merit(trial: TrialResult) -> tuple[float, float]:
            accuracy, loss = trial.best_val_accuracy, trial.best_val_loss
            return (math.inf if accuracy is None else -accuracy, math.inf if loss is None else loss)

        return min(self.complete, key=merit)

    def to_dataframe(self) -> pd.DataFrame:
        """One row a trial (needs pandas)."""
        import pandas as pd

        return pd.DataFrame([trial.to_dict(history=False) for trial in self.trials])


def open_study(folder: Path | str, history: bool = True) -> StudyResult:
    """Open the study that a folder holds.

    Args:
        folder: the study's folder.
        history: whether to read every epoch of its trials too, which takes most of the time.

    Raises:
        StoreError: the folder holds no study, or a damaged one.
    """
    return StudyResult(**vars(read_study(Path(folder), history)))
