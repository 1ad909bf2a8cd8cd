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

from dlbench.errors import Field, SpecError
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
            *(Field("max_seeds"), " needs two seeds or more to start with, since one has no spread"),
            value=num_seeds,
            remedy=("give ", Field("seeds"), " 5"),
        )
    if max_seeds < num_seeds:
        raise SpecError(
            *(Field("max_seeds"), f" {max_seeds:,} is less than the {num_seeds:,} seeds to start with"),
            value=max_seeds,
            remedy=("give more, or take fewer ", Field("seeds")),
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
    if study.design != "comparison":
        raise SpecError(
            *(
                Field("max_seeds"),
                f" is for comparisons of models; the design of this study is {study.design!r}",
            ),
            value=max_seeds,
        )
    configurations = dict.fromkeys(spec.model_copy(update={"seed": 0}) for spec in study.trials)
    seeds = sorted({spec.seed for spec in study.trials})
    if len(study.trials) != len(configurations) * len(seeds):
        raise SpecError(
            *(Field("max_seeds"), " needs every model to start with the same seeds"),
            value=max_seeds,
            remedy=("give all of them one list of ", Field("seed")),
        )
    looks = schedule(len(seeds), max_seeds)
    if len(configurations) * max_seeds > MAX_TRIALS:
        raise SpecError(
            *(Field("max_seeds"), f" {max_seeds:,} may lead to {len(configurations) * max_seeds:,} trials; "),
            f"at most {MAX_TRIALS:,} are allowed",
            value=max_seeds,
            remedy="take fewer",
        )
    seeds += range(seeds[-1] + 1, seeds[-1] + 1 + max_seeds - len(seeds))
    make_trial_spec({"seed": seeds[-1]})  # the largest is still a seed
    trials = tuple(spec.model_copy(update={"seed": seed}) for spec in configurations for seed in seeds)
    return study.model_copy(update={"trials": trials, "looks": looks})


def seeds_at(look: Look, seeds: Iterable[int]) -> frozenset[int]:
    """The seeds that a look is at."""
    return frozenset(sorted(set(seeds))[: look.num_seeds])
