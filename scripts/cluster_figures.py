"""Measure what a Ray cluster costs: `python scripts/cluster_figures.py [startup overhead rate memory simulation]`.

All but the simulation start a Ray on this machine. The simulation needs no Ray: it plays a study on many workers, with
lengths, stragglers and failures, against the queue from which real workers are served.
"""

from __future__ import annotations

import heapq
import math
import random
import resource
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from typing import Any

import dlbench
from dlbench.execution import cluster, devices, messages, nodes
from dlbench.execution.costs import compile_s, cost_s
from dlbench.execution.jobs import JobQueue
from dlbench.execution.place import Place
from dlbench.execution.pool import Pool
from dlbench.records import Outcome, TrialStatus
from dlbench.spec import programs

TINY: dict[str, Any] = {"train_size": 72, "val_size": 32, "batch_size": 16, "num_epochs": 1}


def startup() -> None:
    """Seconds until Ray is connected, until its node has described itself, and until a worker is ready."""
    start = time.monotonic()
    with cluster.opened("local") as site:
        connected = time.monotonic()
        site.device("cpu")
        surveyed = time.monotonic()
        ready: list[float] = []

        def hear(event: object) -> None:
            if isinstance(event, messages.Ready):
                ready.append(time.monotonic())

        with tempfile.TemporaryDirectory() as folder:
            dlbench.run(
                dlbench.grid(model="baseline", **TINY), cluster=site, reuse=False, out=folder, on_event=hear
            )
        print(
            f"start-up: Ray {connected - start:.1f} s, node described {surveyed - connected:.1f} s, ", end=""
        )
        print(f"worker ready {ready[0] - surveyed:.1f} s after that")


def overhead(trials: int = 100, rounds: int = 3) -> None:
    """Milliseconds from one trial's result to the next one's, with one worker, here and in an actor."""
    study = dlbench.grid(model="baseline", seed=list(range(trials)), **TINY)
    found: dict[str, list[float]] = {"processes": [], "actors": []}
    with cluster.opened("local") as site:
        for _ in range(rounds):
            for name, where in (("processes", None), ("actors", site)):
                at: list[float] = []

                def hear(event: object, at: list[float] = at) -> None:
                    if isinstance(event, messages.Finished):
                        at.append(time.monotonic())

                with tempfile.TemporaryDirectory() as folder:
                    dlbench.run(study, cluster=where, workers=1, reuse=False, out=folder, on_event=hear)
                found[name].append(1000 * (at[-1] - at[0]) / (len(at) - 1))
    for name, values in found.items():
        listed = ", ".join(f"{value:.1f}" for value in values)
        print(f"{name}: {statistics.median(values):.1f} ms per trial ({listed})")


class NoOp(nodes.Actor):
    """A worker that answers without training."""

    def _serve(self, setup: messages.AnyCommand) -> None:
        assert isinstance(setup, messages.Setup)
        number = setup.worker
        self._emit(messages.Ready(worker=number, environment={"digest": "", "kernels": "none"}))
        while True:
            command = self._commands.get()
            assert isinstance(command, messages.Train)
            self._emit(messages.Started(worker=number, trial_ids=tuple(t.id for t in command.trials)))
            for trial in command.trials:
                last = (1.0, 0.5, 1.0, 0.5, None)
                self._emit(messages.EpochEnded(trial_id=trial.id, number=trial.spec.num_epochs, values=last))
                self._emit(
                    messages.Finished(
                        trial_id=trial.id,
                        status=TrialStatus.COMPLETE,
                        outcome=Outcome.from_record({"test_accuracy": 0.5}),
                        history=(last,),
                    )
                )
            self._emit(messages.Idle(worker=number, spent={}))


def rate(trials: int = 5000, workers: int = 8) -> None:
    """Trials per second that one driver hands out and takes back, of trials that do nothing."""
    study = dlbench.grid(model="baseline", seed=list(range(trials)), **TINY | {"num_epochs": 2000})
    planned = dlbench.plan(study, reuse=False)
    nodes.Actor = NoOp  # type: ignore[misc]
    devices.count = lambda kind: workers  # type: ignore[assignment]  # they wait most of the time
    with cluster.opened("local") as site:
        site.device("cpu")
        place = Place("cpu", workers, site=site)
        pool = Pool(
            JobQueue(programs.programs(planned.trials)),
            workers,
            site.starter(place, planned.trials),
            lambda job: {},
            threading.Event(),
        )
        at: list[float] = []
        for event in pool.run():
            if isinstance(event, messages.Finished):
                at.append(time.monotonic())
                if len(at) == 100:
                    cpu = time.process_time()
        spent = time.process_time() - cpu
    wall = at[-1] - at[99]
    print(
        f"no-op trials: {(len(at) - 100) / wall:.0f} a second with {workers} workers on this machine; ",
        end="",
    )
    print(f"{1e3 * spent / (len(at) - 100):.2f} ms of the driver's processor time each")


def memory(trials: int = 100_000) -> None:
    """Memory of the driver with a plan and a queue of many trials, and seconds to plan them."""
    start = time.monotonic()
    study = dlbench.grid(model="baseline", seed=list(range(trials)), **TINY)
    planned = dlbench.plan(study, reuse=False)
    jobs = JobQueue(programs.programs(planned.trials))
    took = time.monotonic() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"driver: {peak:.0f} MB at {jobs.num_open:,} trials, planned in {took:.1f} s")


def simulation(workers: int = 1000, seeds: int = 100) -> None:
    """The makespan of a study of real lengths on many workers, against its lower bound."""
    study = dlbench.grid(
        model=["simplecnn", "baseline", "stabilized", "high_vision", "modernist"],
        learning_rate=[1e-4, 1e-3, 1e-2, 1e-1],
        batch_size=[8, 16, 32, 64, 128],
        seed=list(range(seeds)),
        num_epochs=50,
        train_size=3200,
        val_size=800,
    )
    trials = dlbench.plan(study, reuse=False).trials
    grouped = programs.programs(trials)
    for name, failing, straggling in (
        ("all alike", 0.0, 0.0),
        ("5 % of the workers three times as slow", 0.0, 0.05),
        ("and each worker dying every four hours", 1 / (4 * 3600), 0.05),
    ):
        made = [simulated(grouped, workers, failing, straggling, random.Random(seed)) for seed in range(3)]
        ratios = [makespan / bound for makespan, bound, _ in made]
        makespan, bound, deaths = made[0]
        print(
            f"{len(trials):,} trials of {len(grouped)} programs on {workers:,} workers, {name}: {makespan:,.0f} s, "
            f"bound {bound:,.0f} s; ratio {min(ratios):.2f} to {max(ratios):.2f}; {deaths} deaths"
        )


def simulated(
    grouped: Any, workers: int, failing: float, straggling: float, chance: random.Random
) -> tuple[float, float, int]:
    """Makespan and bound in seconds, and how many workers died.

    A trial takes its estimated time, times a log-normal factor. A worker that dies is back after 30 s, and its trial
    goes on from the last full minute.
    """
    program_of = {trial.id: number for number, program in enumerate(grouped) for trial in program.trials}
    left = {
        trial.id: cost_s(trial) * chance.lognormvariate(0, 0.2)
        for program in grouped
        for trial in program.trials
    }
    slowness = [
        3.0 if chance.random() < straggling else chance.lognormvariate(0, 0.05) for _ in range(workers)
    ]
    work = sum(left.values()) + math.fsum(compile_s(program.trials[0]) for program in grouped)
    bound = max(work / sum(1 / each for each in slowness), max(left.values()) * min(slowness))
    jobs = JobQueue(grouped)
    compiled: list[set[int]] = [set() for _ in range(workers)]
    free = [(0.0, number) for number in range(workers)]
    idle: list[int] = []
    makespan, deaths = 0.0, 0
    while free:
        now, number = heapq.heappop(free)
        job = jobs.next(number)
        if job is None:
            idle.append(number)
            continue
        (trial,) = job
        own = 0.0 if program_of[trial.id] in compiled[number] else compile_s(trial)
        compiled[number].add(program_of[trial.id])
        takes = (own + left[trial.id]) * slowness[number]
        dies = chance.expovariate(failing) if failing else float("inf")
        if dies < takes:
            deaths += 1
            kept = max(0.0, dies // 60 * 60 / slowness[number] - own)
            left[trial.id] -= kept
            compiled[number] = set()
            jobs.put_back(number, [job])
            heapq.heappush(free, (now + dies + 30, number))
            for other in idle:
                heapq.heappush(free, (now + dies, other))
            idle = []
        else:
            makespan = max(makespan, now + takes)
            heapq.heappush(free, (now + takes, number))
    return makespan, bound, deaths


FIGURES: dict[str, Callable[[], None]] = {
    each.__name__: each for each in (startup, overhead, rate, memory, simulation)
}

if __name__ == "__main__":
    for asked in sys.argv[1:] or FIGURES:
        FIGURES[asked]()
