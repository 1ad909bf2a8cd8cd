"""The result of a study. No jax."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlbench import data
from dlbench.analysis import by_class as classes
from dlbench.analysis import by_slice as slices
from dlbench.analysis import calibration as calibrations
from dlbench.analysis.configurations import axes_of, best_first, configurations, labelled
from dlbench.analysis.cost import Costs, costs_of
from dlbench.analysis.crossings import CurveCrossings, crossings_of
from dlbench.analysis.energy import DEFAULT, Rates, power_of
from dlbench.analysis.generalization import Fit, fit_of
from dlbench.analysis.label_errors import LabelErrors, label_errors
from dlbench.analysis.occlusion import Occlusion
from dlbench.analysis.predictions import Predictions, predictions_of
from dlbench.analysis.robustness import Robustness
from dlbench.errors import InputError, StoreError
from dlbench.execution.costs import counted_arguments
from dlbench.models import counts
from dlbench.models.counts import Request
from dlbench.records import OUTCOME_FIELDS
from dlbench.spec.metrics import metric, selection_metric
from dlbench.spec.trial import TrialSpec
from dlbench.storage.results import StudyRecord, TrialResult
from dlbench.storage.studies import read_study
from dlbench.studies.robustness import occlusion_of, robustness_of

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
        """The most informative figure: the accuracy of every seed; with one seed, a heat map, costs or learning curves.

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
        """Accuracy against training time, parameters and operations, with the Pareto fronts of the latter two."""
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

    def predictions(self, data_dir: str | None = None) -> dict[str, Predictions]:
        """The logits of every configuration on the test images, by its label; the best on validation images first.

        Args:
            data_dir: folder of the user's data sets.

        Raises:
            StoreError: no trial has completed, or the logits of one cannot be read.
            DataError: the data set is missing, or has changed.
        """
        groups = best_first(configurations(self.complete))
        if not groups:
            which = "no trial of this study has completed" if len(self.trials) else "no trial is left"
            raise StoreError(f"{which}, so there are no predictions")
        return {
            label: predictions_of(group, data_dir)
            for label, group in labelled(groups, axes_of(self.complete)).items()
        }

    def by_class(self, data_dir: str | None = None) -> dict[str, classes.ByClass]:
        """Precision, recall, F1 and top-k accuracy of every configuration; arguments as in :meth:`predictions`."""
        return {label: classes.by_class(found) for label, found in self.predictions(data_dir).items()}

    def by_slice(
        self, by: str | Sequence[Any], data_dir: str | None = None, name: str = "slice"
    ) -> dict[str, slices.BySlice]:
        """The accuracy of every configuration by slice of the test images.

        Args:
            by: the name of slices that the data set carries, a rule ("brightness" or "contrast"), or the slice of each
                test image. Of several data sets, those that carry such slices are shown.
            data_dir: as in :meth:`predictions`.
            name: what to call slices that are given.

        Raises:
            UnknownNameError: the data set has no such slices, and there is no such rule.
            InputError: there is not one id per test image, only one slice, or more than a thousand.
        """
        predictions = self.predictions(data_dir)
        if not isinstance(by, str):
            return {label: slices.by_slice(found, by, name) for label, found in predictions.items()}
        carry = {label: found for label, found in predictions.items() if by in found.dataset.slices}
        return {
            label: slices.by_slice(found, slices.named_slices(by, found.dataset), by)
            for label, found in (carry or predictions).items()
        }

    def slice_names(self) -> tuple[str, ...]:
        """The names of the slices that the data sets of the trials carry, as far as they are in the cache."""
        named = {f"{trial.dataset.partition('@')[0]}@{trial.trial.data_digest}" for trial in self.trials}
        return tuple(dict.fromkeys(name for each in sorted(named) for name in data.slice_names(each)))

    def calibration(self, data_dir: str | None = None) -> dict[str, calibrations.Calibration]:
        """The calibration of every configuration; arguments as in :meth:`predictions`."""
        return {label: calibrations.calibration(found) for label, found in self.predictions(data_dir).items()}

    def robustness(self, data_dir: str | None = None) -> dict[str, Robustness]:
        """Accuracies on corrupted test images; arguments as in :meth:`predictions`. The networks are run for this."""
        return {label: robustness_of(found, data_dir) for label, found in self.predictions(data_dir).items()}

    def occlusion(self, data_dir: str | None = None) -> tuple[str, Occlusion] | None:
        """What the networks of the best configuration look at in the images that they misclassify most often.

        Args:
            data_dir: as in :meth:`predictions`. The networks are run for this.

        Returns:
            The label of the configuration and its maps; ``None`` if it makes no mistakes.
        """
        label, found = next(iter(self.predictions(data_dir).items()))
        made = occlusion_of(found, data_dir)
        return None if made is None else (label, made)

    def fit(self, data_dir: str | None = None) -> dict[str, Fit]:
        """Over- and underfitting of every configuration; arguments as in :meth:`predictions`.

        The study must have been opened with its epochs.
        """
        return {label: fit_of(found) for label, found in self.predictions(data_dir).items()}

    def crossings(self) -> tuple[CurveCrossings, ...]:
        """Where the learning curves of each pair of configurations cross, by number of training images."""
        return crossings_of(self)

    def label_errors(self, data_dir: str | None = None) -> LabelErrors:
        """Labels that are likely wrong, by the networks of the best cross-validated configuration; needs cleanlab.

        Args:
            data_dir: as in :meth:`predictions`.

        Raises:
            InputError: the study is not cross-validated, or cleanlab is not installed.
        """
        label, found = next(iter(self.predictions(data_dir).items()))
        return label_errors(found, label, data.load(found.dataset.reference, data_dir))

    def cost(self, data_dir: str | None = None, rates: Rates = DEFAULT) -> Costs:
        """What each configuration and the study cost, and which are on a Pareto front.

        Args:
            data_dir: as in :meth:`predictions`.
            rates: by what energy, carbon dioxide and price are computed; by default what was counted while the study
                was trained, or else 4 W per core, the world's mean electricity, and no price.
        """
        found = self.predictions(data_dir)
        requests = {
            label: Request(
                each.configuration.spec.model,
                counted_arguments(each.configuration.spec),
                each.dataset.image_shape,
                each.dataset.num_classes,
            )
            for label, each in found.items()
        }
        counted = counts.count(requests.values())
        devices = {str(each.get("backend")) for each in self.environments.values()}
        return costs_of(
            found,
            {label: counted[r] for label, r in requests.items() if r in counted},
            power_of(self.energy, rates, devices.pop() if len(devices) == 1 else None),
            rates,
            sum(self.times.values()),
        )


def open_study(folder: Path | str, history: bool = True) -> StudyResult:
    """Open the study in a folder.

    Args:
        folder: the study's folder.
        history: whether to read the epochs of its trials as well, which takes most of the time.

    Raises:
        StoreError: the folder holds no study, or the study is damaged.
    """
    return StudyResult(**vars(read_study(Path(folder), history)))
