"""What happens while a study runs, and how workers and their parent tell each other. No jax.

The parent sends :class:`Setup` once, then :class:`Train` for each job, or :class:`Stop`, then closes the connection. A
worker sends :class:`Ready` once, then for each job :class:`Started`, :class:`EpochEnded`, :class:`StateSaved` now and
then, and :class:`Finished` or :class:`Failed` for each of its trials, and :class:`Idle` at its end.

A message is a line of JSON, followed by the bytes of its files: ``{"message": {...}, "sizes": {path: bytes}}``. Nothing
is pickled. What workers make travels in messages; only the parent writes the study's folder.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import IO, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from dlbench.records import Epoch, Outcome, TrialStatus
from dlbench.spec.trial import Trial

#: Raised with every change of the messages; both sides must agree.
PROTOCOL_VERSION = 4


class Message(BaseModel):
    """Base of all messages.

    ``files``: what travels beside the JSON, by path.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")

    files: Mapping[str, bytes] = Field(default={}, exclude=True, repr=False)


class Setup(Message):
    """Parent → worker: what it needs to know first.

    ``data_dir``: where the user's data sets lie; ``checkpoint_every``: epochs between saved states; ``started``: when
    (``time.monotonic``) the parent began to start it; ``kernels``: see :data:`dlbench.ops.native.VARIABLE`; ``cores``:
    how many train one trial.
    """

    type: Literal["setup"] = "setup"
    version: int = PROTOCOL_VERSION
    worker: int
    data_dir: str | None
    checkpoint_every: int | None
    sys_path: tuple[str, ...]
    started: float | None = None
    kernels: str | None = None
    cores: int = 1


class Train(Message):
    """Parent → worker: train these trials, one per lane; they share a program and a number of epochs.

    ``files``: the saved states of trials that were interrupted, below the trials' ids.
    """

    type: Literal["train"] = "train"
    trials: tuple[Trial, ...]


class Stop(Message):
    """Parent → worker: save the trial in hand after its epoch, and take no other."""

    type: Literal["stop"] = "stop"


class Ready(Message):
    """Worker → parent: the backend is up; this is the environment."""

    type: Literal["ready"] = "ready"
    worker: int
    environment: dict[str, Any]


class Started(Message):
    """Worker → parent: these trials are being trained."""

    type: Literal["started"] = "started"
    worker: int
    trial_ids: tuple[str, ...]


class EpochEnded(Message):
    """Worker → parent: one more epoch, counted from 1."""

    type: Literal["epoch"] = "epoch"
    trial_id: str
    number: int
    values: tuple[float, float, float, float]

    @property
    def epoch(self) -> Epoch:
        """The figures by name."""
        return Epoch(*self.values)


class StateSaved(Message):
    """Worker → parent: ``files`` are the state of a trial after an epoch, to continue from after an interruption."""

    type: Literal["state"] = "state"
    trial_id: str
    number: int


class Finished(Message):
    """Worker → parent: a trial ended with a result; ``files`` are its checkpoint and predictions."""

    type: Literal["finished"] = "finished"
    trial_id: str
    status: TrialStatus
    outcome: Outcome
    history: tuple[tuple[float, float, float, float], ...]


class Failed(Message):
    """Worker → parent, or the engine's own: a trial could not be trained; ``disk``: for want of a disk to write."""

    type: Literal["failed"] = "failed"
    trial_id: str
    reason: str
    traceback: str = ""
    disk: bool = False


class Idle(Message):
    """Worker → parent: the job is done; on what the worker has spent its life so far, in seconds by kind."""

    type: Literal["idle"] = "idle"
    worker: int
    spent: dict[str, float]


class Notice(Message):
    """The engine's own: something the user should know; ``urgent``: even who asked for quiet."""

    type: Literal["notice"] = "notice"
    text: str
    urgent: bool = False


AnyCommand = Setup | Train | Stop
AnyEvent = Ready | Started | EpochEnded | StateSaved | Finished | Failed | Idle | Notice
_commands: TypeAdapter[AnyCommand] = TypeAdapter(Annotated[AnyCommand, Field(discriminator="type")])
_events: TypeAdapter[AnyEvent] = TypeAdapter(Annotated[AnyEvent, Field(discriminator="type")])


def encode(message: Message) -> bytes:
    """A message as it is sent."""
    sizes = json.dumps({name: len(content) for name, content in message.files.items()})
    line = f'{{"sizes": {sizes}, "message": {message.model_dump_json()}}}\n'
    return b"".join([line.encode(), *message.files.values()])


def read_command(stream: IO[bytes]) -> AnyCommand | None:
    """The next message of the parent; ``None`` at the end.

    Raises:
        ValueError: it is none that this version knows.
    """
    command: AnyCommand | None = _read(stream, _commands)
    return command


def read_event(stream: IO[bytes]) -> AnyEvent | None:
    """The next message of a worker; ``None`` at the end, or where its death has cut a message short.

    Raises:
        ValueError: it is none that this version knows.
    """
    event: AnyEvent | None = _read(stream, _events)
    return event


def _read(stream: IO[bytes], known: TypeAdapter[Any]) -> Any:
    line = stream.readline()
    if not line.endswith(b"\n"):
        return None
    frame = json.loads(line)
    if not isinstance(frame, dict) or frame.keys() != {"sizes", "message"}:
        raise ValueError(f"a message looks like {{'sizes': ..., 'message': ...}}; got {line[:100]!r}")
    received = {}
    for name, size in frame["sizes"].items():
        received[name] = stream.read(size)
        if len(received[name]) < size:
            return None
    return known.validate_python({**frame["message"], "files": received})
