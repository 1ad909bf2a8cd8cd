"""Compare CNN architectures and hyper-parameters on image classification, rigorously and fast, in JAX.

Everything public is here, imported when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dlbench import data, models, ops, stats
    from dlbench.analysis.across import StudiesComparison
    from dlbench.data import Dataset, from_arrays
    from dlbench.errors import (
        ConfigError,
        DamagedStudyError,
        DataError,
        DlbenchError,
        InputError,
        SpecError,
        StoreError,
        UnknownNameError,
        WorkerError,
    )
    from dlbench.execution.plan import Plan
    from dlbench.records import Epoch, TrialStatus
    from dlbench.spec.registry import register_model, resolve_model
    from dlbench.spec.study import StudySpec
    from dlbench.spec.trial import Trial, TrialSpec
    from dlbench.storage.checkpoints import LoadedModel, load
    from dlbench.storage.results import TrialResult
    from dlbench.storage.studies import list_studies
    from dlbench.studies.comparing import compare
    from dlbench.studies.designs import ablate, grid, search
    from dlbench.studies.growing import run_until_separated
    from dlbench.studies.options import RunOptions
    from dlbench.studies.planning import plan
    from dlbench.studies.result import StudyResult, open_study
    from dlbench.studies.running import run
    from dlbench.studies.searching import run_search
    from dlbench.training.loop import fit
    from dlbench.training.state import Data, Hyper, Static, TrainState

__version__ = "0.1.0"

_PLACES = {
    "analysis.across": ("StudiesComparison",),
    "data": ("Dataset", "from_arrays"),
    "errors": (
        "ConfigError",
        "DamagedStudyError",
        "DataError",
        "DlbenchError",
        "InputError",
        "SpecError",
        "StoreError",
        "UnknownNameError",
        "WorkerError",
    ),
    "execution.plan": ("Plan",),
    "records": ("Epoch", "TrialStatus"),
    "spec.registry": ("register_model", "resolve_model"),
    "spec.study": ("StudySpec",),
    "spec.trial": ("Trial", "TrialSpec"),
    "storage.checkpoints": ("LoadedModel", "load"),
    "storage.results": ("TrialResult",),
    "storage.studies": ("list_studies",),
    "studies.comparing": ("compare",),
    "studies.designs": ("ablate", "grid", "search"),
    "studies.growing": ("run_until_separated",),
    "studies.options": ("RunOptions",),
    "studies.planning": ("plan",),
    "studies.result": ("StudyResult", "open_study"),
    "studies.running": ("run",),
    "studies.searching": ("run_search",),
    "training.loop": ("fit",),
    "training.state": ("Data", "Hyper", "Static", "TrainState"),
}
_MODULES = ("data", "models", "ops", "stats")
_HOME = {name: module for module, names in _PLACES.items() for name in names}

__all__ = [
    "ConfigError",
    "DamagedStudyError",
    "Data",
    "DataError",
    "Dataset",
    "DlbenchError",
    "Epoch",
    "Hyper",
    "InputError",
    "LoadedModel",
    "Plan",
    "RunOptions",
    "SpecError",
    "Static",
    "StoreError",
    "StudiesComparison",
    "StudyResult",
    "StudySpec",
    "TrainState",
    "Trial",
    "TrialResult",
    "TrialSpec",
    "TrialStatus",
    "UnknownNameError",
    "WorkerError",
    "ablate",
    "compare",
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
    "run_search",
    "run_until_separated",
    "search",
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
