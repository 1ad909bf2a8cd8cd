"""TensorBoard event files: one folder a trial, with its curves, hyper-parameters and final figures. No jax."""

from __future__ import annotations

import math
import re
import socket
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dlbench import files
from dlbench.records import Epoch
from dlbench.spec import registry
from dlbench.spec.trial import Trial

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
    """Writes the event files of a study's trials, each event at once.

    tensorboardX's own SummaryWriter hands them to a thread, which dies of a full disk and then blocks its caller
    for ever.

    Args:
        folder: the study's TensorBoard folder; each trial has one of its own below it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._open: dict[str, _Records] = {}

    def start(self, trial: Trial) -> None:
        """Begin a trial; what an interrupted attempt wrote goes.

        Raises:
            OSError: as from every method: the files cannot be written.
        """
        label = re.sub(r"[^A-Za-z0-9_-]", "_", registry.label(trial.spec.model))[:100]
        path = self.folder / f"{label}-{trial.id}"
        files.refuse_links(self.folder)
        files.remove(path)
        path.mkdir(parents=True)
        self._open[trial.id] = _Records(path)

    def epoch(self, trial_id: str, number: int, epoch: Epoch) -> None:
        """One more point on each curve, at the epoch's number, counted from 1; none where it is not finite."""
        values = {tag: getattr(epoch, name) for name, tag in _TAGS.items()}
        self._scalars(trial_id, {tag: value for tag, value in values.items() if math.isfinite(value)}, number)

    def finish(self, trial: Trial, outcome: dict[str, Any]) -> None:
        """Final figures and hyper-parameters; the file is complete after this."""
        from tensorboardX.summary import hparams

        figures = {tag: outcome[name] for name, tag in _FINAL.items() if outcome.get(name) is not None}
        self._scalars(trial.id, figures, trial.spec.num_epochs)
        for summary in hparams(_hyper_parameters(trial), figures):
            self._write(trial.id, [summary])
        self._open.pop(trial.id).close()

    def close(self) -> None:
        """Close whatever is still open."""
        while self._open:
            self._open.popitem()[1].close()

    def _scalars(self, trial_id: str, values: dict[str, float], step: int) -> None:
        from tensorboardX.summary import scalar

        self._write(trial_id, [scalar(tag, value) for tag, value in values.items()], step)

    def _write(self, trial_id: str, summaries: Iterable[Any], step: int = 0) -> None:
        """Put summaries into the file as one event, past the writer's own flush, which waits for the disk."""
        from tensorboardX.proto.event_pb2 import Event

        event = Event(wall_time=time.time(), step=step)
        for summary in summaries:
            event.summary.MergeFrom(summary)
        records = self._open[trial_id]
        records.write(event.SerializeToString())
        records.flush()


class _Records:
    """An event file, by tensorboardX's records; flushing hands them to the system without waiting for the disk."""

    def __init__(self, path: Path) -> None:
        with _without_torch():
            from tensorboardX.proto.event_pb2 import Event
            from tensorboardX.record_writer import RecordWriter
        now = time.time()
        self._file = RecordWriter(str(path / f"events.out.tfevents.{int(now)}.{socket.gethostname()}"))
        self.write(Event(wall_time=now, file_version="brain.Event:2").SerializeToString())

    def write(self, record: bytes) -> None:
        self._file.write(record)

    def flush(self) -> None:
        self._file._writer.flush()

    def close(self) -> None:
        self._file.close()


def _hyper_parameters(trial: Trial) -> dict[str, Any]:
    fields = trial.spec.model_dump(exclude={"model_args", "optimizer_args"})
    values = {**fields, **{f"model_args.{key}": value for key, value in trial.spec.model_args}}
    values |= {f"optimizer.{key}": value for key, value in trial.spec.optimizer_args}
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
