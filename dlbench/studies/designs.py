"""Studies of every combination of values, and comparisons, from Python values. No jax."""

from __future__ import annotations

from types import FunctionType
from typing import Any

from dlbench import data
from dlbench.spec import designs
from dlbench.spec.study import StudySpec


def grid(**axes: Any) -> StudySpec:
    """A study of every combination of the values given.

    Args:
        axes: a value, or several (any iterable, such as ``range(5)``), by field of
            :class:`~dlbench.spec.trial.TrialSpec`. A model is a name, ``module:Attribute``, or a Flax module class;
            a data set is a name or a :class:`~dlbench.data.Dataset`.

    Raises:
        InputError: an unknown field or name, an impossible value, an empty or repeated one.
    """
    if "model" in axes:
        axes["model"] = [_model_reference(model) for model in designs.values_of(axes["model"])]
    if "dataset" in axes:
        axes["dataset"] = [
            data.register(dataset) if isinstance(dataset, data.Dataset) else dataset
            for dataset in designs.values_of(axes["dataset"])
        ]
    return designs.expand(axes)


def _model_reference(model: object) -> object:
    return f"{model.__module__}:{model.__qualname__}" if isinstance(model, type | FunctionType) else model
