"""The events of a running study, and the protocol between workers and their parent process. No jax.

The parent sends :class:`Setup` once, then :class:`Train` for each job, or :class:`Stop`, then closes the connection. A
worker sends :class:`Ready` once. For each job it sends :class:`Started`, :class:`Compiling` and then :class:`Compiled`
if no earlier job had the same program, :class:`EpochEnded` after each epoch, :class:`StateSaved` from time to time,
:class:`Finished` or :class:`Failed` for each trial, and finally :class:`Idle`.

A message is a line of JSON, followed by the bytes of its files: ``{"message": {...}, "sizes": {path: bytes}}``. Nothing
is pickled. Workers send the files that they produce; only the parent writes to the study's folder.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import IO, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from dlbench.execution.place import MEMORY_BYTES
from dlbench.records import Epoch, Outcome, TrialStatus
from dlbench.spec.trial import Trial

#: Increased with every change of the messages; both sides must use the same version.
PROTOCOL_VERSION = 8
#: The values of an :class:`~dlbench.records.Epoch`.
EpochValues = tuple[float, float, float, float, float | None]


class Message(BaseModel):
    """Base of all messages.

    ``files``: content of the files sent along with the JSON, by path.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")

    files: Mapping[str, bytes] = Field(default={}, exclude=True, repr=False)


class Setup(Message):
    """Parent → worker: the first message, with the worker's settings.

    ``data_dir``: folder of the user's data sets; ``checkpoint_every``: epochs between saved states; ``sys_path``:
    folders in which models are looked for, besides the worker's own; ``started``: when (``time.monotonic``) the parent
    started the worker; ``kernels``: see :data:`dlbench.ops.native.VARIABLE`; ``cores``: number of cores that train one
    trial; ``keep_state``: whether to send the state that each trial ends with; ``memory_bytes``: the memory that the
    images of a data set may take; ``node``: the worker's node in a cluster; ``files``: the modules of the user's parts,
    where the worker cannot read them from the parent's folders.
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
    keep_state: bool = False
    memory_bytes: int = MEMORY_BYTES
    node: str = ""


class Train(Message):
    """Parent → worker: train these trials, one per lane; they share a program and a number of epochs.

    ``files``: the saved states of interrupted trials, in a folder per trial id.
    """

    type: Literal["train"] = "train"
    trials: tuple[Trial, ...]


class Stop(Message):
    """Parent → worker: save the current trials, and do not start others; see :mod:`dlbench.execution.stopping`."""

    type: Literal["stop"] = "stop"


class Ready(Message):
    """Worker → parent: the backend has started; describes the environment. ``node``: its place in a cluster."""

    type: Literal["ready"] = "ready"
    worker: int
    environment: dict[str, Any]
    node: str = ""


class Left(Message):
    """From the engine: a worker has exited."""

    type: Literal["left"] = "left"
    worker: int


class Started(Message):
    """Worker → parent: training of these trials has started."""

    type: Literal["started"] = "started"
    worker: int
    trial_ids: tuple[str, ...]


class Compiling(Message):
    """Worker → parent: compiling the program of this trial and of those that start with it; training follows."""

    type: Literal["compiling"] = "compiling"
    worker: int
    trial_id: str


class Compiled(Message):
    """Worker → parent: what :class:`Compiling` has announced is done, or read from the cache of compiled programs.

    ``busy_s``: see :class:`EpochEnded`.
    """

    type: Literal["compiled"] = "compiled"
    worker: int
    trial_id: str
    busy_s: float | None = None


class EpochEnded(Message):
    """Worker → parent: a trial has finished an epoch, counted from 1.

    ``busy_s``: the seconds that training for it took: CPU seconds of the worker where that trains, wall-clock seconds
    on other devices; ``None`` where the worker had to wait for a processor, and for an epoch of a saved state.
    """

    type: Literal["epoch"] = "epoch"
    trial_id: str
    number: int
    values: EpochValues
    busy_s: float | None = None

    @property
    def epoch(self) -> Epoch:
        """The values by name."""
        return Epoch(*self.values)


class StateSaved(Message):
    """Worker → parent: ``files`` hold the state of a trial after an epoch, for continuing after an interruption."""

    type: Literal["state"] = "state"
    trial_id: str
    number: int


class Finished(Message):
    """Worker → parent: a trial has a result; ``files`` hold its checkpoint and predictions."""

    type: Literal["finished"] = "finished"
    trial_id: str
    status: TrialStatus
    outcome: Outcome
    history: tuple[EpochValues, ...]


class Copied(Message):
    """From the parent: a trial's result and ``files`` come from another study."""

    type: Literal["copied"] = "copied"
    trial_id: str
    status: TrialStatus
    outcome: Outcome
    history: tuple[EpochValues, ...]


class Failed(Message):
    """Worker → parent, or from the engine: a trial could not be trained; ``disk``: because the disk is not writable."""

    type: Literal["failed"] = "failed"
    trial_id: str
    reason: str
    traceback: str = ""
    disk: bool = False


class Idle(Message):
    """Worker → parent: the job is done; ``spent`` is the time since the worker's start, in seconds by kind."""

    type: Literal["idle"] = "idle"
    worker: int
    spent: dict[str, float]


class Notice(Message):
    """From the engine: a message for the user; ``urgent``: shown even if the user asked for quiet."""

    type: Literal["notice"] = "notice"
    text: str
    urgent: bool = False


AnyCommand = Setup | Train | Stop
AnyEvent = (
    Ready
    | Left
    | Started
    | Compiling
    | Compiled
    | EpochEnded
    | StateSaved
    | Finished
    | Copied
    | Failed
    | Idle
    | Notice
)
_commands: TypeAdapter[AnyCommand] = TypeAdapter(Annotated[AnyCommand, Field(discriminator="type")])
_events: TypeAdapter[AnyEvent] = TypeAdapter(Annotated[AnyEvent, Field(discriminator="type")])


def encode(message: Message) -> bytes:
    """Encode a message for sending."""
    sizes = json.dumps({name: len(content) for name, content in message.files.items()})
    line = f'{{"sizes": {sizes}, "message": {message.model_dump_json()}}}\n'
    return b"".join([line.encode(), *message.files.values()])


def read_command(stream: IO[bytes]) -> AnyCommand | None:
    """Read the next message of the parent; ``None`` at the end of the stream.

    Raises:
        ValueError: the message is unknown to this version.
    """
    command: AnyCommand | None = _read(stream, _commands)
    return command


def read_event(stream: IO[bytes]) -> AnyEvent | None:
    """Read the next message of a worker; ``None`` at the end of the stream, or if the last message is incomplete.

    Raises:
        ValueError: the message is unknown to this version.
    """
    event: AnyEvent | None = _read(stream, _events)
    return event


def _read(stream: IO[bytes], known: TypeAdapter[Any]) -> Any:
    line = stream.readline()
    if not line.endswith(b"\n"):
        return None
    frame = json.loads(line)
    if not isinstance(frame, dict) or frame.keys() != {"sizes", "message"}:
        raise ValueError(f"a message must have the form {{'sizes': ..., 'message': ...}}; got {line[:100]!r}")
    received = {}
    for name, size in frame["sizes"].items():
        received[name] = stream.read(size)
        if len(received[name]) < size:
            return None
    return known.validate_python({**frame["message"], "files": received})
