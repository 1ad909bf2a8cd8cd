"""Weights & Biases: the runs of a study in a folder, as ``wandb sync`` uploads them. No jax.

A trial's folder, ``DIR/wandb/offline-run-TIME-ID``, gets the file ``dlbench.json`` when it is complete; a folder
without it, or with another digest, is replaced.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# Read when wandb is imported: no messages, and no reports of its errors to its makers.
os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
os.environ.setdefault("WANDB_SILENT", "true")

import wandb

from dlbench import files
from dlbench.errors import InputError, printable
from dlbench.report.trackers import runs
from dlbench.storage.results import StudyRecord

#: The file that says which run a folder holds.
MARK = "dlbench.json"
#: Bytes of such a file, at most.
_LONGEST = 10_000


def send(result: StudyRecord, place: str) -> runs.Sent:
    """Send a study.

    Args:
        result: the study.
        place: the folder of the offline runs; created if necessary.

    Raises:
        InputError: the folder cannot be written.
    """
    study = runs.StudyRuns(result)
    folder = Path(place).expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return _send(study, folder)
    except (OSError, wandb.errors.Error) as error:
        raise InputError(
            f"{folder} cannot hold runs of Weights & Biases: {printable(str(error).splitlines()[0])}",
            field="to",
            remedy="name another folder",
        ) from None


def _send(study: runs.StudyRuns, folder: Path) -> runs.Sent:
    there = _there(folder)
    parent_id = f"study-{study.name}"[:64]
    if there.get(parent_id) != study.digest:
        _remove(folder, parent_id)
        tags = {"dlbench.study": study.name}
        made = _started(folder, study.name, parent_id, study.name, "study", study.settings, tags)
        report = Path(made.dir) / "report.md"
        report.write_text(study.report, encoding="utf-8")
        made.save(str(report), base_path=made.dir, policy="now")
        _finish(made, parent_id, study.digest, failed=False)
    added = 0
    for run in study.runs:
        if there.get(run.trial.id) != run.digest:
            _remove(folder, run.trial.id)
            _add(folder, run)
            added += 1
    return runs.Sent(study.name, str(folder), added, len(study.runs) - added)


def _add(folder: Path, run: runs.Run) -> None:
    made = _started(folder, run.study, run.trial.id, run.name, "trial", run.settings, run.tags)
    for step, point in enumerate(run.curves, start=1):
        made.log(point, step=step)
    made.summary.update(run.final)
    if run.files is not None:
        for path in sorted(path for path in run.files.rglob("*") if path.is_file()):
            made.save(str(path), base_path=str(run.files.parent), policy="now")
    _finish(made, run.trial.id, run.digest, run.failed)


def _started(
    folder: Path,
    study: str,
    run_id: str,
    name: str,
    kind: str,
    settings: Mapping[str, object],
    tags: Mapping[str, str],
) -> Any:
    return wandb.init(
        mode="offline",
        dir=str(folder),
        project=runs.PROJECT,
        group=study,
        job_type=kind,
        id=run_id,
        name=name,
        config={**settings, **tags},
        tags=[tag[:64] for tag in tags.values()],
        reinit="create_new",
        settings=wandb.Settings(
            silent=True,
            console="off",
            disable_git=True,
            disable_code=True,
            save_code=False,
            symlink=False,
            x_disable_meta=True,
            x_disable_stats=True,
            x_disable_machine_info=True,
        ),
    )


def _finish(made: Any, run_id: str, digest: str, failed: bool) -> None:
    folder = Path(made.dir).parent
    made.finish(exit_code=1 if failed else 0)
    mark = json.dumps({"id": run_id, "digest": digest}) + "\n"
    files.write_whole(folder / MARK, lambda file: file.write(mark.encode()))


def _there(folder: Path) -> dict[str, str]:
    """The digests of the runs in a folder, by id."""
    found = {}
    for path in folder.glob(f"wandb/offline-run-*/{MARK}"):
        try:
            mark = json.loads(files.read(path, _LONGEST))
            found[str(mark["id"])] = str(mark["digest"])
        except (ValueError, TypeError, KeyError):
            continue  # it is replaced
    return found


def _remove(folder: Path, run_id: str) -> None:
    """Remove what an interrupted attempt, or an earlier result, has left."""
    for path in folder.glob(f"wandb/offline-run-*-{run_id}"):
        files.remove(path)
