"""Run a study: train what is missing, and collect the results. No jax in this process unless ``workers=0``."""

from __future__ import annotations

import contextlib
import os
import re
import threading
import time
import warnings
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Unpack

from dlbench import data, files
from dlbench.analysis.search import concluded
from dlbench.data.quality import num_shared
from dlbench.errors import (
    ANOTHER_OUT,
    DlbenchError,
    FailedTrialsWarning,
    SpecError,
    StoreError,
    StudyInterrupted,
)
from dlbench.execution import cluster, costs, engine, messages
from dlbench.execution.crew import Crew
from dlbench.execution.place import Place
from dlbench.execution.plan import Plan
from dlbench.execution.recording import interruptible, record
from dlbench.records import TrialStatus
from dlbench.report import notebook
from dlbench.spec import programs
from dlbench.spec.config import read_published
from dlbench.spec.study import StudySpec
from dlbench.spec.trial import Trial
from dlbench.storage import artifacts, manifest
from dlbench.storage.audit import broken, check_manifest
from dlbench.storage.results import LinearModel, TrialResult
from dlbench.storage.sources import read
from dlbench.storage.store import FILE_NAME, Store
from dlbench.storage.studies import StoredTrials, read_trials
from dlbench.studies.baselines import linear_models
from dlbench.studies.options import Observer, RunOptions, RunSettings, merged
from dlbench.studies.planning import plan
from dlbench.studies.result import StudyResult

#: What a process that is killed may leave in the folder of a trial that is finished.
_LEFT_OVER = re.compile(r"state|.*-tmp.*|\..*\.new")
#: The manifest lists the digests of at most this many splits, because drawing one of 60,000 images takes 40 ms.
_MAX_SPLITS = 8


def run(study: StudySpec, options: RunOptions | None = None, **settings: Unpack[RunSettings]) -> StudyResult:
    """Train the trials of a study that its folder does not hold yet, and return the results of all its trials.

    Args:
        study: the study.
        options: where and how to run; the fields of :class:`~dlbench.RunOptions` are also accepted as keyword
            arguments. In a notebook, a progress bar is shown unless ``on_event`` is given.

    Warns:
        FailedTrialsWarning: trials failed, naming the first.

    Raises:
        KeyboardInterrupt: the process received SIGINT, SIGTERM, SIGHUP or SIGUSR1. Finished trials are kept, and the
            same call continues the study.
        InputError: a value breaks a rule.
        DataError: a data set is missing or damaged.
        StoreError: the folder cannot be used.
        WorkerError: workers cannot be started.
    """
    if study.search is not None:
        raise SpecError("the trials of a search are proposed as it runs", remedy="use dlbench.run_search")
    with observed(merged(options, **settings)) as how:
        result = run_planned(plan(study, how), how)
    warn_of_failures(result, stacklevel=3)
    return result


@contextlib.contextmanager
def observed(options: RunOptions) -> Iterator[RunOptions]:
    """The options, connected to their cluster; in a notebook, with a progress bar as the observer if they have none."""
    with cluster.opened(options.cluster, options.device) as site:
        options = replace(options, cluster=site)
        if options.on_event is not None or not notebook.is_active():
            yield options
            return
        from dlbench.report.progress import StudyProgress

        with StudyProgress(bar=notebook.NotebookBar()) as progress:
            yield replace(options, on_event=progress)


def warn_of_failures(result: StudyResult, stacklevel: int) -> None:
    """Say that trials failed and why the first did, where the caller would not look."""
    if result.failed:
        first = result.failed[0]
        warnings.warn(
            f"{len(result.failed)} of {len(result)} trials failed; the first, {first.id}: {first.failure}",
            FailedTrialsWarning,
            stacklevel=stacklevel,
        )


def run_planned(planned: Plan, options: RunOptions, crew: Crew | None = None) -> StudyResult:
    """Train the trials of a plan that its folder does not hold yet, and return the results of all its trials.

    Args:
        planned: the plan.
        options: the options with which it was planned. For the errors raised, see :func:`run`.
        crew: the workers of a study that is planned part by part.
    """
    start = time.monotonic()
    study = planned.study
    notify = options.on_event or (lambda event: None)
    notify(planned)
    retried = () if options.retry_failed else (TrialStatus.FAILED,)
    final = (TrialStatus.COMPLETE, TrialStatus.DIVERGED, *retried)
    now = planned.environment.get("digest")

    def missing(stored: StoredTrials) -> list[Trial]:
        return [
            trial
            for trial in planned.trials
            if stored.status(trial.id) not in final or stored.is_of_another(trial.id, now)
        ]

    folder = planned.folder
    stored = read_trials(folder, study.looks, study.search)
    if options.retry_failed or missing(stored) or not (folder / FILE_NAME).exists():
        _make_folder(folder)
        with (
            cluster.opened(options.cluster, options.device) as site,
            Store(folder, True, study.kind, study.looks, study.search) as store,
            interruptible() as stopping,
        ):
            store.add(planned.trials)
            if options.retry_failed:
                _discard_broken(store, notify)
            # Another process may have trained some since the plan was made.
            todo = missing(StoredTrials.of(store))
            may_grow = site.is_elastic and options.workers is None
            place = Place(
                planned.device,
                len(todo) if may_grow else planned.workers if crew else min(planned.workers, len(todo)),
                planned.data_dir,
                options.checkpoint_every,
                planned.cores,
                options.keep_state,
                options.memory_bytes,
                site,
                planned.environment.get("digest") if site.is_elastic else None,
            )
            for text in _about_data(todo, planned.data_dir, options):
                notify(messages.Notice(text=text))
            if todo:
                known = {trial.id: trial for trial in planned.trials}
                described = manifest.describe(
                    options.command, study, planned.trials, planned.workers, options.config
                )
                described["split_digests"] = _split_digests(planned)
                if any(trial.id in planned.sources for trial in todo):
                    described["device"] = planned.environment
                measured = costs.Measured(known)

                def observe(event: messages.AnyEvent) -> None:
                    measured(event)
                    notify(event)

                events = _events(planned, todo, place, stopping, notify, crew)
                record(
                    store,
                    known,
                    {trial.id for trial in todo},
                    described,
                    events,
                    observe,
                    None if site.is_elastic else max(place.workers, 1),
                    start,
                    options.keep_state,
                    planned.device,
                )
                if place.cores == 1:
                    measured.learn()
            statuses = store.statuses()
            if stopping.is_set() and not all(statuses[trial.id].has_ended for trial in todo):
                raise StudyInterrupted(stopping.number)
    with Store(folder) as store:
        trials = tuple(store.results([trial.id for trial in planned.trials]))
        times, energy, environments = store.times(), store.energy(), store.described_environments()
        ids = {trial.id for trial in trials}
        superseded = tuple(trial for trial in store.superseded() if trial.id in ids)
        recorded, load = store.published(), store.load()
    published = read_published(options.config, folder) if options.config else recorded
    _remove_leftovers(trials)
    took = time.monotonic() - start
    result = StudyResult(
        study, trials, folder, took, times, energy, environments, superseded, published, load=load
    )
    return (
        replace(result, linear=_linear(result, planned.data_dir)) if study.design == "comparison" else result
    )


def _discard_broken(store: Store, notify: Observer) -> None:
    """Let the trials fail whose files are missing or damaged, and write a manifest anew that is."""
    for trial_id, problem in broken(store).items():
        files.remove(artifacts.trial_folder(store.folder, trial_id))
        store.finish(trial_id, TrialStatus.FAILED, error=problem)
    for problem in check_manifest(store):
        notify(messages.Notice(text=f"{problem}; it is written again"))
        manifest.write(store.folder, store.manifests()[-1])


def _linear(result: StudyResult, data_dir: str | None) -> Mapping[str, LinearModel]:
    """The linear models of a comparison's splits; those that are missing are fitted and recorded."""
    with Store(result.folder) as store:
        known = store.linear()
    found = linear_models((t.trial for t in concluded(result) if t.status.is_finished), known, data_dir)
    if found:
        with (
            contextlib.suppress(StoreError),
            Store(result.folder, True) as store,
        ):  # or another process does it
            store.add_linear(found)
    return {**known, **found}


def _events(
    planned: Plan,
    todo: Sequence[Trial],
    place: Place,
    stopping: threading.Event,
    notify: Observer,
    crew: Crew | None,
) -> Generator[messages.AnyEvent]:
    """Copy what other studies hold of the trials to come, and train the rest."""
    sources = {trial.id: planned.sources[trial.id] for trial in todo if trial.id in planned.sources}
    copied = yield from _copy(sources, str(planned.environment.get("digest")), stopping)
    if stopping.is_set():
        return
    if lost := sources.keys() - copied:  # damaged, so these are trained
        held = {trial_id: found for trial_id, found in planned.sources.items() if trial_id not in lost}
        notify(replace(planned, sources=held))
    if left := [trial for trial in todo if trial.id not in copied]:
        shorter = {trial_id: kept.folder for trial_id, kept in planned.shorter.items()}
        yield from engine.run(programs.programs(left), place, stopping, planned.folder, shorter, crew)


def _copy(
    sources: Mapping[str, Sequence[Path]], environment: str, stopping: threading.Event
) -> Generator[messages.AnyEvent, None, set[str]]:
    """The results of other studies as events; returns the ids of the trials that were copied."""
    copied: set[str] = set()
    for folder in dict.fromkeys(folder for folders in sources.values() for folder in folders):
        wanted = [i for i, folders in sources.items() if folder in folders and i not in copied]
        for each in read(folder, wanted, environment):
            if stopping.is_set():
                return copied
            if isinstance(each, str):
                yield messages.Notice(text=each)
                continue
            result = each.result
            yield messages.Copied(
                trial_id=result.id,
                status=result.status,
                outcome=result.outcome,
                history=result.history,
                files=each.files,
            )
            copied.add(result.id)
    return copied


def _remove_leftovers(trials: Sequence[TrialResult]) -> None:
    """Remove temporary files and saved states of finished trials, which remain if a process is killed at their end."""
    for folder in (trial.folder for trial in trials if trial.status.is_finished):
        if folder.parent.is_symlink() or folder.is_symlink():
            continue
        with contextlib.suppress(OSError):
            for name in filter(_LEFT_OVER.fullmatch, os.listdir(folder)):
                files.remove(folder / name)


def _about_data(trials: Sequence[Trial], data_dir: str | None, options: RunOptions) -> Iterator[str]:
    """What to say of data sets that are streamed, or whose test images are among their training images."""
    for name in dict.fromkeys(trial.spec.dataset for trial in trials):
        try:
            dataset = data.load(name, data_dir)
        except DlbenchError:  # a worker will say so
            continue
        if dataset.images_bytes > options.memory_bytes:
            yield (
                f"the images of {dataset.name!r} take {dataset.images_bytes / 2**30:.2g} GiB, more than the "
                f"{options.data_memory} that they may take in memory, so they are streamed from the cache"
            )
        if shared := num_shared(dataset):
            yield (
                f"{shared:,} of the {len(dataset.test_labels):,} test images of {dataset.name!r} are training images "
                "as well, so test accuracies are biased upwards (its argument drop_duplicates leaves them out)"
            )


def _split_digests(planned: Plan) -> dict[str, str]:
    """The digests of the study's splits, by data set, sizes, split seed and fold; empty if there are many.

    Each trial also records the digest of its own split.
    """
    specs = {
        f"{spec.dataset} {spec.train_size}/{spec.val_size} split seed {spec.split_seed}"
        f"{f' fold {spec.fold} of {spec.folds}' if spec.folds else ''}"
        f"{'' if spec.sampling == 'stratified' else f' {spec.sampling}'}"
        f"{'' if spec.val_from == 'train' else f' validated on {spec.val_from} images'}": spec
        for spec in (trial.spec for trial in planned.trials)
    }
    if len(specs) > _MAX_SPLITS:
        return {}
    digests = {}
    for name, spec in specs.items():
        digests[name] = data.split_of(data.load(spec.dataset, planned.data_dir), spec).digest
    return digests


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(
            f"the folder {folder} cannot be created: {error.strerror}", remedy=ANOTHER_OUT
        ) from None
