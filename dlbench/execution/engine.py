"""Where workers live: in this process, or in processes of their own, one thread each. No jax.

An engine trains jobs (tuples of trials, one a lane) and yields what happens. Jobs of one program go to one
worker where possible, so that each program is compiled once, the longest first; a worker that runs out of
work takes jobs from the program with the most left. A worker is sent its next job after the last epoch of the one
in hand, so that it need not wait for its parent to write that one down. A worker that dies is replaced and its
trials are tried again, twice.
"""

from __future__ import annotations

import math
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dlbench import files, native
from dlbench.errors import WorkerError
from dlbench.execution import devices, messages
from dlbench.execution.costs import COMPILE_S, cost_s
from dlbench.spec.programs import Program
from dlbench.spec.trial import Trial

#: How often a trial whose worker died is tried in all.
MAX_ATTEMPTS = 3
#: Seconds that workers have to save what they are doing when the study is interrupted.
PATIENCE_S = 3.5
#: The cache of compiled programs, and how much of it is kept when a study starts: those used longest ago go.
COMPILED = "xla"
CACHE_BYTES = 2**30
#: Seconds between looks at whether the study is interrupted.
_GLANCE_S = 0.1
_PLATFORMS = {"cpu": "cpu", "gpu": "cuda", "tpu": "tpu", "metal": "mps"}

Job = tuple[Trial, ...]


@dataclass(frozen=True)
class Place:
    """Where to work.

    Args:
        study_dir: the study's folder.
        device: "cpu", "gpu", "tpu" or "metal".
        workers: number of processes; 0 trains in this one.
        data_dir: where the user's data sets lie.
        checkpoint_every: epochs between saved states of a trial; once a minute unless given.
        cores: how many train one trial, on a CPU.
    """

    study_dir: Path
    device: str
    workers: int
    data_dir: str | None = None
    checkpoint_every: int | None = None
    cores: int = 1


def run(programs: Sequence[Program], place: Place, stopping: threading.Event) -> Generator[messages.AnyEvent]:
    """Train every trial and yield what happens, as it happens.

    Args:
        programs: what to train.
        place: where.
        stopping: once set, workers save the trials in hand after their epoch and end; those that take longer
            than :data:`PATIENCE_S` are killed.

    Raises:
        WorkerError: workers cannot be started.
    """
    jobs = _JobQueue(programs)
    files.trim(files.cache_root() / COMPILED, CACHE_BYTES)
    if place.workers == 0:
        yield from _in_process(jobs, place, stopping)
    else:
        yield from _Pool(jobs, place, stopping).run()


def jobs_of(program: Program) -> list[Job]:
    """Divide a program's trials into lanes of equal numbers of epochs."""
    by_epochs: dict[int, list[Trial]] = {}
    for trial in program.trials:
        by_epochs.setdefault(trial.spec.num_epochs, []).append(trial)
    lanes = program.trials[0].lanes
    return [
        tuple(trials[start : start + lanes])
        for trials in by_epochs.values()
        for start in range(0, len(trials), lanes)
    ]


class _JobQueue:
    """Which job goes to which worker."""

    def __init__(self, programs: Sequence[Program]) -> None:
        queues = [sorted(jobs_of(program), key=_cost, reverse=True) for program in programs]
        self._waiting = sorted(queues, key=lambda jobs: sum(map(_cost, jobs)), reverse=True)
        self._current: dict[int, list[Job]] = {}

    def next(self, worker: int) -> Job | None:
        """The next job for this worker, or nothing."""
        mine = self._current.get(worker)
        if not mine:
            mine = self._current[worker] = self._new_program()
        return mine.pop(0) if mine else None

    def again(self, job: Job) -> None:
        """Put a job back that was begun and lost."""
        self._waiting.insert(0, [job])

    def _new_program(self) -> list[Job]:
        if self._waiting:
            return self._waiting.pop(0)
        fullest = max(self._current.values(), key=lambda jobs: sum(map(_cost, jobs)), default=[])
        if sum(map(_cost, fullest)) < COMPILE_S / 4:
            return []
        return fullest


def _cost(job: Job) -> float:
    return sum(map(cost_s, job))


def _in_process(jobs: _JobQueue, place: Place, stopping: threading.Event) -> Generator[messages.AnyEvent]:
    started = time.monotonic()
    if not _backend_is_up():
        configure(os.environ, place.device)
    from dlbench.execution.worker import Worker, environment

    if place.device == "cpu":
        native.use_cores(place.cores)

    happened: list[messages.AnyEvent] = []
    worker = Worker(0, place.study_dir, place.data_dir, place.checkpoint_every, happened.append, started)
    worker.stopping = stopping
    yield messages.Ready(worker=0, environment=environment())
    while not stopping.is_set() and (job := jobs.next(0)):
        worker.run(job)
        yield from happened
        happened.clear()


def _backend_is_up() -> bool:
    """Whether jax computes in this process already, so that its threads and platform are settled."""
    bridge = sys.modules.get("jax._src.xla_bridge")
    return bridge is not None and bool(bridge.backends_are_initialized())


def configure(environ: os._Environ[str] | dict[str, str], device: str) -> None:
    """Set what jax reads when it starts: platform, one thread for a CPU worker, a compilation cache to share."""
    environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    environ["JAX_PLATFORMS"] = _PLATFORMS[device]
    if device == "cpu":
        for name in ("NPROC", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
            environ[name] = "1"
    environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(files.cache_root() / COMPILED))
    environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    environ.setdefault("JAX_PERSISTENT_CACHE_ENABLE_XLA_CACHES", "none")


@dataclass
class _Process:
    """A worker process, what it is doing, and what it has been sent to do next."""

    number: int
    process: subprocess.Popen[bytes]
    started: float
    job: Job | None = None
    ahead: Job | None = None
    unfinished: set[str] = field(default_factory=set)
    last_words: list[bytes] = field(default_factory=list)
    stopping: bool = False

    def send(self, message: messages.Message) -> None:
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(messages.encode(message))
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # it has died; its reader will say so


class _Pool:
    """Worker processes, one a core or a device."""

    def __init__(self, jobs: _JobQueue, place: Place, stopping: threading.Event) -> None:
        self._jobs, self._place, self._stopping = jobs, place, stopping
        self._happened: queue.SimpleQueue[tuple[_Process, messages.AnyEvent | None]] = queue.SimpleQueue()
        self._attempts: dict[str, int] = {}
        self._stillborn = 0
        self._busy: dict[int, _Process] = {}
        self._kernels = dict(os.environ)

    def run(self) -> Generator[messages.AnyEvent]:
        self._busy = {number: self._start(number) for number in range(self._place.workers)}
        for process in self._busy.values():
            self._greet(process)
        deadline = math.inf
        try:
            while self._busy and time.monotonic() < deadline:
                if self._stopping.is_set() and deadline == math.inf:
                    deadline = time.monotonic() + PATIENCE_S
                    for process in self._busy.values():
                        process.send(messages.Stop())
                try:
                    process, event = self._happened.get(timeout=_GLANCE_S)
                except queue.Empty:
                    continue
                yield from self._hear(process, event)
        finally:
            for process in self._busy.values():
                process.process.kill()
            for process in self._busy.values():
                process.process.wait()

    def _hear(self, process: _Process, event: messages.AnyEvent | None) -> Generator[messages.AnyEvent]:
        if event is None:
            yield from self._bury(process)
            return
        if isinstance(event, messages.Finished | messages.Failed):
            process.unfinished.discard(event.trial_id)
        if isinstance(event, messages.EpochEnded) and process.job and process.ahead is None:
            is_last = event.number == process.job[0].spec.num_epochs
            process.ahead = self._send_next(process) if is_last else None
        yield event
        if isinstance(event, messages.Ready | messages.Idle):
            process.job, process.ahead = process.ahead or self._send_next(process), None
            if process.job is None:
                self._dismiss(process)
            else:
                process.unfinished = {trial.id for trial in process.job}

    def _send_next(self, process: _Process) -> Job | None:
        job = None if self._stopping.is_set() else self._jobs.next(process.number)
        if job is not None:
            process.send(messages.Train(trials=job))
        return job

    def _start(self, number: int) -> _Process:
        started = time.monotonic()
        environ = dict(os.environ)
        configure(environ, self._place.device)
        if self._place.device == "gpu" and self._place.workers > 1:
            environ["CUDA_VISIBLE_DEVICES"] = devices.gpus()[number]
        popen = subprocess.Popen(
            [sys.executable, "-P", "-m", "dlbench.execution.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environ,
        )
        process = _Process(number, popen, started)
        threading.Thread(target=self._listen, args=(process,), daemon=True).start()
        threading.Thread(target=self._overhear, args=(process,), daemon=True).start()
        return process

    def _greet(self, process: _Process) -> None:
        """Tell a worker what it needs to know; what has to be compiled first is compiled while it starts."""
        if self._place.device == "cpu":
            native.choose(self._kernels)
        process.send(
            messages.Setup(
                worker=process.number,
                study_dir=str(self._place.study_dir.absolute()),
                data_dir=self._place.data_dir,
                checkpoint_every=self._place.checkpoint_every,
                sys_path=tuple(os.path.abspath(path) for path in sys.path),
                started=process.started,
                kernels=self._kernels.get(native.VARIABLE),
                cores=self._place.cores,
            )
        )

    def _listen(self, process: _Process) -> None:
        assert process.process.stdout is not None
        for line in process.process.stdout:
            if not line.endswith(b"\n"):
                break  # torn by the worker's death
            try:
                event = messages.decode_event(line)
            except ValueError:  # another version's: as good as dead
                process.process.kill()
                break
            self._happened.put((process, event))
        if not process.stopping:
            self._happened.put((process, None))

    def _overhear(self, process: _Process) -> None:
        """Pass on what the worker (or a user's model) prints, and remember its last words."""
        assert process.process.stderr is not None
        for line in process.process.stderr:
            process.last_words = [*process.last_words[-19:], line]
            sys.stderr.write(line.decode(errors="replace"))

    def _dismiss(self, process: _Process) -> None:
        assert process.process.stdin is not None
        process.stopping = True
        process.process.stdin.close()
        process.process.wait()
        del self._busy[process.number]

    def _bury(self, process: _Process) -> Generator[messages.AnyEvent]:
        """A worker has died: try its trials again on a new one, or give them up."""
        code = process.process.wait()
        if self._stopping.is_set():
            del self._busy[process.number]
            return
        ended = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        last_words = b"".join(process.last_words).decode(errors="replace")
        if process.job is None:
            self._stillborn += 1
            if self._stillborn == MAX_ATTEMPTS:
                raise WorkerError(f"the worker {ended} before it was ready:\n{last_words}")
        if process.ahead is not None:
            self._jobs.again(process.ahead)
        retry = []
        for trial in process.job or ():
            if trial.id not in process.unfinished:
                continue
            self._attempts[trial.id] = self._attempts.get(trial.id, 0) + 1
            if self._attempts[trial.id] < MAX_ATTEMPTS:
                retry.append(trial)
            else:
                reason = f"the worker {ended}, {MAX_ATTEMPTS} times"
                yield messages.Failed(trial_id=trial.id, reason=reason, traceback=last_words)
        if retry:
            self._jobs.again(tuple(retry))
            yield messages.Notice(text=f"a worker {ended}; its trial is tried again on a new one")
        self._busy[process.number] = self._start(process.number)
        self._greet(self._busy[process.number])
