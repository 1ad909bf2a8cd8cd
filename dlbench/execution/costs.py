"""Estimates of the time and the disk space that a study takes. No jax."""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from typing import NamedTuple, Self

from dlbench import data
from dlbench.execution import messages, rates
from dlbench.models.counts import Counts, Request, at_hand
from dlbench.records import digest
from dlbench.spec.parts import Arguments
from dlbench.spec.programs import Program, program_of, programs
from dlbench.spec.registry import MODELS
from dlbench.spec.trial import Trial, TrialSpec
from dlbench.storage.results import LINEAR_SPLITS

#: Seconds that one core takes to train on an image: a fixed part, and one in proportion to its FLOPs, with the compiled
#: kernels. One core of a Xeon (Sapphire Rapids) that has nothing else to do takes 43, 48, 80, 50 and 300 µs for
#: Baseline, Stabilized, High-Vision, Modernist and SimpleCNN; where every processor is busy and two of them share a
#: core (EPYC, family 25), it is up to 1.8 times that. These lie between, at 1.3 times; likewise for compiling.
_ANY_IMAGE_S = 2.0e-5
_FLOPS_PER_S = 1.9e11
#: For models whose FLOPs are not counted: in the middle of the built-in ones.
_UNCOUNTED_IMAGE_S = 1.5e-4
_UNCOUNTED_PARAMETERS = 1_200_000
#: A forward pass takes this part of the time of a training step.
_FORWARD = 1 / 3

#: Seconds that one core takes, on the same processor: to begin and to end a trial; to compile what the programs of a
#: model share, and each of its programs; and the part of it that reading them from the cache takes.
_TRIAL_S = 0.05
_MODEL_S, _PROGRAM_S = 1.9, 2.1
_LOADING = 0.2
#: Seconds until workers compile or train, and from the last trial to the end.
START_S, END_S = 2.5, 1.0
#: Seconds in which a linear model is fitted, for each pixel of a split.
_LINEAR_PIXEL_S = 2.5e-7


def request_of(spec: TrialSpec) -> Request | None:
    """What to count of a trial's model; ``None`` where the shape of its images is not known beforehand."""
    images = data.images_of(spec.dataset)
    return images and Request(spec.model, counted_arguments(spec), *images)


def counted_arguments(spec: TrialSpec) -> Arguments:
    """The arguments of a model on which its operations can depend: not those that are arrays in its program."""
    return _counted_arguments(spec.model, spec.arguments("model"))


@functools.lru_cache(maxsize=1024)  # trials by the ten thousand share a few models
def _counted_arguments(model: str, given: Arguments) -> Arguments:
    dynamic = MODELS.dynamic(MODELS.find(model) or model, given)
    return tuple(each for each in given if each[0] not in dynamic)


def cost_s(trial: Trial) -> float:
    """Estimated seconds that one core of this machine takes for one trial, without compilation."""
    return _cost_s(*_COSTING(trial.spec), trial.spec.arguments("model"))


_COSTING = operator.attrgetter(
    "num_epochs", "train_size", "val_size", "test_size", "batch_size", "dataset", "model"
)


@functools.lru_cache(maxsize=1024)  # trials by the ten thousand share a few models
def _cost_s(
    num_epochs: int,
    train_size: int,
    val_size: int,
    test_size: int | None,
    batch_size: int,
    dataset: str,
    model: str,
    arguments: Arguments,
) -> float:
    trained = num_epochs * (train_size + _FORWARD * val_size)
    tested = _FORWARD * ((test_size or data.num_test_of(dataset) or 0) + val_size)
    rated = _Rated(model, _counted_arguments(model, arguments), dataset)
    return _TRIAL_S + (trained + tested) * rated.image_s(batch_size) * rates.ratio("training", rated.name)


class _Rated(NamedTuple):
    """A model with everything on which its speed depends."""

    model: str
    arguments: Arguments
    dataset: str

    @classmethod
    def of(cls, spec: TrialSpec) -> Self:
        return cls(spec.model, counted_arguments(spec), spec.dataset)

    @property
    def name(self) -> str:
        return f"{self.model} {dict(self.arguments)} {data.shape_of(self.dataset)}"

    def image_s(self, batch_size: int) -> float:
        """Seconds to train on an image, on the processor on which the constants were measured."""
        counts = _counts(*self)
        image_s = _ANY_IMAGE_S + counts.training_flops / _FLOPS_PER_S if counts else _UNCOUNTED_IMAGE_S
        return image_s * (1 + 4 / batch_size)


def compile_s(trial: Trial, shares_model: bool = False) -> float:
    """Estimated seconds that one core of this machine takes to compile a trial's program, or to read it from the cache.

    Args:
        trial: the trial.
        shares_model: whether what the programs of its model share is there already.
    """
    cached = rates.has_compiled(_program_name(trial))
    kind: rates.Kind = "loading" if cached else "compiling"
    return _expected_compile_s(shares_model, cached) * rates.ratio(kind, _Rated.of(trial.spec).name)


def compiling_s(compiled: Iterable[Program]) -> float:
    """The same for several programs."""
    models: set[_Rated] = set()
    total = 0.0
    for program in compiled:
        first = program.trials[0]
        rated = _Rated.of(first.spec)
        total += compile_s(first, rated in models)
        models.add(rated)
    return total


class Measured:
    """What the trials of a study cost the workers that train one trial at a time, from the workers' events.

    Args:
        trials: the trials, by id.
    """

    def __init__(self, trials: Mapping[str, Trial]) -> None:
        self._trials = trials
        self._found: dict[tuple[rates.Kind, str], tuple[float, float]] = {}
        self._models: set[tuple[int, _Rated]] = set()
        self._programs: set[str] = set()

    def __call__(self, event: messages.AnyEvent) -> None:
        """Take an event into account."""
        match event:
            case messages.EpochEnded(busy_s=float(busy_s)):
                trial = self._trials[event.trial_id]
                if trial.lanes == 1:
                    spec, rated = trial.spec, _Rated.of(trial.spec)
                    expected_s = (spec.train_size or 0) * rated.image_s(spec.batch_size)
                    self._add("training", rated, expected_s, busy_s)
            case messages.Compiled():
                trial = self._trials[event.trial_id]
                rated, name = _Rated.of(trial.spec), _program_name(trial)
                cached = rates.has_compiled(name)
                expected_s = _expected_compile_s((event.worker, rated) in self._models, cached)
                if event.busy_s is not None:
                    self._add("loading" if cached else "compiling", rated, expected_s, event.busy_s)
                self._models.add((event.worker, rated))
                self._programs.add(name)

    def _add(self, kind: rates.Kind, rated: _Rated, expected_s: float, took_s: float) -> None:
        before = self._found.get((kind, rated.name), (0.0, 0.0))
        self._found[kind, rated.name] = before[0] + expected_s, before[1] + took_s

    def learn(self) -> None:
        """Let estimates of later studies go by it."""
        if self._found or self._programs:
            rates.learn(self._found, sorted(self._programs))
            _cost_s.cache_clear()


def _expected_compile_s(shares_model: bool, cached: bool) -> float:
    return (_PROGRAM_S + (0.0 if shares_model else _MODEL_S)) * (_LOADING if cached else 1.0)


def _program_name(trial: Trial) -> str:
    """What tells a compiled program from others of this machine."""
    return digest([repr(program_of(trial)), _jaxlib()])[:16]


@functools.cache
def _jaxlib() -> str:
    return metadata.version("jaxlib")


def disk_bytes(trials: Iterable[Trial], workers: int) -> int:
    """Estimated bytes that a study writes: checkpoints, curves, predictions, and states of running trials."""
    kept, states = 0, [0]
    for trial in trials:
        counts = _counts(trial.spec.model, counted_arguments(trial.spec), trial.spec.dataset)
        parameters = 4 * (counts.parameters if counts else _UNCOUNTED_PARAMETERS)
        kept += parameters + 100_000 + 500 * trial.spec.num_epochs
        states.append(
            parameters * trial.lanes * 4 * 3
        )  # with optimizer state and best parameters; three at a time
    return kept + max(1, workers) * max(states)


def estimate_s(trials: Sequence[Trial], workers: int) -> float:
    """Estimated wall-clock seconds of a study with the given number of workers, from its start to its end."""
    if not trials:
        return 0.0
    groups = programs(trials)
    costs, compiling = [*map(cost_s, trials)], compiling_s(groups)
    workers = min(workers, len(trials))
    # The last worker to train compiles a program that another one has compiled.
    again = compiling / len(groups) * (workers - 1) / workers
    longest = max(costs) + compiling / len(groups)
    return START_S + END_S + max((math.fsum(costs) + compiling) / workers + again, longest)


def linear_s(trials: Iterable[Trial]) -> float:
    """Estimated seconds in which linear models are fitted to the splits of trials."""
    by_split = {(t.data_digest, t.spec.train_size, t.spec.split_seed, t.spec.fold): t.spec for t in trials}
    sizes = [
        (spec.train_size or 0) * math.prod(images[0])
        for spec in [*by_split.values()][:LINEAR_SPLITS]
        if (images := data.shape_of(spec.dataset))
    ]
    return _LINEAR_PIXEL_S * sum(sizes)


@functools.lru_cache(maxsize=1024)  # trials by the ten thousand share a few models
def _counts(model: str, model_args: Arguments, dataset: str) -> Counts | None:
    """What is known of a model without counting it now."""
    images = data.shape_of(dataset)
    return images and at_hand(Request(model, model_args, *images))
