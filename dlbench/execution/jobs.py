"""The queue of jobs from which workers are served. No jax.

If possible, all jobs of a program go to one worker, the longest first, so that each program is compiled once. A
worker that runs out of jobs takes some from the program with the most work left.
"""

from __future__ import annotations

from collections.abc import Sequence

from dlbench.execution.costs import COMPILE_S, cost_s
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


class JobQueue:
    """The jobs of a study that no worker has taken yet."""

    def __init__(self, programs: Sequence[Program]) -> None:
        queues = [sorted(jobs_of(program), key=_cost, reverse=True) for program in programs]
        self._waiting = sorted(queues, key=lambda jobs: sum(map(_cost, jobs)), reverse=True)
        self._current: dict[int, list[Job]] = {}

    def next(self, worker: int) -> Job | None:
        """The next job for a worker; ``None`` if nothing is left for it."""
        jobs = self._current.get(worker)
        if not jobs:
            jobs = self._current[worker] = self._new_program()
        return jobs.pop(0) if jobs else None

    def put_back(self, job: Job) -> None:
        """Return the job of a worker that died to the queue."""
        self._waiting.insert(0, [job])

    def _new_program(self) -> list[Job]:
        if self._waiting:
            return self._waiting.pop(0)
        longest = max(self._current.values(), key=lambda jobs: sum(map(_cost, jobs)), default=[])
        if sum(map(_cost, longest)) < COMPILE_S / 4:
            return []
        return longest


def _cost(job: Job) -> float:
    return sum(map(cost_s, job))
