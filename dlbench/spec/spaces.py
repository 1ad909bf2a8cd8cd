"""The space of a search: which settings vary, and from which distributions. No jax."""

from __future__ import annotations

import functools
import itertools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict

from dlbench.errors import Field, SpecError
from dlbench.spec import parts
from dlbench.spec.metrics import metric_of
from dlbench.spec.parts import Scalar
from dlbench.spec.trial import TrialSpec

T = TypeVar("T")

#: How values are proposed: independently; evenly (a Sobol sequence); or near what worked (tree-structured Parzen).
Sampler = Literal["random", "quasi", "tpe"]
#: What the configurations that go on get more of.
Resource = Literal["seeds", "epochs"]
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
        base: what all configurations share: a trial for each seed and fold. In a tuned comparison, those of each model,
            which has a search of its own.
        space: the settings that vary, by path, with their distributions as text.
        sampler: how values are proposed.
        num_configurations: how many are proposed, for each model.
        generation: how many are proposed at once, from the results of all earlier generations.
        search_seed: the seed of the sampler.
        reduction_factor: with successive halving, the factor by which the resource grows from rung to rung, and the
            share of the configurations that go on; ``None`` without.
        resource: what grows from rung to rung: the number of seeds, or of epochs.
        hyperband: whether the configurations of a generation are divided into brackets, each of which begins at
            another rung (Li et al., "Hyperband", JMLR 18, 2018).
        confirm: number of new seeds on which the winner is trained.
        confirm_seeds: these seeds, where they are not those that follow the seeds of the search.
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
    resource: Resource = "seeds"
    hyperband: bool = False
    confirm: int = 5
    confirm_seeds: tuple[int, ...] = ()
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
        return self.confirm_seeds or tuple(range(self.seeds[-1] + 1, self.seeds[-1] + 1 + self.confirm))

    @functools.cached_property
    def parts(self) -> tuple[SearchSpec, ...]:
        """The search of each model of a tuned comparison; of any other search, itself."""
        found: dict[object, list[TrialSpec]] = {}
        for spec in self.base:
            found.setdefault(self.subject(spec), []).append(spec)
        return tuple(self.model_copy(update={"base": tuple(each)}) for each in found.values())

    def subject(self, spec: TrialSpec) -> object:
        """What the trials of one part have in common: the model, but for what the search varies of it."""
        varied = [path for path, _ in self.space]
        if "model" in varied:
            return None
        return spec.model, tuple(each for each in spec.model_args if f"model.{each[0]}" not in varied)

    @property
    def rungs(self) -> tuple[int, ...]:
        """The number of seeds or epochs at each rung of successive halving; all of them at once without."""
        rungs = [len(self.seeds) if self.resource == "seeds" else self.base[0].num_epochs]
        while self.reduction_factor and rungs[0] >= self.reduction_factor:
            rungs.insert(0, rungs[0] // self.reduction_factor)
        return tuple(rungs)

    def at_rung(self, replicates: Sequence[TrialSpec], rung: int) -> tuple[TrialSpec, ...]:
        """The trials of a configuration at a rung.

        Args:
            replicates: its trials with all seeds and epochs.
            rung: the number of seeds or epochs.
        """
        if self.resource == "epochs":
            return tuple(spec.model_copy(update={"num_epochs": rung}) for spec in replicates)
        return tuple(spec for spec in replicates if spec.seed in self.seeds[:rung])

    def at_end(self, spec: TrialSpec) -> TrialSpec:
        """A trial of some rung as it is at the last one."""
        if self.resource == "epochs":
            return spec.model_copy(update={"num_epochs": self.base[0].num_epochs})
        return spec

    def brackets(self, asked: Sequence[T]) -> list[tuple[tuple[int, ...], Sequence[T]]]:
        """The configurations of a generation by bracket, with the rungs of each bracket; one without Hyperband.

        A bracket with s + 1 rungs has a share of the configurations in proportion to factor^s / (s + 1), so that
        all brackets cost about the same.
        """
        rungs = [self.rungs[start:] for start in range(len(self.rungs) if self.hyperband else 1)]
        factor = self.reduction_factor or 1
        sums = [0.0, *itertools.accumulate(factor ** (len(own) - 1) / len(own) for own in rungs)]
        ends = [round(len(asked) * each / sums[-1]) for each in sums]
        shares = (asked[start:end] for start, end in itertools.pairwise(ends))
        return [(own, share) for own, share in zip(rungs, shares, strict=True) if share]

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
        return sum(number for number, _ in self._trials())

    @property
    def most_work(self) -> float:
        """The largest number of trials, those of fewer epochs counted in part (:meth:`work`)."""
        return math.fsum(number * work for number, work in self._trials())

    def work(self, spec: TrialSpec) -> float:
        """How much of a trial of all epochs one at a rung is."""
        return spec.num_epochs / self.base[0].num_epochs if self.resource == "epochs" else 1.0

    def _trials(self) -> Iterator[tuple[int, float]]:
        """Numbers of trials, with the share of all epochs that each trains."""
        replicates = len(self.base) // len(self.seeds)
        for size in self.generations:
            for rungs, configurations in self.brackets(range(size)):
                left = len(configurations)
                for before, rung in zip((0, *rungs), rungs, strict=False):
                    more = rung - before
                    if self.resource == "epochs":
                        yield left * len(self.base), more / self.rungs[-1]
                    else:
                        yield left * more * replicates, 1.0
                    left = self.survivors(left)
        yield len(self.new_seeds) * replicates, 1.0

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
