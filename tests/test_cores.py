"""Cores that share the batches of a trial: the bits are those of one core."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from conftest import SMALL

import dlbench
from dlbench import data, devices, engine, events, grids, study
from dlbench.spec import shards_of

#: 150 images: batches of 64, and one of 22 left over; of 96, three shards for two cores, and one of 54.
CASES: list[dict[str, Any]] = [
    {"model": "High-Vision", "batch_size": 64, "optimizer": "sgd"},
    {
        "model": "Modernist",
        "batch_size": 96,
        "dropout": 0.2,
        "transform": "augmented",
        "decay_mode": "l2",
        "weight_decay": 1e-3,
    },
]
MORE: list[dict[str, Any]] = [
    {"model": model, "batch_size": size, "optimizer": optimizer, "decay_mode": mode, "weight_decay": 1e-2}
    for model in ("SimpleCNN", "Baseline", "Stabilized", "High-Vision", "Modernist")
    for size in (64, 128)
    for optimizer, mode in (("sgd", "l2"), ("adam", "decoupled"))
]


def train(case: dict[str, Any], cores: int, folder: Path) -> dict[str, Any]:
    fields = SMALL | {"train_size": 150, "num_epochs": 2} | case
    (trial,) = grids.resolve(dlbench.grid(**fields), data.info)
    place = engine.Place(folder, "cpu", workers=1, cores=cores)
    happened = list(engine.run([grids.Program((trial,))], place, threading.Event()))
    assert [e.reason for e in happened if isinstance(e, events.Failed)] == []
    (finished,) = (event for event in happened if isinstance(event, events.Finished))
    return finished.outcome


def compare(case: dict[str, Any], folder: Path) -> None:
    alone, shared = (train(case, cores, folder / str(cores)) for cores in (1, 2))
    for name in ("params_sha256", "best_params_sha256", "history_sha256", "test_accuracy"):
        assert alone[name] == shared[name], (name, case)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["model"])
def test_two_cores_change_no_bit(case: dict[str, Any], tmp_path: Path) -> None:
    compare(case, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("case", MORE, ids=lambda case: "-".join(map(str, case.values())))
def test_two_cores_change_no_bit_of_any_network(case: dict[str, Any], tmp_path: Path) -> None:
    compare(case, tmp_path)


def test_batches_have_shards_of_32_where_these_divide_them() -> None:
    assert [shards_of(size) for size in (1, 16, 32, 33, 64, 100, 128)] == [1, 1, 1, 1, 2, 1, 4]


def test_only_the_only_trial_of_a_study_takes_all_cores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trials that are compared by what they cost get a core each; a number of workers is obeyed."""
    monkeypatch.setattr(devices, "count", lambda kind: 8)

    def cores(workers: int | None = None, **fields: Any) -> int:
        asked = dlbench.grid(**SMALL | {"train_size": 500} | fields)
        return study.plan(asked, out=tmp_path / "s", workers=workers, device="cpu").cores

    assert cores(batch_size=128) == 4
    assert cores(batch_size=320) == 8
    assert cores(batch_size=16) == 1
    assert cores(batch_size=128, seed=[0, 1]) == 1
    assert cores(batch_size=128, workers=1) == 1
