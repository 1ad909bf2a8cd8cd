"""The linear model beside which a comparison is shown: fitted to the pixels, once for each split. No jax."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from dlbench import data
from dlbench.errors import DlbenchError
from dlbench.spec.metrics import SELECTION_METRIC, metric_key, metric_of
from dlbench.spec.registry import METRICS
from dlbench.spec.trial import Trial
from dlbench.stats.linear import least_squares, linear_scores, logistic_regression
from dlbench.storage.results import LINEAR_SPLITS, LinearModel, split_key
from dlbench.training.metrics import measure

#: Linear models are fitted to splits whose images have at most so many pixels in all.
MAX_PIXELS = 200_000_000


def linear_models(
    trials: Iterable[Trial], known: Mapping[str, LinearModel], data_dir: str | None
) -> dict[str, LinearModel]:
    """Fit a linear model to each split of some trials that has none yet.

    Args:
        trials: the trials, resolved against their data.
        known: those that are fitted already, by :func:`~dlbench.storage.results.split_key`.
        data_dir: folder of the user's data sets.

    Returns:
        The new ones; none for data sets that cannot be loaded, or whose images are too large.
    """
    by_split = {split_key(trial): trial for trial in reversed([*trials])}
    wanted = [*reversed(by_split.items())][:LINEAR_SPLITS]
    found: dict[str, LinearModel] = {}
    left = MAX_PIXELS
    for key, trial in wanted:
        with contextlib.suppress(DlbenchError):
            info = data.info(trial.spec.dataset, data_dir)
            left -= (trial.spec.train_size or 0) * math.prod(info.image_shape)
            if left >= 0 and key not in known:
                found[key] = _fitted(trial, data_dir)
    return found


def _fitted(trial: Trial, data_dir: str | None) -> LinearModel:
    spec = trial.spec
    if METRICS.users(spec.selection_metric):  # user code runs in workers
        spec = spec.model_copy(update={"selection_metric": SELECTION_METRIC, "selection_metric_args": ()})
    dataset = data.load(spec.dataset, data_dir, test_size=spec.test_size)
    split = data.split_of(dataset, spec)
    val_images, val_labels = split.half(dataset)
    labels = dataset.train_labels[split.train_indices]
    features = _features(dataset.train_images[split.train_indices])
    if labels.dtype.kind == "f":
        fitted, method = least_squares(features, labels), "ridge regression on the pixels"
    else:
        fitted = logistic_regression(features, labels, dataset.num_classes)
        method = "logistic regression on the pixels"

    tested, held_out = (
        measure(spec, linear_scores(_features(images), fitted), targets)
        for images, targets in (
            (dataset.test_images, dataset.test_labels),
            (val_images[split.val_indices], val_labels[split.val_indices]),
        )
    )
    own = metric_key(metric_of(spec, "test")), metric_key(metric_of(spec, "val"))
    bounds = ("test_accuracy_low", "test_accuracy_high")
    values = {
        name: value for name, value in tested.items() if isinstance(value, float) and name not in bounds
    }
    values["num_params"] = fitted.size
    for on_test, on_val in (("test_accuracy", "best_val_accuracy"), own):
        if (value := held_out.get(on_test)) is not None:
            values[on_val] = value
    return LinearModel(method, {name: float(value) for name, value in values.items()})


def _features(images: Any) -> Any:
    """Pixels in [0, 1], float32 [N, pixels]."""
    return np.asarray(images).reshape(len(images), -1).astype(np.float32) / np.float32(255)
