"""Train the programs of a study, in this process or in a pool of workers. No jax, unless this process trains."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path

from dlbench import files
from dlbench.execution import messages
from dlbench.execution.environment import COMPILED, check_settings, configured
from dlbench.execution.jobs import Job, JobQueue
from dlbench.execution.place import Place
from dlbench.execution.pool import Pool
from dlbench.execution.processes import Endpoint, ProcessEndpoint, Receive
from dlbench.ops import native
from dlbench.spec.programs import Program
from dlbench.storage import artifacts

#: How much of the cache of compiled programs is kept when a study starts: what was used longest ago goes.
CACHE_BYTES = 2**30


def run(
    programs: Sequence[Program], place: Place, stopping: threading.Event, study_dir: Path | None = None
) -> Generator[messages.AnyEvent]:
    """Train every trial and yield what happens, as it happens. Nothing is written but caches.

    Args:
        programs: what to train.
        place: where.
        stopping: once set, workers save the trials in hand after their epoch and end.
        study_dir: the study's folder, whose saved states interrupted trials continue from; none unless given.

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
            for name, content in artifacts.read_states(artifacts.trial_folder(study_dir, trial.id)).items()
        }

    if place.workers == 0:
        yield from _in_process(jobs, place, states, stopping)
        return
    environ, lock = dict(os.environ), threading.Lock()

    def kernels() -> str | None:
        """What has to be compiled is compiled once, while the workers start."""
        with lock:
            if place.device == "cpu":
                native.choose(environ)
            return environ.get(native.VARIABLE)

    def start(number: int, receive: Receive) -> Endpoint:
        return ProcessEndpoint(number, place, kernels, receive)

    yield from Pool(jobs, place.workers, start, states, stopping).run()


def _in_process(
    jobs: JobQueue, place: Place, states: Callable[[Job], Mapping[str, bytes]], stopping: threading.Event
) -> Generator[messages.AnyEvent]:
    started = time.monotonic()
    with configured(place.device, starting=not _backend_is_up()):
        from dlbench.execution.worker import Worker

        check_settings(
            "train in worker processes, or take the setting back (jax reads its environment when it is imported)"
        )
        if place.device == "cpu":
            native.use_cores(place.cores)

        happened: list[messages.AnyEvent] = []
        worker = Worker(0, place.data_dir, place.checkpoint_every, happened.append, started)
        worker.stopping = stopping
        yield messages.Ready(worker=0, environment=worker.environment)
        while not stopping.is_set() and (job := jobs.next(0)):
            worker.run(job, states(job))
            yield from happened
            happened.clear()


def _backend_is_up() -> bool:
    """Whether jax computes in this process already, so that its threads and platform are settled.

    jax has no public way to ask that without starting a backend; this attribute is only read.
    """
    bridge = sys.modules.get("jax._src.xla_bridge")
    return bridge is not None and bool(bridge.backends_are_initialized())
