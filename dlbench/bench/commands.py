"""Benchmark whole commands, from process start to the final table, against PyTorch training the same trials.

A search is compared with Optuna's own loop, with the same sampler, around a function that trains with PyTorch.

Commands take turns. dlbench is run with an empty compilation cache, and then with the cache filled by that run. The
PyTorch loop with tensors in memory runs as one process with all threads, and as one single-threaded process per core;
its fastest variant for each model and batch size is chosen beforehand and not timed. The original pipeline runs
unchanged, one trial after another. dlbench does more work: it also evaluates the test images, and writes checkpoints,
curves and predictions.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dlbench import data, files
from dlbench.bench.measure import Subject, environment, error_tail
from dlbench.bench.rounds import ratio
from dlbench.bench.steps import MODELS, MODULES, Notify
from dlbench.errors import WorkerError
from dlbench.execution import devices
from dlbench.ops import native
from dlbench.spec import designs, layouts
from dlbench.spec.study import Design
from dlbench.studies import planning

#: The fields in which the trials of a command can differ.
_NAMES = ("model", "optimizer", "learning_rate", "batch_size", "weight_decay")
COLD, WARM = "dlbench, empty cache", "dlbench, warm cache"


@dataclass(frozen=True)
class Work:
    """The study that a command trains.

    Args:
        design: the design of the study.
        axes: its values, by field of :class:`~dlbench.spec.trial.TrialSpec`; fields that vary have lists.
        options: what the design needs besides (:data:`dlbench.spec.layouts.OPTIONS`).
    """

    design: Design
    axes: dict[str, Any]
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def num_trials(self) -> int:
        """The number of trials."""
        return int(self.options.get("trials", 0)) or len(self.trials)

    @property
    def trials(self) -> list[dict[str, Any]]:
        """The trials, as values by field; the smallest batch sizes, which take the longest, come first."""
        product = itertools.product(*(designs.values_of(self.axes.get(name, 0.0)) for name in _NAMES))
        return sorted((dict(zip(_NAMES, one, strict=True)) for one in product), key=lambda t: t["batch_size"])


def grid(num_epochs: int) -> Work:
    """The grid of DeepLearningPipeline: 20 trials of Baseline with Adam on 800 digits."""
    return Work(
        "grid",
        {
            "model": "Baseline",
            "optimizer": "adam",
            "learning_rate": [1e-4, 1e-3, 1e-2, 1e-1],
            "batch_size": [8, 16, 32, 64, 128],
            "num_epochs": num_epochs,
            "dataset": "mnist",
            "train_size": 800,
            "val_size": 100,
        },
    )


def archs(num_epochs: int) -> Work:
    """The architecture comparison of DeepLearningPipeline: the five networks on 6,000 digits, with one seed."""
    return Work("comparison", _DIGITS | {"model": list(MODELS), "num_epochs": num_epochs})


def trial(model: str, num_epochs: int) -> Work:
    """One trial of that comparison."""
    return Work("single", _DIGITS | {"model": model, "num_epochs": num_epochs})


def search(num_epochs: int, num_trials: int = 100) -> Work:
    """A search over learning rates and batch sizes of Baseline, on the digits that are installed with dlbench."""
    axes = {"model": "Baseline", "optimizer": "adam", "num_epochs": num_epochs, "dataset": "mnist5k"}
    space = [f"{name}={text}" for name, text in _SPACE.items()]
    options = {"space": space, "trials": num_trials, "confirm": 0}
    return Work("search", {**axes, "train_size": 3200, "val_size": 800}, options)


_RATES, _SIZES = (1e-4, 1e-1), (8, 16, 32)
_SPACE = {"lr": f"log({_RATES[0]:g},{_RATES[1]:g})", "batch_size": f"choice({','.join(map(str, _SIZES))})"}

_DIGITS: dict[str, Any] = {
    "optimizer": "sgd",
    "learning_rate": 1e-3,
    "batch_size": 16,
    "weight_decay": 1e-5,
    "decay_mode": "l2",
    "dataset": "mnist",
    "train_size": 6000,
    "val_size": 1000,
    "seed": 0,
}


@dataclass
class Contender:
    """A command in the benchmark, and its measurements.

    Args:
        name: the name shown.
        wall_s: seconds from start to end of the process, one value per round.
        train_s: seconds of training and evaluation as reported by the command, summed over trials, one per round.
        val_accuracy: best validation accuracy, mean over trials, one value per round.
        trials: the trials of each round, with seconds of training and evaluation and the best accuracy.
    """

    name: str
    wall_s: list[float] = field(default_factory=list)
    train_s: list[float] = field(default_factory=list)
    val_accuracy: list[float] = field(default_factory=list)
    trials: list[list[dict[str, Any]]] = field(default_factory=list)

    def add(self, wall_s: float, trials: list[dict[str, Any]]) -> None:
        """Add the measurements of a round."""
        self.wall_s.append(wall_s)
        self.train_s.append(math.fsum(one["train_s"] for one in trials))
        self.val_accuracy.append(statistics.mean(one["val_accuracy"] for one in trials))
        self.trials.append(trials)


def run(
    work: Work, command: Callable[[Path], list[str]], against: Sequence[str], repeats: int, notify: Notify
) -> dict[str, Any]:
    """Run all commands in turn, round by round.

    Args:
        work: the study to train.
        command: returns the dlbench command that trains it in a given folder and prints the study's record.
        against: "torch", "original", both or neither.
        repeats: number of rounds.
        notify: called with a line of text about the progress.

    Returns:
        A record of JSON values.

    Raises:
        DataError: the data set is missing.
        WorkerError: a command failed.
    """
    data.info(work.axes["dataset"])  # prepares the data set, so that this is not timed
    cores = devices.count("cpu")
    with tempfile.TemporaryDirectory(prefix="dlbench-bench-") as folder:
        studies = _torch_studies(work, against, cores, Path(folder), notify)
        contenders = {name: Contender(name) for name in (COLD, WARM, *studies)}
        for number in range(1, repeats + 1):
            place = Path(folder) / str(number)
            place.mkdir()
            for name, contender in contenders.items():
                notify(f"round {number}/{repeats}: {name}")
                if name in studies:
                    _time_torch(contender, studies[name], place)
                else:
                    _time_ours(contender, command, place)
    return {
        "cores": cores,
        "num_trials": work.num_trials,
        "contenders": [
            {**vars(contender), "ratios": compare(contenders, name)} for name, contender in contenders.items()
        ],
    }


def compare(contenders: Mapping[str, Contender], name: str) -> dict[str, dict[str, float]]:
    """How many times longer a command takes than dlbench with an empty and with a warm cache."""
    compared = {}
    for ours in (COLD, WARM):
        if name not in (COLD, WARM):
            times, low, high = ratio(contenders[name].wall_s, contenders[ours].wall_s)
            compared[ours] = {"faster": times, "low": low, "high": high}
    return compared


def _time_ours(contender: Contender, command: Callable[[Path], list[str]], place: Path) -> None:
    out = place / ("cold" if contender.name == COLD else "warm")
    wall_s, found = _time(contender.name, command(out), _with_own_cache(place / "cache"))
    trials = [
        {
            **{name: one[name] for name in _NAMES},
            "val_accuracy": one["best_val_accuracy"] or 0.0,
            "train_s": one["train_time_s"] + one["eval_time_s"],
        }
        for one in found["trials"]
    ]
    contender.add(wall_s, trials)


def _with_own_cache(folder: Path) -> dict[str, str]:
    """The environment with another cache folder, in which the prepared data sets are linked."""
    if not folder.exists():
        folder.mkdir()
        datasets = files.cache_root() / "datasets"
        datasets.mkdir(parents=True, exist_ok=True)
        (folder / "datasets").symlink_to(datasets)
    others = {"JAX_COMPILATION_CACHE_DIR", native.VARIABLE}
    kept = {name: value for name, value in os.environ.items() if name not in others}
    return kept | {files.CACHE_DIR_VARIABLE: str(folder)}


def _time_torch(contender: Contender, todo: dict[str, Any], place: Path) -> None:
    file = place / "study.json"
    file.write_text(json.dumps(todo))
    loop = "torch_trials" if "trials" in todo else "torch_search"
    command = [sys.executable, "-P", "-m", f"dlbench.bench.{loop}", str(file)]
    wall_s, found = _time(contender.name, command, environment(todo["threads"], place))
    trials = todo.get("trials", found["trials"])
    pairs = zip(trials, found["trials"], strict=True)
    contender.add(wall_s, [{name: one[name] for name in _NAMES} | result for one, result in pairs])


def _time(name: str, command: list[str], environ: dict[str, str]) -> tuple[float, Any]:
    """Seconds from start to end of a process, and the JSON that it prints."""
    with tempfile.TemporaryFile() as errors:
        start = time.perf_counter()
        done = subprocess.run(command, env=environ, stdout=subprocess.PIPE, stderr=errors, check=False)
        wall_s = time.perf_counter() - start
        if done.returncode:
            raise WorkerError(f"{name} ended with exit code {done.returncode}:\n{error_tail(errors)}")
    return wall_s, json.loads(done.stdout)


def _torch_studies(
    work: Work, against: Sequence[str], cores: int, folder: Path, notify: Notify
) -> dict[str, dict[str, Any]]:
    """The studies to train with PyTorch, by name of the command."""
    shared = {name: work.axes[name] for name in ("dataset", "train_size", "val_size", "num_epochs")}
    shared |= {"data_dir": None, "threads": cores, "processes": 1}
    studies: dict[str, dict[str, Any]] = {}
    if "torch" in against and work.design == "search":
        trial = {"model": work.axes["model"], "optimizer": work.axes["optimizer"], "weight_decay": 0.0}
        shared |= {"pipeline": "tuned", "trial": trial, "num_trials": work.num_trials}
        shared |= {"learning_rates": _RATES, "batch_sizes": _SIZES}
        for jobs, threads in sorted({(1, cores), (cores, 1)}):
            notify(f"choosing PyTorch's variants for {threads} thread{'s' * (threads > 1)}")
            tuned = _with_variants([trial | {"batch_size": size} for size in _SIZES], threads, folder)
            settings = {
                "jobs": jobs,
                "threads": threads,
                "variants": {one["batch_size"]: one["variant"] for one in tuned},
            }
            how = f"{jobs} job{'s' * (jobs > 1)}, {threads} thread{'s' * (threads > 1)} each"
            studies[f"Optuna around PyTorch, tuned loop, {how}"] = shared | settings
        return studies
    if "torch" in against:
        for processes, threads in sorted({(1, cores), (min(cores, len(work.trials)), 1)}):
            notify(f"choosing PyTorch's variants for {threads} thread{'s' * (threads > 1)}")
            settings = {"pipeline": "tuned", "processes": processes, "threads": threads}
            how = f"{processes} process{'es' * (processes > 1)}, {threads} thread{'s' * (threads > 1)}"
            trials = _with_variants(work.trials, threads, folder)
            studies[f"PyTorch, tuned loop, {how}"] = shared | settings | {"trials": trials}
    if "original" in against:
        name = "PyTorch, original pipeline"
        studies[name] = shared | {"pipeline": "original", "trials": work.trials}
    return studies


def _with_variants(trials: list[dict[str, Any]], threads: int, folder: Path) -> list[dict[str, Any]]:
    found: dict[tuple[Any, ...], Any] = {}
    with Subject(MODULES["torch"], threads, folder) as subject:
        for one in trials:
            key = one["model"], one["batch_size"], one["optimizer"]
            if key not in found:
                names = ("model", "batch_size", "optimizer")
                found[key] = subject.ask("tune", **dict(zip(names, key, strict=True)))
    return [one | {"variant": found[one["model"], one["batch_size"], one["optimizer"]]} for one in trials]


def estimate_s(work: Work, against: Sequence[str], repeats: int) -> float:
    """Estimated seconds: the estimate of dlbench's plan, and a multiple of it for each reference."""
    study = layouts.lay_out(work.design, work.axes, work.options)
    planned = planning.plan(study, workers=devices.count("cpu"), device="cpu").estimate_s
    return repeats * planned * (2 + 3 * ("torch" in against) + 4 * ("original" in against))
