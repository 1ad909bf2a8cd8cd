"""A pool of workers: it assigns jobs, and replaces workers that die. No jax.

A worker is sent its next job after the last epoch of the current one, so that it need not wait for its parent to record
the results. A worker that dies is replaced, and its trials are tried again, up to three times in all. Workers start
where there is room for them, and more are started as room is made.
"""

from __future__ import annotations

import math
import queue
import threading
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field

from dlbench.errors import WorkerError
from dlbench.execution import messages
from dlbench.execution.endpoint import Endpoint, Receive
from dlbench.execution.jobs import Job, JobQueue
from dlbench.execution.stopping import KILL_AFTER_S, NOTICE

#: How often a trial is tried if its workers die, and how often in a row a worker may die before it is ready.
MAX_ATTEMPTS = 3
#: Seconds between checks for an interruption.
_POLL_S = 0.1
#: Seconds between looks for room for more workers.
_FILL_S = 0.5


@dataclass
class _Member:
    """A worker of the pool, with its current job and the job sent ahead."""

    endpoint: Endpoint
    job: Job | None = None
    ahead: Job | None = None
    unfinished: set[str] = field(default_factory=set)


class Pool:
    """Workers that share a queue of jobs.

    Args:
        jobs: the jobs.
        workers: the largest number of workers.
        start: starts the worker with a given number, and returns ``None`` if there is no room for it now; also receives
            the function to call with its events.
        states: returns the saved states of a job's interrupted trials, in a folder per trial id.
        stopping: once set, workers save the state of their trials and exit, see :mod:`dlbench.execution.stopping`.
    """

    def __init__(
        self,
        jobs: JobQueue,
        workers: int,
        start: Callable[[int, Receive], Endpoint | None],
        states: Callable[[Job], Mapping[str, bytes]],
        stopping: threading.Event,
    ) -> None:
        self._jobs, self._workers, self._start, self._states = jobs, workers, start, states
        self._stopping = stopping
        self._events: queue.SimpleQueue[tuple[Endpoint, messages.AnyEvent | None]] = queue.SimpleQueue()
        self._attempts: dict[str, int] = {}
        self._said: set[str] = set()
        self._startup_failures: dict[int, int] = {}
        self._members: dict[int, _Member] = {}

    def run(self) -> Generator[messages.AnyEvent]:
        """Train every job and yield events as they occur.

        Raises:
            WorkerError: workers cannot be started.
        """
        try:
            deadline, due = math.inf, 0.0
            while self._is_busy() and time.monotonic() < deadline:
                if self._stopping.is_set() and deadline == math.inf:
                    deadline = time.monotonic() + KILL_AFTER_S
                    yield from self._stop()
                if time.monotonic() >= due:
                    self._fill()
                    due = time.monotonic() + _FILL_S
                try:
                    endpoint, event = self._events.get(timeout=_POLL_S)
                except queue.Empty:
                    continue
                member = self._members.get(endpoint.number)
                if member is None or member.endpoint is not endpoint:
                    continue  # it was ended before it was ready
                yield from self._handle_exit(member) if event is None else self._handle(member, event)
        finally:
            for member in self._members.values():
                member.endpoint.kill()

    def _is_busy(self) -> bool:
        """Whether a worker has a job, or one is left for workers to come."""
        if any(member.job for member in self._members.values()):
            return True
        return not self._stopping.is_set() and self._jobs.num_open > 0

    def _stop(self) -> Generator[messages.AnyEvent]:
        """Ask workers to save their trials; end the workers that have none."""
        for number, member in list(self._members.items()):
            if member.job is None:
                del self._members[number]
                member.endpoint.kill()
            else:
                member.endpoint.send(messages.Stop())
        if self._members:
            yield NOTICE

    def _fill(self) -> None:
        """Start workers for the jobs that are left, as far as there is room."""
        receive: Receive = lambda endpoint, event: self._events.put((endpoint, event))  # noqa: E731
        starting = sum(member.job is None for member in self._members.values())
        wanted = 0 if self._stopping.is_set() else self._jobs.num_open - starting
        for number in range(self._workers):
            if wanted <= 0:
                return
            if number in self._members:
                continue
            endpoint = self._start(number, receive)
            if endpoint is None:
                return
            self._members[number] = _Member(endpoint)
            wanted -= 1

    def _handle(self, member: _Member, event: messages.AnyEvent) -> Generator[messages.AnyEvent]:
        if isinstance(event, messages.Ready):
            self._startup_failures.pop(member.endpoint.number, None)
        if isinstance(event, messages.Finished | messages.Failed):
            member.unfinished.discard(event.trial_id)
        if isinstance(event, messages.EpochEnded) and member.job and member.ahead is None:
            is_last = event.number == member.job[0].spec.num_epochs
            member.ahead = self._send_next(member) if is_last else None
        if isinstance(event, messages.Notice):
            yield from self._say(event)  # what several workers notice is said once
        else:
            yield event
        if isinstance(event, messages.Ready | messages.Idle):
            member.job, member.ahead = member.ahead or self._send_next(member), None
            if member.job is None:
                member.endpoint.close()
                yield from self._remove(member)
            else:
                member.unfinished = {trial.id for trial in member.job}

    def _say(self, notice: messages.Notice) -> Generator[messages.AnyEvent]:
        if notice.text not in self._said:
            self._said.add(notice.text)
            yield notice

    def _send_next(self, member: _Member) -> Job | None:
        job = None if self._stopping.is_set() else self._jobs.next(member.endpoint.number)
        if job is not None:
            member.endpoint.send(messages.Train(trials=job, files=self._states(job)))
        return job

    def _remove(self, member: _Member) -> Generator[messages.AnyEvent]:
        del self._members[member.endpoint.number]
        yield messages.Left(worker=member.endpoint.number)

    def _handle_exit(self, member: _Member) -> Generator[messages.AnyEvent]:
        """Replace a worker that has died; try its trials again, or report them as failed."""
        number = member.endpoint.number
        end = member.endpoint.how_it_ended()
        yield from self._remove(member)
        if self._stopping.is_set():
            return
        if member.job is None and not end.is_loss:
            self._startup_failures[number] = self._startup_failures.get(number, 0) + 1
            if self._startup_failures[number] == MAX_ATTEMPTS:
                raise WorkerError(f"a worker {end.words} before it was ready:\n{end.last_lines}")
        retry = []
        for trial in member.job or ():
            if trial.id not in member.unfinished:
                continue
            if not end.is_loss:
                self._attempts[trial.id] = self._attempts.get(trial.id, 0) + 1
            if self._attempts.get(trial.id, 0) < MAX_ATTEMPTS:
                retry.append(trial)
            else:
                reason = f"the worker {end.words}, {MAX_ATTEMPTS} times"
                yield messages.Failed(trial_id=trial.id, reason=reason, traceback=end.last_lines)
        again = [tuple(retry)] if retry else []
        self._jobs.put_back(number, again + ([member.ahead] if member.ahead else []))
        if end.is_loss:
            yield from self._say(messages.Notice(text=f"{end.words}; its trials are trained on other nodes"))
        elif retry:
            yield messages.Notice(text=f"a worker {end.words}; its trial is tried again on a new one")
        self._fill()
