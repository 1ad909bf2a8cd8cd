"""Check the integrity of a study: that its store, its files and its digests agree. No jax."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from dlbench.records import TrialStatus, history_digest
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
    problems = [f"trial {trial_id}: its row differs from what was recorded" for trial_id in changed]
    problems += [
        problem for stored, trial in zip(ids, rows, strict=True) for problem in _check(stored, trial)
    ]
    known = set(ids)
    kept = folder / "trials"
    strays = sorted(path.name for path in kept.iterdir() if path.name not in known) if kept.is_dir() else []
    return problems + [f"{kept / name} does not belong to a trial of the study" for name in strays]


def _check(stored_id: str, trial: TrialResult) -> Iterator[str]:
    if stored_id != trial.id:
        yield f"trial {stored_id}: its specification has the id {trial.id}"
        return
    if not trial.status.is_finished:
        return
    if history_digest(list(trial.history)) != trial.history_sha256:
        yield f"trial {trial.id}: its history differs from what was recorded"
    complete = trial.status is TrialStatus.COMPLETE
    expected = trial.trial.spec.num_epochs if complete else trial.diverged_epoch
    if len(trial.history) != expected:
        yield f"trial {trial.id}: it has {len(trial.history)} epochs; expected {expected}"
    if complete:
        for name in ("best", "test_logits.npy"):
            if not (trial.folder / name).exists():
                yield f"trial {trial.id}: {trial.folder / name} is missing"
