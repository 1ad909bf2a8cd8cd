"""Metrics: what is measured of a trial, how it is written, and which of two values is better. No jax.

A metric is named ``val/NAME`` or ``test/NAME`` after the part that computes it (:data:`~dlbench.spec.registry.METRICS`)
and the images that it is measured on. A point of a trial's curves is named by its epoch: ``val/accuracy@5``,
``train/loss@-1`` (the last one). The name of a user's metric is its reference with its arguments, so that the
name alone tells the better direction: ``test/shop:cost(better='lower')``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from dlbench.errors import InputError, UnknownNameError
from dlbench.records import METRICS
from dlbench.spec import parts, registry
from dlbench.spec.trial import TrialSpec

#: The metric by which a configuration is chosen unless a trial names another: measured on validation images.
SELECTION_METRIC = "val/accuracy"
#: The metric that is then reported: measured on test images, which take no part in any choice.
REPORT_METRIC = "test/accuracy"
_HALVES = {"val": "validation", "test": "test", "train": "training"}
#: A point of a curve: "val/accuracy@5" after the fifth epoch, "train/loss@-1" after the last one.
_POINT = re.compile(r"(train|val)/(loss|accuracy)@(-?[1-9]\d{0,5})")
_SAID = {"f1": "F1", "roc_auc": "ROC-AUC", "r2": "R²", "rmse": "RMSE", "mae": "MAE"}


@dataclass(frozen=True)
class Metric:
    """What is known of a metric beside its values.

    Attributes:
        unit: the unit in which differences are shown.
        factor: multiplies a value to convert it to that unit.
        lower_is_better: True for losses and times.
        decimals: the decimals of a value in that unit.
        smallest_effect: the smallest difference of interest, in that unit, where a claim states none.
        is_timing: whether it depends on what else the machine does.
        is_censored: whether it is the time of an event that trials may end before.
        worst: the value of a trial that diverged: 0 for an accuracy, infinite for a metric without a bound; ``None``
            for a time, which it has or lacks like any other trial.
    """

    unit: str
    factor: float = 1.0
    lower_is_better: bool = False
    decimals: int = 4
    smallest_effect: float = 0.0
    is_timing: bool = False
    is_censored: bool = False
    worst: float | None = None

    def text(self, value: float) -> str:
        """A value as tables have it: 0.974 → 97.40, in percent, of an accuracy."""
        return f"{self.factor * value:.{self.decimals}f}"

    @property
    def bounds(self) -> tuple[float, float]:
        """The least and the largest possible value: 0 and 1 of shares; of others, none is known."""
        return (0.0, 1.0) if self.factor == 100 else (-math.inf, math.inf)

    @property
    def in_heading(self) -> str:
        """What headings of differences end with: ", points"; "" for a metric without a unit."""
        return f", {self.unit}" if self.unit else ""

    @property
    def sign(self) -> str:
        """What follows values: " %" where they are shares."""
        return " %" if self.factor == 100 else ""


_POINTS = Metric("points", 100.0, decimals=2, smallest_effect=0.1, worst=0.0)
_SECONDS = Metric("s", lower_is_better=True, decimals=2, is_timing=True)
_LOSS = Metric("", lower_is_better=True, smallest_effect=0.01, worst=math.inf)
_EPOCHS = Metric("epochs", lower_is_better=True, decimals=1, smallest_effect=1.0)
_UNTIL = Metric("epochs", lower_is_better=True, decimals=1, smallest_effect=1.0, is_censored=True)

#: Metrics by their key in a trial's flat record. Those of other parts are known by their names.
KNOWN_METRICS: Mapping[str, Metric] = {
    "test_accuracy": _POINTS,
    "test_accuracy_augmented": _POINTS,
    "best_val_accuracy": _POINTS,
    "macro_precision": _POINTS,
    "macro_recall": _POINTS,
    "macro_f1": _POINTS,
    "roc_auc": _POINTS,
    "test_loss": _LOSS,
    "best_val_loss": _LOSS,
    "best_epoch": _EPOCHS,
    "convergence_epoch": _UNTIL,
    "plateau_epoch": _UNTIL,
    "collapsed": Metric("points", 100.0, lower_is_better=True, decimals=1, smallest_effect=5.0, worst=1.0),
    "train_time_s": _SECONDS,
    "eval_time_s": _SECONDS,
    "compile_time_s": _SECONDS,
    "io_time_s": _SECONDS,
    "images_per_s": Metric("images/s", decimals=0, is_timing=True),
}


_NAMES = {key: name for name, key in METRICS.items()}


def metric_key(name: str) -> str:
    """The key of a metric in a flat record: ``test_accuracy`` for "test/accuracy" and for "test_accuracy".

    Raises:
        UnknownNameError: there is no such metric.
    """
    key = METRICS.get(name, name)
    if key in KNOWN_METRICS or point(name):
        return key
    half, part = _taken_apart(name)
    whole = f"{half}/{part}"
    return METRICS.get(whole, whole.replace("/", "_", 1))


def point(name: str) -> tuple[str, int] | None:
    """The curve and the epoch of a metric that is a point of a trial's curves: ("val_accuracy", 5); else ``None``."""
    found = _POINT.fullmatch(name)
    return (f"{found[1]}_{found[2]}", int(found[3])) if found else None


def is_metric(name: str) -> bool:
    """Whether there is a metric of this name or key."""
    try:
        return bool(metric_key(name))
    except UnknownNameError:
        return False


def metric(name: str) -> Metric:
    """The metric of a name or key.

    Raises:
        UnknownNameError: there is no such metric.
    """
    key = metric_key(name)
    if key in KNOWN_METRICS:
        return KNOWN_METRICS[key]
    if found := point(key):
        return _POINTS if found[0].endswith("accuracy") else _LOSS
    part = _taken_apart(name)[1]
    declared = registry.METRICS.built_in.get(registry.METRICS.prefix + part.name)
    if declared is not None and declared.unit == "points":
        return _POINTS
    better = declared.better if declared is not None else dict(part.arguments).get("better")
    lower = better == "lower"
    return Metric(
        declared.unit if declared else "", lower_is_better=lower, worst=math.inf if lower else -math.inf
    )


def bounds_of(name: str) -> tuple[float, float]:
    """The least and the largest possible value of a metric (:attr:`Metric.bounds`), or of another field of a trial."""
    return metric(name).bounds if is_metric(name) else (-math.inf, math.inf)


def metric_of(spec: TrialSpec, half: str) -> str:
    """The name of the metric that a trial chooses by, on ``half`` of the images: "val" or "test"."""
    part = parts.Part(spec.selection_metric.removeprefix(registry.METRICS.prefix), spec.selection_metric_args)
    return f"{half}/{part}"


def selection_metric(specs: Iterable[TrialSpec]) -> str:
    """The metric by which configurations are chosen: that of their trials.

    Where trials have different ones, it is the accuracy of classes, and the loss of numbers.
    """
    return _shared(specs, "val")


def report_metric(specs: Iterable[TrialSpec]) -> str:
    """The metric that is reported of trials: the one that they are chosen by, on test images."""
    return _shared(specs, "test")


def title(name: str) -> str:
    """What the heading of a column calls a metric: "val acc %", "test F1 %", "val loss"."""
    if found := point(name):
        return f"{title(found[0].replace('_', '/'))} at epoch {found[1]}"
    half, called = _called(name)
    return f"{half} {'acc' if called == 'accuracy' else called}{metric(name).sign}".strip()


def words(name: str) -> str:
    """What sentences call a metric: "validation accuracy", "test RMSE"."""
    if found := point(name):
        epoch = "the last epoch" if found[1] == -1 else f"epoch {found[1]}"
        return f"{words(found[0].replace('_', '/'))} after {epoch}"
    half, called = _called(name)
    return f"{_HALVES.get(half, '')} {called}".strip()


def noun(name: str) -> str:
    """A metric without the images that it is measured on: "accuracy"."""
    return _called(name)[1]


def _shared(specs: Iterable[TrialSpec], half: str) -> str:
    known = {(spec.selection_metric, spec.selection_metric_args): spec for spec in specs}
    if len(known) == 1:
        return metric_of(next(iter(known.values())), half)
    declared = (registry.METRICS.built_in.get(name) for name, _ in known)
    of_numbers = any(each is not None and each.targets == "numbers" for each in declared)
    return f"{half}/{'loss' if of_numbers else 'accuracy'}"


def _called(name: str) -> tuple[str, str]:
    if name in KNOWN_METRICS:
        name = _NAMES.get(name, name)
    elif name.startswith(tuple(f"{half}_" for half in _HALVES)):  # a key
        name = name.replace("_", "/", 1)
    half, slash, text = name.partition("/")
    if not slash:
        return "", name.replace("_", " ")
    part = parts.parse(text)
    said = registry.METRICS.given(part.name, part.arguments) if ":" in part.name else dict(part.arguments)
    called = registry.label(part.name)
    if not said:
        return half, _SAID.get(called, called.replace("_", " "))
    return half, str(parts.Part(called, tuple(said.items())))


def _taken_apart(name: str) -> tuple[str, parts.Part]:
    """The half and the part of a metric that is named ``val/PART`` or keyed ``val_PART``.

    Raises:
        UnknownNameError: there is no such metric.
    """
    half = next((half for half in ("val", "test") if name.startswith((f"{half}/", f"{half}_"))), "")
    try:
        part = parts.parse(name[len(half) + 1 :])
        reference = registry.METRICS.find(part.name) if half else None
        if reference is not None:
            arguments = registry.METRICS.arguments(reference, part.arguments)
            return half, parts.Part(reference.removeprefix(registry.METRICS.prefix), arguments)
    except (ValueError, InputError):
        pass
    known = [
        f"{half}/{name.partition('/')[2]}" for half in ("val", "test") for name in registry.METRICS.built_in
    ]
    raise UnknownNameError("metric", name, [*KNOWN_METRICS, *known])
