"""The queue of jobs from which workers are served. No jax.

If possible, all jobs of a program go to one worker, the longest first, so that each program is compiled once. A
worker that runs out of jobs takes some from the program with the most work left.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence

from dlbench.execution.costs import compile_s, cost_s
from dlbench.spec.programs import Program
from dlbench.spec.trial import Trial

#: Trials that are trained together, one per lane: they share a program and a number of epochs.
Job = tuple[Trial, ...]


def jobs_of(program: Program) -> list[Job]:
    """Divide a program's trials into jobs."""
    by_epochs: dict[int, list[Trial]] = {}
    for trial in program.trials:
        by_epochs.setdefault(trial.spec.num_epochs, []).append(trial)
    lanes = program.trials[0].lanes
    return [
        tuple(trials[start : start + lanes])
        for trials in by_epochs.values()
        for start in range(0, len(trials), lanes)
    ]


class _Jobs:
    """Jobs of one program, the longest first, and what is left of their cost."""

    def __init__(self, jobs: Iterable[Job]) -> None:
        costs = ((_cost(job), job) for job in jobs)
        self._waiting = deque(sorted(costs, key=lambda each: each[0], reverse=True))
        self.cost_s = sum(cost for cost, _ in self._waiting)

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def is_worth_compiling(self) -> bool:
        """Whether there is so much work left that another worker should compile the program too."""
        return bool(self) and self.cost_s >= compile_s(self._waiting[0][1][0]) / 4

    def take(self) -> Job:
        cost, job = self._waiting.popleft()
        self.cost_s -= cost
        return job

    def put_back(self, job: Job) -> None:
        self._waiting.appendleft((_cost(job), job))
        self.cost_s += self._waiting[0][0]


class JobQueue:
    """The jobs of a study that no worker has taken yet."""

    def __init__(self, programs: Sequence[Program]) -> None:
        queues = [_Jobs(jobs_of(program)) for program in programs]
        self._waiting = deque(sorted(queues, key=lambda jobs: jobs.cost_s, reverse=True))
        self._current: dict[int, _Jobs] = {}

    def next(self, worker: int) -> Job | None:
        """The next job for a worker; ``None`` if nothing is left for it."""
        jobs = self._current.get(worker)
        if not jobs:
            jobs = self._current[worker] = self._new_program()
        return jobs.take() if jobs else None

    @property
    def num_open(self) -> int:
        """The number of jobs that are left for workers to come."""
        waiting = sum(map(len, self._waiting))
        return waiting or len(self._longest())

    def put_back(self, worker: int, jobs: Sequence[Job]) -> None:
        """Return these jobs of a worker that has left to the queue, with those that it would have taken next."""
        own = self._current.pop(worker, None)
        if own is None or any(own is each for each in self._current.values()):
            own = _Jobs(())
        for job in reversed(jobs):
            own.put_back(job)
        if own:
            self._waiting.appendleft(own)

    def _new_program(self) -> _Jobs:
        return self._waiting.popleft() if self._waiting else self._longest()

    def _longest(self) -> _Jobs:
        """The jobs of the program with the most work left, if that is worth compiling it again."""
        longest = max(self._current.values(), key=lambda jobs: jobs.cost_s, default=_Jobs(()))
        return longest if longest.is_worth_compiling else _Jobs(())


def _cost(job: Job) -> float:
    return sum(map(cost_s, job))
