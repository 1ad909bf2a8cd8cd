"""The schedule of looks of a growing comparison, fixed before the data are seen. No jax.

Testing again and again as seeds are added finds differences that do not exist, far more often than the level of
the test says. The looks at the data are therefore planned (for example after 5, 10, 15 and 20 seeds), and each has
its own level (:func:`dlbench.stats.sequential_levels`). Together they are wrong in at most 5 % of studies, wherever
the study stops. Nothing is tested between looks, because that would be an additional look.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from dlbench.errors import Field, SpecError
from dlbench.spec.designs import MAX_TRIALS
from dlbench.spec.study import StudySpec
from dlbench.spec.trial import make_trial_spec

#: Each additional look makes the level of all looks stricter, so large studies have larger steps, not more looks.
MAX_LOOKS = 10


@dataclass(frozen=True)
class Look:
    """One look at the data.

    Attributes:
        number: the number of the look, counted from 1.
        schedule: the number of seeds at each look.
    """

    number: int
    schedule: tuple[int, ...]

    @property
    def num_seeds(self) -> int:
        """Number of seeds per configuration at this look."""
        return self.schedule[self.number - 1]

    @property
    def is_last(self) -> bool:
        """Whether this is the last look of the schedule."""
        return self.number == len(self.schedule)


def schedule(num_seeds: int, max_seeds: int) -> tuple[int, ...]:
    """The number of seeds at each look: equal steps of at least the initial number of seeds, at most ten looks.

    Args:
        num_seeds: number of seeds at the first look.
        max_seeds: number of seeds at the last look.

    Raises:
        SpecError: there are fewer than two seeds at the first look, or ``max_seeds`` is smaller than ``num_seeds``.
    """
    if num_seeds < 2:
        raise SpecError(
            *(Field("max_seeds"), " needs at least two seeds to start with, because one shows no variation"),
            value=num_seeds,
            remedy=("use ", Field("seeds"), " 5"),
        )
    if max_seeds < num_seeds:
        raise SpecError(
            *(Field("max_seeds"), f" {max_seeds:,} is less than the {num_seeds:,} seeds to start with"),
            value=max_seeds,
            remedy=("raise it, or use fewer ", Field("seeds")),
        )
    step = max(num_seeds, math.ceil((max_seeds - num_seeds) / (MAX_LOOKS - 1)))
    return (*range(num_seeds, max_seeds, step), max_seeds)


def with_looks(study: StudySpec, max_seeds: int) -> StudySpec:
    """Extend a comparison by all the seeds that it may need, and by its schedule of looks.

    Additional seeds count up from the largest one, so each look uses the smallest seeds.

    Args:
        study: the comparison at its first look, with the same seeds for every configuration.
        max_seeds: largest number of seeds per configuration.

    Raises:
        SpecError: the study is not a comparison, or tunes its models; its configurations have different seeds; or
            ``max_seeds`` is too small or too large.
    """
    if study.design != "comparison":
        raise SpecError(
            *(
                Field("max_seeds"),
                f" applies only to comparisons of models; the design of this study is {study.design!r}",
            ),
            value=max_seeds,
        )
    if study.search:
        raise SpecError(
            *(
                Field("max_seeds"),
                " and ",
                Field("tune"),
                " cannot be combined: the looks of tuned models are not ",
            ),
            "planned",
            value=max_seeds,
            remedy="leave one of them out",
        )
    configurations = dict.fromkeys(spec.model_copy(update={"seed": 0}) for spec in study.trials)
    seeds = sorted({spec.seed for spec in study.trials})
    if len(study.trials) != len(configurations) * len(seeds):
        raise SpecError(
            *(Field("max_seeds"), " needs every model to start with the same seeds"),
            value=max_seeds,
            remedy=("give all models the same list of ", Field("seed")),
        )
    looks = schedule(len(seeds), max_seeds)
    if len(configurations) * max_seeds > MAX_TRIALS:
        raise SpecError(
            *(Field("max_seeds"), f" {max_seeds:,} may lead to {len(configurations) * max_seeds:,} trials; "),
            f"at most {MAX_TRIALS:,} are allowed",
            value=max_seeds,
            remedy="use fewer",
        )
    seeds += range(seeds[-1] + 1, seeds[-1] + 1 + max_seeds - len(seeds))
    make_trial_spec({"seed": seeds[-1]})  # raises if the largest seed is out of range
    trials = tuple(spec.model_copy(update={"seed": seed}) for spec in configurations for seed in seeds)
    return study.model_copy(update={"trials": trials, "looks": looks})


def seeds_at(look: Look, seeds: Iterable[int]) -> frozenset[int]:
    """The seeds that a look uses."""
    return frozenset(sorted(set(seeds))[: look.num_seeds])
