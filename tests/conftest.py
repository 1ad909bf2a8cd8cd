"""What the tests share: one cache of data and compiled programs, and one small study that is really trained."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

import dlbench


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder for the whole run, so that each program is compiled once and no user's cache is touched."""
    folder = tmp_path_factory.mktemp("cache")
    os.environ["DLBENCH_CACHE_DIR"] = str(folder)
    return folder


#: The smallest trials that train for real: every test that only needs "some study" uses these.
SMALL: dict[str, Any] = {"train_size": 72, "val_size": 32, "batch_size": 16, "num_epochs": 2}


@pytest.fixture(scope="session")
def small_study() -> dlbench.StudySpec:
    return dlbench.grid(model="baseline", learning_rate=[1e-3, 1e-2], seed=[0, 1], **SMALL)


@pytest.fixture(scope="session")
def small_result(
    small_study: dlbench.StudySpec, cache: Path, tmp_path_factory: pytest.TempPathFactory
) -> dlbench.StudyResult:
    """Four trials, trained by two workers."""
    return dlbench.run(small_study, workers=2, out=tmp_path_factory.mktemp("studies") / "small")
