"""Run a study: plan, dispatch, collect, resume. No jax in this process unless ``workers=0`` asks for it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import FunctionType
from typing import Any, Literal

from dlbench import data, devices, engine, events, files, grids, manifest, registry
from dlbench.database import explained
from dlbench.errors import SpecError, StoreError
from dlbench.grids import Program
from dlbench.recorded import RUNS, holds_study
from dlbench.recording import interruptible, record
from dlbench.results import StudyResult, TrialResult, TrialStatus
from dlbench.spec import StudySpec, Trial, TrialSpec, digest
from dlbench.store import FILE_NAME, Store

_UNFINISHED = (TrialStatus.WAITING, TrialStatus.RUNNING)

Observer = Callable[["Plan | events.AnyEvent"], None]


@dataclass(frozen=True)
class Plan:
    """What a study comes to, before anything is written.

    Args:
        study: the study as asked for.
        trials: its trials in the study's order, resolved against their data.
        folder: where it is, or will be, kept.
        workers: how many processes train; 0 trains in the calling one.
        cores: how many train one trial, on a CPU.
        device: "cpu", "gpu", "tpu" or "metal".
        data_dir: where the user's data sets lie.
        done: ids of the trials that ``folder`` holds results of.
        failed: ids of those that failed there.
    """

    study: StudySpec
    trials: tuple[Trial, ...]
    folder: Path
    workers: int
    cores: int
    device: str
    data_dir: str | None
    done: frozenset[str]
    failed: frozenset[str]

    @property
    def programs(self) -> list[Program]:
        """The trials by the XLA program they share."""
        return grids.programs(self.trials)

    @property
    def missing(self) -> list[Trial]:
        """The trials that have no result yet."""
        return [trial for trial in self.trials if trial.id not in self.done]

    def part(self, seeds: Collection[int]) -> Plan:
        """The plan of the trials with these seeds alone, in the same folder, as it stands now."""
        specs = tuple(spec for spec in self.study.trials if spec.seed in seeds)
        trials = tuple(trial for trial in self.trials if trial.spec.seed in seeds)
        done, failed = _progress(_statuses(self.folder, self.study.looks), trials)
        study = self.study.model_copy(update={"trials": specs})
        return replace(self, study=study, trials=trials, done=done, failed=failed)

    @property
    def estimate_s(self) -> float:
        """Estimated seconds until the rest is trained."""
        return grids.estimate_s(self.missing, max(self.workers, 1))


def grid(**axes: Any) -> StudySpec:
    """A study of every combination of the values given.

    Args:
        axes: a value, or several (any iterable, such as ``range(5)``), by field of
            :class:`~dlbench.spec.TrialSpec`. A model is a name, ``module:Attribute``, or a Flax module class;
            a data set is a name or a :class:`~dlbench.data.Dataset`.

    Raises:
        InputError: an unknown field or name, an impossible value, an empty or repeated one.
    """
    if "model" in axes:
        axes["model"] = [_model_reference(model) for model in grids.values_of(axes["model"])]
    if "dataset" in axes:
        axes["dataset"] = [
            data.register(dataset) if isinstance(dataset, data.Dataset) else dataset
            for dataset in grids.values_of(axes["dataset"])
        ]
    return grids.expand(axes)


def _model_reference(model: object) -> object:
    return f"{model.__module__}:{model.__qualname__}" if isinstance(model, type | FunctionType) else model


def plan(
    study: StudySpec,
    *,
    out: Path | str | None = None,
    workers: int | None = None,
    lanes: int | Literal["auto"] = "auto",
    device: str = "auto",
    data_dir: str | None = None,
) -> Plan:
    """Check a study and say what it comes to; nothing is written but the cache of its data sets.

    Args:
        study: what to train.
        out: the study's folder; by default ``runs/KIND-DIGEST``.
        workers: processes to train in, 0 for this one; by default one a core, or one an accelerator.
        lanes: trials of a program that run as one vmapped program; "auto": one on a CPU.
        device: "auto", "cpu", "gpu", "tpu" or "metal".
        data_dir: where data sets lie; by default what ``DLBENCH_DATA_DIR`` says.

    Raises:
        InputError: a value breaks a rule.
        DataError: a data set is absent or damaged.
        StoreError: the folder holds something else.
    """
    if not study.trials:
        raise SpecError("the study has no trial; give every field at least one value")
    study = study.model_copy(update={"trials": tuple(map(_named, study.trials))})
    backend = devices.device(device)
    per_program = devices.lanes(lanes, backend)
    trials = tuple(grids.resolve(study, lambda name: data.info(name, data_dir), per_program))
    name = f"{study.kind}-{digest([*(trial.id for trial in trials), *study.looks])[:10]}"
    folder = Path(out) if out is not None else RUNS / name
    done, failed = _progress(_statuses(folder, study.looks), trials)
    left = len(trials) - len(done)
    cores = devices.cores_each(workers, backend, len(trials))
    processes = devices.workers(workers, backend, study, left)
    return Plan(study, trials, folder, processes, cores, backend, data_dir, done, failed)


def _progress(
    statuses: dict[str, TrialStatus], trials: Iterable[Trial]
) -> tuple[frozenset[str], frozenset[str]]:
    """The ids of the trials that have a result, and of those that failed."""
    wanted = {trial.id for trial in trials} & statuses.keys()
    done = frozenset(i for i in wanted if statuses[i].is_finished)
    return done, frozenset(i for i in wanted if statuses[i] is TrialStatus.FAILED)


def _named(spec: TrialSpec) -> TrialSpec:
    """The same trial, its model by its reference; code outside dlbench only if this process has named it."""
    if ":" in spec.model:
        registry.check_trusted(spec.model)
        return spec
    return spec.model_copy(update={"model": registry.resolve_model(spec.model)})


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
    if missing(_statuses(folder, study.looks)) or not (folder / FILE_NAME).exists():
        _make_folder(folder)
        with (
            Store(folder, write=True, kind=study.kind, looks=study.looks) as store,
            interruptible() as stopping,
        ):
            store.add(planned.trials)
            todo = missing(store.statuses())  # another process may have been here since the plan was made
            place = engine.Place(
                folder,
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
                happening = engine.run(grids.programs(todo), place, stopping)
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
    """The digests of the study's splits, by what determines them."""
    splits = {}
    for trial in planned.trials:
        spec = trial.spec
        assert spec.val_size is not None
        name = f"{spec.dataset} {spec.train_size}/{spec.val_size} split seed {spec.split_seed}"
        if name not in splits:
            labels = data.load(spec.dataset, planned.data_dir).train_labels
            splits[name] = data.make_split(labels, spec.train_size, spec.val_size, spec.split_seed).digest
    return splits


def _statuses(folder: Path, looks: tuple[int, ...]) -> dict[str, TrialStatus]:
    """Where the trials in a folder stand; none where there is no study yet.

    Raises:
        StoreError: it holds something else, or a study with another schedule of looks.
    """
    with explained(folder):
        if holds_study(folder):
            with Store(folder) as store:
                if (begun := store.looks()) != looks:
                    raise StoreError(
                        f"{folder} holds a study begun with {_schedule(begun)}, not {_schedule(looks)}: looks are "
                        "fixed before the data are seen; choose another --out"
                    )
                return store.statuses()
        left = [".lock", *(FILE_NAME + end for end in ("", "-wal", "-shm", "-journal"))]
        foreign = folder.is_dir() and any(path.name not in left for path in folder.iterdir())
    if foreign:
        raise StoreError(f"{folder} exists and holds no study; choose another --out, or an empty folder")
    if folder.exists() and not folder.is_dir():
        raise StoreError(f"{folder} is a file; choose another --out")
    return {}


def _schedule(looks: tuple[int, ...]) -> str:
    return f"looks after {', '.join(map(str, looks))} seeds" if looks else "a fixed number of seeds"


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(
            f"the folder {folder} cannot be made: {error.strerror}; choose another --out"
        ) from None
