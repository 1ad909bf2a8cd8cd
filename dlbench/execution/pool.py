"""A pool of workers: it assigns jobs, and replaces workers that die. No jax.

A worker is sent its next job after the last epoch of the current one, so that it need not wait for its parent to record
the results. A worker that dies is replaced, and its trials are tried again, up to three times in all.
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
from dlbench.execution.jobs import Job, JobQueue
from dlbench.execution.processes import Endpoint, Receive
from dlbench.execution.stopping import KILL_AFTER_S, NOTICE

#: How often a trial is tried if its workers die, and how often in a row a worker may die before it is ready.
MAX_ATTEMPTS = 3
#: Seconds between checks for an interruption.
_POLL_S = 0.1


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
        workers: number of workers.
        start: starts the worker with a given number; also receives the function to call with its events.
        states: returns the saved states of a job's interrupted trials, in a folder per trial id.
        stopping: once set, workers save the state of their trials and exit, see :mod:`dlbench.execution.stopping`.
    """

    def __init__(
        self,
        jobs: JobQueue,
        workers: int,
        start: Callable[[int, Receive], Endpoint],
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
            for number in range(self._workers):
                self._add(number)
            deadline = math.inf
            while self._members and time.monotonic() < deadline:
                if self._stopping.is_set() and deadline == math.inf:
                    deadline = time.monotonic() + KILL_AFTER_S
                    yield from self._stop()
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

    def _add(self, number: int) -> None:
        receive: Receive = lambda endpoint, event: self._events.put((endpoint, event))  # noqa: E731
        self._members[number] = _Member(self._start(number, receive))

    def _handle(self, member: _Member, event: messages.AnyEvent) -> Generator[messages.AnyEvent]:
        if isinstance(event, messages.Ready):
            self._startup_failures.pop(member.endpoint.number, None)
        if isinstance(event, messages.Finished | messages.Failed):
            member.unfinished.discard(event.trial_id)
        if isinstance(event, messages.EpochEnded) and member.job and member.ahead is None:
            is_last = event.number == member.job[0].spec.num_epochs
            member.ahead = self._send_next(member) if is_last else None
        if not isinstance(event, messages.Notice) or event.text not in self._said:
            yield event  # what several workers notice is said once
        if isinstance(event, messages.Notice):
            self._said.add(event.text)
        if isinstance(event, messages.Ready | messages.Idle):
            member.job, member.ahead = member.ahead or self._send_next(member), None
            if member.job is None:
                member.endpoint.close()
                del self._members[member.endpoint.number]
            else:
                member.unfinished = {trial.id for trial in member.job}

    def _send_next(self, member: _Member) -> Job | None:
        job = None if self._stopping.is_set() else self._jobs.next(member.endpoint.number)
        if job is not None:
            member.endpoint.send(messages.Train(trials=job, files=self._states(job)))
        return job

    def _handle_exit(self, member: _Member) -> Generator[messages.AnyEvent]:
        """Replace a worker that has died; try its trials again, or report them as failed."""
        number = member.endpoint.number
        ended, last_lines = member.endpoint.how_it_ended()
        del self._members[number]
        if self._stopping.is_set():
            return
        if member.job is None:
            self._startup_failures[number] = self._startup_failures.get(number, 0) + 1
            if self._startup_failures[number] == MAX_ATTEMPTS:
                raise WorkerError(f"a worker {ended} before it was ready:\n{last_lines}")
        if member.ahead is not None:
            self._jobs.put_back(member.ahead)
        retry = []
        for trial in member.job or ():
            if trial.id not in member.unfinished:
                continue
            self._attempts[trial.id] = self._attempts.get(trial.id, 0) + 1
            if self._attempts[trial.id] < MAX_ATTEMPTS:
                retry.append(trial)
            else:
                reason = f"the worker {ended}, {MAX_ATTEMPTS} times"
                yield messages.Failed(trial_id=trial.id, reason=reason, traceback=last_lines)
        if retry:
            self._jobs.put_back(tuple(retry))
            yield messages.Notice(text=f"a worker {ended}; its trial is tried again on a new one")
        self._add(number)
