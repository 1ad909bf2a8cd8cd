"""Expand a study into trials, and group trials into programs. No jax."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from dlbench import registry
from dlbench.errors import SpecError, shown
from dlbench.spec import FLAGS, StudySpec, Trial, TrialSpec, make_trial_spec

#: More trials than this are refused: a slip of the keyboard, not a study.
MAX_TRIALS = 100_000


class DataSize(Protocol):
    """What planning needs to know of a data set."""

    @property
    def name(self) -> str:
        """Its canonical name."""

    @property
    def digest(self) -> str:
        """SHA-256 of its arrays."""

    @property
    def num_train(self) -> int:
        """Number of images in its training half."""


@dataclass(frozen=True)
class Program:
    """Trials that share one compiled XLA program, in the order in which they run."""

    trials: tuple[Trial, ...]


def expand(
    axes: Mapping[str, Any], kind: Literal["train", "grid", "compare-archs"] = "grid", where: str = ""
) -> StudySpec:
    """The Cartesian product of the values of each field.

    Args:
        axes: value, or sequence (or range) of values, by field of :class:`~dlbench.spec.TrialSpec`.
        kind: the kind of study.
        where: the place to name in an error.

    Raises:
        SpecError: an unknown field, an impossible value, an empty or repeated one.
        UnknownNameError: an unknown model.
    """
    columns = {name: _values(name, value, where) for name, value in axes.items()}
    count = 1
    for values in columns.values():
        count *= len(values)
    if count > MAX_TRIALS:
        raise SpecError(
            f"the grid has {count:,} trials; at most {MAX_TRIALS:,} are allowed: take values away"
        )
    trials: dict[TrialSpec, None] = {}
    for combination in itertools.product(*columns.values()):
        trial = make_trial_spec(dict(zip(columns, combination, strict=True)), where)
        trials[trial.model_copy(update={"model": registry.resolve_model(trial.model)})] = None
    if len(trials) < count:
        column = next((n for n, v in columns.items() if _repeats(n, v)), "?")
        raise SpecError(
            f"{where + ': ' if where else ''}{FLAGS.get(column, column)} names a value twice: "
            f"{_listed(columns[column])}; name each once"
            if column in columns
            else f"{count - len(trials)} trials of the grid are the same as others; name each value once"
        )
    return StudySpec(kind=kind, trials=tuple(trials))


def union(studies: Iterable[StudySpec]) -> StudySpec:
    """One study of all the trials of several, each once."""
    parts = list(studies)
    trials = dict.fromkeys(trial for study in parts for trial in study.trials)
    return StudySpec(kind=parts[0].kind, trials=tuple(trials))


def _values(name: str, value: Any, where: str) -> Sequence[Any]:
    values = values_of(value)
    if not values:
        place = f"{where}: " if where else ""
        raise SpecError(f"{place}{FLAGS.get(name, name)} has no value; give at least one")
    return values


def values_of(value: Any) -> list[Any]:
    """One value, or the values of an iterable; text and mappings are one value."""
    return [value] if isinstance(value, str | Mapping) or not isinstance(value, Iterable) else list(value)


def _listed(values: Sequence[Any]) -> str:
    return ", ".join(map(shown, values[:8])) + (", ..." if len(values) > 8 else "")


def _repeats(name: str, values: Sequence[Any]) -> bool:
    seen = {getattr(make_trial_spec({name: value}), name) for value in values}
    if name == "model":
        seen = {registry.resolve_model(value) for value in seen}
    return len(seen) < len(values)


def resolve(
    study: StudySpec, info: Callable[[str], DataSize], lanes: Callable[[int], int] | None = None
) -> list[Trial]:
    """Check every trial against its data set and make its sizes and digests explicit.

    Args:
        study: what to train.
        info: the size and digest of a data set by name.
        lanes: how many lanes a program of so many trials runs in; one unless given.

    Raises:
        SpecError: sizes that the data set does not have, or that contradict each other.
    """
    sizes: dict[str, DataSize] = {}
    sources: dict[str, str] = {}
    counts: dict[tuple[object, ...], int] = {}
    resolved = []
    for spec in study.trials:
        data = sizes.get(spec.dataset) or sizes.setdefault(spec.dataset, info(spec.dataset))
        if spec.model not in sources:
            sources[spec.model] = registry.source_digest(spec.model)
        name = spec.dataset if "@" in spec.dataset else data.name
        spec = spec.model_copy(update={"dataset": name, **_explicit_sizes(spec, data)})
        counts[spec.static()] = counts.get(spec.static(), 0) + 1
        resolved.append((spec, data.digest, sources[spec.model]))
    return [
        Trial(
            spec=spec,
            data_digest=data_digest,
            model_digest=model_digest,
            lanes=lanes(counts[spec.static()]) if lanes else 1,
        )
        for spec, data_digest, model_digest in resolved
    ]


def _explicit_sizes(spec: TrialSpec, data: DataSize) -> dict[str, int]:
    available = f"the training half of {spec.dataset} has {data.num_train:,} images"
    val_size = spec.val_size or min(10_000, max(1, data.num_train // 5))
    train_size = spec.train_size or data.num_train - val_size
    if train_size < 1:
        raise SpecError(
            f"--val-size {val_size:,} leaves nothing to train on: {available}; take a smaller one"
        )
    if train_size + val_size > data.num_train:
        raise SpecError(
            f"--train-size {train_size:,} and --val-size {val_size:,} are {train_size + val_size:,} images "
            f"together, but {available}; take smaller ones"
        )
    if spec.batch_size > train_size:
        raise SpecError(
            f"--batch-size {spec.batch_size:,} is larger than the training set of {train_size:,} images; "
            "take a smaller one"
        )
    return {"train_size": train_size, "val_size": val_size}


def programs(trials: Iterable[Trial]) -> list[Program]:
    """Group trials by equality of everything static, in order of appearance."""
    groups: dict[object, list[Trial]] = {}
    for trial in trials:
        groups.setdefault(program_of(trial), []).append(trial)
    return [Program(tuple(group)) for group in groups.values()]


def program_of(trial: Trial) -> tuple[object, ...]:
    """Everything static of a trial: equal for the trials of one program."""
    return trial.spec.static(), trial.data_digest, trial.model_digest, trial.lanes


#: Seconds one core takes to train on an image, and to compile, measured; used until this machine is known.
_IMAGE_S = {
    "SimpleCNN": 3e-4,
    "Baseline": 4.3e-5,
    "Stabilized": 4.8e-5,
    "High-Vision": 8e-5,
    "Modernist": 5e-5,
}
_DEFAULT_IMAGE_S = 1.2e-4
COMPILE_S = 3.0


def cost_s(trial: Trial) -> float:
    """Estimated seconds of one core for one trial, compilation apart."""
    spec = trial.spec
    assert spec.train_size is not None
    assert spec.val_size is not None
    images = spec.num_epochs * (spec.train_size + spec.val_size / 3)
    small_batch = 1 + 4 / spec.batch_size
    return images * _IMAGE_S.get(spec.model, _DEFAULT_IMAGE_S) * small_batch


#: Parameters of the models, on 28x28 grey images; of others, a guess that is rather too high.
_PARAMETERS = {"Baseline": 206_922, "Stabilized": 207_018, "High-Vision": 215_370, "Modernist": 206_922}
_DEFAULT_PARAMETERS = 1_199_882


def disk_bytes(trials: Iterable[Trial], workers: int) -> int:
    """Estimated bytes that a study writes: checkpoints, curves, predictions, and the states of trials in hand."""
    kept, in_hand = 0, [0]
    for trial in trials:
        parameters = 4 * _PARAMETERS.get(trial.spec.model, _DEFAULT_PARAMETERS)
        kept += parameters + 100_000 + 500 * trial.spec.num_epochs
        in_hand.append(parameters * trial.lanes * 4 * 3)  # with the optimizer's and the best; three at once
    return kept + max(1, workers) * max(in_hand)


def estimate_s(trials: Sequence[Trial], workers: int) -> float:
    """Estimated wall-clock seconds of a study on so many workers, compilation included."""
    groups = programs(trials)
    total = sum(map(cost_s, trials)) + COMPILE_S * len(groups)
    return max(total / workers, *map(cost_s, trials), 0.0) + COMPILE_S / 2 if trials else 0.0
