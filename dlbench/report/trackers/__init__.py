"""Studies as runs of experiment trackers. They are sent when training is over, and never slow it down. No jax.

| module | what it holds |
|---|---|
| `runs` | a trial as a run: settings, curves, final metrics |
| `mlflow` | MLflow, a database or a server |
| `wandb` | Weights & Biases, an offline folder |

Each trial is a run, and the study is their parent. A run is recognised by the trial's id and a digest of its results,
so that sending a study again adds only what is new.
"""

from __future__ import annotations

import importlib
from pathlib import Path

from dlbench.errors import InputError, UnknownNameError
from dlbench.report.trackers.runs import Sent, sent_in_words
from dlbench.storage.studies import read_study

__all__ = ["TRACKERS", "send", "sent_in_words"]

#: The trackers, with what follows the colon.
TRACKERS = {"mlflow": "URI", "wandb": "DIR"}


def send(study: Path, target: str) -> Sent:
    """Send a study to a tracker.

    Args:
        study: the study's folder.
        target: ``mlflow:URI`` with the address of a database (``sqlite:///runs.db``) or a server, or ``wandb:DIR``
            with a folder for offline runs.

    Raises:
        InputError: the target is not of this form, the tracker is not installed, or it cannot be reached.
        StoreError: the study cannot be read.
    """
    tracker, _, place = target.partition(":")
    if tracker not in TRACKERS:
        raise UnknownNameError("tracker", tracker, TRACKERS, field="to")
    if not place.strip():
        raise InputError.must_be("to", f"{tracker}:{TRACKERS[tracker]}", target)
    result = read_study(study)
    try:
        module = importlib.import_module(f"dlbench.report.trackers.{tracker}")
    except ModuleNotFoundError as error:
        raise InputError(
            f"{tracker} cannot be used, because {error.name} is not installed",
            field="to",
            remedy=f"run pip install 'dlbench[{tracker}]'",
        ) from None
    sent: Sent = module.send(result, place)
    return sent
