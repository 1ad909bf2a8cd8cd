"""What a study comes to, before anything is written. No jax."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from dlbench.errors import StoreError
from dlbench.execution import costs
from dlbench.records import TrialStatus
from dlbench.spec import programs
from dlbench.spec.programs import Program
from dlbench.spec.study import StudySpec
from dlbench.spec.trial import NUMERICS_RELEASES, NUMERICS_VERSION, Trial
from dlbench.storage.database import explained
from dlbench.storage.store import FILE_NAME, Store
from dlbench.storage.studies import holds_study


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
        return programs.programs(self.trials)

    @property
    def missing(self) -> list[Trial]:
        """The trials that have no result yet."""
        return [trial for trial in self.trials if trial.id not in self.done]

    def part(self, seeds: Collection[int]) -> Plan:
        """The plan of the trials with these seeds alone, in the same folder, as it stands now."""
        specs = tuple(spec for spec in self.study.trials if spec.seed in seeds)
        trials = tuple(trial for trial in self.trials if trial.spec.seed in seeds)
        done, failed = progress_of(statuses_in(self.folder, self.study.looks), trials)
        study = self.study.model_copy(update={"trials": specs})
        return replace(self, study=study, trials=trials, done=done, failed=failed)

    @property
    def estimate_s(self) -> float:
        """Estimated seconds until the rest is trained."""
        return costs.estimate_s(self.missing, max(self.workers, 1))


def progress_of(
    statuses: dict[str, TrialStatus], trials: Iterable[Trial]
) -> tuple[frozenset[str], frozenset[str]]:
    """The ids of the trials that have a result, and of those that failed."""
    wanted = {trial.id for trial in trials} & statuses.keys()
    done = frozenset(i for i in wanted if statuses[i].is_finished)
    return done, frozenset(i for i in wanted if statuses[i] is TrialStatus.FAILED)


def statuses_in(folder: Path, looks: tuple[int, ...]) -> dict[str, TrialStatus]:
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
                numerics = store.numerics()
                if numerics not in (None, NUMERICS_VERSION):
                    release = NUMERICS_RELEASES.get(numerics)
                    install = f", or install the release that made it: dlbench=={release}" if release else ""
                    raise StoreError(
                        f"the study in {folder} was made with version {numerics} of the numerics, and this dlbench "
                        f"computes with version {NUMERICS_VERSION}: its results would not be comparable; choose "
                        f"another --out{install}"
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
