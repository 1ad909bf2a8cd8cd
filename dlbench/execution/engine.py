"""Train the programs of a study, in this process or in a pool of workers. No jax, unless this process trains."""

from __future__ import annotations

import contextlib
import math
import queue
import sys
import threading
import time
import warnings
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO, cast

from dlbench import files
from dlbench.execution import messages, stderr
from dlbench.execution.crew import Crew
from dlbench.execution.environment import (
    CACHE_BYTES,
    COMPILED,
    backend_is_up,
    check_settings,
    computing_in_float32,
    configured,
)
from dlbench.execution.jobs import Job, JobQueue
from dlbench.execution.place import Place
from dlbench.execution.pool import Pool
from dlbench.execution.stopping import NOTICE, pauses
from dlbench.ops import native
from dlbench.spec.programs import Program
from dlbench.storage import artifacts

#: The name of the thread that trains in this process.
TRAINING = "dlbench-training"
#: Seconds between checks for an interruption.
_POLL_S = 0.1


def run(
    programs: Sequence[Program],
    place: Place,
    stopping: threading.Event,
    study_dir: Path | None = None,
    shorter: Mapping[str, Path] | None = None,
    crew: Crew | None = None,
) -> Generator[messages.AnyEvent]:
    """Train every trial and yield events as they occur. Nothing is written except to caches.

    Args:
        programs: the programs to train.
        place: where and how to train.
        stopping: once set, workers finish the current epoch, save the state of their trials and exit.
        study_dir: the study's folder; interrupted trials continue from the states saved there. Without it, all
            trials start from the beginning.
        shorter: by trial id, the folder of the same trial with fewer epochs, which continues from the state kept there
            unless it has one of its own.
        crew: keeps the workers alive when all trials have ended.

    Raises:
        WorkerError: workers cannot be started.
    """
    jobs = JobQueue(programs)
    files.trim(files.cache_root() / COMPILED, CACHE_BYTES)

    def states(job: Job) -> Mapping[str, bytes]:
        if study_dir is None:
            return {}
        return {
            f"{trial.id}/{name}": content
            for trial in job
            for name, content in _states_of(trial.id, study_dir, shorter or {}).items()
        }

    if place.workers == 0:
        yield from _in_process(jobs, place, states, stopping, crew)
        return
    trials = [trial for program in programs for trial in program.trials]
    start = crew.starter(place, trials) if crew else place.site.starter(place, trials)
    said = place.device != "cpu"
    for event in Pool(jobs, place.workers, start, states, stopping).run():
        yield event
        if not said and isinstance(event, messages.Ready):
            said = True
            _warn_without_kernels(event.environment)


def _states_of(trial_id: str, study_dir: Path, shorter: Mapping[str, Path]) -> Mapping[str, bytes]:
    own = artifacts.read_states(artifacts.trial_folder(study_dir, trial_id))
    return own or (artifacts.read_states(shorter[trial_id], artifacts.KEPT) if trial_id in shorter else {})


def _warn_without_kernels(described: Mapping[str, Any]) -> None:
    if not described["kernels"]:
        reason = native.reason() or "see the messages of the worker"
        warnings.warn(
            f"there are no compiled kernels ({reason}): XLA computes everything, slower, and with other bits "
            "than with them",
            RuntimeWarning,
            stacklevel=2,
        )


def _in_process(
    jobs: JobQueue,
    place: Place,
    states: Callable[[Job], Mapping[str, bytes]],
    stopping: threading.Event,
    crew: Crew | None,
) -> Generator[messages.AnyEvent]:
    started = time.monotonic()
    with configured(place.device, starting=not backend_is_up()), computing_in_float32():
        from dlbench.execution.worker import Worker

        check_settings(
            "train in worker processes, or remove the setting (jax reads its environment when it is imported)"
        )
        if place.device == "cpu":
            native.use_cores(place.cores)

        events: queue.SimpleQueue[messages.AnyEvent | BaseException | None] = queue.SimpleQueue()
        abandoned = threading.Event()

        def emit(event: messages.AnyEvent) -> None:
            if abandoned.is_set():
                raise SystemExit  # ends the thread
            events.put(event)

        def make() -> Worker:
            return Worker(
                0,
                place.data_dir,
                place.checkpoint_every,
                emit,
                started,
                place.keep_state,
                place.memory_bytes,
            )

        worker = crew.local(make, place) if crew else make()
        worker.attach(emit, started, stopping)

        def train() -> None:
            try:
                while not stopping.is_set() and (job := jobs.next(0)):
                    worker.run(job, states(job))
            except BaseException as error:  # to be raised where the caller sees it
                events.put(error)
            events.put(None)

        # This thread stays free, so that it can answer signals during an epoch.
        thread = threading.Thread(target=train, name=TRAINING)
        yield messages.Ready(worker=0, environment=worker.environment)
        if place.device == "cpu":
            _warn_without_kernels(worker.environment)
        try:
            with _output_of(thread):
                thread.start()
                yield from _received(events, stopping, worker.save)
        finally:
            abandoned.set()


def _received(
    events: queue.SimpleQueue[messages.AnyEvent | BaseException | None],
    stopping: threading.Event,
    save: Callable[[], None],
) -> Generator[messages.AnyEvent]:
    """The events of the thread that trains, until it ends, or takes too long to stop."""
    attempts: Iterator[float] = iter(())
    due: float | None = math.inf  # when to save; None once the epoch is given up
    while True:
        if due == math.inf and stopping.is_set():
            attempts = pauses()
            due = time.monotonic() + next(attempts)
            yield NOTICE
        try:
            event = events.get(timeout=_POLL_S if due else 0.0)
        except queue.Empty:
            if due is None:
                return  # all that was saved has been received
            if time.monotonic() >= due:
                save()
                pause = next(attempts, None)
                due = None if pause is None else due + pause
            continue
        if event is None:
            return
        if isinstance(event, BaseException):
            raise event
        yield event


class _Output:
    """Standard output; what one thread writes there goes to standard error, as that of worker processes does."""

    def __init__(self, thread: threading.Thread) -> None:
        self._thread, self._stdout, self._stderr = thread, sys.stdout, stderr.Stream()

    def __getattr__(self, name: str) -> Any:
        is_training = threading.current_thread() is self._thread
        return getattr(self._stderr if is_training else self._stdout, name)


def _output_of(thread: threading.Thread) -> contextlib.AbstractContextManager[object]:
    return contextlib.redirect_stdout(cast(TextIO, _Output(thread)))
