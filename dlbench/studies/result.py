"""The result of a study. No jax."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from dlbench.errors import InputError
from dlbench.records import OUTCOME_FIELDS
from dlbench.spec.trial import TrialSpec
from dlbench.storage.results import StudyRecord, TrialResult
from dlbench.storage.studies import read_study

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from dlbench.report.studies import StudyReport

#: The columns of a short data frame, as far as any trial has a value, besides the settings that were changed.
_SETTINGS = ("model", "dataset", "optimizer", "learning_rate", "batch_size", "num_epochs", "seed")
_RESULTS = ("status", "best_epoch", "best_val_accuracy", "best_val_loss", "test_accuracy", "test_loss")
_COSTS = ("num_params", "train_time_s")


class StudyResult(StudyRecord):
    """The result of a study: its trials, the best of them, figures and conversions.

    In a notebook, a result is shown as its report. Figures are matplotlib's, to be changed or saved as you like.
    """

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

    def to_dataframe(self, full: bool = False) -> pd.DataFrame:
        """A data frame with one row per trial; needs pandas.

        Args:
            full: whether to include everything that is recorded: all settings, times, digests and the environment. By
                default there are the trial's id, the main settings, those with another value than their default, the
                main metrics, the number of parameters and the training time.
        """
        import pandas as pd

        frame = pd.DataFrame([trial.to_dict(history=False) for trial in self.trials])
        if full or frame.empty:
            return frame
        changed = [
            name
            for name, field in TrialSpec.model_fields.items()
            if name in _SETTINGS or any(getattr(trial, name) != field.get_default() for trial in self.trials)
        ]
        others = {name.replace("/", "_") for trial in self.trials for name in trial.metrics}
        metrics = [name for name in frame if name in others and name not in OUTCOME_FIELDS]
        known = [name for name in (*_RESULTS, *metrics, *_COSTS) if frame[name].notna().any()]
        return frame[["id", *(name for name in changed if name in frame), *known]]

    def to_latex(self) -> str:
        """The main table of the study's report, for LaTeX with the package booktabs.

        Raises:
            InputError: the report has no table, because the study has no trials.
        """
        from dlbench.report.tables import Table

        found = self._report()
        tables = [part for part in [*found.findings, found.trials] if isinstance(part, Table)]
        if not tables:
            raise InputError("the study has no table: none of its trials has a result")
        return tables[0].to_latex()

    def plot(self) -> Figure:
        """The figure that says most: the accuracy of every seed; with one seed, a heat map, costs or learning curves.

        Raises:
            InputError: no trial has completed. The other figures raise it if they do not suit the study.
        """
        return self._drawn("seeds", "heat map", "Pareto front", "learning curves")

    def plot_curves(self) -> Figure:
        """The learning curves of the configurations, means over seeds with their 95 % intervals."""
        return self._drawn("learning curves")

    def heatmap(self) -> Figure:
        """Validation accuracy over two numeric settings, a map per combination of the others."""
        return self._drawn("heat map")

    def confusion(self) -> Figure:
        """The confusion matrix of the configuration with the best validation accuracy, summed over seeds."""
        return self._drawn("confusion matrix")

    def pareto(self) -> Figure:
        """Accuracy against training time, parameters and operations, with the Pareto fronts."""
        return self._drawn("Pareto front")

    def _drawn(self, *kinds: str) -> Figure:
        from dlbench.report import figures

        return figures.drawn(self, *kinds)

    def _report(self) -> StudyReport:
        from dlbench.report.studies import study_report

        return study_report(self)

    def _repr_html_(self) -> str:
        from dlbench.report.notebook import to_html

        return to_html(self._report().parts)


def open_study(folder: Path | str, history: bool = True) -> StudyResult:
    """Open the study in a folder.

    Args:
        folder: the study's folder.
        history: whether to read the epochs of its trials as well, which takes most of the time.

    Raises:
        StoreError: the folder holds no study, or the study is damaged.
    """
    return StudyResult(**vars(read_study(Path(folder), history)))
