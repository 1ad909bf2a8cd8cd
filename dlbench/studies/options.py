"""The options that running, growing and planning a study share. No jax."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypedDict, Unpack

from dlbench.errors import InputError, SpecError, UnknownNameError
from dlbench.execution import messages
from dlbench.execution.place import MEMORY_BYTES
from dlbench.execution.plan import Plan
from dlbench.execution.site import Site
from dlbench.spec.quantities import BYTES, quantity

Observer = Callable[[Plan | messages.AnyEvent], None]


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Where and how to run a study; the defaults suit most studies.

    Args:
        out: the study's folder; by default ``runs/KIND-DIGEST``.
        workers: number of worker processes; 0 trains in the calling process. By default one per core or accelerator.
        lanes: number of trials that run as one vmapped program. "auto" is 1 on a CPU; on an accelerator it is a
            power of two up to 64, the fewer the more operations a step takes.
        device: "auto", "cpu", "gpu", "tpu" or "metal"; "auto" uses an accelerator if there is one.
        data_dir: folder of data sets; by default the environment variable ``DLBENCH_DATA_DIR``.
        command: the command line, which is recorded.
        config: the text of the YAML file that describes the study, which is recorded with its claims.
        on_event: called with the :class:`~dlbench.Plan`, then with every event.
        retry_failed: whether to train trials again that failed earlier, or whose files are missing or damaged; for
            that, all files of the study are read.
        checkpoint_every: epochs between saved states of a trial, from which it continues after an interruption; by
            default a state is saved once a minute.
        reuse: whether the results of trials that another study in ``runs/`` has trained in the same environment are
            copied from there, instead of being trained again. Trials continue from the kept states of shorter ones.
        keep_state: whether to keep the state that each trial ends with, so that the same trial with more epochs can
            continue from it.
        data_memory: the memory that the images of a data set may take in each process, such as "2GiB". Those of a
            larger set are streamed from the cache, which changes no results.
        cluster: the Ray cluster whose nodes train: "auto" for the one that this machine belongs to, "local" to start
            one here, or "HOST:PORT"; by default the environment variable ``DLBENCH_CLUSTER``, else this machine alone.
        mixed: whether nodes of several environments may train, between which bits can differ.

    Raises:
        InputError: ``checkpoint_every`` is not a positive number, or ``data_memory`` no quantity. The other fields are
            checked when a study is planned.
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
    reuse: bool = True
    keep_state: bool = False
    data_memory: str = f"{MEMORY_BYTES >> 30}GiB"
    cluster: str | Site | None = None
    mixed: bool = False

    @property
    def memory_bytes(self) -> int:
        """``data_memory`` in bytes."""
        return int(quantity("data_memory", self.data_memory, BYTES))

    def __post_init__(self) -> None:
        _ = self.memory_bytes
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
    reuse: bool
    keep_state: bool
    data_memory: str
    cluster: str | Site | None
    mixed: bool


def merged(options: RunOptions | None, **settings: Unpack[RunSettings]) -> RunOptions:
    """The options, with the given settings replaced.

    Raises:
        UnknownNameError: there is no such option.
        InputError: the options are something else.
    """
    if not isinstance(options, RunOptions | None):
        raise InputError.must_be("options", "RunOptions; out='runs/s' names the folder", options)
    known = [field.name for field in dataclasses.fields(RunOptions)]
    for name in settings:
        if name not in known:
            raise UnknownNameError("option", name, known)
    return dataclasses.replace(options or RunOptions(), **settings)
