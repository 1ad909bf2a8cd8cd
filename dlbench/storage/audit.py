"""Check the integrity of a study: that its store, its files and its digests agree. No jax."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from dlbench import files
from dlbench.errors import StoreError
from dlbench.records import TrialStatus, history_digest
from dlbench.storage import artifacts, manifest
from dlbench.storage.arrays import checkpoint_digest, predicted_counts
from dlbench.storage.results import TrialResult
from dlbench.storage.store import Store


def audit(folder: Path) -> list[str]:
    """A list of everything that is damaged in a study; empty if nothing is.

    Args:
        folder: the study's folder.

    Raises:
        StoreError: the folder holds no study, or its study cannot be read at all.
    """
    with Store(folder) as store:
        damage = store.integrity()
        if damage:
            return [f"the database is damaged: {line}" for line in damage]
        rows = store.results(verify=False)
        ids = store.statuses()
        changed = store.damaged()
        superseded, unreadable = _superseded(store)
        problems = [*check_manifest(store)]
    problems += [f"trial {trial_id}: its row differs from what was recorded" for trial_id in changed]
    problems += [
        problem for stored, trial in zip(ids, rows, strict=True) for problem in _check(stored, trial)
    ]
    problems += [problem for trial in superseded for problem in _check(trial.id, trial)]
    if unreadable:
        return [*problems, unreadable]
    known = {folder / "trials" / stored for stored in ids} | {trial.folder for trial in superseded}
    strays = [path for path in _trial_folders(folder) if path not in known]
    return problems + [f"{path} does not belong to a trial of the study" for path in strays]


def broken(store: Store) -> dict[str, str]:
    """What is wrong with the files of trials that have completed, by trial id; those that are whole are left out."""
    found = {}
    for trial in store.results(verify=False, history=False):
        if trial.status is TrialStatus.COMPLETE and (problems := _check_files(trial)):
            found[trial.id] = problems[0]
    return found


def check_manifest(store: Store) -> Iterator[str]:
    """What is wrong with ``manifest.json``, which repeats a manifest of the database."""
    recorded, path = store.manifests(), store.folder / manifest.FILE_NAME
    if not recorded:
        return
    try:
        if json.loads(files.read(path, manifest.LONGEST)) not in recorded:
            yield f"{path} differs from what was recorded"
    except FileNotFoundError:
        yield f"{path} is missing"
    except (OSError, RecursionError, StoreError, ValueError) as error:
        yield f"{path} cannot be read: {error}"


def _superseded(store: Store) -> tuple[list[TrialResult], str]:
    """The superseded results, or why they cannot be read."""
    try:
        return store.superseded(), ""
    except StoreError as error:
        return [], str(error)


def _trial_folders(study: Path) -> list[Path]:
    """The folders of trials and of superseded trials, where a study keeps them."""
    return sorted([*study.glob("trials/*"), *study.glob(f"{artifacts.SUPERSEDED}/*/trials/*")])


def _check(stored_id: str, trial: TrialResult) -> Iterator[str]:
    problems = [*check_record(stored_id, trial)]
    if stored_id == trial.id and trial.status is TrialStatus.COMPLETE:
        problems += _check_files(trial)
    yield from (f"trial {stored_id}: {problem}" for problem in problems)


def _check_files(trial: TrialResult) -> list[str]:
    try:
        return [*check_contents(trial, artifacts.read(trial.folder))]
    except (StoreError, OSError) as error:
        return [str(error)]


def check_record(stored_id: str, trial: TrialResult) -> Iterator[str]:
    """What is wrong with the specification and the history of a trial.

    Args:
        stored_id: the id under which it is stored.
        trial: what is stored.
    """
    if stored_id != trial.id:
        yield f"its specification has the id {trial.id}"
        return
    if not trial.status.is_finished:
        return
    if history_digest(list(trial.history)) != trial.history_sha256:
        yield "its history differs from what was recorded"
    complete = trial.status is TrialStatus.COMPLETE
    expected = trial.stopped_epoch or trial.trial.spec.num_epochs if complete else trial.diverged_epoch
    if len(trial.history) != expected:
        yield f"it has {len(trial.history)} epochs; expected {expected}"


def check_contents(trial: TrialResult, made: artifacts.Files) -> Iterator[str]:
    """What is wrong with the files of a finished trial.

    Trials that were recorded without a digest of their files are checked as far as other records go: the digest of
    the best parameters, and the number of images that the predictions assign to each class.

    Args:
        trial: the trial.
        made: its files, by path below its folder.
    """
    if trial.status is not TrialStatus.COMPLETE:
        return
    missing = [
        name for name in ("best", "test_logits.npy") if name not in {path.partition("/")[0] for path in made}
    ]
    problems = [f"{trial.folder / name} is missing" for name in missing] or [*_known_contents(trial, made)]
    yield from problems
    if not problems and trial.files_sha256 not in (None, artifacts.files_digest(made)):
        yield f"the files in {trial.folder} are not those that were recorded"


def _known_contents(trial: TrialResult, made: artifacts.Files) -> Iterator[str]:
    try:
        if checkpoint_digest(made) not in (None, trial.best_params_sha256):
            yield f"the parameters in {trial.folder / 'best'} are not those that were recorded"
    except ValueError as error:
        yield f"the checkpoint in {trial.folder / 'best'} is damaged: {error}"
    matrix = trial.confusion_matrix
    if matrix is None:
        return
    try:
        if predicted_counts(made["test_logits.npy"], len(matrix)) != [
            sum(column) for column in zip(*matrix, strict=True)
        ]:
            yield f"the predictions in {trial.folder / 'test_logits.npy'} are not those that were recorded"
    except ValueError as error:
        yield f"{trial.folder / 'test_logits.npy'} is damaged: {error}"
