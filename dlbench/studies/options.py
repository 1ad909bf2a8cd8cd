"""How a study is run: the options that running, growing and planning share. No jax."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypedDict, Unpack

from dlbench.errors import SpecError, UnknownNameError
from dlbench.execution import messages
from dlbench.execution.plan import Plan

Observer = Callable[[Plan | messages.AnyEvent], None]


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Where and how a study is trained; the defaults suit most studies.

    Args:
        out: the study's folder; by default ``runs/KIND-DIGEST``.
        workers: processes to train in, 0 for this one; by default one per core, or one per accelerator.
        lanes: trials of a program that run as one vmapped program; "auto": one on a CPU, and on an accelerator as
            many as the study begins with, up to 64.
        device: "auto", "cpu", "gpu", "tpu" or "metal"; "auto" takes an accelerator where there is one.
        data_dir: where data sets lie; by default what ``DLBENCH_DATA_DIR`` says.
        command: the command line to record.
        config: the text of the file that the study comes from, to record; its claims travel with the study.
        on_event: called with the :class:`~dlbench.Plan`, then with every event.
        retry_failed: whether trials that failed before are tried again.
        checkpoint_every: epochs between saved states of a trial, from which an interrupted one goes on; once a
            minute unless given.

    Raises:
        SpecError: ``checkpoint_every`` is not a positive number. The others are checked when a study is planned.
    """

    out: Path | str | None = None
    workers: int | None = None
    lanes: int | Literal["auto"] = "auto"
    device: str = "auto"
    data_dir: str | None = None
    command: Sequence[str] = ()
    config: str = ""
    on_event: Observer | None = None
    retry_failed: bool = False
    checkpoint_every: int | None = None

    def __post_init__(self) -> None:
        every = self.checkpoint_every
        if every is not None and (not isinstance(every, int) or isinstance(every, bool) or every < 1):
            raise SpecError.must_be("checkpoint_every", "a positive number of epochs", every)


class RunSettings(TypedDict, total=False):
    """The fields of :class:`RunOptions` as keyword arguments, so that editors complete and check them."""

    out: Path | str | None
    workers: int | None
    lanes: int | Literal["auto"]
    device: str
    data_dir: str | None
    command: Sequence[str]
    config: str
    on_event: Observer | None
    retry_failed: bool
    checkpoint_every: int | None


def merged(options: RunOptions | None, **settings: Unpack[RunSettings]) -> RunOptions:
    """The options with some of them changed.

    Raises:
        UnknownNameError: a setting that is none.
    """
    known = [field.name for field in dataclasses.fields(RunOptions)]
    for name in settings:
        if name not in known:
            raise UnknownNameError("option", name, known)
    return dataclasses.replace(options or RunOptions(), **settings)
