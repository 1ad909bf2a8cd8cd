"""Plan a study: check it, resolve it against its data, and find the trials that are missing. No jax."""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Unpack

from dlbench import data
from dlbench.data import DatasetInfo
from dlbench.errors import Field, SpecError, UnknownNameError
from dlbench.execution import cluster, devices
from dlbench.execution.plan import Plan
from dlbench.execution.site import Site
from dlbench.models.counts import Request, check_sizes
from dlbench.records import digest
from dlbench.spec import resolution
from dlbench.spec.search import extremes
from dlbench.spec.spaces import SearchSpec
from dlbench.spec.study import StudySpec
from dlbench.spec.trial import PARTS, Trial, TrialSpec
from dlbench.storage import sources
from dlbench.storage.sources import Kept
from dlbench.storage.studies import RUNS, read_trials
from dlbench.studies.options import RunOptions, RunSettings, merged
from dlbench.studies.proposals import Proposals
from dlbench.training.schedules import is_prefix

#: Images of at least this side are usually large enough; asking for each model would delay every plan.
SMALL_SIDE = 28


def plan(study: StudySpec, options: RunOptions | None = None, **settings: Unpack[RunSettings]) -> Plan:
    """Check a study and return the plan of what it will train. Nothing is written except the cache of its data sets.

    Args:
        study: the study.
        options: where and how to run; the fields of :class:`~dlbench.RunOptions` are also accepted as keyword
            arguments.

    Raises:
        InputError: a value breaks a rule.
        DataError: a data set is missing or damaged.
        StoreError: the folder holds other files, or a study that does not match.
    """
    how = merged(options, **settings)
    with cluster.opened(how.cluster, how.device) as site:
        return _plan(study, how, site)


def _plan(study: StudySpec, how: RunOptions, site: Site) -> Plan:
    begins = study.search is not None and not study.trials
    if study.search is not None and begins:
        study = _begun(study, study.search)
    if not study.trials:
        raise SpecError("the study has no trials", remedy="give every field at least one value")
    study = study.model_copy(update={"trials": tuple(_named(study.trials))})
    backend = site.device(how.device)

    @functools.cache
    def info(name: str) -> DatasetInfo:
        try:
            return data.info(name, how.data_dir)
        except UnknownNameError as error:
            error.field = "dataset"
            raise

    lanes = devices.lanes(how.lanes, backend)
    trials = tuple(resolution.resolve(study, info, lanes))
    _check_sizes(trials, info)
    _check_targets(trials, info)
    _check_class_weights(trials, info)
    _check_memory(trials, info, how)
    if study.search is not None and begins:  # where the bounds of its space are possible, all of it is
        bounds = study.model_copy(update={"trials": tuple(_named(extremes(study.search)))})
        _check_sizes(resolution.resolve(bounds, info, lanes), info)
    name = f"{study.kind}-{_digest(study, trials)[:10]}"
    folder = Path(how.out).expanduser() if how.out is not None else RUNS / name
    stored = read_trials(folder, study.looks, study.search, how.retry_failed)
    in_all = study.search.most_trials if study.search else len(trials)
    cores = site.cores_each(how.workers, backend, in_all)
    here = not site.is_elastic
    processes = devices.workers(how.workers, site.count(backend), study, in_all, here)
    recorded = [stored.environments[trial.id] for trial in trials if trial.id in stored.environments]

    def environment() -> Mapping[str, Any]:
        return {} if how.mixed else site.environment(backend, processes, recorded)

    planned = Plan(
        study,
        trials,
        folder,
        processes,
        cores,
        backend,
        how.data_dir,
        stored,
        environment() if recorded or not here else {},
        machines=tuple(site.in_words()),
    )
    if planned.missing:
        planned = _with_sources(planned, how.reuse, environment, how.keep_state)
    if study.search:  # more trials will be proposed
        return planned
    left = devices.workers(how.workers, site.count(backend), study, len(planned.missing), here)
    return replace(planned, workers=left)


def _begun(study: StudySpec, search: SearchSpec) -> StudySpec:
    """A search with the trials that it begins with."""
    trials = dict.fromkeys(
        spec
        for part in search.parts
        for rungs, first in part.brackets(Proposals(part).ask(part.generations[0]))
        for each in first
        for spec in part.at_rung(each, rungs[0])
    )
    return study.model_copy(update={"trials": tuple(trials)})


def _digest(study: StudySpec, trials: Sequence[Trial]) -> str:
    """What the name of a study's folder is made from: its trials, or how they are proposed."""
    if study.search is None:
        return digest([*(trial.id for trial in trials), *study.looks])
    data = sorted({trial.data_digest for trial in trials})
    return digest([study.search.model_dump(mode="json", exclude={"optuna"}), data])


def _with_sources(
    planned: Plan, reuse: bool, environment: Callable[[], Mapping[str, Any]], keep_state: bool
) -> Plan:
    """The plan with what other studies hold of its missing trials, and with states from which they can continue.

    Args:
        planned: the plan.
        reuse: whether other studies are searched, besides its own folder.
        environment: describes the environment in which trials would be trained, which can take a second.
        keep_state: whether only results are copied whose state at the end is kept there, so that longer trials can
            continue from it.
    """
    ids = [trial.id for trial in planned.missing]
    found = sources.find(RUNS, ids, planned.folder) if reuse else sources.Sources()
    kept = sources.find_kept([*(sources.study_folders(RUNS) if reuse else ()), planned.folder])
    if not found.folders and not kept:
        return replace(planned, unreadable=found.unreadable)
    now = planned.environment or environment()
    kept = {trial_id: each for trial_id, each in kept.items() if each.environment == now.get("digest")}
    held = found.of(now.get("digest"))
    if keep_state:
        held = {trial_id: folders for trial_id, folders in held.items() if trial_id in kept}
    planned = replace(planned, environment=now, sources=held, unreadable=found.unreadable)
    candidates = {trial: sources.longest_kept(trial, kept) for trial in planned.missing}
    shorter = {trial.id: each for trial, each in candidates.items() if each and _continues(trial, each)}
    bound = sum(each is not None for each in candidates.values()) - len(shorter)
    return replace(planned, shorter=shorter, num_length_bound=bound)


def _continues(trial: Trial, kept: Kept) -> bool:
    return is_prefix(trial.spec, kept.trial.spec.num_epochs)


def _check_sizes(trials: Sequence[Trial], info: Callable[[str], DatasetInfo]) -> None:
    """Make sure that small images are large enough for the models; workers check those of any size.

    Raises:
        InputError: images are too small for a model.
    """
    shapes = {name: info(name) for name in dict.fromkeys(trial.spec.dataset for trial in trials)}
    wanted = dict.fromkeys((t.spec.model, t.spec.model_args, t.spec.dataset) for t in trials)
    check_sizes(
        Request(model, arguments, found.image_shape, found.num_classes)
        for model, arguments, dataset in wanted
        if min((found := shapes[dataset]).image_shape[:2]) < SMALL_SIDE
    )


def _check_targets(trials: Sequence[Trial], info: Callable[[str], DatasetInfo]) -> None:
    """Make sure that there are targets to tell apart, and that criterion and metric are for them: classes or numbers.

    Raises:
        SpecError: there is one class, or criterion or metric are for other targets.
    """
    for dataset in dict.fromkeys(t.spec.dataset for t in trials):
        found = info(dataset)
        if found.targets == "classes" and found.num_classes < 2:
            raise SpecError(
                *(Field("dataset"), f" {dataset} has one class, so there is nothing to tell apart"),
                value=dataset,
                remedy="a data set of pictures is the folder that holds the folders of the classes",
            )
    for field in ("criterion", "selection_metric"):
        known = PARTS[field].built_in
        for dataset, name in dict.fromkeys((t.spec.dataset, getattr(t.spec, field)) for t in trials):
            targets = info(dataset).targets
            if name in known and known[name].targets not in ("", targets):
                others = [each for each, declared in known.items() if declared.targets == targets]
                raise SpecError(
                    *(
                        Field(field),
                        f" {name} is for targets that are {known[name].targets}; those of {dataset} are ",
                    ),
                    targets,
                    value=name,
                    remedy=f"take one of {', '.join(others)}, or your own",
                )


def _check_class_weights(trials: Sequence[Trial], info: Callable[[str], DatasetInfo]) -> None:
    """Make sure that the classes that weights are named for exist, and that balanced ones have training images.

    Raises:
        SpecError: a class does not exist, or some split may leave it without a training image.
    """
    wanted = dict.fromkeys((t.spec.dataset, t.spec.class_weights, t.spec.train_size or 0) for t in trials)
    for dataset, weights, train_size in wanted:
        if weights is None:
            continue
        found = info(dataset)
        if found.targets == "numbers":
            raise SpecError(
                *(Field("class_weights"), f" needs classes; the targets of {dataset} are numbers"),
                value=weights,
                remedy="leave it out",
            )
        counts = found.class_counts["train"]
        if weights == "balanced":
            rarest = min(range(len(counts)), key=counts.__getitem__)
            if counts[rarest] * train_size < found.num_train:  # its share of the split is less than one image
                raise SpecError(
                    Field("class_weights"),
                    f" balanced needs training images of every class, but {train_size:,} of the {found.num_train:,} "
                    f"images of {dataset} may have none of class {rarest}, which has {counts[rarest]:,}",
                    value=weights,
                    remedy=("take a larger ", Field("train_size"), ", or name the weights"),
                )
        elif (largest := max(label for label, _ in weights)) >= found.num_classes:
            raise SpecError(
                Field("class_weights"),
                f" names class {largest}, but {dataset} has classes 0 to {found.num_classes - 1}",
                value=weights,
                remedy="number classes from 0",
            )


def _check_memory(trials: Sequence[Trial], info: Callable[[str], DatasetInfo], how: RunOptions) -> None:
    """Make sure that test images that are transformed, all at once, fit into the memory for images.

    Raises:
        SpecError: they do not.
    """
    for dataset, size in dict.fromkeys(
        (t.spec.dataset, t.spec.test_size) for t in trials if t.spec.test_augmented
    ):
        found = info(dataset)
        needed = (size or found.num_test) * math.prod(found.image_shape)
        if needed > how.memory_bytes:
            raise SpecError(
                *(
                    Field("test_augmented"),
                    f" transforms all test images of {dataset} in memory, where they take ",
                ),
                *(f"{needed / 2**30:.1f} GiB, more than ", Field("data_memory"), f" {how.data_memory}"),
                value=True,
                remedy=("take a smaller ", Field("test_size"), ", or more memory"),
            )


def _named(specs: Iterable[TrialSpec]) -> Iterator[TrialSpec]:
    """Trials with their parts replaced by their references; user code must be named by this process."""
    references: dict[tuple[str, str], str] = {}
    checked: dict[tuple[int, ...], Mapping[str, str]] = {}
    for spec in specs:
        key = tuple(
            map(id, _PARTS_OF(spec))
        )  # trials of a grid share these objects; equal ones may differ in type
        if key not in checked:
            checked[key] = dict(_references(spec, references))
        yield spec.model_copy(update=checked[key]) if checked[key] else spec


_PARTS_OF = operator.attrgetter(*PARTS, *(f"{field}_args" for field in PARTS))


def _references(spec: TrialSpec, known: dict[tuple[str, str], str]) -> Iterator[tuple[str, str]]:
    """The parts of a trial that have another reference than their name, by field; checks all of them."""
    for field, parts in PARTS.items():
        name = getattr(spec, field)
        if (field, name) not in known:
            known[field, name] = name if ":" in name else parts.resolve(name, field)
            parts.check_trusted(known[field, name], field)
            parts.check_defined(known[field, name])
        parts.arguments(known[field, name], getattr(spec, f"{field}_args"))
        if known[field, name] != name:
            yield field, known[field, name]
