"""Metrics: the numbers measured of a trial, and the units in which their differences are shown. No jax."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from dlbench.errors import UnknownNameError
from dlbench.records import METRICS

#: The metric by which a configuration is chosen: it is measured on validation images.
SELECTION_METRIC = "val/accuracy"
#: The metric that is reported: it is measured on test images, which take no part in any choice.
REPORT_METRIC = "test/accuracy"


@dataclass(frozen=True)
class Metric:
    """What is known of a metric beside its values.

    Attributes:
        unit: the unit in which differences are shown.
        factor: multiplies a value to convert it to that unit.
        lower_is_better: True for losses and times.
        smallest_effect: the smallest difference of interest, in that unit, where a claim states none.
        is_timing: whether it depends on what else the machine does.
        is_censored: whether it is the time of an event that trials may end before.
        worst: the value of a trial that diverged: 0 for an accuracy, infinity for a loss; ``None`` if it has none.
    """

    unit: str
    factor: float = 1.0
    lower_is_better: bool = False
    smallest_effect: float = 0.0
    is_timing: bool = False
    is_censored: bool = False
    worst: float | None = None


_POINTS = Metric("points", 100.0, smallest_effect=0.1, worst=0.0)
_SECONDS = Metric("s", lower_is_better=True, is_timing=True)
_NATS = Metric("nats", lower_is_better=True, smallest_effect=0.01, worst=math.inf)
_EPOCHS = Metric("epochs", lower_is_better=True, smallest_effect=1.0)
_UNTIL = Metric("epochs", lower_is_better=True, smallest_effect=1.0, is_censored=True)

#: Metrics by their key in a trial's flat record.
KNOWN_METRICS: Mapping[str, Metric] = {
    "test_accuracy": _POINTS,
    "test_accuracy_augmented": _POINTS,
    "best_val_accuracy": _POINTS,
    "macro_precision": _POINTS,
    "macro_recall": _POINTS,
    "macro_f1": _POINTS,
    "roc_auc": _POINTS,
    "test_loss": _NATS,
    "best_val_loss": _NATS,
    "best_epoch": _EPOCHS,
    "convergence_epoch": _UNTIL,
    "plateau_epoch": _UNTIL,
    "train_time_s": _SECONDS,
    "eval_time_s": _SECONDS,
    "compile_time_s": _SECONDS,
    "io_time_s": _SECONDS,
    "images_per_s": Metric("images/s", is_timing=True),
}


def metric_key(name: str) -> str:
    """The key of a metric in a flat record: ``test_accuracy`` for "test/accuracy" and for "test_accuracy".

    Raises:
        UnknownNameError: there is no such metric.
    """
    key = METRICS.get(name, name)
    if key not in KNOWN_METRICS:
        raise UnknownNameError("metric", name, KNOWN_METRICS)
    return key


def metric(name: str) -> Metric:
    """The metric of a name or key.

    Raises:
        UnknownNameError: there is no such metric.
    """
    return KNOWN_METRICS[metric_key(name)]
