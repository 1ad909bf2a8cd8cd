"""What runs on the nodes of a Ray cluster: the worker inside of an actor, and what a node is asked before. No jax.

jax is imported where a worker starts. The parent imports this module only to name what Ray shall run; a node imports
its own installation of it.
"""

from __future__ import annotations

import io
import json
import os
import queue
import signal
import sys
import threading
import time
import traceback
from typing import Any

import dlbench
from dlbench import files
from dlbench.data import cache
from dlbench.data.arrays import Dataset, digest_of
from dlbench.errors import DataError, WorkerError
from dlbench.execution import devices, messages, modules
from dlbench.execution.environment import CACHE_BYTES, COMPILED, configure
from dlbench.execution.environment_probe import worker_environment
from dlbench.ops import native

#: Seconds to wait for further events after the first, so that they travel together.
_GATHER_S = 0.002
#: Events that a worker may be ahead of its parent; then it waits, as for a full pipe.
_AHEAD = 1024


class Actor:
    """A worker in the process of an actor.

    Training runs in a thread of its own, because Ray calls the methods in others.

    Args:
        setup: the first message.
        device: the kind of device to train on.
        prepared: what must be done on the node before, so that Ray waits for it.
    """

    def __init__(self, setup: bytes, device: str, prepared: object) -> None:
        started = time.monotonic()
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        os.dup2(2, 1)
        _forget_folders_of_driver()
        configure(os.environ, device)
        command = messages.read_command(io.BytesIO(setup))
        if isinstance(command, messages.Setup):
            kernels = native.chosen() if device == "cpu" else None
            update = {"started": started, "kernels": kernels, "sys_path": modules.unpack(command.files)}
            command = command.model_copy(update=update)
        self._events: queue.Queue[bytes] = queue.Queue(_AHEAD)
        self._commands: queue.SimpleQueue[messages.AnyCommand] = queue.SimpleQueue()
        self._waiting: dict[int, bytes] = {}
        self._received = 0
        self._lock = threading.Lock()
        self._failure = ""
        threading.Thread(target=self._serve, args=(command,), daemon=True).start()

    def send(self, number: int, frame: bytes) -> None:
        """Take a command. Ray may deliver commands in another order than that of their numbers."""
        with self._lock:
            self._waiting[number] = frame
            while (following := self._waiting.pop(self._received, None)) is not None:
                self._received += 1
                command = messages.read_command(io.BytesIO(following))
                assert command is not None
                self._commands.put(command)

    def events(self) -> bytes:
        """Wait for events, and return all that there are; nothing once the worker has stopped.

        Raises:
            WorkerError: the worker has failed; with its traceback.
        """
        batch = [self._events.get()]
        time.sleep(_GATHER_S)
        while not self._events.empty() and batch[-1]:
            batch.append(self._events.get())
        if len(batch) > 1 and not batch[-1]:
            self._events.put(b"")  # for the next call
        if self._failure and batch == [b""]:
            raise WorkerError(self._failure)
        return b"".join(batch)

    def _serve(self, setup: messages.AnyCommand) -> None:
        try:
            from dlbench.execution.worker import Server

            server = Server(setup, self._emit, self._end)
            threading.Thread(target=self._listen, args=(server.receive,), daemon=True).start()
            server.run()
        except BaseException:
            self._failure = traceback.format_exc()
            self._end()

    def _listen(self, receive: Any) -> None:
        while True:
            receive(self._commands.get())

    def _emit(self, event: messages.AnyEvent) -> None:
        self._events.put(messages.encode(event))

    def _end(self) -> None:
        self._events.put(b"")


def _forget_folders_of_driver() -> None:
    """Take the driver's working folder off this process's path: Ray puts it first, wherever this process is.

    Ray has no public way to ask for these folders.
    """
    from ray._private.worker import global_worker

    for folder in global_worker.core_worker.get_job_config().py_driver_sys_path:
        if folder in sys.path:
            sys.path.remove(folder)


def survey(asked: str) -> str:
    """Describe a node, as JSON: its release of dlbench, its device and environment, and the data sets in its cache."""
    files.trim(files.cache_root() / COMPILED, CACHE_BYTES)
    device = devices.device(asked)
    return json.dumps(
        {
            "version": dlbench.__version__,
            "device": device,
            "environment": worker_environment(device),
            "datasets": [meta.digest for _, meta in cache.entries()],
        }
    )


def deliver(about: dict[str, Any], arrays: dict[str, Any], *before: object) -> None:
    """Write a data set to the node's cache.

    Args:
        about: its name and whatever else is known of it, by attribute.
        arrays: the four arrays.
        before: other deliveries, so that Ray waits for them.

    Raises:
        DataError: it is damaged, or the cache cannot be written.
    """
    dataset = Dataset(**{**about, **arrays})
    if digest_of(arrays, dataset.num_classes) != dataset.digest:
        raise DataError(f"data set {dataset.name!r} arrived damaged")
    try:
        cache.store(dataset, "cluster")
    except OSError as error:
        raise DataError(
            f"data set {dataset.name!r} cannot be written to the cache {files.cache_root()} ({error})",
            remedy=f"set {files.CACHE_DIR_VARIABLE} on the node to a folder that can be written",
        ) from error
