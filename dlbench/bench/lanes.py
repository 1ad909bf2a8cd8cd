"""Benchmark many trials at once on one device: lanes of one program, in three forms, alone or against PyTorch.

A lane is a trial; all lanes train for an epoch, with images, learning rate and randomness of their own. dlbench's forms
are the epoch program of studies (``vmap``), the same with convolutions as matrix products (``product``), and the same
lane after lane inside one program (``loop``). PyTorch trains one network (``eager``,
and captured as a CUDA graph: ``graph``), or as many as there are lanes at once through ``torch.func.vmap``
(``ensemble``, ``ensemble_graph``).

dlbench's programs are compiled at the same time, in threads, and measured one at a time; then PyTorch has the device.
"""

from __future__ import annotations

import contextlib
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dlbench.bench.measure import Subject
from dlbench.bench.steps import Notify
from dlbench.execution import devices

FORMS = ("vmap", "product", "loop")
MODULES = {"dlbench": "dlbench.bench.lanes_subject", "torch": "dlbench.bench.torch_lanes"}
BATCH_SIZES = (8, 64)
#: The numbers of lanes that are measured by default.
LANES = {"cpu": (1, 2, 8)}
_ACCELERATOR_LANES = (1, 8, 64, 256, 512)
#: More lanes than this are not measured one after the other: their rate is that of fewer.
_MOST_IN_A_LOOP = 8
#: What PyTorch gets of the time, if time is limited.
_SHARE_OF_TORCH = 0.35
#: What is given to jax and to PyTorch of a GPU's memory; they have it one after the other.
_GPU_MEMORY = {"XLA_PYTHON_CLIENT_MEM_FRACTION": "0.9"}

Keep = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Effort:
    """The amount of measurements.

    Args:
        repeats: number of samples of each case.
        train_size: number of images of an epoch, for each lane.
        sample_s: minimum duration of a sample in seconds.
        seconds: what may be spent in all; ``None`` for no limit. What is not measured by then is left out.
    """

    repeats: int = 3
    train_size: int = 800
    sample_s: float = 0.2
    seconds: float | None = None


@dataclass(frozen=True)
class Case:
    """What is measured of dlbench."""

    model: str
    batch_size: int
    optimizer: str
    lanes: int
    form: str


def cases(
    models: Sequence[str], batch_sizes: Sequence[int], optimizer: str, lanes: Sequence[int]
) -> list[Case]:
    """Every case, in the order in which they are measured."""
    return [
        Case(model, batch_size, optimizer, count, form)
        for batch_size in batch_sizes
        for model in models
        for count in lanes
        for form in FORMS
        if form != "loop" or 1 < count <= _MOST_IN_A_LOOP
    ]


def default_lanes(device: str) -> tuple[int, ...]:
    """The numbers of lanes that are measured by default."""
    return LANES.get(device, _ACCELERATOR_LANES)


def run(
    chosen: Sequence[Case],
    device: str,
    against: Sequence[str],
    effort: Effort,
    notify: Notify,
    keep: Keep = lambda record: None,
) -> dict[str, Any]:
    """Measure every case.

    Args:
        chosen: the cases.
        device: "cpu", "gpu", "tpu" or "metal".
        against: "torch" or nothing.
        effort: the amount of measurements.
        notify: called with a line of text about the progress.
        keep: called with the record whenever something has been added to it.

    Returns:
        A record of JSON values. A case that failed has ``failed``, with the reason, instead of samples.

    Raises:
        WorkerError: a process ended.
    """
    begun = time.monotonic()
    share = 1 - _SHARE_OF_TORCH * bool(against)
    limit = None if effort.seconds is None else begun + effort.seconds
    record: dict[str, Any] = {"device": device, "effort": vars(effort), "cases": [], "torch": []}
    with _subject("dlbench", device) as subject:
        until = None if effort.seconds is None else begun + share * effort.seconds
        record |= subject.ask("prepare", train_size=effort.train_size)
        subject.ask("compile", cases=[vars(case) for case in chosen])
        waiting = _in_order(subject, chosen, until)
        for number, case in enumerate(waiting, start=1):
            notify(
                f"{number}/{len(chosen)}: {case.model}, batch size {case.batch_size}, {case.lanes} lanes, {case.form}"
            )
            measured = subject.ask(
                "measure", case=vars(case), repeats=effort.repeats, sample_s=effort.sample_s, until=until
            )
            record["cases"].append(vars(case) | measured)
            keep(record)
    for _ in against:
        with _subject("torch", device) as subject:
            subject.ask("prepare", train_size=effort.train_size, device=device)
            for task in _torch_tasks(chosen):
                if limit is not None and time.monotonic() > limit:
                    record["torch"].append(task | {"failed": "not measured within the time given"})
                    continue
                notify(", ".join(f"{name} {value}" for name, value in ({"side": "PyTorch"} | task).items()))
                arguments = task | {"repeats": effort.repeats, "sample_s": effort.sample_s}
                record["torch"].append(task | subject.ask("measure", **arguments))
                keep(record)
    record["ratios"] = compare(record["cases"], record["torch"])
    keep(record)
    return record


def _in_order(subject: Subject, chosen: Sequence[Case], until: float | None) -> Iterator[Case]:
    """The cases, those that are compiled first."""
    left = list(chosen)
    while left:
        ready = subject.ask("ready", until=until)
        batch = [case for case in left if vars(case) in ready] or left
        yield batch[0]
        left.remove(batch[0])


@contextlib.contextmanager
def _subject(side: str, device: str) -> Iterator[Subject]:
    threads = devices.count("cpu")
    with tempfile.TemporaryDirectory(prefix="dlbench-bench-") as cache:
        variables = _GPU_MEMORY if device == "gpu" else {}
        with Subject(MODULES[side], threads, Path(cache), device, **variables) as subject:
            yield subject


def _torch_tasks(chosen: Sequence[Case]) -> list[dict[str, Any]]:
    """What PyTorch is measured with: each network and batch size alone, and as ensembles of each number of lanes."""
    alone = dict.fromkeys((case.model, case.batch_size, case.optimizer, 1) for case in chosen)
    several = dict.fromkeys(
        (case.model, case.batch_size, case.optimizer, case.lanes) for case in chosen if case.lanes > 1
    )
    names = ("model", "batch_size", "optimizer", "lanes")
    return [dict(zip(names, task, strict=True)) for task in (*alone, *several)]


def compare(ours: Sequence[dict[str, Any]], theirs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """How many times faster dlbench's fastest form is than PyTorch's, by network, batch size and lanes.

    Args:
        ours: the measured cases of dlbench.
        theirs: those of PyTorch; ``samples`` by way.

    Returns:
        For each network, batch size and lanes: the fastest form, ``one_at_a_time``, the ratio to the fastest way to
        train one network in PyTorch, and ``ensemble``, that to the fastest ensemble of as many networks; ``None``
        where there is none.
    """
    fastest: dict[tuple[str, int, int], tuple[float, str]] = {}
    for case in ours:
        if samples := case.get("samples"):
            key = case["model"], case["batch_size"], case["lanes"]
            fastest[key] = max(fastest.get(key, (0.0, "")), (statistics.median(samples), case["form"]))
    rates = {
        (case["model"], case["batch_size"], case["lanes"]): max(
            map(statistics.median, case["samples"].values())
        )
        for case in theirs
        if case.get("samples")
    }

    def times(rate: float, other: float | None) -> float | None:
        return None if other is None else rate / other

    return [
        {
            "model": model,
            "batch_size": batch_size,
            "lanes": lanes,
            "form": form,
            "one_at_a_time": times(rate, rates.get((model, batch_size, 1))),
            "ensemble": times(rate, rates.get((model, batch_size, lanes)) if lanes > 1 else None),
        }
        for (model, batch_size, lanes), (rate, form) in fastest.items()
    ]


def estimate_s(chosen: Sequence[Case], against: Sequence[str], effort: Effort) -> float:
    """Estimated seconds, from measurements on two cores of 2024."""
    estimate = 15 + len(chosen) * (3 + 2 * effort.repeats * effort.sample_s) * (1 + len(against))
    return estimate if effort.seconds is None else min(estimate, effort.seconds)
