"""Run a study: dispatch, collect, resume. No jax in this process unless ``workers=0`` asks for it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from dlbench import data, files
from dlbench.errors import SpecError, StoreError
from dlbench.execution import engine, messages
from dlbench.execution.place import Place
from dlbench.execution.plan import Plan, statuses_in
from dlbench.execution.recording import interruptible, record
from dlbench.records import TrialStatus
from dlbench.spec import programs
from dlbench.spec.study import StudySpec
from dlbench.spec.trial import Trial
from dlbench.storage import manifest
from dlbench.storage.results import TrialResult
from dlbench.storage.store import FILE_NAME, Store
from dlbench.studies.planning import plan
from dlbench.studies.result import StudyResult

#: More splits than this are not drawn for the manifest: it takes 40 ms each on 60,000 images.
_MANY_SPLITS = 8
_UNFINISHED = (TrialStatus.WAITING, TrialStatus.RUNNING)


Observer = Callable[["Plan | messages.AnyEvent"], None]


def run(
    study: StudySpec,
    *,
    out: Path | str | None = None,
    workers: int | None = None,
    lanes: int | Literal["auto"] = "auto",
    device: str = "auto",
    data_dir: str | None = None,
    command: Sequence[str] = (),
    config: str = "",
    on_event: Observer | None = None,
    retry_failed: bool = False,
    checkpoint_every: int | None = None,
) -> StudyResult:
    """Train what a study's folder does not hold yet, and return all of it.

    Args:
        study: what to train.
        out: see :func:`plan`, as for ``workers``, ``lanes``, ``device`` and ``data_dir``.
        workers: processes to train in.
        lanes: vmapped lanes.
        device: where to train.
        data_dir: where data sets lie.
        command: the command line to record.
        config: the text of the file that the study comes from, to record; its claims travel with the study.
        on_event: called with the :class:`Plan`, then with every event.
        retry_failed: whether trials that failed before are tried again.
        checkpoint_every: epochs between saved states of a trial, from which an interrupted one goes on; once a
            minute unless given.

    Raises:
        KeyboardInterrupt: the process got SIGINT or SIGTERM; what was done is kept, and calling again goes on.
        InputError: a value breaks a rule.
        DataError: a data set is absent or damaged.
        StoreError: the folder cannot be used.
        WorkerError: workers cannot be started.
    """
    planned = plan(study, out=out, workers=workers, lanes=lanes, device=device, data_dir=data_dir)
    return run_planned(
        planned,
        command=command,
        config=config,
        on_event=on_event,
        retry_failed=retry_failed,
        checkpoint_every=checkpoint_every,
    )


def run_planned(
    planned: Plan,
    *,
    command: Sequence[str] = (),
    config: str = "",
    on_event: Observer | None = None,
    retry_failed: bool = False,
    checkpoint_every: int | None = None,
) -> StudyResult:
    """Train what a plan's folder does not hold yet, and return the trials of the plan.

    Args:
        planned: what to train, and where; see :func:`run` for the others and for what is raised.
        command: the command line to record.
        config: the text of the file that the study comes from, to record.
        on_event: called with the plan, then with every event.
        retry_failed: whether trials that failed before are tried again.
        checkpoint_every: epochs between saved states of a trial.
    """
    start = time.monotonic()
    study = planned.study
    if checkpoint_every is not None and checkpoint_every < 1:
        raise SpecError(f"--checkpoint-every must be a positive number of epochs; got {checkpoint_every!r}")
    tell = on_event or (lambda event: None)
    tell(planned)
    final = (TrialStatus.COMPLETE, TrialStatus.DIVERGED, *(() if retry_failed else (TrialStatus.FAILED,)))

    def missing(statuses: dict[str, TrialStatus]) -> list[Trial]:
        return [trial for trial in planned.trials if statuses.get(trial.id) not in final]

    folder = planned.folder
    if missing(statuses_in(folder, study.looks)) or not (folder / FILE_NAME).exists():
        _make_folder(folder)
        with (
            Store(folder, write=True, kind=study.kind, looks=study.looks) as store,
            interruptible() as stopping,
        ):
            store.add(planned.trials)
            todo = missing(store.statuses())  # another process may have been here since the plan was made
            place = Place(
                planned.device,
                min(planned.workers, len(todo)),
                planned.data_dir,
                checkpoint_every,
                planned.cores,
            )
            if todo:
                known = {trial.id: trial for trial in planned.trials}
                described = manifest.describe(command, study, planned.trials, planned.workers, config)
                described["split_digests"] = _split_digests(planned)
                happening = engine.run(programs.programs(todo), place, stopping, folder)
                record(store, known, described, happening, tell, max(place.workers, 1), start)
            left = [trial for trial in todo if store.statuses()[trial.id] in _UNFINISHED]
            if stopping.is_set() and left:
                raise KeyboardInterrupt
    with Store(folder) as store:
        trials = tuple(store.results([trial.id for trial in planned.trials]))
        times = store.times()
    _tidy(trials)
    return StudyResult(study, trials, folder, time.monotonic() - start, times)


def _tidy(trials: Sequence[TrialResult]) -> None:
    """Remove what a process that was killed as its trial ended has left of it."""
    for folder in (trial.folder for trial in trials if trial.status.is_finished):
        if not folder.parent.is_symlink() and not folder.is_symlink():
            for path in (*folder.glob("state"), *folder.glob("*-tmp*"), *folder.glob(".*.new")):
                with contextlib.suppress(OSError):
                    files.remove(path)


def _split_digests(planned: Plan) -> dict[str, str]:
    """The digests of the study's splits, by what determines them; none where there are many to draw.

    Every trial records that of its own split.
    """
    specs = {
        f"{spec.dataset} {spec.train_size}/{spec.val_size} split seed {spec.split_seed}": spec
        for spec in (trial.spec for trial in planned.trials)
    }
    if len(specs) > _MANY_SPLITS:
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
            f"the folder {folder} cannot be made: {error.strerror}; choose another --out"
        ) from None
