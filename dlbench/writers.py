"""TensorBoard event files: one folder a trial, with its curves, hyper-parameters and final figures. No jax."""

from __future__ import annotations

import math
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dlbench import registry
from dlbench.results import Epoch
from dlbench.spec import Trial

_TAGS = {
    "train_loss": "train/loss",
    "train_accuracy": "train/accuracy",
    "val_loss": "val/loss",
    "val_accuracy": "val/accuracy",
}
_FINAL = {
    "test_accuracy": "test/accuracy",
    "test_loss": "test/loss",
    "best_val_accuracy": "best/val_accuracy",
    "best_epoch": "best/epoch",
}


class TensorBoardWriter:
    """Writes the event files of a study's trials.

    Args:
        folder: the study's TensorBoard folder; each trial has one of its own below it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._open: dict[str, Any] = {}

    def start(self, trial: Trial) -> None:
        """Begin a trial; what an interrupted attempt wrote goes."""
        with _without_torch():
            from tensorboardX import SummaryWriter
        path = self.folder / f"{registry.label(trial.spec.model)}-{trial.id}"
        shutil.rmtree(path, ignore_errors=True)
        self._open[trial.id] = SummaryWriter(str(path))

    def epoch(self, trial_id: str, number: int, epoch: Epoch) -> None:
        """One more point on each curve, at the epoch's number, counted from 1; none where it is not finite."""
        writer = self._open[trial_id]
        for name, tag in _TAGS.items():
            if math.isfinite(value := getattr(epoch, name)):
                writer.add_scalar(tag, value, number)

    def finish(self, trial: Trial, outcome: dict[str, Any]) -> None:
        """Final figures and hyper-parameters; the file is complete after this."""
        from tensorboardX.summary import hparams

        writer = self._open.pop(trial.id)
        figures = {tag: outcome[name] for name, tag in _FINAL.items() if outcome.get(name) is not None}
        for tag, value in figures.items():
            writer.add_scalar(tag, value, trial.spec.num_epochs)
        for summary in hparams(_hyper_parameters(trial), figures):
            writer.file_writer.add_summary(summary)
        writer.close()

    def close(self) -> None:
        """Close whatever is still open."""
        for writer in self._open.values():
            writer.close()
        self._open.clear()


def _hyper_parameters(trial: Trial) -> dict[str, Any]:
    fields = trial.spec.model_dump(exclude={"model_args"})
    values = {**fields, **{f"model_args.{key}": value for key, value in trial.spec.model_args}}
    return {key: value for key, value in values.items() if value is not None}


@contextmanager
def _without_torch() -> Iterator[None]:
    """tensorboardX imports torch where it is installed, for seconds and hundreds of megabytes, to no use here."""
    if "torch" in sys.modules:
        yield
        return
    sys.modules["torch"] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules["torch"]
