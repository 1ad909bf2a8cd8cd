"""Benchmark how the cost of studies depends on trials, workers, batch size, images and parameters.

For trials and workers, the wall-clock time of whole studies is measured, with a warm compilation cache. For the others,
the training time recorded by each trial is used, with one worker, and with seeds as repetitions. The overhead of a
trial beyond training and evaluation is measured with a study of many very small trials.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlbench import data
from dlbench.bench.rounds import quartiles
from dlbench.bench.steps import Notify
from dlbench.data.splits import test_indices
from dlbench.errors import WorkerError
from dlbench.execution import devices
from dlbench.report import count as counted
from dlbench.studies import running
from dlbench.studies.designs import grid

if TYPE_CHECKING:
    from dlbench.studies.result import StudyResult

WIDTH_MODEL = "dlbench.bench.widths:WidthCNN"


@dataclass(frozen=True)
class Extent:
    """The values along each axis.

    Args:
        repeats: number of repetitions of each measurement.
        dataset: the data set.
        trials: numbers of trials.
        trial_size: number of training images of each of these trials.
        batch_sizes: batch sizes.
        images: numbers of training images.
        widths: widths of the network.
        size: number of training images along the other axes.
        overhead_trials: number of very small trials for measuring the overhead.
    """

    repeats: int = 2
    dataset: str = "mnist"
    trials: tuple[int, ...] = (1, 4, 16, 64, 256)
    trial_size: int = 500
    batch_sizes: tuple[int, ...] = (8, 16, 32, 64, 128, 256)
    images: tuple[int, ...] = (1000, 3000, 10_000, 30_000, 59_000)
    widths: tuple[int, ...] = (4, 8, 16, 32, 64)
    size: int = 4000
    overhead_trials: int = 500


def run(extent: Extent, notify: Notify) -> dict[str, Any]:
    """Measure along every axis.

    Args:
        extent: the values along each axis.
        notify: called with a line of text about the progress.

    Returns:
        A record of JSON values: ``points``, each with its axis, value, workers and median seconds with quartiles, and
        ``overhead``.

    Raises:
        DataError: the data set is missing.
        WorkerError: a trial failed.
    """
    data.info(extent.dataset)
    with tempfile.TemporaryDirectory(prefix="dlbench-bench-") as folder:
        runner = _Runner(extent, Path(folder), notify)
        points = [
            *runner.trials(),
            *runner.axis("batch_size", {"batch_size": list(extent.batch_sizes)}),
            *runner.axis("images", {"train_size": list(extent.images)}),
            *runner.axis(
                "parameters", {"model": WIDTH_MODEL, "model_args": [{"width": w} for w in extent.widths]}
            ),
        ]
        return {"cores": devices.count("cpu"), "points": points, "overhead": runner.overhead()}


class _Runner:
    """Runs studies in temporary folders."""

    def __init__(self, extent: Extent, folder: Path, notify: Notify) -> None:
        self._extent, self._folder, self._notify = extent, folder, notify
        self._count = 0

    def _run(self, workers: int, **axes: Any) -> StudyResult:
        self._count += 1
        fields = {
            "dataset": self._extent.dataset,
            "train_size": self._extent.size,
            "val_size": 100,
            "optimizer": "sgd",
            "num_epochs": 1,
        }
        result = running.run(
            grid(**fields | axes),
            out=self._folder / str(self._count),
            workers=workers,
            device="cpu",
            reuse=False,
        )
        if result.failed:
            raise WorkerError(f"a trial of the benchmark failed: {result.failed[0].error}")
        return result

    def trials(self) -> list[dict[str, Any]]:
        """Wall-clock time of whole studies, by number of trials and of workers."""
        size = {"train_size": self._extent.trial_size}
        self._run(1, **size)  # fills the compilation cache
        settings = [(count, w) for count in self._extent.trials for w in _workers() if w <= count]
        walls: dict[tuple[int, int], list[float]] = {setting: [] for setting in settings}
        for number in range(1, self._extent.repeats + 1):
            for count, workers in settings:
                self._notify(
                    f"round {number}/{self._extent.repeats}: {counted(count, 'trial')} of "
                    f"{self._extent.trial_size} images, {counted(workers, 'worker')}"
                )
                walls[count, workers].append(self._run(workers, seed=range(count), **size).wall_time_s)
        return [_point("trials", count, workers, "wall_s", wall) for (count, workers), wall in walls.items()]

    def axis(self, name: str, axes: dict[str, Any]) -> list[dict[str, Any]]:
        """Training seconds of an epoch, by one property of a trial; the first seed is a warm-up."""
        self._notify(f"cost by {name.replace('_', ' ')}")
        seeds = range(self._extent.repeats + 1)
        found: dict[int, list[float]] = {}
        for trial in self._run(1, seed=seeds, **axes).trials:
            if trial.seed == 0:
                continue
            field = {"images": "train_size", "parameters": "num_params"}.get(name, name)
            found.setdefault(trial.value(field), []).append(trial.value("train_time_s"))
        return [_point(name, value, 1, "train_s", spent) for value, spent in found.items()]

    def overhead(self) -> dict[str, Any]:
        """Seconds that a very small trial takes beyond its training, without and with start-up.

        Two studies of the same program are run on all cores, one of them with one trial per worker. The difference of
        their wall-clock times excludes start-up and compilation. The data set has few test images.
        """
        workers, count = devices.count("cpu"), self._extent.overhead_trials
        dataset = data.load(self._extent.dataset)
        train, test = (test_indices(labels, 96) for labels in (dataset.train_labels, dataset.test_labels))
        few = data.from_arrays(
            "few",
            dataset.train_images[train],
            dataset.train_labels[train],
            dataset.test_images[test],
            dataset.test_labels[test],
            dataset.num_classes,
        )
        tiny = {"dataset": few, "train_size": 64, "val_size": 32}
        self._run(1, **tiny)
        samples: dict[str, list[float]] = {}
        for number in range(1, self._extent.repeats + 1):
            self._notify(f"round {number}/{self._extent.repeats}: {count} trials of 64 images")
            short = self._run(workers, seed=range(workers), **tiny)
            long = self._run(workers, seed=range(count), **tiny)
            training, evaluation = (
                statistics.mean(trial.value(name) for trial in long.trials)
                for name in ("train_time_s", "eval_time_s")
            )
            added = (long.wall_time_s - short.wall_time_s) / ((count - workers) / workers)
            found = {
                "worker_s_per_trial": added - training,
                "worker_s_per_trial_with_start": long.wall_time_s / (count / workers) - training,
                "evaluation_s_per_trial": evaluation,
            }
            for name, seconds in found.items():
                samples.setdefault(name, []).append(seconds)
        spread = {name: _spread(seconds) for name, seconds in samples.items()}
        return {"num_trials": count, "workers": workers, **spread}


def _workers() -> Sequence[int]:
    cores = devices.count("cpu")
    return sorted({1, *(2**i for i in range(1, cores.bit_length()) if 2**i <= cores), cores})


def _point(axis: str, value: int, workers: int, what: str, seconds: list[float]) -> dict[str, Any]:
    return {"axis": axis, "value": value, "workers": workers, "what": what, **_spread(seconds)}


def _spread(seconds: list[float]) -> dict[str, Any]:
    median, low, high = quartiles(seconds)
    return {"median_s": median, "low_s": low, "high_s": high, "samples_s": seconds}


def estimate_s(extent: Extent) -> float:
    """Estimated seconds, including compilation, from measurements on two cores of 2024."""
    studies = len(_workers()) * len(extent.trials) + 2
    trials = 2 * sum(extent.trials) * (0.02 + 1e-4 * extent.trial_size) + 0.02 * extent.overhead_trials
    images = sum(extent.images) + extent.size * (len(extent.batch_sizes) + 4 * len(extent.widths))
    return 70 + extent.repeats * (3.3 * studies + trials) + (extent.repeats + 1) * 1.2e-4 * images
