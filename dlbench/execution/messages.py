"""What happens while a study runs, and how workers and their parent tell each other: lines of JSON. No jax.

The parent sends :class:`Setup` once, then :class:`Train` for each job or :class:`Stop`, then closes the
pipe. A worker sends :class:`Ready` once, then for each job :class:`Started`, :class:`EpochEnded`, and
:class:`Finished` or :class:`Failed` for each of its trials, and :class:`Idle` at its end.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from dlbench.records import Epoch, Outcome, TrialStatus
from dlbench.spec.trial import Trial

#: Raised with every change of the messages; both sides must agree.
PROTOCOL_VERSION = 3


class Message(BaseModel):
    """Base of all messages."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")


class Setup(Message):
    """Parent → worker: where things are, and when (``time.monotonic``) the parent began to start it.

    ``kernels``: see :data:`dlbench.ops.native.VARIABLE`; ``cores``: how many train one trial.
    """

    type: Literal["setup"] = "setup"
    version: int = PROTOCOL_VERSION
    worker: int
    study_dir: str
    data_dir: str | None
    checkpoint_every: int | None
    sys_path: tuple[str, ...]
    started: float | None = None
    kernels: str | None = None
    cores: int = 1


class Train(Message):
    """Parent → worker: train these trials, one a lane; they share a program and a number of epochs."""

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


class Finished(Message):
    """Worker → parent: a trial ended with a result; its checkpoint is on the disk."""

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
    """The engine's own: something the user should know."""

    type: Literal["notice"] = "notice"
    text: str


Command = Annotated[Setup | Train | Stop, Field(discriminator="type")]
Event = Annotated[
    Ready | Started | EpochEnded | Finished | Failed | Idle | Notice, Field(discriminator="type")
]
_commands: TypeAdapter[Setup | Train | Stop] = TypeAdapter(Command)
_events: TypeAdapter[Ready | Started | EpochEnded | Finished | Failed | Idle | Notice] = TypeAdapter(Event)
AnyEvent = Ready | Started | EpochEnded | Finished | Failed | Idle | Notice


def encode(message: Message) -> bytes:
    """One line."""
    return message.model_dump_json().encode() + b"\n"


def decode_command(line: bytes) -> Setup | Train | Stop:
    """Read a line that the parent sent."""
    return _commands.validate_json(line)


def decode_event(line: bytes) -> AnyEvent:
    """Read a line that a worker sent."""
    return _events.validate_json(line)
