"""A trial's bits are its own: in every grid, order, neighbourhood and number of workers they are those it has alone.

The cases share their programs, so that the time goes into cases and not into compiling: worker processes are
driven as the engine drives them, and every trial's bits alone come from a study of its own, once.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from conftest import SMALL
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import dlbench
from dlbench.execution import environment, messages
from dlbench.spec import programs
from dlbench.spec.trial import Trial, TrialSpec
from dlbench.studies import planning

Bits = tuple[str, str, str]

#: What makes another program, in few combinations.
STATIC: list[dict[str, Any]] = [
    {},
    {
        "model": "Stabilized",
        "batch_size": 8,
        "optimizer": "sgd",
        "decay_mode": "l2",
        "transform": "augmented",
    },
    {"model": "SimpleCNN", "batch_size": 24, "optimizer": "sgd"},
    {"model": "High-Vision", "batch_size": 72, "criterion": "manual"},
    {"model": "Modernist", "dropout": 0.2, "transform": "augmented"},
    {"model": "Baseline", "batch_size": 7, "optimizer": "sgd", "decay_mode": "l2"},
]
#: What does not; and the few that the default suite takes.
DYNAMIC: dict[str, list[Any]] = {
    "learning_rate": [1e-3, 3e-2],
    "weight_decay": [0.0, 1e-2],
    "seed": [0, 1, 2**32 - 1],
    "vary": ["all", "order"],
}
FEW = {"learning_rate": [1e-3, 3e-2], "seed": [0, 7]}


def cases(
    static: list[dict[str, Any]], dynamic: dict[str, list[Any]]
) -> st.SearchStrategy[tuple[list[TrialSpec], int, random.Random]]:
    """Random sub-grids: trials, number of workers, and the chance that orders and divides them."""
    specs = st.builds(
        lambda one, other: TrialSpec(**(SMALL | one | other)),
        st.sampled_from(static),
        st.fixed_dictionaries({name: st.sampled_from(values) for name, values in dynamic.items()}),
    )
    trials = st.lists(specs, min_size=1, max_size=4, unique=True)
    return st.tuples(trials, st.sampled_from([1, 2]), st.randoms(use_true_random=False))


class Bench:
    """Two worker processes, and a third process that trains each trial as a study of its own."""

    def __init__(self, folder: Path) -> None:
        self.workers = [self._start(number, folder) for number in range(2)]
        code = textwrap.dedent(
            """
            import json, sys, dlbench
            for number, line in enumerate(sys.stdin):
                study = dlbench.StudySpec(trials=(dlbench.TrialSpec(**json.loads(line)),))
                (trial,) = dlbench.run(study, workers=0, out=f"{sys.argv[1]}/{number}")
                assert not trial.error, trial.error
                print("bits", trial.id, trial.params_sha256, trial.best_params_sha256, trial.history_sha256, flush=True)
            """
        )
        self.single = subprocess.Popen(
            [sys.executable, "-c", code, str(folder / "alone")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._alone: dict[TrialSpec, tuple[str, Bits]] = {}

    def _start(self, number: int, folder: Path) -> subprocess.Popen[bytes]:
        environ = dict(os.environ)
        environment.configure(environ, "cpu")
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "dlbench.execution.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environ,
        )
        assert process.stdin is not None
        (folder / str(number)).mkdir(parents=True)
        setup = messages.Setup(
            worker=number,
            data_dir=None,
            checkpoint_every=None,
            sys_path=(),
        )
        process.stdin.write(messages.encode(setup))
        process.stdin.flush()
        return process

    def alone(self, spec: TrialSpec) -> tuple[str, Bits]:
        if spec not in self._alone:
            assert self.single.stdin is not None
            assert self.single.stdout is not None
            self.single.stdin.write(spec.model_dump_json() + "\n")
            self.single.stdin.flush()
            line = next(line for line in self.single.stdout if line.startswith("bits "))
            _, name, *bits = line.split()
            self._alone[spec] = name, (bits[0], bits[1], bits[2])
        return self._alone[spec]

    def train(self, shares: Sequence[list[Trial]]) -> dict[str, Bits]:
        """Train each worker's share, one trial after another, all workers at once."""
        with ThreadPoolExecutor(2) as pool:
            parts = pool.map(self._share, self.workers, shares)
            return {name: bits for part in parts for name, bits in part.items()}

    def _share(self, process: subprocess.Popen[bytes], trials: list[Trial]) -> dict[str, Bits]:
        assert process.stdin is not None
        assert process.stdout is not None
        for trial in trials:
            process.stdin.write(messages.encode(messages.Train(trials=(trial,))))
        process.stdin.flush()
        found: dict[str, Bits] = {}
        idle = 0
        while idle < len(trials):
            event = messages.read_event(process.stdout)
            idle += isinstance(event, messages.Idle)
            assert not isinstance(event, messages.Failed), event
            if isinstance(event, messages.Finished):
                names = ("params_sha256", "best_params_sha256", "history_sha256")
                found[event.trial_id] = tuple(event.outcome[name] for name in names)  # type: ignore[assignment]
        return found

    def close(self) -> None:
        for process in (*self.workers, self.single):
            assert process.stdin is not None
            process.stdin.close()
            process.wait(timeout=60)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    bench = Bench(tmp_path_factory.mktemp("bench"))
    yield bench
    bench.close()


def check(bench: Bench, specs: list[TrialSpec], workers: int, chance: random.Random) -> None:
    """Train the grid, in random order, divided at random, and compare every trial with itself alone."""
    planned = planning.plan(dlbench.StudySpec(trials=tuple(specs)), workers=workers)
    jobs = [trial for program in programs.programs(planned.trials) for trial in program.trials]
    chance.shuffle(jobs)
    shares: list[list[Trial]] = [[], []]
    for trial in jobs:
        shares[chance.randrange(workers)].append(trial)
    together = bench.train(shares)
    assert len(together) == len(specs)
    for spec, trial in zip(specs, planned.trials, strict=True):
        assert bench.alone(spec) == (trial.id, together[trial.id]), spec


CALM = settings(
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@settings(CALM, max_examples=7)
@given(case=cases(STATIC[:1], FEW))
def test_every_trial_of_a_random_grid_has_the_bits_it_has_alone(bench: Bench, case: Any) -> None:
    check(bench, *case)


@pytest.mark.slow
@settings(CALM, max_examples=200)
@given(case=cases(STATIC, DYNAMIC))
def test_every_trial_of_many_random_grids_has_the_bits_it_has_alone(bench: Bench, case: Any) -> None:
    check(bench, *case)


def trained(bench: Bench, **fields: Any) -> Bits:
    return bench.alone(TrialSpec(**(SMALL | fields)))[1]


@pytest.mark.parametrize("purpose", ["init", "order", "dropout", "augment"])
def test_vary_changes_one_source_of_chance_and_no_other(bench: Bench, purpose: str) -> None:
    import jax

    from dlbench.execution.programs import inputs_of

    def keys(seed: int, vary: str, **own: int) -> dict[str, list[int]]:
        spec = TrialSpec(seed=seed, vary=vary, **own)
        found = inputs_of(Trial(spec=spec, data_digest=""))[0]
        return {name: jax.random.key_data(key).tolist() for name, key in found._asdict().items()}

    fixed, varied, everything = keys(0, "all"), keys(7, purpose), keys(7, "all")
    assert {name for name in fixed if fixed[name] != varied[name]} == {purpose}
    assert varied[purpose] == everything[purpose]
    assert keys(0, "all", **{f"{purpose}_seed": 7}) == varied, "a seed of its own"
    assert len({json.dumps(key) for key in everything.values()}) == 4, "a key for each purpose"

    # What a model does not use changes none of its bits; what it uses does.
    plain = {"model": "Baseline"}
    changes = trained(bench, **plain, seed=7, vary=purpose) != trained(bench, **plain)
    assert changes == (purpose in ("init", "order"))


def test_the_split_follows_the_seed_unless_it_is_fixed() -> None:
    def split_seeds(**fields: Any) -> list[int | None]:
        study = dlbench.grid(seed=[0, 7], **SMALL | fields)
        return [trial.spec.split_seed for trial in planning.plan(study).trials]

    assert split_seeds() == [0, 7]
    assert split_seeds(vary="split") == [0, 7]
    assert split_seeds(vary="init") == [0, 0]
    assert split_seeds(split_seed=3) == [3, 3]


def test_seeds_and_splits_share_one_program() -> None:
    study = dlbench.grid(seed=range(3), split_seed=range(2), init_seed=range(2), **SMALL)
    assert len(planning.plan(study).programs) == 1


def test_another_split_alone_trains_on_other_images(bench: Bench) -> None:
    plain = trained(bench, model="Baseline", seed=0)
    assert trained(bench, model="Baseline", seed=7, vary="split") != plain
    fixed = {"model": "Baseline", "seed": 7, "vary": "split", "split_seed": 0}
    assert trained(bench, **fixed) == plain


@pytest.mark.slow
def test_each_source_of_chance_matters_to_a_model_that_uses_all(bench: Bench) -> None:
    purposes = ["init", "order", "dropout", "augment", "all"]
    found = [trained(bench, **STATIC[1], seed=7, vary=purpose) for purpose in purposes]
    assert len({*found, trained(bench, **STATIC[1])}) == 6
