"""Results of trials in other studies, from which they can be copied instead of being trained again. No jax.

A result is reused only where the trial's id and the digest of the environment agree, and only after the checks of an
audit. What is copied is a trial's row, its epochs and its files, so that every study's folder stays self-contained.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from dlbench.errors import StoreError
from dlbench.spec.trial import Trial
from dlbench.storage import artifacts
from dlbench.storage.audit import check_contents, check_record
from dlbench.storage.results import TrialResult
from dlbench.storage.store import FILE_NAME, Store

#: What the name of a study's folder ends with while the study is removed.
REMOVED = ".removed"


@dataclass(frozen=True)
class Sources:
    """Where the results of trials are held.

    Attributes:
        folders: the studies that hold a result, by the trial's id and the digest of the environment.
        unreadable: why studies could not be searched, a sentence each.
    """

    folders: Mapping[tuple[str, str], Sequence[Path]] = field(default_factory=dict)
    unreadable: tuple[str, ...] = ()

    def of(self, environment: str | None) -> dict[str, Sequence[Path]]:
        """The studies that hold a result of this environment, by the trial's id."""
        return {trial_id: found for (trial_id, other), found in self.folders.items() if other == environment}


def study_folders(root: Path) -> list[Path]:
    """The folders in ``root`` that hold a study, sorted by name."""
    found = sorted(path.parent for path in root.glob(f"*/{FILE_NAME}"))
    return [folder for folder in found if not folder.name.endswith(REMOVED)]


def find(root: Path, ids: Collection[str], without: Path) -> Sources:
    """Search the studies in a folder for results of trials, by the index of each study's database.

    Args:
        root: the folder, which need not exist.
        ids: the trials' ids.
        without: the folder of a study that is not searched.
    """
    folders: dict[tuple[str, str], list[Path]] = {}
    unreadable = []
    own = without.resolve()
    for folder in study_folders(root):
        if folder.resolve() == own:
            continue
        try:
            with Store(folder) as store:
                held = store.environments(ids)
        except StoreError as error:
            unreadable.append(f"not searched for results: {error}")
            continue
        for trial_id, environment in held.items():
            if environment is not None:
                folders.setdefault((trial_id, environment), []).append(folder)
    return Sources(folders, tuple(unreadable))


@dataclass(frozen=True)
class Kept:
    """The state that a trial ended with, kept so that a longer trial can continue from it.

    Attributes:
        trial: the trial.
        environment: the digest of the environment in which it was trained.
        epoch: its last epoch.
        folder: the trial's folder.
    """

    trial: Trial
    environment: str | None
    epoch: int
    folder: Path


def find_kept(folders: Collection[Path]) -> dict[str, Kept]:
    """The kept states of trials with a result, by trial id; studies that cannot be read are left out.

    Args:
        folders: the studies to search.
    """
    found: dict[str, Kept] = {}
    for folder in folders:
        ids = [path.parent.name for path in sorted(folder.glob(f"trials/*/{artifacts.KEPT}"))]
        if not ids:
            continue
        with contextlib.suppress(StoreError), Store(folder) as store:
            for trial_id in store.environments(ids):
                result = store.recorded(trial_id)
                place = artifacts.trial_folder(folder, trial_id)
                found.setdefault(trial_id, Kept(result.trial, result.environment, len(result.history), place))
    return found


def longest_kept(trial: Trial, kept: Mapping[str, Kept]) -> Kept | None:
    """The kept state of the longest of the trials that differ from a trial only in having fewer epochs."""
    lengths = {each.trial.spec.num_epochs for each in kept.values()}
    for length in sorted((n for n in lengths if n < trial.spec.num_epochs), reverse=True):
        if found := kept.get(trial.of_length(length).id):
            return found
    return None


@dataclass(frozen=True)
class Found:
    """A result in another study.

    Attributes:
        result: the trial and its result, with the study that trained it as its ``origin``.
        files: the trial's files, by path below its folder.
    """

    result: TrialResult
    files: artifacts.Files


def read(folder: Path, ids: Collection[str], environment: str) -> Iterator[Found | str]:
    """Read and check results that are to be copied.

    Args:
        folder: the study that holds them.
        ids: the trials' ids.
        environment: the digest of the environment that they must come from.

    Yields:
        Each undamaged result, and a sentence about each trial that cannot be copied.
    """
    try:
        with Store(folder) as store:
            for trial_id in ids:
                yield _checked(store, trial_id, environment)
    except StoreError as error:
        yield f"nothing more is copied from {folder}: {error}"


def _checked(store: Store, trial_id: str, environment: str) -> Found | str:
    try:
        result = store.recorded(trial_id)
        made = artifacts.read(artifacts.trial_folder(store.folder, trial_id))
    except (StoreError, OSError) as error:
        return f"trial {trial_id} is not copied from {store.folder}: {error}"
    problems = [*check_record(trial_id, result), *check_contents(result, made)]
    if not result.status.is_finished or result.environment != environment:
        problems = ["it has been trained again since"]
    if problems:
        return f"trial {trial_id} is not copied from {store.folder}, which is damaged: {problems[0]}"
    origin = result.origin or store.folder.resolve().name
    return Found(replace(result, outcome=replace(result.outcome, origin=origin)), made)
