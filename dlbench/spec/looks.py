"""When a growing comparison is looked at, and how strictly: a schedule fixed before the data are seen. No jax.

A test repeated as seeds are added finds a difference that is not there far more often than its level says.
So the looks are planned (after 5, 10, 15 and 20 seeds, say), and each has a level of its own
(:func:`dlbench.stats.sequential_alpha`); together they err in at most 5 % of studies, wherever one stops.
Between looks nothing is judged: seeds that are trained in part would be one look more.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from dlbench.errors import SpecError
from dlbench.spec.designs import MAX_TRIALS
from dlbench.spec.study import StudySpec
from dlbench.spec.trial import make_trial_spec

#: Each look costs level, so larger budgets are looked at in larger steps, not more often.
MAX_LOOKS = 10


@dataclass(frozen=True)
class Look:
    """One look at the data.

    Attributes:
        number: which one, from 1.
        schedule: the number of seeds at each look.
    """

    number: int
    schedule: tuple[int, ...]

    @property
    def num_seeds(self) -> int:
        """Seeds behind it."""
        return self.schedule[self.number - 1]

    @property
    def is_last(self) -> bool:
        """Whether no other was planned."""
        return self.number == len(self.schedule)


def schedule(num_seeds: int, max_seeds: int) -> tuple[int, ...]:
    """The numbers of seeds at each look: as many more each time as there were at first, at most ten times.

    Args:
        num_seeds: seeds at the first look.
        max_seeds: seeds at the last.

    Raises:
        SpecError: too few seeds to judge by, or a budget below the start.
    """
    if num_seeds < 2:
        raise SpecError(
            "--until-separated needs two seeds or more to start with; one has no spread: --seeds 5"
        )
    if max_seeds < num_seeds:
        raise SpecError(
            f"--max-seeds {max_seeds:,} is less than the {num_seeds:,} seeds to start with; give more, or take "
            "fewer --seeds"
        )
    step = max(num_seeds, math.ceil((max_seeds - num_seeds) / (MAX_LOOKS - 1)))
    return (*range(num_seeds, max_seeds, step), max_seeds)


def with_looks(study: StudySpec, max_seeds: int) -> StudySpec:
    """The same study with all the seeds that it may come to need, and its schedule.

    Further seeds are the numbers after the largest; the seeds of a look are therefore the smallest of all.

    Args:
        study: what is trained at first: every configuration with the same seeds.
        max_seeds: seeds of a configuration at most.

    Raises:
        SpecError: no comparison, configurations with unequal seeds, or an impossible budget.
    """
    if study.kind != "compare-archs":
        raise SpecError(f"--until-separated is for comparisons of models (compare-archs), not a {study.kind}")
    configurations = dict.fromkeys(spec.model_copy(update={"seed": 0}) for spec in study.trials)
    seeds = sorted({spec.seed for spec in study.trials})
    if len(study.trials) != len(configurations) * len(seeds):
        raise SpecError(
            "--until-separated needs every model to start with the same seeds; give one --seed list"
        )
    looks = schedule(len(seeds), max_seeds)
    if len(configurations) * max_seeds > MAX_TRIALS:
        raise SpecError(
            f"--max-seeds {max_seeds:,} may come to {len(configurations) * max_seeds:,} trials; at most "
            f"{MAX_TRIALS:,} are allowed: take fewer"
        )
    seeds += range(seeds[-1] + 1, seeds[-1] + 1 + max_seeds - len(seeds))
    make_trial_spec({"seed": seeds[-1]})  # the largest is still a seed
    trials = tuple(spec.model_copy(update={"seed": seed}) for spec in configurations for seed in seeds)
    return study.model_copy(update={"trials": trials, "looks": looks})


def seeds_at(look: Look, seeds: Iterable[int]) -> frozenset[int]:
    """The seeds that a look is at."""
    return frozenset(sorted(set(seeds))[: look.num_seeds])
