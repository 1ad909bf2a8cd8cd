"""Run a study: train what is missing, and collect the results. No jax in this process unless ``workers=0``."""

from __future__ import annotations

import contextlib
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Unpack

from dlbench import data, files
from dlbench.data.quality import num_shared
from dlbench.errors import ANOTHER_OUT, DlbenchError, FailedTrialsWarning, StoreError, StudyInterrupted
from dlbench.execution import engine, messages
from dlbench.execution.place import Place
from dlbench.execution.plan import Plan
from dlbench.execution.recording import interruptible, record
from dlbench.records import TrialStatus
from dlbench.spec import programs
from dlbench.spec.study import StudySpec
from dlbench.spec.trial import Trial
from dlbench.storage import manifest
from dlbench.storage.results import TrialResult
from dlbench.storage.store import FILE_NAME, Store
from dlbench.storage.studies import StoredTrials, read_trials
from dlbench.studies.options import RunOptions, RunSettings, merged
from dlbench.studies.planning import plan
from dlbench.studies.result import StudyResult

#: The manifest lists the digests of at most this many splits, because drawing one of 60,000 images takes 40 ms.
_MAX_SPLITS = 8
_UNFINISHED = (TrialStatus.WAITING, TrialStatus.RUNNING, TrialStatus.INTERRUPTED)


def run(study: StudySpec, options: RunOptions | None = None, **settings: Unpack[RunSettings]) -> StudyResult:
    """Train the trials of a study that its folder does not hold yet, and return the results of all its trials.

    Args:
        study: the study.
        options: where and how to run; the fields of :class:`~dlbench.RunOptions` are also accepted as keyword
            arguments.

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
    how = merged(options, **settings)
    result = run_planned(plan(study, how), how)
    warn_of_failures(result, stacklevel=3)
    return result


def warn_of_failures(result: StudyResult, stacklevel: int) -> None:
    """Say that trials failed and why the first did, where the caller would not look."""
    if result.failed:
        first = result.failed[0]
        warnings.warn(
            f"{len(result.failed)} of {len(result)} trials failed; the first, {first.id}: {first.failure}",
            FailedTrialsWarning,
            stacklevel=stacklevel,
        )


def run_planned(planned: Plan, options: RunOptions) -> StudyResult:
    """Train the trials of a plan that its folder does not hold yet, and return the results of all its trials.

    Args:
        planned: the plan.
        options: the options with which it was planned. For the errors raised, see :func:`run`.
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
    if missing(read_trials(folder, study.looks)) or not (folder / FILE_NAME).exists():
        _make_folder(folder)
        with (
            Store(folder, write=True, kind=study.kind, looks=study.looks) as store,
            interruptible() as stopping,
        ):
            store.add(planned.trials)
            # Another process may have trained some since the plan was made.
            todo = missing(StoredTrials(store.statuses(), store.environments()))
            place = Place(
                planned.device,
                min(planned.workers, len(todo)),
                planned.data_dir,
                options.checkpoint_every,
                planned.cores,
            )
            for text in _shared_images(todo, planned.data_dir):
                notify(messages.Notice(text=text))
            if todo:
                known = {trial.id: trial for trial in planned.trials}
                described = manifest.describe(
                    options.command, study, planned.trials, planned.workers, options.config
                )
                described["split_digests"] = _split_digests(planned)
                events = engine.run(programs.programs(todo), place, stopping, folder)
                record(
                    store,
                    known,
                    {trial.id for trial in todo},
                    described,
                    events,
                    notify,
                    max(place.workers, 1),
                    start,
                )
            left = [trial for trial in todo if store.statuses()[trial.id] in _UNFINISHED]
            if stopping.is_set() and left:
                raise StudyInterrupted(stopping.number)
    with Store(folder) as store:
        trials = tuple(store.results([trial.id for trial in planned.trials]))
        times, environments = store.times(), store.described_environments()
        ids = {trial.id for trial in trials}
        superseded = tuple(trial for trial in store.superseded() if trial.id in ids)
    _remove_leftovers(trials)
    took = time.monotonic() - start
    return StudyResult(study, trials, folder, took, times, environments, superseded)


def _remove_leftovers(trials: Sequence[TrialResult]) -> None:
    """Remove temporary files and saved states of finished trials, which remain if a process is killed at their end."""
    for folder in (trial.folder for trial in trials if trial.status.is_finished):
        if not folder.parent.is_symlink() and not folder.is_symlink():
            for path in (*folder.glob("state"), *folder.glob("*-tmp*"), *folder.glob(".*.new")):
                with contextlib.suppress(OSError):
                    files.remove(path)


def _shared_images(trials: Sequence[Trial], data_dir: str | None) -> Iterator[str]:
    """What to say of data sets whose test images are among their training images."""
    for name in dict.fromkeys(trial.spec.dataset for trial in trials):
        try:
            dataset = data.load(name, data_dir)
        except DlbenchError:  # a worker will say so
            continue
        if shared := num_shared(dataset):
            yield (
                f"{shared:,} of the {len(dataset.test_labels):,} test images of {dataset.name!r} are training images "
                "as well, so test accuracies are biased upwards"
            )


def _split_digests(planned: Plan) -> dict[str, str]:
    """The digests of the study's splits, by data set, sizes and split seed; empty if there are many.

    Each trial also records the digest of its own split.
    """
    specs = {
        f"{spec.dataset} {spec.train_size}/{spec.val_size} split seed {spec.split_seed}": spec
        for spec in (trial.spec for trial in planned.trials)
    }
    if len(specs) > _MAX_SPLITS:
        return {}
    digests = {}
    for name, spec in specs.items():
        assert spec.val_size is not None
        assert spec.split_seed is not None
        labels = data.load(spec.dataset, planned.data_dir).train_labels
        digests[name] = data.make_split(labels, spec.train_size, spec.val_size, spec.split_seed).digest
    return digests


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(
            f"the folder {folder} cannot be created: {error.strerror}", remedy=ANOTHER_OUT
        ) from None
