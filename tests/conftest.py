"""What the tests share: one cache of data and compiled programs, and one small study that is really trained.

Two processes run the tests (pytest-xdist), a file at a time: what a file's tests share is made in one of them.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

import dlbench
from dlbench.ops import native
from dlbench.records import Outcome, TrialStatus
from dlbench.storage.results import TrialResult

#: Generated cases are the same ones in every run, so that a change is judged by itself and not by luck;
#: `pytest --hypothesis-profile=search` looks for new ones.
settings.register_profile("fixed", derandomize=True, deadline=None)
settings.register_profile("search", max_examples=1000, deadline=None)
settings.load_profile("fixed")

#: The files that take longest, in that order: begun first, so that both processes end at about the same time.
LONGEST = (
    "goldens",
    "readme",
    "foreign",
    "study",
    "hangs",
    "networks",
    "ops",
    "oracle",
    "train",
    "other_environments",
    "own_models",
    "exports",
    "safety",
    "replay",
    "bits",
    "environment",
    "contents",
    "resume",
    "augment",
    "stats",
    "recipes",
    "figures",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    names = [f"test_{name}" for name in LONGEST]
    items.sort(key=lambda item: names.index(item.path.stem) if item.path.stem in names else len(names))


def pytest_make_parametrize_id(val: object) -> str | None:
    """Name cases of bytes by their length: some hold the time at which they were made."""
    return f"{len(val)}-bytes" if isinstance(val, bytes) else None


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for the whole run, the same in every process that runs tests."""
    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "shared"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session", autouse=True)
def cache(shared: Path) -> Path:
    """A cache folder for the whole run, so that each program is compiled once and no user's cache is touched.

    Of two processes that run tests, one compiles the kernels, which both need soon, and the other waits.
    """
    os.environ["DLBENCH_CACHE_DIR"] = str(shared / "cache")
    if "PYTEST_XDIST_WORKER" in os.environ:
        with locked(shared / "kernels.lock"):
            native.choose(dict(os.environ))
    return shared / "cache"


#: The smallest trials that train for real: every test that only needs "some study" uses these.
SMALL: dict[str, Any] = {"train_size": 72, "val_size": 32, "batch_size": 16, "num_epochs": 2}


def made_up(
    spec: dlbench.StudySpec, accuracy: Callable[[dlbench.TrialSpec], float | None]
) -> dlbench.StudyResult:
    """A study with accuracies of one's own, on validation and test images; ``None`` for a trial that diverged."""
    planned = dlbench.plan(spec)
    trials = []
    for trial in planned.trials:
        value = accuracy(trial.spec)
        status = TrialStatus.DIVERGED if value is None else TrialStatus.COMPLETE
        outcome = Outcome.from_record({"best_val_accuracy": value, "test_accuracy": value})
        trials.append(TrialResult(trial, status, outcome))
    return dlbench.StudyResult(spec, tuple(trials), planned.folder)


def modules_of(**sources: str) -> Any:
    """A fixture for all tests of a file: a folder on the Python path that holds modules with these sources."""

    @pytest.fixture(scope="module", autouse=True)
    def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
        made = tmp_path_factory.mktemp("modules")
        for name, source in sources.items():
            (made / f"{name}.py").write_text(source)
        with pytest.MonkeyPatch.context() as patch:
            patch.syspath_prepend(made)
            yield made

    return folder


#: Packages of extras that modules need, by the beginning of the modules' names; they may be missing in tests.
OF_EXTRAS = {
    "dlbench.bench.torch_": ("optuna", "torch"),
    "dlbench.report.trackers.": ("alembic", "mlflow", "sqlalchemy", "wandb"),
}


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """One process after the other."""
    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@pytest.fixture(scope="session")
def small_study() -> dlbench.StudySpec:
    return dlbench.grid(model="baseline", learning_rate=[1e-3, 1e-2], seed=[0, 1], **SMALL)


@pytest.fixture(scope="session")
def small_result(
    small_study: dlbench.StudySpec, cache: Path, shared: Path, tmp_path_factory: pytest.TempPathFactory
) -> dlbench.StudyResult:
    """Four trials, trained by two workers; whichever process needs them first trains them for all."""
    with locked(shared / "small.lock"):
        dlbench.run(small_study, workers=2, out=shared / "small")
    return dlbench.open_study(shutil.copytree(shared / "small", tmp_path_factory.mktemp("studies") / "small"))
