"""Train a recorded trial again from its record alone, and compare every bit of the result. No jax."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dlbench.errors import InputError, WorkerError
from dlbench.execution import devices, engine, messages
from dlbench.execution.place import Place
from dlbench.records import Epoch, TrialStatus
from dlbench.spec import programs
from dlbench.spec.trial import NUMERICS_RELEASES, NUMERICS_VERSION, PARTS, Trial
from dlbench.storage import manifest
from dlbench.storage.results import TrialResult
from dlbench.storage.store import Store

#: The fields of a result that are compared; times and devices are not.
_COMPARED = (
    "best_val_accuracy",
    "best_epoch",
    "test_accuracy",
    "test_loss",
    "test_accuracy_augmented",
    "split_digest",
    "best_params_sha256",
    "params_sha256",
    "history_sha256",
)


@dataclass(frozen=True)
class Difference:
    """A difference between a recorded value and the present one.

    Args:
        where: the name of the value ("epoch 3, val_loss"; "packages.jax").
        recorded: the recorded value.
        now: the present value.
    """

    where: str
    recorded: Any
    now: Any

    def __str__(self) -> str:
        by = ""
        if isinstance(self.recorded, float) and isinstance(self.now, float):
            by = f", by {abs(self.now - self.recorded):.3g}"
        return f"{self.where}: was {self.recorded}, is {self.now}{by}"


@dataclass(frozen=True)
class Replay:
    """The comparison of a recorded trial with the same trial, trained again.

    Args:
        recorded: the recorded result.
        again: the result of training again.
        results: the differences between the two, the earliest epoch first; empty if every bit is the same.
        environment: the differences between the two environments.
    """

    recorded: TrialResult
    again: TrialResult
    results: tuple[Difference, ...]
    environment: tuple[Difference, ...]

    @property
    def identical(self) -> bool:
        """Whether parameters and history are the same to the last bit."""
        return not self.results


def replay(
    folder: Path,
    trial_id: str,
    data_dir: str | None = None,
    notify: Callable[[messages.AnyEvent], None] | None = None,
) -> Replay:
    """Train one trial of a study again, in a separate worker, and compare the results. The study is not changed.

    Args:
        folder: the study's folder.
        trial_id: the trial's id, or the beginning of it.
        data_dir: folder of the user's data sets.
        notify: called with every event.

    Raises:
        StoreError: the folder holds no study.
        InputError: there is no such trial, it has no result, or its model is user code that this process has not
            named.
        WorkerError: the trial cannot be trained.
    """
    with Store(folder) as store:
        recorded = find(store.results(verify=False), trial_id, folder)
        before = manifest_of([recorded], store.manifests())
    return retrain_all([recorded], before, data_dir, notify)[0]


def manifest_of(recorded: Sequence[TrialResult], manifests: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The manifest of the environment in which trials were trained; the newest one if none is theirs alone.

    Args:
        recorded: the results of the trials.
        manifests: those of their study, oldest first.
    """
    environments = {trial.environment for trial in recorded}
    theirs = [each for each in manifests if environments == {(each.get("device") or {}).get("digest")}]
    return next(reversed(theirs or [{}, *manifests]))


def retrain_all(
    recorded: Sequence[TrialResult],
    before: Mapping[str, Any],
    data_dir: str | None = None,
    notify: Callable[[messages.AnyEvent], None] | None = None,
) -> list[Replay]:
    """Train several trials again, one after another in one worker, and compare.

    Args:
        recorded: their results; epochs are compared one by one if they are known, else by their digest.
        before: the manifest of the environment in which they were trained.
        data_dir: folder of the user's data sets.
        notify: called with every event.
    """
    known = {trial.id: trial for trial in recorded}
    for trial in recorded:
        for field, parts in PARTS.items():
            parts.check_trusted(getattr(trial.trial.spec, field), field)
        check_numerics(trial.trial)
    device = {"cpu": "cpu", "cuda": "gpu", "gpu": "gpu", "tpu": "tpu", "mps": "metal"}
    backend = device.get(str(before.get("device", {}).get("backend")), "cpu")
    now = manifest.environment()
    again: dict[str, TrialResult] = {}
    place = Place(backend, 1, data_dir, cores=devices.cores_each(None, backend, 1))
    grouped = programs.programs(trial.trial for trial in recorded)
    for event in engine.run(grouped, place, threading.Event()):
        match event:
            case messages.Ready():
                now["device"] = event.environment
            case messages.Failed():
                raise WorkerError(f"trial {event.trial_id} cannot be trained: {event.reason}")
            case messages.Finished():
                history = tuple(Epoch(*values) for values in event.history)
                trained = known[event.trial_id].trial
                again[event.trial_id] = TrialResult(trained, event.status, event.outcome, history)
        if notify is not None:
            notify(event)
    environment = tuple(_environment(before, now))
    return [
        Replay(trial, again[trial.id], tuple(_results(trial, again[trial.id])), environment)
        for trial in recorded
    ]


def sample(trials: Iterable[TrialResult], count: int, seed: int) -> list[TrialResult]:
    """Draw trials that have a result, each at most once: the same for the same study, number and seed.

    Args:
        trials: those of a study.
        count: how many; all where there are fewer.
        seed: of the draw.

    Raises:
        InputError: ``count`` is not positive, or no trial has a result.
    """
    if count < 1:
        raise InputError.must_be("sample", "a positive number of trials", count)
    finished = sorted((trial for trial in trials if trial.status.is_finished), key=lambda trial: trial.id)
    if not finished:
        raise InputError("no trial of the study has a result to compare with")
    return random.Random(seed).sample(finished, min(count, len(finished)))


def check_numerics(trial: Trial) -> None:
    """Check that this release computes with the version of the numerics that a trial was trained with.

    Raises:
        InputError: it does not; names the release to install.
    """
    if trial.numerics != NUMERICS_VERSION:
        release = NUMERICS_RELEASES.get(trial.numerics)
        remedy = (
            f"run pip install dlbench=={release}"
            if release
            else "no release of dlbench computes with that version"
        )
        raise InputError(
            f"trial {trial.id} was trained with version {trial.numerics} of the numerics, and this dlbench computes "
            f"with version {NUMERICS_VERSION}, so its bits would differ",
            remedy=remedy,
        )


def find(trials: Sequence[TrialResult], trial_id: str, folder: Path) -> TrialResult:
    """Find a finished trial by the beginning of its id.

    Raises:
        InputError: there is no such trial, there are several, or the trial has no result.
    """
    found = [trial for trial in trials if trial_id and trial.id.startswith(trial_id)]
    if len(found) != 1:
        known = ", ".join(trial.id for trial in (found or trials)[:8])
        problem = f"{len(found)} trials whose ids begin" if found else "no trial whose id begins"
        raise InputError(f"{folder} has {problem} with {trial_id!r}; choose one of {known}")
    if not TrialStatus(found[0].status).is_finished:
        raise InputError(
            f"trial {found[0].id} has no result to compare with; its status is {found[0].status}"
        )
    return found[0]


def _results(recorded: TrialResult, again: TrialResult) -> Iterator[Difference]:
    for number, (before, now) in enumerate(zip(recorded.history, again.history, strict=False), start=1):
        for name in Epoch._fields:
            old, new = getattr(before, name), getattr(now, name)
            if old != new and not (old != old and new != new):
                yield Difference(f"epoch {number}, {name}", old, new)
    if recorded.history and len(recorded.history) != len(again.history):
        yield Difference("epochs", len(recorded.history), len(again.history))
    if recorded.status != again.status:
        yield Difference("status", str(recorded.status), str(again.status))
    for name in _COMPARED:
        if recorded.value(name) != again.value(name):
            yield Difference(name, recorded.value(name), again.value(name))


def _environment(before: Mapping[str, Any], now: Mapping[str, Any], place: str = "") -> Iterator[Difference]:
    ignored = {"git", "compilation_cache"}
    for name in now:
        if name in ignored or name not in before:
            continue
        where = f"{place}{name}"
        if isinstance(now[name], Mapping) and isinstance(before[name], Mapping):
            yield from _environment(before[name], now[name], f"{where}.")
        elif before[name] != now[name]:
            yield Difference(where, before[name], now[name])
