"""Benchmark images per second, latency, compilation and memory, for each network and batch size.

A team consists of the processes of one implementation (a "side") for one case: one single-threaded process per core
and, for a reference, another process with all threads, because either may be the fastest. A round measures every team
once in each way.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import statistics
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dlbench.bench.measure import Subject, ask_all
from dlbench.bench.rounds import best, percentile, ratio
from dlbench.execution import devices
from dlbench.models.counts import Request, count
from dlbench.ops import native
from dlbench.spec import parts, registry

MODELS = registry.MODELS.compared
#: Shape of the images and number of classes that are trained on.
DIGITS = ((28, 28, 1), 10)
BATCH_SIZES = (8, 16, 64, 128)
MODULES = {
    "dlbench": "dlbench.bench.ours",
    "flax": "dlbench.bench.flax_reference",
    "torch": "dlbench.bench.torch_subject",
}
#: What is compared, and the settings of which the fastest is used for a reference.
COMPARED = {
    "training_all_cores": ("training_one_process_a_core", "training_all_threads"),
    "training_alone": ("training_one_thread", "training_all_threads"),
    "evaluation": ("evaluation_one_thread", "evaluation_all_threads"),
    "latency": ("latency_one_thread", "latency_all_threads"),
}

Notify = Callable[[str], None]


@dataclass(frozen=True)
class Effort:
    """The amount of measurements.

    Args:
        repeats: number of rounds.
        train_size: number of images of an epoch.
        plain_train_size: likewise for plain Flax, which is up to 40 times slower.
        val_size: number of images of an evaluation.
        sample_s: minimum duration of a sample in seconds.
        calls: number of single images per round, for the latency.
    """

    repeats: int = 5
    train_size: int = 1024
    plain_train_size: int = 256
    val_size: int = 1000
    sample_s: float = 0.4
    calls: int = 200


@dataclass(frozen=True)
class Case:
    """The network, batch size and optimizer that are measured."""

    model: str
    batch_size: int
    optimizer: str


class Team:
    """The processes of one side, warmed up.

    Args:
        side: "dlbench", "flax" or "torch".
        case: what is measured.
        effort: the amount of measurements.
        stack: closes the processes on exit.
    """

    def __init__(self, side: str, case: Case, effort: Effort, stack: contextlib.ExitStack) -> None:
        self.side, self._effort = side, effort
        least = effort.plain_train_size if side == "flax" else effort.train_size
        self._images = max(least, 2 * case.batch_size)
        self._arguments = vars(case)
        self._stack = stack
        self._path = import_path(case.model)
        self._cache = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dlbench-bench-")))
        self.samples: dict[str, list[float]] = {}
        self.calls: dict[str, list[float]] = {}
        self.facts: dict[str, Any] = {"images_per_epoch": self._images}
        if side == "torch":
            self._start_torch()
        else:
            self._start_jax()
        self.alone = self._busy[0]
        self._epochs, self._passes = self._warm_up(self.alone)
        for subject in [*self._busy[1:], *([self._wide] if self._wide else [])]:
            self._warm_up(subject)
        if side == "torch":
            self.facts["peak_bytes"] = self.alone.ask("peak_bytes")

    def _start_jax(self) -> None:
        with Subject(MODULES[self.side], 1, self._cache, **self._path) as cold:
            self.facts["compile_cold_s"] = self._prepare(cold)
            self._warm_up(cold)
            self.facts["peak_bytes"] = cold.ask("peak_bytes")
        self._busy = [self._subject()]
        self.facts["compile_cached_s"] = self._prepare(self._busy[0])
        self._busy += [self._subject() for _ in range(devices.count("cpu") - 1)]
        for subject in self._busy[1:]:
            self._prepare(subject)
        self._wide = None
        if self.side != "dlbench" and len(self._busy) > 1:
            self._wide = self._subject(len(self._busy))
            self._prepare(self._wide)

    def _start_torch(self) -> None:
        with Subject(
            MODULES[self.side], 1, self._cache
        ) as tuner:  # a separate process, so that the memory it uses is not counted
            variant = tuner.ask("tune", **self._arguments)
        self._busy = [self._subject() for _ in range(devices.count("cpu"))]
        self.facts["variant"] = _named(variant)
        for subject in self._busy:
            self._prepare(subject, variant=variant)
        self._wide = None
        if len(self._busy) > 1:
            self._wide = self._subject(len(self._busy))
            variant = self._wide.ask("tune", **self._arguments)
            self.facts["variant_all_threads"] = _named(variant)
            self._prepare(self._wide, variant=variant)

    def _subject(self, threads: int = 1) -> Subject:
        return self._stack.enter_context(Subject(MODULES[self.side], threads, self._cache, **self._path))

    def _prepare(self, subject: Subject, **more: Any) -> Any:
        sizes = {"train_size": self._images, "val_size": self._effort.val_size}
        return subject.ask("prepare", **self._arguments, **sizes, **more)

    def _warm_up(self, subject: Subject) -> tuple[int, int]:
        """Run everything twice; returns the number of epochs and of evaluations per sample."""
        subject.ask("latency", calls=10)
        filled = []
        for do, argument in (("train", "epochs"), ("evaluate", "times")):
            subject.ask(do, **{argument: 1})
            start, end = subject.ask(do, **{argument: 1})
            filled.append(math.ceil(self._effort.sample_s / max(end - start, 1e-6)))
        return filled[0], filled[1]

    def all_cores(self) -> None:
        """Train in one process per core, all at the same time; a sample is images per second of all together."""
        times = ask_all(self._busy, "train", epochs=self._epochs)
        spent = max(end for _, end in times) - min(start for start, _ in times)
        self._keep("training_one_process_a_core", len(times) * self._epochs * self._images / spent)

    def training(self) -> None:
        """Train in one process, with one thread and with all threads."""
        for name, subject in self._settings():
            start, end = subject.ask("train", epochs=self._epochs)
            self._keep(f"training_{name}", self._epochs * self._images / (end - start))

    def evaluation(self) -> None:
        """Evaluate in one process, with one thread and with all threads."""
        for name, subject in self._settings():
            start, end = subject.ask("evaluate", times=self._passes)
            self._keep(f"evaluation_{name}", self._passes * self._effort.val_size / (end - start))

    def latency(self) -> None:
        """Predict one image at a time, with one thread and with all; a sample is the inverse of the round's median."""
        for name, subject in self._settings():
            spent = subject.ask("latency", calls=self._effort.calls)
            self._keep(f"latency_{name}", 1 / statistics.median(spent))
            self.calls.setdefault(f"latency_{name}", []).extend(spent)

    def peak(self) -> None:
        """Measure the performance of a matrix product on one core, in dlbench's process."""
        if self.side == "dlbench":
            self._keep("peak_flops", self.alone.ask("peak"))

    def _settings(self) -> Iterator[tuple[str, Subject]]:
        yield "one_thread", self.alone
        if self._wide:
            yield "all_threads", self._wide
        elif self.side == "dlbench" and len(self._busy) > 1:
            self.alone.ask("use_cores", count=len(self._busy))
            yield "all_threads", self.alone
            self.alone.ask("use_cores", count=1)

    def _keep(self, name: str, value: float) -> None:
        self.samples.setdefault(name, []).append(value)


def _named(variant: Sequence[bool]) -> dict[str, Any]:
    channels_last, fused = variant
    return {"channels_last": channels_last, "optimizer": "fused" if fused else "foreach"}


def run(cases: Sequence[Case], against: Sequence[str], effort: Effort, notify: Notify) -> dict[str, Any]:
    """Measure every case.

    Args:
        cases: the cases.
        against: "torch", "flax", both or neither.
        effort: the amount of measurements.
        notify: called with a line of text about the progress.

    Returns:
        A record of JSON values: the results, and every sample.

    Raises:
        WorkerError: a process failed.
    """
    counts = _xla_flops(sorted({case.model for case in cases}))
    measured = []
    for number, case in enumerate(cases, start=1):
        notify(f"{number}/{len(cases)}: {case.model}, batch size {case.batch_size}, {case.optimizer}")
        measured.append(_case(case, ["dlbench", *against], effort, counts[case.model]))
    return {"cores": devices.count("cpu"), "effort": vars(effort), "cases": measured}


def operations(models: Sequence[str], batch_size: int, repeats: int, notify: Notify) -> dict[str, Any]:
    """Measure the convolutions and matrix products of models one by one; see :mod:`dlbench.bench.operations`.

    Args:
        models: the models, which are given digits.
        batch_size: number of images of a training step.
        repeats: number of rounds, of which medians are taken.
        notify: called with a line of text when the measurement of a model begins.
    """
    shape, _ = DIGITS
    measured = {}
    with (
        tempfile.TemporaryDirectory(prefix="dlbench-bench-") as cache,
        Subject(MODULES["dlbench"], 1, Path(cache), **import_path(*models)) as subject,
    ):
        peaks = [subject.ask("peak")]
        for model in models:
            notify(f"measuring the operations of {model}, batch size {batch_size}")
            measured[model] = subject.ask(
                "operations", model=model, shape=[batch_size, *shape], rounds=repeats
            )
            peaks.append(subject.ask("peak"))
    return {"batch_size": batch_size, "peak_flops": max(peaks), "models": measured}


def import_path(*models: str) -> dict[str, str]:
    """The environment variable by which a process finds models of users."""
    found = registry.import_path(parts.parse(model).name for model in models)
    return {"PYTHONPATH": os.pathsep.join(found)} if found else {}


def _xla_flops(models: Sequence[str]) -> dict[str, float]:
    """FLOPs per image as counted by XLA, without the compiled kernels, which it does not count."""
    with (
        tempfile.TemporaryDirectory(prefix="dlbench-bench-") as cache,
        Subject(
            MODULES["dlbench"], 1, Path(cache), **{native.VARIABLE: ""}, **import_path(*models)
        ) as subject,
    ):
        return {model: subject.ask("step_flops", model=model) for model in models}


def _case(case: Case, sides: Sequence[str], effort: Effort, xla_flops: float) -> dict[str, Any]:
    with contextlib.ExitStack() as stack:
        teams = [Team(side, case, effort, stack) for side in sides]
        kinds = (Team.all_cores, Team.training, Team.evaluation, Team.latency, Team.peak)
        for _, kind, team in itertools.product(range(effort.repeats), kinds, teams):
            kind(team)
    ours, *others = teams
    part = parts.parse(case.model)
    request = Request(part.name, part.arguments, *DIGITS)
    counts = count([request]).get(request)
    counted = counts.training_flops if counts else xla_flops
    speed, peak = (statistics.median(ours.samples[name]) for name in ("training_one_thread", "peak_flops"))
    return {
        **vars(case),
        "flops_per_image": counted,
        "xla_flops_per_image": xla_flops,
        "share_of_peak": counted * speed / peak,
        "sides": {
            team.side: {
                **team.facts,
                "samples": team.samples,
                "latency_p99_s": {name: percentile(spent, 0.99) for name, spent in team.calls.items()},
            }
            for team in teams
        },
        "ratios": {team.side: compare(ours.samples, team.samples) for team in others},
    }


def compare(ours: dict[str, list[float]], theirs: dict[str, list[float]]) -> dict[str, dict[str, Any]]:
    """How many times faster dlbench is than the reference in its best setting, for everything that is compared.

    A single trial of dlbench uses all cores, as in a study of one trial.

    Args:
        ours: dlbench's samples by setting, one per round; larger is better.
        theirs: the samples of the reference, likewise.
    """
    compared = {}
    for name, settings in COMPARED.items():
        setting = best(theirs, settings)
        mine = settings[1] if name != "training_all_cores" and settings[1] in ours else settings[0]
        faster, low, high = ratio(ours[mine], theirs[setting])
        compared[name] = {"setting": setting, "faster": faster, "low": low, "high": high}
    return compared


def estimate_s(cases: int, against: Sequence[str], effort: Effort) -> float:
    """Estimated seconds, from measurements on two cores of 2024."""
    return 15 + cases * (12 + 2 * effort.repeats + (10 + 3 * effort.repeats) * len(against))
