"""Compare CNN architectures and hyper-parameters on image classification, rigorously and fast, in JAX.

Everything public is here, imported when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dlbench import data, models, ops, stats
    from dlbench.checkpoint import LoadedModel, load
    from dlbench.data import Dataset, from_arrays
    from dlbench.errors import (
        ConfigError,
        DataError,
        DlbenchError,
        InputError,
        SpecError,
        StoreError,
        UnknownNameError,
        WorkerError,
    )
    from dlbench.recorded import list_studies, open_study
    from dlbench.registry import register_model, resolve_model
    from dlbench.results import Epoch, StudyResult, TrialResult, TrialStatus
    from dlbench.sequential import run_until_separated
    from dlbench.spec import StudySpec, Trial, TrialSpec
    from dlbench.study import Plan, grid, plan, run
    from dlbench.train import Data, Hyper, Static, TrainState, fit

__version__ = "0.1.0"

_PLACES = {
    "checkpoint": ("LoadedModel", "load"),
    "data": ("Dataset", "from_arrays"),
    "errors": (
        "ConfigError",
        "DataError",
        "DlbenchError",
        "InputError",
        "SpecError",
        "StoreError",
        "UnknownNameError",
        "WorkerError",
    ),
    "recorded": ("list_studies", "open_study"),
    "registry": ("register_model", "resolve_model"),
    "results": ("Epoch", "StudyResult", "TrialResult", "TrialStatus"),
    "sequential": ("run_until_separated",),
    "spec": ("StudySpec", "Trial", "TrialSpec"),
    "study": ("Plan", "grid", "plan", "run"),
    "train": ("Data", "Hyper", "Static", "TrainState", "fit"),
}
_MODULES = ("data", "models", "ops", "stats")
_HOME = {name: module for module, names in _PLACES.items() for name in names}

__all__ = [
    "ConfigError",
    "Data",
    "DataError",
    "Dataset",
    "DlbenchError",
    "Epoch",
    "Hyper",
    "InputError",
    "LoadedModel",
    "Plan",
    "SpecError",
    "Static",
    "StoreError",
    "StudyResult",
    "StudySpec",
    "TrainState",
    "Trial",
    "TrialResult",
    "TrialSpec",
    "TrialStatus",
    "UnknownNameError",
    "WorkerError",
    "data",
    "fit",
    "from_arrays",
    "grid",
    "list_studies",
    "load",
    "models",
    "open_study",
    "ops",
    "plan",
    "register_model",
    "resolve_model",
    "run",
    "run_until_separated",
    "stats",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"dlbench.{_HOME[name]}"), name)
    if name in _MODULES:
        return importlib.import_module(f"dlbench.{name}")
    raise AttributeError(f"module 'dlbench' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
