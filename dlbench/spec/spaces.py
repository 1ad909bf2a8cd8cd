"""The space of a search: which settings vary, and from which distributions. No jax."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from dlbench.errors import Field, SpecError
from dlbench.spec import parts
from dlbench.spec.metrics import metric_of
from dlbench.spec.parts import Scalar
from dlbench.spec.trial import TrialSpec

#: How values are proposed: independently; evenly (a Sobol sequence); or near what worked (tree-structured Parzen).
Sampler = Literal["random", "quasi", "tpe"]
#: The forms of a distribution, as errors show them.
FORMS = "uniform(low, high), log(low, high), int(low, high), logint(low, high) or choice(a, b, ...)"
_CALL = re.compile(r"\s*(uniform|log|int|logint|choice)\s*\((.*)\)\s*", re.DOTALL)


@dataclass(frozen=True)
class Distribution:
    """What the values of one setting are drawn from.

    Attributes:
        kind: "uniform", "log", "int" and "logint" lie between two numbers, the second and the last evenly on a
            logarithmic scale; "choice" is one of some values.
        values: the lowest and the highest value, or the choices.
    """

    kind: str
    values: tuple[Scalar, ...]

    @classmethod
    def parse(cls, text: str, place: str | None = None) -> Distribution:
        """Read a distribution as people write it.

        Raises:
            SpecError: it is of another form, or its bounds are impossible.
        """
        found = _CALL.fullmatch(text)
        if not found:
            raise SpecError.must_be("space", f"a distribution: {FORMS}", text, place=place)
        kind, inside = found.groups()
        values = tuple(map(parts.literal, parts.split(inside, ","))) if inside.strip() else ()
        if kind == "choice":
            if len(values) < 2 or len(set(map(repr, values))) < len(values):
                raise SpecError.must_be(
                    "space", "a choice of two different values or more", text, place=place
                )
            return cls(kind, values)
        whole = kind in ("int", "logint")
        numbers = [
            value for value in values if isinstance(value, int | float) and not isinstance(value, bool)
        ]
        if len(values) != 2 or len(numbers) != 2 or not all(map(math.isfinite, numbers)):
            raise SpecError.must_be("space", f"{kind}(low, high) with two numbers", text, place=place)
        low, high = numbers
        if not low < high or (kind in ("log", "logint") and low <= 0):
            above = " above 0" if kind in ("log", "logint") else ""
            raise SpecError.must_be(
                "space", f"{kind}(low, high) with low less than high{above}", text, place=place
            )
        if whole and not all(isinstance(value, int) for value in numbers):
            raise SpecError.must_be("space", f"{kind}(low, high) with whole numbers", text, place=place)
        return cls(kind, (low, high) if whole else (float(low), float(high)))

    def __str__(self) -> str:
        """The canonical text, which :meth:`parse` reads back."""
        return f"{self.kind}({', '.join(map(str, self.values))})"

    def rounded(self, value: Any) -> Any:
        """A value as a table can show it: floats with four digits, inside the bounds."""
        if not isinstance(value, float):
            return value
        low, high = (float(bound) for bound in self.values)
        return min(max(float(f"{value:.4g}"), low), high)


class SearchSpec(BaseModel):
    """How a search proposes configurations. Everything here is fixed before the first trial.

    Attributes:
        base: what all configurations share: a trial for each seed and fold.
        space: the settings that vary, by path, with their distributions as text.
        sampler: how values are proposed.
        num_configurations: how many are proposed.
        generation: how many are proposed at once, from the results of all earlier generations.
        search_seed: the seed of the sampler.
        reduction_factor: with successive halving, the factor by which seeds grow from rung to rung, and the share of
            the configurations that go on; ``None`` without.
        confirm: number of new seeds on which the winner is trained.
        optuna: the version of Optuna.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    base: tuple[TrialSpec, ...]
    space: tuple[tuple[str, str], ...]
    sampler: Sampler = "tpe"
    num_configurations: int
    generation: int
    search_seed: int = 0
    reduction_factor: int | None = None
    confirm: int = 5
    optuna: str

    @property
    def distributions(self) -> Mapping[str, Distribution]:
        """The settings that vary, by path."""
        return {path: Distribution.parse(text) for path, text in self.space}

    @functools.cached_property
    def seeds(self) -> tuple[int, ...]:
        """The seeds of the search, sorted; a configuration has these and is confirmed on others."""
        return tuple(sorted({spec.seed for spec in self.base}))

    @property
    def new_seeds(self) -> tuple[int, ...]:
        """The seeds on which the winner is confirmed."""
        return tuple(range(self.seeds[-1] + 1, self.seeds[-1] + 1 + self.confirm))

    @property
    def rungs(self) -> tuple[int, ...]:
        """The number of seeds at each rung of successive halving; all of them at once without."""
        rungs = [len(self.seeds)]
        while self.reduction_factor and rungs[0] >= self.reduction_factor:
            rungs.insert(0, rungs[0] // self.reduction_factor)
        return tuple(rungs)

    @property
    def generations(self) -> tuple[int, ...]:
        """The number of configurations in each generation."""
        full, rest = divmod(self.num_configurations, self.generation)
        return (self.generation,) * full + ((rest,) if rest else ())

    @property
    def metric(self) -> str:
        """The metric that the search improves, on validation images."""
        return metric_of(self.base[0], "val")

    @property
    def most_trials(self) -> int:
        """The largest number of trials, those of the confirmation included."""
        per_seed, found = len(self.base) // len(self.seeds), 0
        for size in self.generations:
            for number, rung in enumerate(self.rungs):
                before = self.rungs[number - 1] if number else 0
                found += size * (rung - before) * per_seed
                size = self.survivors(size)
        return found + self.confirm * per_seed

    def survivors(self, number: int) -> int:
        """How many of the configurations of a rung go on to the next."""
        return max(1, number // self.reduction_factor) if self.reduction_factor else number


def no_space(place: str | None) -> SpecError:
    """The error of a search without a space."""
    return SpecError(
        *("a search needs ", Field("space"), ", such as lr=log(1e-4,1e-1)"),
        place=place,
        remedy=f"known: {FORMS}",
    )
