"""The machines on which a study can be trained, and how workers start there. No jax, unless this process trains."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from dlbench.execution import devices
from dlbench.execution.endpoint import Endpoint, Receive
from dlbench.execution.environment import backend_is_up, configured, describe
from dlbench.execution.environment_probe import worker_environment
from dlbench.execution.processes import ProcessEndpoint
from dlbench.ops import native
from dlbench.spec import registry
from dlbench.spec.trial import PARTS, Trial

if TYPE_CHECKING:
    from dlbench.execution.place import Place

#: Starts the worker with a given number, and returns ``None`` if there is no room for it now.
Start = Callable[[int, Receive], Endpoint | None]


class Site(Protocol):
    """The machines on which a study can be trained.

    Attributes:
        is_elastic: whether there may be more room for workers later.
    """

    is_elastic: bool

    def device(self, asked: str) -> str:
        """The kind of device to train on, see :func:`dlbench.execution.devices.device`."""

    def count(self, kind: str) -> int:
        """The number of cores or accelerators for workers."""

    def cores_each(self, asked: int | None, kind: str, trials: int) -> int:
        """The number of cores that train one trial, see :func:`dlbench.execution.devices.cores_each`."""

    def environment(self, kind: str, workers: int, recorded: Collection[str | None]) -> Mapping[str, Any]:
        """Describe the environment in which trials would be trained; empty if that may be any.

        Args:
            kind: the kind of device.
            workers: number of workers; 0 trains in this process.
            recorded: the environments of the results that there are; where there is a choice, one of these is taken.

        Raises:
            WorkerError: jax cannot start.
        """

    def in_words(self) -> Sequence[str]:
        """What to say of the machines before a study begins."""

    def starter(self, place: Place, trials: Sequence[Trial]) -> Start:
        """A function that starts the workers for these trials."""


def import_path(trials: Sequence[Trial]) -> tuple[str, ...]:
    """The folders in which workers look for the parts of these trials, besides their own."""
    return registry.import_path({getattr(trial.spec, field) for trial in trials for field in PARTS})


class Here:
    """This machine: one worker process for each core or accelerator."""

    is_elastic = False

    def device(self, asked: str) -> str:
        """See :class:`Site`."""
        return devices.device(asked)

    def count(self, kind: str) -> int:
        """See :class:`Site`."""
        return devices.count(kind)

    def cores_each(self, asked: int | None, kind: str, trials: int) -> int:
        """See :class:`Site`."""
        return devices.cores_each(asked, kind, trials)

    def environment(self, kind: str, workers: int, recorded: Collection[str | None]) -> Mapping[str, Any]:
        """See :class:`Site`."""
        if workers or not backend_is_up():
            return worker_environment(kind)
        with configured(kind, starting=False):
            return describe()

    def in_words(self) -> Sequence[str]:
        """See :class:`Site`."""
        return ()

    def starter(self, place: Place, trials: Sequence[Trial]) -> Start:
        """See :class:`Site`."""
        environ, lock = dict(os.environ), threading.Lock()
        path = import_path(trials)

        def kernels() -> str | None:
            """Choose the compiled kernels, compiling them once if necessary, while the workers start."""
            with lock:
                if place.device == "cpu":
                    native.choose(environ)
                return environ.get(native.VARIABLE)

        def start(number: int, receive: Receive) -> Endpoint:
            return ProcessEndpoint(number, place, kernels, path, receive)

        return start
